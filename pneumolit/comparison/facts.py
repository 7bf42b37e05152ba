"""What a run folder says about how its model was made: what trained, how long, how large, how well it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pneumolit.config import choosing_metric, configuration_hash, scored_epoch
from pneumolit.labels import log_softmax, two_class_logit
from pneumolit.rundir import RunDir, read_json, read_yaml
from pneumolit.stage_plan import plan_stages


@dataclass(frozen=True)
class Facts:
    """How a method came about; what is not known is None or empty.

    Attributes:
        model: the backbone with its tag.
        trained: what trained, in words.
        epochs: in all stages.
        parameters: values of the model, head included.
        trainable: those that trained in the last stage.
        seconds: of training.
        machine: where.
        seed: of the run.
        configuration: hash of what was decided, seed aside.
        trained_on: fingerprint of the training images.
        chosen_by: metric that chose its epoch or when to stop, `block/auroc`.
        val_auroc: on the run's own validation images.
        train_accuracy: of the chosen weights on the training images as they are, by the rule of the comparison.
        train_loss: their cross-entropy in nats, measured so; or the last logged one.
        is_loss_logged: whether that loss was only logged while training, with augmentation.
        choices: key -> value, what the jobs of its sweep vary.
    """

    model: str = ""
    trained: str = ""
    epochs: int | None = None
    parameters: int | None = None
    trainable: int | None = None
    seconds: float | None = None
    machine: str = ""
    seed: int | None = None
    configuration: str = ""
    trained_on: str = ""
    chosen_by: str = ""
    val_auroc: float | None = None
    train_accuracy: float | None = None
    train_loss: float | None = None
    is_loss_logged: bool = False
    choices: Mapping[str, Any] = field(default_factory=dict)


def read_facts(run: RunDir, rule: str) -> Facts:
    """What the files of a run say; one that is missing leaves its facts out.

    Args:
        run: its config.yaml must stand.
        rule: decision rule of the training accuracy.
    """
    if run.ensemble_file.is_file():
        return _facts_of_ensemble(run, rule)
    cfg = read_config(run)
    status, environment = _read(run, "status_file"), _read(run, "environment_file")
    stages = _read(run, "freeze_plan_file").get("stages", [])
    rows = run.read_metrics()
    last_cfg = plan_stages(cfg)[-1].cfg  # of the stage whose weights are scored
    is_two_class_loss = last_cfg.get("loss", {}).get("name") == "binary_cross_entropy"
    accuracy, loss = _measured_on_train(run, rule, is_two_class_loss=is_two_class_loss)
    callbacks = last_cfg.get("callbacks", {})
    checkpoint = callbacks.get("checkpoint", {})
    used = status.get("checkpoint") or checkpoint.get("use")
    logged = scored_epoch(rows, used, checkpoint.get("monitor")).get("train/loss")
    last: Mapping[str, Any] = stages[-1] if stages else {}
    counts = [last.get(key) for key in ("trainable_count", "frozen_count")]
    return Facts(
        model=_model_name(cfg, environment),
        trained=what_trained(stages, is_pretrained=cfg.get("model", {}).get("pretrained", True)),
        epochs=status.get("epochs", int(rows[-1]["epoch"]) if rows else None),
        parameters=None if None in counts else sum(counts),  # type: ignore[arg-type]
        trainable=counts[0],
        seconds=status.get("training_seconds", status.get("seconds")),
        machine=", ".join(environment.get("gpus") or [environment.get("processor", "")]),
        seed=cfg.get("seed"),
        configuration=status.get("configuration") or configuration_hash(cfg),
        trained_on=_read(run, "data_file").get("fingerprints", {}).get("train", ""),
        chosen_by=choosing_metric(callbacks, used) or "",
        val_auroc=read_auroc(run, "val"),
        train_accuracy=accuracy,
        train_loss=logged if loss is None else loss,
        is_loss_logged=loss is None and logged is not None,
        choices=_read(run, "job_file").get("choices", {}),
    )


def read_contents(run: RunDir, name: str) -> str:
    """Fingerprint of the images of an evaluated set, of the run's own or of others; "" where none is known."""
    own = _read(run, "data_file").get("fingerprints", {}).get(name)
    file = run.evaluation_metrics_file(name)
    return str(own or (read_json(file).get("context", {}).get("images", "") if file.is_file() else ""))


