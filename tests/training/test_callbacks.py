"""Around the epochs: averaged weights, the epoch's row, whole checkpoints, stopping early."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from torch import Tensor

from pneumolit.training.checkpoints import AtomicCheckpointIO

Configure = Callable[..., dict[str, Any]]
Train = Callable[..., Any]


class EveryStep(Callback):
    """The weights after every optimizer step."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        self.states.append({k: v.clone() for k, v in pl_module.state_dict().items()})


def test_averaged_weights_equal_a_plain_loop_over_the_steps(
    tiny_config: Configure, train_only: Train, tmp_path: Path
) -> None:
    recorder = EveryStep()
    cfg = tiny_config("callbacks.ema.decay=0.6", "trainer.max_epochs=3", "optim.lr=0.01", "data.stress=false")
    trained = train_only(cfg, tmp_path / "run", [recorder])
    assert len(recorder.states) > 8  # so that the decay reaches its final value
    average = dict(recorder.states[0])
    for update, state in enumerate(recorder.states[1:], start=1):
        decay = min(0.6, (1 + update) / (10 + update))
        average = {k: decay * average[k] + (1 - decay) * v if v.is_floating_point() else v for k, v in state.items()}
    saved = torch.load(trained.run.checkpoint("last"), weights_only=True)
    for key, value in average.items():
        torch.testing.assert_close(saved["state_dict"][key], value, rtol=1e-5, atol=1e-6)
        assert torch.equal(saved["current_model_state"][key], recorder.states[-1][key]), key


def test_without_averaging_the_checkpoint_holds_the_last_step(
    tiny_config: Configure, train_only: Train, tmp_path: Path
) -> None:
    recorder = EveryStep()
    cfg = tiny_config("callbacks.ema.decay=null", "trainer.max_epochs=1", "data.stress=false")
    trained = train_only(cfg, tmp_path / "run", [recorder])
    saved = torch.load(trained.run.checkpoint("last"), weights_only=True)["state_dict"]
    assert all(torch.equal(saved[k], v) for k, v in recorder.states[-1].items())


def test_every_epoch_has_one_row_with_every_logged_number(small_run: Path) -> None:
    with (small_run / "metrics.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [float(row["epoch"]) for row in rows] == [1, 2]
    assert float(rows[1]["step"]) == 2 * float(rows[0]["step"]) > 0
    names = {f"{s}/{m}" for s in ("val", "stress") for m in ("loss", "accuracy", "balanced_accuracy", "auroc")}
    assert set(rows[0]) == {"epoch", "step", "train/loss", "lr", "seconds"} | names
    assert all(value for row in rows for value in row.values())


def test_stress_numbers_are_the_mean_over_the_families_of_distortion(small_run: Path) -> None:
    with (small_run / "metrics.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert rows[0]["stress/loss"] != rows[0]["val/loss"]


def test_best_is_the_epoch_with_the_best_monitor_and_nothing_temporary_is_left(small_run: Path) -> None:
    folder = small_run / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    with (small_run / "metrics.csv").open(newline="") as handle:
        scores = [float(row["val/auroc"]) for row in csv.DictReader(handle)]
    best, last = (torch.load(folder / f"{n}.ckpt", weights_only=True) for n in ("best", "last"))
    assert best["epoch"] == scores.index(max(scores))
    assert last["epoch"] == 1


def test_training_stops_after_the_patience_without_improvement(
    tiny_config: Configure, train_only: Train, tmp_path: Path
) -> None:
    cfg = tiny_config(
        "callbacks=early_stopping", "callbacks.early_stopping.patience=2", "callbacks.early_stopping.min_delta=1.0",
        "trainer.max_epochs=8", "data.stress=false", "trainer.limit_train_batches=1",
    )  # fmt: skip
    trained = train_only(cfg, tmp_path / "run")
    assert len(trained.run.read_metrics()) == 3  # the first counts as best, then two without improvement


def test_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    writer, path = AtomicCheckpointIO(), tmp_path / "folder" / "last.ckpt"
    writer.save_checkpoint({"step": torch.tensor(1)}, path)
    with pytest.raises(Exception, match="pickle"):
        writer.save_checkpoint({"step": torch.tensor(2), "bad": lambda: 0}, path)
    assert torch.load(path, weights_only=True) == {"step": torch.tensor(1)}
    writer.save_checkpoint({"step": torch.tensor(3)}, path)
    assert torch.load(path, weights_only=True) == {"step": torch.tensor(3)}
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]
