"""Checkpoints at the end of epochs: written whole, kept by metric, enough to go on from to the same bits."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping
from pytorch_lightning.plugins.io import TorchCheckpointIO

from pneumolit.config import monitor_mode
from pneumolit.rundir import RunDir
from pneumolit.stage_plan import Stage


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints written beside their place, synced and renamed: a kill leaves the old or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write one checkpoint."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            with temporary.open("wb") as handle:
                torch.save(checkpoint, handle)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


class EpochCheckpoints(Checkpoint):
    """Writes `last` after every epoch and keeps the best epoch of each monitor.

    The checkpoint is written once. The copies for the monitors appear first and `last` is renamed into place at the
    end: a run that is killed in between repeats the epoch and finds the same numbers. Lightning's own callback
    forgets its best score when the folder has moved.

    Args:
        run: whose checkpoint folder.
        stage: the stage that is trained; all but the last one write names of their own.
        monitors: logged metrics; the first one decides about `best`.
        epochs_before: finished epochs of the earlier stages.
        steps_before: their optimizer steps.
    """

    def __init__(
        self, run: RunDir, stage: Stage, monitors: Sequence[str], *, epochs_before: int = 0, steps_before: int = 0
    ) -> None:
        self.run = run
        self.stage = stage
        self.monitors = tuple(dict.fromkeys(monitors))
        self.epochs_before = epochs_before
        self.steps_before = steps_before
        self.best: dict[str, float] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch."""
        improved = [m for m in self.monitors if self._is_better(m, float(trainer.callback_metrics[m]))]
        self.best |= {m: float(trainer.callback_metrics[m]) for m in improved}
        last = self.run.checkpoint(self.stage.checkpoint("last"))
        new = last.with_name(f".{last.name}.new")
        trainer.save_checkpoint(new)
        if not trainer.is_global_zero:
            return
        for monitor in improved:
            _put_copy(new, self.run.checkpoint(self.stage.checkpoint(self.name_of(monitor))))
        new.replace(last)
        _sync_folder(last.parent)

    def name_of(self, monitor: str) -> str:
        """`best`, or `best_val_loss` for a further monitor."""
        return "best" if monitor == self.monitors[0] else f"best_{monitor.replace('/', '_')}"

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say how far the run is, in words that need no Lightning."""
        counter = trainer.fit_loop.epoch_progress.current
        processed = int(vars(counter)["processed"])  # declared by a narrower type
        checkpoint["stage"] = {
            "index": self.stage.index,
            "epochs": processed,
            "steps": self.steps_before + trainer.global_step,
            "epochs_before": self.epochs_before,
            "steps_before": self.steps_before,
            "is_over": bool(trainer.should_stop) or processed >= (trainer.max_epochs or math.inf),
        }

    def state_dict(self) -> dict[str, Any]:
        """The best value of each monitor so far."""
        return {"best": dict(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the best value."""
        self.best = dict(state_dict["best"])

    def _is_better(self, monitor: str, value: float) -> bool:
        if not math.isfinite(value):
            return False
        best = self.best.get(monitor)
        return best is None or (value < best if monitor_mode(monitor) == "min" else value > best)


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping that remembers on resuming that it had already stopped."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop again before the first epoch if the patience was used up when the checkpoint was written."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def read_progress(path: Path) -> Mapping[str, Any] | None:
    """What a checkpoint says of the run.

    `index` of the stage, `epochs` and `steps` of the whole run, those before this stage, and whether it `is_over`.

    Returns:
        None where there is no checkpoint or it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # torch's reader lets many kinds through for a damaged file
        return None
    progress = content.get("stage") if isinstance(content, Mapping) else None
    return progress if isinstance(progress, Mapping) else None


def _put_copy(source: Path, target: Path) -> None:
    """A second name for the same bytes where the file system can, else a copy; the target is whole at any time."""
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)


def _sync_folder(folder: Path) -> None:
    """Make renames outlast a power cut."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