def read_config(run: RunDir) -> dict[str, Any]:
    """The configuration of a run, as plain values."""
    content = read_yaml(run.config_file)
    return content if isinstance(content, dict) else {}


def read_auroc(run: RunDir, name: str) -> float | None:
    """AUROC of an evaluated set; None where there is none."""
    file = run.evaluation_metrics_file(name)
    value = read_json(file).get("ranking", {}).get("auroc") if file.is_file() else None
    return None if value is None else float(value)


def what_trained(stages: Sequence[Mapping[str, Any]], *, is_pretrained: bool) -> str:
    """What trained, in words: `head`, `last 2 groups`, `head, then everything`.

    Args:
        stages: of freeze_plan.json.
        is_pretrained: whether the run began from pretrained weights.
    """
    words: list[str] = []
    for stage in stages:
        last = stage.get("settings", {}).get("last")
        word = {
            "none": "everything",
            "head": "head",
            "fraction": f"last {100 * (last or 0):.3g} %",
        }.get(stage["policy"], f"last {last} {stage['policy']}" if last != 1 else f"last {stage['policy'].rstrip('s')}")
        if not words or words[-1] != word:
            words.append(word)
    text = ", then ".join(words)
    return text if is_pretrained or not text else f"{text}, from scratch"


def sum_of_facts(kind: str, members: Sequence[Facts], val_auroc: float | None) -> Facts:
    """Facts of an ensemble: what its members cost together.

    Args:
        kind: of the ensemble.
        members: their facts.
        val_auroc: of the ensemble, on validation.
    """
    parameters = [facts.parameters for facts in members if facts.parameters is not None]
    seconds = [facts.seconds for facts in members if facts.seconds is not None]
    return Facts(
        model=f"{kind} of {len(members)} runs",
        parameters=sum(parameters) if len(parameters) == len(members) else None,
        seconds=sum(seconds) if len(seconds) == len(members) else None,
        machine=", ".join(dict.fromkeys(facts.machine for facts in members if facts.machine)),
        chosen_by=next((facts.chosen_by for facts in members if facts.chosen_by), ""),
        val_auroc=val_auroc,
    )


def _facts_of_ensemble(run: RunDir, rule: str) -> Facts:
    content = read_json(run.ensemble_file)
    runs = [RunDir(run.path / member["run_dir"]) for member in content["members"]]
    # Members may have been moved or removed since.
    members = [read_facts(one, rule) if one.config_file.is_file() else Facts() for one in runs]
    return replace(
        sum_of_facts(content["ensemble"], members, read_auroc(run, "val")),
        configuration=_read(run, "status_file").get("configuration", ""),
    )


def _model_name(cfg: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    name = str(cfg.get("backbone", ""))
    if not cfg.get("model", {}).get("pretrained", True):
        return name  # the tag names weights, of which it has none
    full = str(environment.get("weights", {}).get("name", ""))
    return full if full.startswith(name) else name


def _measured_on_train(run: RunDir, rule: str, *, is_two_class_loss: bool) -> tuple[float | None, float | None]:
    """Accuracy and loss of the chosen weights on the training images without augmentation, where they were scored.

    The loss is cross entropy, that of the two-class logit where only that was trained, as the validation's.
    """
    metrics = run.evaluation_metrics_file("train")
    if not metrics.is_file() or not run.predictions_file("train").is_file():
        return None, None
    found = read_json(metrics)
    view = found.get("rules", {}).get(rule) or found["class_view"]
    predictions = run.read_predictions("train")
    if is_two_class_loss and predictions.labels.is_two_class_view:
        score = two_class_logit(predictions.logits, predictions.labels.positive_mask)
        own = -np.logaddexp(0, np.where(predictions.positives == 1, -score, score))
    else:
        own = log_softmax(predictions.logits)[np.arange(len(predictions)), predictions.targets]
    return float(view["accuracy"]), float(-own.mean())


def _read(run: RunDir, name: str) -> dict[str, Any]:
    file = getattr(run, name)
    return read_json(file) if file.is_file() else {}
