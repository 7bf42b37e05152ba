"""TensorBoard's HParams: the same keys in every run, whatever the run's choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pneumolit.config import flatten
from pneumolit.stage_plan import plan_stages

_COLUMNS = (
    "backbone", "seed", "model.image_size", "model.train_size", "model.drop_rate", "model.pretrained", "model.head",
    "data.batch_size", "data.balance", "data.target", "data.fold", "freeze.policy", "loss.name", "loss.label_smoothing",
    "optim._target_", "optim.lr", "optim.weight_decay", "optim.layer_decay", "scheduler.name", "trainer.max_epochs",
    "trainer.accumulate_grad_batches", "augment.mixup_alpha", "augment.cutmix_alpha", "callbacks.ema.decay",
    "callbacks.swa.start_fraction",
)  # fmt: skip
_NOT_MEASURED = -1.0  # a NaN or a missing column would hide the run from the table


def table_hparams(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """One value per column; null becomes 0 among numbers, since TensorBoard drops runs with null.

    Of a run in stages the last one is shown, with the epochs of all.
    """
    stages = plan_stages(cfg)
    flat = flatten(stages[-1].cfg) | {"trainer.max_epochs": sum(stage.epochs for stage in stages)}
    values = {name: flat.get(name) for name in _COLUMNS}
    crop = flat.get("augment.crop_scale") or [1.0, 1.0]
    values["augment.crop_scale_low"] = float(crop[0])
    values["optim._target_"] = str(values["optim._target_"]).rpartition(".")[2]
    values["stages"] = len(stages)
    return {name: 0.0 if value is None else value for name, value in values.items()}


def final_metrics(results: Mapping[str, Any]) -> dict[str, float]:
    """Final numbers by fixed names; -1 where a set was not scored."""
    found = {}
    for split in ("val", "block", "test"):
        metrics = results.get(split, {})
        ranking = metrics.get("ranking", {})
        primary = metrics.get("rules", {}).get("primary", {})
        found[f"hp/{split}_auroc"] = ranking.get("auroc")
        found[f"hp/{split}_balanced_accuracy"] = primary.get("balanced_accuracy")
        found[f"hp/{split}_accuracy"] = primary.get("accuracy", metrics.get("class_view", {}).get("accuracy"))
    return {name: _NOT_MEASURED if value is None else float(value) for name, value in found.items()}
