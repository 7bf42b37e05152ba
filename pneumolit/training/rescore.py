"""Score a finished run again, or on another data set, from its folder alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from rich.console import Console

from pneumolit.data.datamodule import rows_of
from pneumolit.data.dataset import (
    UNREADABLE,
    ChestXrayData,
    find_copies,
    find_root,
    handle_unreadable,
    read_records,
    repeats,
)
from pneumolit.data.records import choose_labels
from pneumolit.data.sharpness import sharpness
from pneumolit.data.store import cache_folder, open_store, read_otherwise
from pneumolit.data.table import ImageRecord, RecordTable
from pneumolit.labels import NORMAL, PNEUMONIA, LabelSet, logsumexp
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.predictions import Predictions
from pneumolit.rundir import DONE, RunDir, read_json
from pneumolit.scoring import calibrate, predict_logits, predict_split, write_evaluation
from pneumolit.stage_plan import plan_stages
from pneumolit.training.checkpoints import read_progress
from pneumolit.training.errors import write_errors
from pneumolit.training.fit import note_look
from pneumolit.training.precision import choose_precision
from pneumolit.training.progress import data_progress


def score_own_split(cfg: Mapping[str, Any], run: RunDir, split: str, console: Console, *, title: str) -> dict[str, Any]:
    """Score a split of the data that the run was trained on; on test this is a look.

    Raises:
        FileNotFoundError, ValueError: the checkpoint or the images are gone, or other images lie there.
    """
    run_cfg = run.read_config()
    model = load_model(run, run_cfg)
    data = reopen_data(run, run_cfg, cfg["data"]["root"], cache_folder(cfg["cache_dir"]), console)
    if not len(data.rows(split)):
        known = ", ".join(side for (side,) in data.records.kinds("split").values)
        raise ValueError(f"split={split}: this run's data have no such images (they have {known})")
    precision = choose_precision(run_cfg["precision"], "cpu" if model.device.type == "cpu" else "gpu").scoring
    if not run.calibration_file.is_file():  # the run was cut off after its last epoch
        calibrate(run, predict_split(model, data, rows_of(data, "val"), "val", precision=precision))
    context = {
        "run": run.path.name,
        "weights": f"{run_cfg['callbacks']['checkpoint']['use']} checkpoint",
        "scored in": precision,
    }
    if split == "test":  # noted before it is seen: a kill must not hide it
        context["look"] = note_look(
            {**run_cfg, "output_dir": cfg["output_dir"]},
            run,
            data.set_fingerprint("test"),
            purpose="evaluate split=test",
        )
    rows = rows_of(data, split)
    predictions = predict_split(model, data, rows, split, precision=precision)
    metrics = write_evaluation(run, split, predictions, title=title, context=context, prevalence=cfg["prevalence"])
    write_errors(run, split, rows, model, what=title, when=f"of the {context['weights']}")
    return metrics


def score_other_set(cfg: Mapping[str, Any], run: RunDir, name: str, console: Console) -> dict[str, Any]:
    """Score another labelled set with the run's own preprocessing, calibration and thresholds.

    A set that tells only normal from pneumonia is scored by the two-class logit of a model with more classes. Where
    the set names splits, only `split` is scored. Images of the run's own test split make it a look.

    Raises:
        ValueError: the classes of the set and of the model have nothing to do with each other, the run was trained
            on some of the images, or another set was scored under this name.
    """
    run_cfg = run.read_config()
    settings = {**cfg["data"], "store_size": run_cfg["data"]["store_size"]}
    model = load_model(run, run_cfg)
    cache = cache_folder(cfg["cache_dir"])
    root, records = read_records(settings, cache)
    labels, records = choose_labels(records, settings["target"], settings["positive"])
    labels = _as_the_run_decides(labels, model.labels, settings["positive"])
    part = {}
    if not records.is_in("split", "").all():
        all_images, records = len(records), records.select(records.is_in("split", cfg["split"]))
        if not records:
            raise ValueError(f"split={cfg['split']}: the set names splits, but has no such images")
        part = {"split": f"{cfg['split']}, {len(records):,} of {all_images:,} images; split= chooses another part"}
    records = records.with_split("test", np.arange(len(records)))
    with data_progress(console) as progress:
        store = open_store(
            root, records.texts("path"), cache_dir=cache, store_size=settings["store_size"], progress=progress
        )
    records = handle_unreadable(records, store, root, settings["on_bad_image"])
    data = ChestXrayData(records, store, labels, find_copies(records, store.hashes.contents()))
    context = {
        "run": run.path.name,
        "data": f"{settings['source']} {root.name}",
        "images": data.set_fingerprint("test"),
        **part,
    }
    _refuse_other_images(cfg, run, name, context["images"])
    sides = _sides_of_the_run(run, store.hashes)
    if sides & {"train", "val"}:
        raise ValueError(
            f"name={name}: some of these images are byte for byte those that the run was trained or calibrated on; "
            "use split= to score the run's own data"
        )
    if "test" in sides:  # a look at the run's test split, though perhaps at a part of it
        own = str(read_json(run.data_file)["fingerprints"].get("test", ""))
        context["look"] = note_look({**run_cfg, "output_dir": cfg["output_dir"]}, run, own, purpose=f"evaluate {name}")
    rows = rows_of(data, "test")
    precision = choose_precision(run_cfg["precision"], "cpu" if model.device.type == "cpu" else "gpu").scoring
    logits = predict_logits(model, rows, precision=precision)
    chosen = data.rows("test")
    is_copy = repeats(store.hashes.contents(chosen))
    predictions = _match_classes(
        logits, rows.targets, model, labels, data.records.select(chosen), is_copy, sharpness(store.images, chosen)
    )
    metrics = write_evaluation(
        run,
        name,
        predictions,
        title=name,
        context={**context, "scored in": precision},
        prevalence=cfg["prevalence"],
    )
    use = run_cfg["callbacks"]["checkpoint"]["use"]
    write_errors(run, name, rows, model, what=name, when=f"of the {use} checkpoint")
    return metrics


def _as_the_run_decides(labels: LabelSet, known: LabelSet, positive: Sequence[str] | None) -> LabelSet:
    """The labels of a set; of the run's own classes those mean pneumonia that did when it was trained."""
    if labels.classes == known.classes:
        if positive is not None and set(positive) != set(known.positive):
            raise ValueError(
                f"data.positive={list(positive)} is not what the run was trained and calibrated for, "
                f"{list(known.positive)}; leave it out"
            )
        return known
    if labels.classes != known.classes and not (labels.is_two_class_view and known.is_two_class_view):
        raise ValueError(
            f"the set has the classes {list(labels.classes)}, the model {list(known.classes)}; they must be "
            "the same, or both must say which of them mean pneumonia (data.positive)"
        )
    return labels


