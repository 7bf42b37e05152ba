"""What happens around the epochs: the epoch's row, the progress line, pictures, and who averages, saves and stops."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pneumolit.config import monitor_mode
from pneumolit.data.parts import WHOLE, Part
from pneumolit.rundir import RunDir
from pneumolit.stage_plan import Stage
from pneumolit.training.averaging import EmaWeights, SharedStatistics, SwaWeights
from pneumolit.training.board import EpochBoard, writer_of
from pneumolit.training.checkpoints import SECONDS_BETWEEN, EpochCheckpoints, ResumableEarlyStopping
from pneumolit.training.place import Watch


class EpochRecorder(Callback):
    """One row of metrics.csv and one point of every TensorBoard curve per epoch, both written before its checkpoint.

    Epochs count from 1 through all stages, in the file and on TensorBoard's axis.

    Args:
        run: where it goes.
        stage: the stage that is trained.
        steps_before: optimizer steps of the earlier stages.
        watch: told of the row, after it is written.
    """

    def __init__(self, run: RunDir, stage: Stage, steps_before: int = 0, watch: Watch | None = None) -> None:
        self.run = run
        self.stage = stage
        self.steps_before = steps_before
        self.watch = watch
        self._start = time.monotonic()
        self._rates: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time."""
        self._start, self._rates = time.monotonic(), []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        """Note the learning rate: after the last batch it is that of the next epoch, or nothing at all."""
        self._rates.append(head_learning_rate(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the row, validation included; `lr` is the mean over the epoch's batches."""
        epoch = trainer.current_epoch + 1
        row: dict[str, float] = {"epoch": epoch, "step": self.steps_before + trainer.global_step}
        if self.stage.count > 1:
            row["stage"] = self.stage.index + 1
        row |= {k: round(float(v), 6) for k, v in trainer.callback_metrics.items()}
        row["lr"] = float(f"{sum(self._rates) / max(len(self._rates), 1):.6g}")
        row["seconds"] = round(time.monotonic() - self._start, 1)
        self.run.append_metrics(row)
        curves = {k: v for k, v in row.items() if "/" in k}
        curves |= {"schedule/lr": row["lr"], "schedule/epoch_seconds": row["seconds"]}
        for logger in trainer.loggers:
            logger.log_metrics(curves, epoch)
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.flush()  # a killed run would go on behind a gap
        if self.watch is not None:
            self.watch(row)


def head_learning_rate(trainer: Trainer) -> float:
    """The learning rate that the configuration names: that of the head, which no factor scales."""
    groups = trainer.optimizers[0].param_groups
    return float(next((g["lr"] for g in groups if str(g.get("name", "")).startswith("head")), groups[0]["lr"]))


class ProgressLine(Callback):
    """A bar for the running epoch on a terminal, and one line for each finished epoch everywhere.

    Args:
        console: where it is printed.
        stage: the stage that is trained.
        epochs: planned epochs of the run up to its end.
        shown: metrics in the line, in this order.
        is_live: whether a moving bar is wanted; it appears on terminals only.
    """

    def __init__(self, console: Console, stage: Stage, epochs: int, shown: Sequence[str], is_live: bool) -> None:
        self.console = console
        self.stage = stage
        self.epochs = epochs
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
            epoch=self._place(trainer),
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
            f"epoch {self._place(trainer)}   {numbers}   {seconds:.0f} s",
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say why a stage ends before its last planned epoch."""
        stopping = trainer.early_stopping_callback
        if stopping is not None and trainer.should_stop and trainer.current_epoch < (trainer.max_epochs or 0):
            self.console.print(
                f"stopped early: {stopping.monitor} has not improved for {stopping.patience} "
                f"epoch{'s' * (stopping.patience > 1)} (best {float(stopping.best_score):.4f})",
                highlight=False,
                soft_wrap=True,
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._close()

    def _place(self, trainer: Trainer) -> str:
        stage = f" stage {self.stage.index + 1}/{self.stage.count}" if self.stage.count > 1 else ""
        return f"{trainer.current_epoch + 1:>2}/{self.epochs}{stage}"

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class AugmentedBatch(Callback):
    """The first training batch as the model sees it, to TensorBoard."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw 16 augmented images."""
        from torchvision.utils import make_grid

        writer = writer_of(trainer)
        if writer is None:
            return
        batch = trainer.datamodule.first_train_batch(trainer.current_epoch)  # type: ignore[attr-defined]
        images = pl_module.augment(  # type: ignore[operator]
            batch["image"][:16],
            batch["position"][:16],
            epoch=int(batch["epoch"]),
            size=pl_module.train_size,
        )
        grid = make_grid(images.cpu(), nrow=4, pad_value=1.0)
        writer.add_image("images/augmented_batch", grid, trainer.current_epoch + 1)


def build_callbacks(
    settings: Mapping[str, Any],
    run: RunDir,
    console: Console,
    stage: Stage,
    *,
    epochs_before: int,
    steps_before: int,
    epochs: int,
    is_live: bool,
    is_quick: bool = False,
    watch: Watch | None = None,
    part: Part = WHOLE,
) -> list[Callback]:
    """The callbacks of a stage, from the `callbacks` group.

    Args:
        settings: the group.
        run: where rows and checkpoints go.
        console: for people.
        stage: the stage that is trained.
        epochs_before: finished epochs of the earlier stages.
        steps_before: their optimizer steps.
        epochs: planned epochs of the run up to its end.
        is_live: whether a moving progress bar is wanted.
        is_quick: whether an epoch takes no longer than its checkpoint, so that not every one is written.
        watch: told of every epoch.
        part: which of the processes that train the model this is; only the first one tells anybody of an epoch.
    """
    monitor = settings["checkpoint"]["monitor"]
    shown = list(dict.fromkeys(["train/loss", "val/loss", "val/auroc", "stress/auroc", "block/auroc", monitor]))
    callbacks: list[Callback] = [SharedStatistics()] if part.count > 1 else []
    if settings["ema"]["decay"] is not None:
        callbacks.append(EmaWeights(settings["ema"]["decay"]))
    if settings["swa"]["start_fraction"] is not None:
        callbacks.append(SwaWeights(epochs_before + int(settings["swa"]["start_fraction"] * stage.epochs)))
    if part.is_first:
        board = stage.cfg["logger"]
        if board["tensorboard"]:
            # Before the row: one flush for both, so that a killed run goes on without a gap.
            callbacks += [EpochBoard(run, epochs, board["images_every"]), AugmentedBatch()]
        callbacks += [
            EpochRecorder(run, stage, steps_before, watch),
            ProgressLine(console, stage, epochs, shown, is_live),
        ]
    stopping = settings["early_stopping"]
    if stopping["patience"] is not None:
        watched = stopping["monitor"] or monitor
        callbacks.append(
            ResumableEarlyStopping(
                monitor=watched,
                mode=monitor_mode(watched),
                patience=stopping["patience"],
                min_delta=stopping["min_delta"],
            )
        )
    callbacks.append(
        EpochCheckpoints(
            run,
            stage,
            [monitor, *settings["checkpoint"]["also"]],
            epochs_before=epochs_before,
            steps_before=steps_before,
            seconds_between=SECONDS_BETWEEN if is_quick else 0.0,
        )
    )
    return callbacks
