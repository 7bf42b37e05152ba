"""The model card's middle: the model, its training, and how it was judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pneumolit.config import filled, flatten
from pneumolit.report.card_entry import ANSWERED, OPEN, PARTLY, Entry, cannot, of_stages
from pneumolit.report.evaluation import PATIENTS_UNKNOWN
from pneumolit.report.explanations import find_pictures
from pneumolit.report.run_record import RunRecord, set_title
from pneumolit.report.run_tables import environment_table, epochs_sentence, freeze_table, weights_text
from pneumolit.stage_plan import Stage, plan_stages

_CHAPTERS = ("Model", "Training", "Evaluation: methods")
# What leaves an image as it is, by the end of the key.
_NEUTRAL: dict[str, Any] = {"crop_scale": [1.0, 1.0], "zoom": [1.0, 1.0], "gamma": [1.0, 1.0]}
# Without effect unless the key before it is above 0.
_NEEDS = {
    "blur_sigma": "blur_prob", "noise_std": "noise_prob", "erase_scale": "erase_prob", "sharpen_amount": "sharpen_prob",
    "frame_width": "frame_prob",
}  # fmt: skip


def model_entries(record: RunRecord) -> list[Entry]:
    """Model, training and methods of evaluation."""
    return [*_model(record), *_training(record), *_methods(record)]


def changing_augmentations(augment: Mapping[str, Any]) -> list[str]:
    """Settings of the group `augment` that change images, as `key=value`."""
    found = []
    for key, value in flatten(augment).items():
        if key == "crop_ratio":
            is_idle = augment.get("crop_scale") == [1.0, 1.0]
        else:
            is_idle = value in (0, 0.0, [0.0, 0.0], _NEUTRAL.get(key)) or not augment.get(_NEEDS.get(key, key), 0)
        if not is_idle:
            found.append(f"{key}={value}")
    return found


def _model(record: RunRecord) -> list[Entry]:
    chapter, settings = _CHAPTERS[0], record.settings
    classes = record.data["classes"]
    channels = settings["model.in_chans"]
    described = (
        f"{record.environment['weights']['name']} with {record.num_parameters:,} parameters: {channels} input channels "
        f"of {settings['model.image_size']} pixels, head {settings['model.head']}, dropout "
        f"{settings['model.drop_rate']:g}, {len(classes)} logits ({', '.join(classes)})."
    )
    return [
        Entry(chapter, "Description of the model", (22,), ("22",),
              (described, "The whole model is config.yaml with the checkpoint in checkpoints/; `python -m "
               "pneumolit.evaluate run_dir=...` applies it."),
              "config.yaml, freeze_plan.json, checkpoints/"),
        Entry(chapter, "Software", (23,), (), (), "environment.json", tables=(environment_table(record),)),
        Entry(chapter, "Parameters at the start", (24,), (), _start(record), "environment.json, config.yaml"),
        Entry(chapter, "Output and thresholds", (), ("15",), _output(record), "calibration.json, data.json"),
    ]  # fmt: skip


def _start(record: RunRecord) -> tuple[str, ...]:
    seed = record.config["seed"]
    kind = record.environment["weights"]["kind"]
    if kind == "random" or not record.config["model"]["pretrained"]:
        return (f"Random weights (seed={seed}).",)
    return (f"Pretrained weights: {weights_text(record)}; the head is new and random (seed={seed}).",)


def _output(record: RunRecord) -> tuple[str, ...]:
    if not record.data["positive"]:
        return ("One logit per class; the class with the largest one is the answer. No class means pneumonia.",)
    if not record.calibration.get("calibration"):
        return ("One logit per class and one two-class score. No calibration was fitted.",)
    found = record.calibration["calibration"]
    return (
        "One logit per class, one two-class score and one calibrated probability of pneumonia.",
        "Primary rule: pneumonia where the calibrated probability, re-based to prevalence one half, is at least 0.5; "
        "fixed before any data were seen. All other thresholds come from validation.",
        f"Calibration on validation: slope {found['slope']:.3f}, intercept {found['intercept']:.3f}, prevalence "
        f"{found['prevalence']:.3f}.",
    )


def _training(record: RunRecord) -> list[Entry]:
    chapter = _CHAPTERS[1]
    stages = plan_stages(record.config)
    return [
        Entry(chapter, "Training", (25,), ("12c",), (*(_stage_line(stage) for stage in stages),
              *of_stages(stages, _augmentation), *_beside(record), epochs_sentence(record)),
              "config.yaml, freeze_plan.json, metrics.csv",
              tables=(freeze_table(record),)),
        Entry(chapter, "Choice of the final model", (26,), (), _choice(record), "config.yaml, status.json"),
        Entry(chapter, "Ensembles", (27,), (), _ensemble(record), "config.yaml"),
        Entry(chapter, "Updating of the model", (), ("12f", "24"),
              _updating(record), "calibration.json"),
    ]  # fmt: skip


def _updating(record: RunRecord) -> tuple[str, ...]:
    if not record.calibration.get("calibration"):
        return ("None after training.",)
    fitted = "None after training, but for slope and intercept of the score, which were fitted on validation."
    return (f"{fitted} Test images changed nothing.",) if record.has_test else (fitted,)


def _stage_line(stage: Stage) -> str:
    cfg = stage.cfg
    optim, loss = cfg["optim"], cfg["loss"]
    name = str(optim["_target_"]).rpartition(".")[2]
    text = (
        f"{name}, learning rate {optim['lr']:g}, weight decay {optim.get('weight_decay', 0):g}, schedule "
        f"{cfg['scheduler']['name']}, batches of {cfg['data']['batch_size']}, at most {stage.epochs} epochs, loss "
        f"{loss['name']}, label smoothing {loss.get('label_smoothing', 0):g}, freeze={cfg['freeze']['policy']}."
    )
    return f"Stage {stage.index + 1} of {stage.count}: {text}" if stage.count > 1 else text


def _augmentation(stage: Stage) -> str:
    found = changing_augmentations(stage.cfg["augment"])
    return f"Augmentation of training images: {', '.join(found)}." if found else "Training images are not augmented."


def _beside(record: RunRecord) -> tuple[str, ...]:
    """What else a run was trained on or with, where it was asked for."""
    settings, found = filled(record.config), []
    if settings["model"]["mixstyle_prob"]:
        found.append(
            "Styles of early feature maps are mixed between the images of a batch (MixStyle), of each with a "
            f"probability of {settings['model']['mixstyle_prob']:g}."
        )
    if settings["distill"]["teacher"] is not None:
        found.append(f"A teacher's scores of the training images make {settings['distill']['share']:g} of the loss.")
    if settings["data"]["val_augment"]:
        found.append("Validation images are augmented too while training, as published work did.")
    return tuple(found)


def _choice(record: RunRecord) -> tuple[str, ...]:
    checkpoint = record.last_stage["callbacks"]["checkpoint"]
    if checkpoint["use"] == "last":
        first = "The weights of the last epoch are scored."
    else:
        first = f"The weights of the epoch with the best {checkpoint['monitor']} are scored."
    job = "Whether this run was chosen among others its record does not say; the ledger of looks and the sweep do."
    return (first, job)


def _ensemble(record: RunRecord) -> tuple[str, ...]:
    callbacks = record.last_stage["callbacks"]
    if callbacks["ema"]["decay"] is not None:
        return ("One model, no ensemble. Its weights are a running mean over steps (callbacks.ema).",)
    if callbacks["swa"]["start_fraction"] is not None:
        return ("One model, no ensemble. Its weights are a mean over epochs (callbacks.swa).",)
    return ("One model, no ensemble.",)


def _methods(record: RunRecord) -> list[Entry]:
    chapter = _CHAPTERS[2]
    level = f"{100 * record.main['intervals']['level']:g}"
    pictures = [picture for name in record.evaluations for picture in find_pictures(record.run, name)]
    own = ", ".join(set_title(name) for name in record.evaluations if name not in record.other_sets)
    return [
        Entry(chapter, "Measures", (28,), ("12e",),
              (_MEASURES if "rules" in record.main else _MEASURES_OF_CLASSES,), "metrics.json"),
        Entry(chapter, "Uncertainty", (29,), (),
              _uncertainty(record, level), "metrics.json", ANSWERED if record.has_patients else PARTLY),
        Entry(chapter, "Robustness", (30,), (), _robustness(record), "metrics.csv, metrics.json"),
        Entry(chapter, "Differences between clusters", (), ("12d", "23b"),
              (cannot("it names no hospital or country. Series of file names, if any, are compared instead."),),
              "metrics.json", OPEN),
        Entry(chapter, "Explanation", (31,), (), _explanation(bool(pictures)), "explanation/",
              ANSWERED if pictures else PARTLY),
        Entry(chapter, "Testing on data of the same collection", (32,), (),
              (f"Evaluated sets: {own}.",), "evaluation/"),
        Entry(chapter, "Testing on external data", (33,), (), _external(record), "evaluation/",
              ANSWERED if record.other_sets else PARTLY),
        Entry(chapter, "How predictions are computed", (), ("12g",),
              ("predictions.csv holds logits and score of every image; all numbers are made from it. The run's own "
               "checkpoint, preprocessing, calibration and thresholds are used.",), "evaluation/"),
        Entry(chapter, "Fairness", (), ("14",),
              (cannot("without age, sex or ethnicity nothing can be compared or corrected."),), "", OPEN),
    ]  # fmt: skip


_MEASURES = (
    "Ranking (AUROC, average precision), decisions (accuracy, sensitivity, specificity, PPV, NPV, F1), "
    "probabilities (Brier score, calibration error, slope and intercept); ROC, precision and recall, and "
    "reliability as pictures."
)
_MEASURES_OF_CLASSES = (
    "Decisions by the largest logit: accuracy over all classes, precision and recall of every class; the confusion "
    "matrix as a picture. No class means pneumonia, so nothing is ranked."
)


def _uncertainty(record: RunRecord, level: str) -> tuple[str, ...]:
    if not record.has_patients:
        return (f"{level} % intervals over images. No significance test within one run.", PATIENTS_UNKNOWN)
    return (
        f"{level} % intervals over patients, since images of one patient are not independent. No significance test "
        "within one run.",
    )


def _robustness(record: RunRecord) -> tuple[str, ...]:
    answers = []
    if record.config["data"]["stress"]:
        answers.append("Distorted copies of the validation images are scored after every epoch (stress, metrics.csv).")
    blocks = [set_title(name) for name in record.evaluations if name.startswith("block")]
    if blocks:
        answers.append(f"Held-out blocks of patient numbers were scored: {', '.join(blocks)}.")
    return tuple(answers) or ("No analysis of robustness was made in this run.",)


def _explanation(has_pictures: bool) -> tuple[str, ...]:
    if has_pictures:
        return ("Heat maps with their checks are in the folder explanation/ and on the page of the run.",)
    return ("Not made for this run so far; `python -m pneumolit.explain run_dir=...` makes heat maps and checks them.",)


def _external(record: RunRecord) -> tuple[str, ...]:
    if record.other_sets:
        return (f"Sets of other origin that were scored: {', '.join(record.other_sets)}.",)
    return (
        "None was scored so far; `python -m pneumolit.evaluate run_dir=... data=manifest data.manifest=FILE name=NAME` "
        "scores one.",
    )
