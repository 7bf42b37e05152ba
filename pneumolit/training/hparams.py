"""TensorBoard's HParams: the same keys in every run, whatever the run's choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch.utils.tensorboard.summary import hparams as hparams_summaries

from pneumolit.config import flatten
from pneumolit.data.dataset import BLOCKS
from pneumolit.stage_plan import plan_stages

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_COLUMNS = (
    "backbone", "seed", "model.image_size", "model.train_size", "model.drop_rate", "model.pretrained", "model.head",
    "data.batch_size", "data.balance", "data.target", "data.fold", "freeze.policy", "loss.name", "loss.label_smoothing",
    "optim._target_", "optim.lr", "optim.weight_decay", "optim.layer_decay", "scheduler.name", "trainer.max_epochs",
    "trainer.accumulate_grad_batches", "augment.mixup_alpha", "augment.cutmix_alpha", "callbacks.ema.decay",
    "callbacks.swa.start_fraction",
)  # fmt: skip


def write_row(writer: SummaryWriter, hparams: Mapping[str, Any], metrics: Mapping[str, float], epoch: int) -> None:
    """Write a run's row of the table.

    Without the description of all columns that torch and Lightning write along with it: TensorBoard would take that of
    any one run for all. Left to itself it looks at all rows, so that columns in which runs differ come first, words can
    be chosen from, and a metric that only some runs have is a column too.

    Args:
        writer: of the run.
        hparams: from `table_hparams`.
        metrics: from `final_metrics`.
        epoch: the last one.
    """
    for name, value in metrics.items():
        writer.add_scalar(name, value, epoch)
    # torch gives neither this function nor the method types.
    _, start, end = hparams_summaries(dict(hparams), {})  # type: ignore[no-untyped-call]
    for summary in (start, end):
        writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]


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
    """Final numbers of the sets that were scored, by their names in TensorBoard.

    Accuracies are those of the primary rule; without a two-class view there is that of the largest logit alone.
    """
    found = {}
    for split in ("val", *BLOCKS, "test"):
        metrics = results.get(split, {})
        primary = metrics.get("rules", {}).get("primary", metrics.get("class_view", {}))
        # The table shows the first five metrics unasked, and capitals come before the names of all curves.
        for title, value in (
            ("AUROC", metrics.get("ranking", {}).get("auroc")),
            ("accuracy", primary.get("accuracy")),
            ("balanced_accuracy", primary.get("balanced_accuracy")),
        ):
            if value is not None:
                found[f"Result/{title}_{split}"] = float(value)
    return found