def _refuse_other_images(cfg: Mapping[str, Any], run: RunDir, name: str, images: str) -> None:
    if run.evaluation_metrics_file(name).is_file() and not cfg["rescore"]:
        before = read_json(run.evaluation_metrics_file(name))["context"].get("images")
        if before != images:
            raise ValueError(
                f"name={name} already holds the numbers of other images; choose another name, or rescore=true to "
                "replace them"
            )


def _sides_of_the_run(run: RunDir, hashes: Sequence[str]) -> set[str]:
    """On which sides of the run these files, or copies of them, lie."""
    asked = {value[:16] for value in hashes}
    return {row["split"] for row in run.read_split() if row.get("sha256") in asked}


def load_model(run: RunDir, run_cfg: Mapping[str, Any]) -> PneumoniaClassifier:
    """The checkpoint that the run is judged by, on the best device."""
    path = run.checkpoint(run_cfg["callbacks"]["checkpoint"]["use"])
    state, epochs = read_json(run.status_file)["state"], len(run.read_metrics())
    if state != DONE and (progress := read_progress(run.checkpoint("last"))) is not None:
        # An epoch's numbers are written before its checkpoint, and a kill may have come between.
        epochs = min(epochs, int(progress["epochs"]))
    planned = sum(stage.epochs for stage in plan_stages(run_cfg))
    if state == DONE and not path.is_file():
        raise FileNotFoundError(f"{path} does not exist (the run is done); put it back, or train the run again")
    if not path.is_file() or (state != DONE and epochs < planned):
        raise FileNotFoundError(
            f"the run in {run.path} is {state} after {epochs} of {planned} epochs; only a run that was trained to the "
            f"end is scored. Go on with it: python -m pneumolit.train run_dir={run.path}"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return PneumoniaClassifier.from_checkpoint(path).to(device)
    except (UnpicklingError, KeyError, TypeError, AttributeError, EOFError, RuntimeError, OSError) as error:
        # torch's own words would advise to read it without any protection
        raise ValueError(
            f"{path} is no checkpoint of tensors and plain values that fits this run ({type(error).__name__}); nothing "
            "in it was run. Put the run's own back, or train the run again"
        ) from error


def reopen_data(
    run: RunDir, run_cfg: Mapping[str, Any], root_now: str | None, cache: Path, console: Console
) -> ChestXrayData:
    """The run's data as split.csv lists them.

    Raises:
        ValueError: the images there are not those of the run.
    """
    described = read_json(run.data_file)
    root = find_root({**run_cfg["data"], "root": root_now or run_cfg["data"]["root"]}, cache)
    records = RecordTable.of(_listed_record(row) for row in run.read_split())
    is_copy = np.array([row["is_copy"] == "1" for row in run.read_split()], dtype=bool)
    hint = "Set data.root=FOLDER to where they lie now"
    readable = records.select(~records.is_in("split", UNREADABLE)).texts("path")
    gone = [path for path in readable if not (root / path).is_file()]
    if gone:
        raise FileNotFoundError(f"{len(gone)} of the run's images are not below {root}, the first {gone[:2]}. {hint}")
    with data_progress(console) as progress:
        store = open_store(
            root,
            records.texts("path"),
            cache_dir=cache,
            store_size=run_cfg["data"]["store_size"],
            progress=progress,
        )
    if store.key != described["store"]:
        if why := read_otherwise(store, described["store"], run_cfg["data"]["store_size"]):
            raise ValueError(f"the images of the run in {run.path} cannot be read as it read them: {why}")
        raise ValueError(f"the images below {root} are not those that the run was trained on: contents differ. {hint}")
    labels = LabelSet(tuple(described["classes"]), tuple(described["positive"]))
    return ChestXrayData(records, store, labels, is_copy)


def _listed_record(row: Mapping[str, str]) -> ImageRecord:
    return ImageRecord(Path(row["path"]), row["label"], row["patient_id"], row["cause"], row["split"], row["series"])


def _match_classes(
    logits: np.ndarray,
    targets: np.ndarray,
    model: PneumoniaClassifier,
    labels: LabelSet,
    records: RecordTable,
    is_copy: np.ndarray,
    sharp: np.ndarray,
) -> Predictions:
    if labels.classes != model.labels.classes:
        mask = model.labels.positive_mask
        logits = np.stack([logsumexp(logits[:, ~mask]), logsumexp(logits[:, mask])], axis=1)
        targets = labels.positive_mask[targets].astype(np.int64)
        labels = LabelSet((NORMAL, PNEUMONIA), (PNEUMONIA,))
    return Predictions(
        labels=labels,
        paths=np.array(list(records.texts("path")), dtype=object),
        patient_ids=np.array(list(records.texts("patient_id")), dtype=object),
        targets=targets,
        logits=logits,
        prior_log_odds=float(model.settings["prior_log_odds"]),
        causes=np.array(list(records.texts("cause")), dtype=object),
        is_copy=is_copy,
        series=np.array(list(records.texts("series")), dtype=object),
        sharpness=sharp,
    )
