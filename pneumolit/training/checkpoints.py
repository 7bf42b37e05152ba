"""Checkpoints at the end of epochs: written whole, kept by metric, enough to go on from to the same bits."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping
from pytorch_lightning.plugins.io import TorchCheckpointIO

from pneumolit.config import monitor_mode
from pneumolit.rundir import RunDir
from pneumolit.stage_plan import Stage
from pneumolit.training.background import BackgroundWriter
from pneumolit.training.state_copy import StateCopies

SECONDS_BETWEEN = 15.0  # between two checkpoints where epochs are short: what a kill costs at most


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints written beside their place, synced and renamed: a kill leaves the old or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write one checkpoint, or put it into a list that is given as `storage_options`."""
        if isinstance(storage_options, list):
            storage_options.append(checkpoint)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            with temporary.open("wb") as handle:
                _save(checkpoint, handle)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def _save(checkpoint: dict[str, Any], handle: BinaryIO) -> None:
    try:
        torch.save(checkpoint, handle)
    except RuntimeError as error:  # of a full disk torch's writer says "unexpected pos"; the system's word is behind it
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


class EpochCheckpoints(Checkpoint):
    """Writes `last` after every epoch and keeps the best epoch of each monitor.

    The state is copied, and a thread writes it while the next epoch runs; where that takes longer than an epoch, only
    the newest `last` waits, and every `best` does. At the end of the stage and when it is stopped all is written
    before training is left. An error of the thread ends training at the end of the epoch in which it came. It costs the
    memory of one copy, and of one more for each that waits.

    A checkpoint is written once. The copies for the monitors appear first and `last` is renamed into place at the
    end: a run that is killed in between repeats the epochs since `last` and finds the same numbers. Lightning's own
    callback forgets its best score when the folder has moved.

    With `seconds_between` epochs are held in memory (what is frozen without a copy), and written at that distance, at
    the end of the stage and when it is stopped; a killed run then repeats the epochs since.

    Args:
        run: whose checkpoint folder.
        stage: the stage that is trained; all but the last one write names of their own.
        monitors: logged metrics; the first one decides about `best`.
        epochs_before: finished epochs of the earlier stages.
        steps_before: their optimizer steps.
        seconds_between: of training between two epochs that are written; 0 writes every one.

    Attributes:
        progress: how far the run is after the last finished epoch, as `read_progress` would say.
    """

    def __init__(
        self,
        run: RunDir,
        stage: Stage,
        monitors: Sequence[str],
        *,
        epochs_before: int = 0,
        steps_before: int = 0,
        seconds_between: float = 0.0,
    ) -> None:
        self.run = run
        self.stage = stage
        self.monitors = tuple(dict.fromkeys(monitors))
        self.epochs_before = epochs_before
        self.steps_before = steps_before
        self.seconds_between = seconds_between
        self.best: dict[str, float] = {}
        self.progress: Mapping[str, Any] = {}
        self._pending: dict[str, dict[str, Any]] = {}  # contents by name, `last` among them
        self._handed_over = time.monotonic()
        self._writer = BackgroundWriter(self._write)
        self._copies: StateCopies | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count the seconds."""
        self._handed_over, self._copies = time.monotonic(), StateCopies(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Have the epoch written, or hold it."""
        self._writer.check()
        improved = [m for m in self.monitors if self._is_better(m, float(trainer.callback_metrics[m]))]
        self.best |= {m: float(trainer.callback_metrics[m]) for m in improved}
        taken: list[dict[str, Any]] = []
        trainer.save_checkpoint(self.run.checkpoint(self.stage.checkpoint("last")), storage_options=taken)
        if not taken:  # not the process that writes
            return
        is_over = self.progress["is_over"]
        assert self._copies is not None
        content = taken[0] if is_over else self._copies.take(taken[0])
        self._pending |= dict.fromkeys([*(self.name_of(m) for m in improved), "last"], content)
        if is_over:
            self._finish()  # here: what was not copied changes as soon as the average takes the weights' place
        elif time.monotonic() - self._handed_over >= self.seconds_between:
            self._hand_over()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave nothing unwritten behind, whatever ended the stage."""
        self._finish()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep the epochs that are held or being written."""
        is_finished = exception is self._writer.error
        while not is_finished:
            with contextlib.suppress(KeyboardInterrupt):  # a second signal must not cut off what is written now
                self._finish()
                is_finished = True

    def _hand_over(self) -> None:
        """Have what is held written while training goes on."""
        if self._pending:
            self._writer.put(self._pending)
            self._pending, self._handed_over = {}, time.monotonic()

    def _finish(self) -> None:
        """Wait until all is written."""
        self._hand_over()
        self._writer.finish()

    def _write(self, contents: dict[str, dict[str, Any]]) -> None:
        """Write contents by name, `last` at the end."""
        last, paths = contents["last"], {n: self.run.checkpoint(self.stage.checkpoint(n)) for n in contents}
        new = paths["last"].with_name(f".{paths['last'].name}.new")
        older = {id(c): c for c in contents.values() if c is not last}
        try:
            for content in [*older.values(), last]:
                AtomicCheckpointIO().save_checkpoint(content, new)
                for name in (name for name, c in contents.items() if c is content and name != "last"):
                    _put_copy(new, paths[name])
            new.replace(paths["last"])
            _sync_folder(new.parent)
        except OSError as error:
            raise OSError(
                f"no checkpoint can be written to {new.parent}: {error.strerror or error}. What was written before is "
                f"whole; put that right and go on with run_dir={shlex.quote(str(self.run.path))}"
            ) from error

    def name_of(self, monitor: str) -> str:
        """`best`, or `best_val_loss` for a further monitor."""
        return "best" if monitor == self.monitors[0] else f"best_{monitor.replace('/', '_')}"

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say how far the run is, in words that need no Lightning."""
        counter = trainer.fit_loop.epoch_progress.current
        processed = int(vars(counter)["processed"])  # declared by a narrower type
        self.progress = checkpoint["stage"] = {
            "index": self.stage.index,
            "epochs": processed,
            "steps": self.steps_before + trainer.global_step,
            "epochs_before": self.epochs_before,
            "steps_before": self.steps_before,
            "is_over": bool(trainer.should_stop) or processed >= (trainer.max_epochs or math.inf),
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Know how far the run is."""
        self.progress = checkpoint["stage"]

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
