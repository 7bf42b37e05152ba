"""Checkpoints are written while training goes on, whole, in order, and before anybody reads them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.rundir import RunDir, read_json
from pneumolit.training.background import BackgroundWriter
from pneumolit.training.checkpoints import AtomicCheckpointIO, EpochCheckpoints

Configure = Callable[..., dict[str, Any]]
Train = Callable[..., Any]
Tensors = Callable[..., dict[str, torch.Tensor]]
Watch = Callable[[Callable[[int], None]], list[int]]

PATIENCE = 30.0  # seconds until a test that hangs fails
QUICK = ("data.stress=false", "optim.lr=0.01", "logger=none", "trainer.limit_train_batches=2")


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """`watch(before)`: calls `before(epochs)` before a checkpoint is written; those that were, by their epochs."""

    def watched(before: Callable[[int], None]) -> list[int]:
        written: list[int] = []
        save = AtomicCheckpointIO.save_checkpoint

        def saved(self: AtomicCheckpointIO, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
            if storage_options is None:
                before(checkpoint["stage"]["epochs"])
                written.append(checkpoint["stage"]["epochs"])
            save(self, checkpoint, path, storage_options)

        monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", saved)
        return written

    return watched


@pytest.fixture
def at_epoch_end(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], None]], None]:
    """`at_epoch_end(call)`: `call(epochs)` when training has finished so many, before their checkpoint."""

    def arranged(call: Callable[[int], None]) -> None:
        whole = EpochCheckpoints.on_train_epoch_end

        def ended(self: EpochCheckpoints, trainer: Any, model: Any) -> None:
            call(trainer.current_epoch + 1)
            whole(self, trainer, model)

        monkeypatch.setattr(EpochCheckpoints, "on_train_epoch_end", ended)

    return arranged


def contents_of(run: RunDir, tensors_of: Tensors) -> dict[str, dict[str, torch.Tensor]]:
    names = ("best", "best_val_loss", "last")
    return {name: tensors_of(torch.load(run.checkpoint(name), weights_only=True)) for name in names}


@pytest.mark.parametrize("average", ["ema.decay=0.9", "ema.decay=null", "swa.start_fraction=0.25"])
def test_what_is_written_late_are_the_bits_of_the_end_of_its_epoch_and_no_waiting_best_is_lost(
    tiny_config: Configure,
    train_only: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    watch: Watch,
    at_epoch_end: Callable[..., None],
    tensors_of: Tensors,
    average: str,
) -> None:
    best_until = {"val/auroc": 4, "val/loss": 2}  # the last epoch that improves them
    monkeypatch.setattr(
        EpochCheckpoints, "_is_better", lambda self, m, value: self.progress.get("epochs", 0) < best_until[m]
    )
    decay = [] if "ema" in average else ["callbacks.ema.decay=null"]
    cfg = tiny_config(
        *QUICK, "trainer.max_epochs=4", "callbacks.checkpoint.also=[val/loss]", *decay, f"callbacks.{average}"
    )
    with monkeypatch.context() as patched:
        patched.setattr(BackgroundWriter, "put", lambda self, contents: self._write(contents))  # training waits
        expected = contents_of(train_only(cfg, tmp_path / "waited").run, tensors_of)
    is_late = threading.Event()

    def wait(epochs: int) -> None:
        assert is_late.wait(PATIENCE)

    written = watch(wait)
    at_epoch_end(lambda epochs: is_late.set() if epochs == 4 else None)
    before = set(threading.enumerate())
    found = contents_of(train_only(cfg, tmp_path / "run").run, tensors_of)
    # The second epoch waited as the best of one metric alone; the third was replaced before its turn came.
    assert written == [1, 2, 4]
    assert set(threading.enumerate()) <= before
    for name, tensors in expected.items():
        assert found[name].keys() == tensors.keys()
        assert [k for k in tensors if not torch.equal(found[name][k], tensors[k])] == [], name


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_stopped_run_ends_after_the_write_that_is_under_way_whatever_signals_follow(
    tiny_config: Configure,
    train_only: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    watch: Watch,
    error: type[BaseException],
) -> None:
    is_waited_for = threading.Event()
    finish, step = BackgroundWriter.finish, PneumoniaClassifier.training_step

    def finished(self: BackgroundWriter) -> None:
        is_waited_for.set()
        finish(self)

    def stopped(self: PneumoniaClassifier, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 1:
            raise error("stop")
        return step(self, batch, batch_idx)

    def wait(epochs: int) -> None:
        assert is_waited_for.wait(PATIENCE)
        os.kill(os.getpid(), signal.SIGTERM)

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(BackgroundWriter, "finish", finished)
    monkeypatch.setattr(PneumoniaClassifier, "training_step", stopped)
    written, before = watch(wait), signal.signal(signal.SIGTERM, interrupt)
    try:
        # Lightning ends Ctrl-C as SystemExit.
        with pytest.raises(SystemExit if error is KeyboardInterrupt else error):
            train_only(tiny_config(*QUICK, "trainer.max_epochs=3"), tmp_path / "run")
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning leaves Ctrl-C ignored behind
    assert written == [1]
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["stage"]["epochs"] == 1


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when the first write has ended, well or not."""
    is_tried, write = threading.Event(), BackgroundWriter._write_waiting

    def written(self: BackgroundWriter) -> None:
        write(self)
        is_tried.set()

    monkeypatch.setattr(BackgroundWriter, "_write_waiting", written)
    return is_tried


def test_checkpoint_that_cannot_be_written_ends_the_run_at_the_next_end_of_an_epoch_with_one_message(
    command: Callable[..., Any],
    demo_root: Path,
    tmp_path: Path,
    at_epoch_end: Callable[..., None],
    tried: threading.Event,
) -> None:
    run = RunDir(tmp_path / "out" / "run")
    run.path.mkdir(parents=True)
    run.checkpoint_folder.write_text("no folder")
    at_epoch_end(lambda epochs: epochs == 1 or tried.wait(PATIENCE))
    tiny = ("backbone=test_resnet", "model.pretrained=false", "model.image_size=32", "data.val_fraction=0.25")
    outcome = command(
        "train", f"data.root={demo_root}", *tiny, *QUICK, "trainer.max_epochs=6", f"hydra.run.dir={run.path}"
    )
    assert outcome.code == 2 and "Traceback" not in outcome.err
    message = f"no checkpoint can be written to {run.checkpoint_folder}: File exists"
    assert message in " ".join(outcome.err.split())
    status = read_json(run.status_file)
    assert status["state"] == "failed" and message in status["reason"]
    assert [row["epoch"] for row in run.read_metrics()] == [1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_full_disk_is_named_and_leaves_the_old_checkpoint_and_nothing_half_written(
    tiny_config: Configure,
    train_only: Train,
    tmp_path: Path,
    at_epoch_end: Callable[..., None],
    tried: threading.Event,
) -> None:
    folder = tmp_path / "run" / "checkpoints"

    def fill(epochs: int) -> None:
        if epochs == 2:
            assert tried.wait(PATIENCE)
            (folder / "..last.ckpt.new.tmp").symlink_to("/dev/full")

    at_epoch_end(fill)
    with pytest.raises(OSError, match="No space left on device"):
        train_only(tiny_config(*QUICK, "trainer.max_epochs=3"), tmp_path / "run")
    assert torch.load(folder / "last.ckpt", weights_only=True)["stage"]["epochs"] == 1
    assert sorted(p.name for p in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
