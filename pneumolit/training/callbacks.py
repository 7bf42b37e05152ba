"""What happens around the epochs: averaged weights, the epoch's row, checkpoints, the progress line, pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from pytorch_lightning.plugins.io import TorchCheckpointIO
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from pneumolit.config import monitor_mode
from pneumolit.rundir import RunDir


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints written beside their place, synced and renamed: a kill leaves the old or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write one checkpoint."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp")
        with temporary.open("wb") as handle:
            torch.save(checkpoint, handle)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(target)


class EmaWeights(WeightAveraging):
    """Exponential moving average of weights and buffers, swapped in for validation and checkpoints.

    The decay rises from 0.1 to its final value, min(decay, (1 + n) / (10 + n)) at update n, so that the start's
    random head is soon forgotten.

    Args:
        decay: per optimizer step, in (0, 1).
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: Any, current: Any, count: Tensor | int) -> None:
            # Counted here and not read from `count`, which lies on the device: a GPU would wait for it every step.
            updates = self._latest_update_step
            weight = 1 - min(decay, (1 + updates) / (10 + updates))
            pairs = [(a, c) for a, c in zip(averaged, current, strict=True) if a.is_floating_point()]
            if pairs:
                torch._foreach_lerp_([a for a, _ in pairs], [c for _, c in pairs], weight)
            for a, c in zip(averaged, current, strict=True):
                if not a.is_floating_point():  # batch norm's counters
                    a.copy_(c)

        super().__init__(multi_avg_fn=average)


class EpochRecorder(Callback):
    """One row of metrics.csv per epoch.

    Args:
        run: where it goes.
    """

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self._start = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time."""
        self._start = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the row, validation included."""
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        row |= {k: round(float(v), 6) for k, v in trainer.callback_metrics.items()}
        row["lr"] = float(f"{trainer.optimizers[0].param_groups[0]['lr']:.6g}")
        row["seconds"] = round(time.monotonic() - self._start, 1)
        self.run.append_metrics(row)
        for logger in trainer.loggers:
            # Lightning logs losses itself; the axis of these is the epoch, so that runs of other batch sizes align.
            logger.log_metrics(
                {"schedule/lr": row["lr"], "schedule/epoch_seconds": row["seconds"]}, trainer.current_epoch
            )


class ProgressLine(Callback):
    """A bar for the running epoch on a terminal, and one line for each finished epoch everywhere.

    Args:
        console: where it is printed.
        shown: metrics in the line, in this order.
        is_live: whether a moving bar is wanted; it appears on terminals only.
    """

    def __init__(self, console: Console, shown: Sequence[str], is_live: bool) -> None:
        self.console = console
        self.shown = shown
        self.is_live = is_live and console.is_terminal
        self._progress: Progress | None = None
        self._task: Any = None
        self._start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A new bar."""
        self._start = time.monotonic()
        if not self.is_live:
            return
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"), BarColumn(), MofNCompleteColumn(), TextColumn("batches"),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=self.console, transient=True,
        )  # fmt: skip
        self._task = self._progress.add_task(
            "",
            total=trainer.num_training_batches,
            epoch=f"{trainer.current_epoch + 1}/{trainer.max_epochs}",
            rate="",
        )
        self._progress.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        """Move the bar, a few times a second at most."""
        if self._progress is not None:
            batch_idx = arguments[-1]
            seconds = max(time.monotonic() - self._start, 1e-6)
            size = trainer.datamodule.batch_size  # type: ignore[attr-defined]
            self._progress.update(
                self._task, completed=batch_idx + 1, rate=f"{(batch_idx + 1) * size / seconds:.0f} images/s"
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The line of the epoch."""
        self._close()
        values = trainer.callback_metrics
        numbers = "   ".join(f"{name} {float(values[name]):.4f}" for name in self.shown if name in values)
        seconds = time.monotonic() - self._start
        self.console.print(
            f"epoch {trainer.current_epoch + 1:>2}/{trainer.max_epochs}   {numbers}   {seconds:.0f} s",
            highlight=False,
            soft_wrap=True,
        )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class AugmentedBatch(Callback):
    """The first training batch as the model sees it, to TensorBoard."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw 16 augmented images."""
        from torchvision.utils import make_grid

        loader = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        batch = next(iter(loader))
        images = pl_module.augment(  # type: ignore[operator]
            batch["image"][:16],
            batch["position"][:16],
            epoch=0,
            size=pl_module.settings["image_size"],  # type: ignore[index]
        )
        for logger in trainer.loggers:
            writer = getattr(logger, "experiment", None)
            if writer is not None and hasattr(writer, "add_image"):
                writer.add_image("images/augmented_batch", make_grid(images.cpu(), nrow=4, pad_value=1.0), 0)


def build_callbacks(settings: dict[str, Any], run: RunDir, console: Console, *, is_live: bool) -> list[Callback]:
    """The callbacks of a run, from the `callbacks` group."""
    checkpoint = settings["checkpoint"]
    monitor = checkpoint["monitor"]
    shown = list(dict.fromkeys(["train/loss", "val/loss", "val/auroc", "stress/auroc", "block/auroc", monitor]))
    callbacks: list[Callback] = []
    if settings["ema"]["decay"] is not None:
        callbacks.append(EmaWeights(settings["ema"]["decay"]))
    callbacks += [EpochRecorder(run), ProgressLine(console, shown, is_live), AugmentedBatch()]
    if settings["early_stopping"]["patience"] is not None:
        callbacks.append(EarlyStopping(monitor=monitor, mode=monitor_mode(monitor), **settings["early_stopping"]))
    common: dict[str, Any] = {
        "dirpath": run.checkpoint_folder,
        "save_on_train_epoch_end": True,  # after the epoch is counted, so that going on starts with the next one
        "enable_version_counter": False,
        "save_weights_only": False,
    }
    callbacks += [
        ModelCheckpoint(filename="best", monitor=monitor, mode=monitor_mode(monitor), **common),
        ModelCheckpoint(filename="last", monitor=None, **common),
    ]
    return callbacks
