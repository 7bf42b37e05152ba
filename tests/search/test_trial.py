"""What a trial's process tells the study, and the value of a finished run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pneumolit.interrupts import RunPrunedError
from pneumolit.rundir import RunDir
from pneumolit.search.strategy import build_pruner, quiet_optuna
from pneumolit.search.trial import Reporter, scored_value


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_optuna():
        yield


@pytest.fixture
def study() -> Any:
    """Three trials that all came down to 0.1, 0.05 and 0.01."""
    import optuna

    pruner = build_pruner({"name": "median", "n_startup_trials": 1}, 3)
    study = optuna.create_study(direction="minimize", pruner=pruner)
    for _ in range(3):
        trial = study.ask()
        for epoch, loss in enumerate((0.1, 0.05, 0.01), start=1):
            trial.report(loss, epoch)
        study.tell(trial, 0.01)
    return study


def row(epoch: int, loss: float) -> dict[str, float]:
    return {"epoch": epoch, "val/loss": loss}


def test_a_worse_run_is_ended_at_its_epoch(study: Any) -> None:
    reporter = Reporter(study.ask(), "val/loss", 3)
    reporter.watch(row(1, 0.08))
    with pytest.raises(RunPrunedError, match="behind other trials after epoch 2 of 3"):
        reporter.watch(row(2, 0.07))
    assert study.trials[3].intermediate_values == {1: 0.08, 2: 0.07}


def test_the_last_epoch_is_no_reason_to_lose_a_trial(study: Any) -> None:
    reporter = Reporter(study.ask(), "val/loss", 3)
    reporter.watch(row(3, 0.9))
    assert reporter.trial.should_prune()


def test_epochs_that_are_repeated_after_a_restart_are_reported_once(study: Any) -> None:
    reporter = Reporter(study.ask(), "val/loss", 9)
    reporter.replay([row(1, 0.9), row(2, 0.04)])  # of earlier processes: not a moment to prune
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of a step that is reported again
        reporter.watch(row(1, 0.7))
        reporter.watch(row(2, 0.7))
        reporter.watch(row(3, 0.001))
    assert study.trials[3].intermediate_values == {1: 0.9, 2: 0.04, 3: 0.001}


def test_a_run_that_diverged_is_told_as_no_number(study: Any) -> None:
    reporter = Reporter(study.ask(), "val/loss", 9)
    reporter.watch(row(1, 0.05))
    reporter.diverged()
    values = study.trials[3].intermediate_values
    assert list(values) == [1, 2] and math.isnan(values[2])
    assert study.tell(3, state=_pruned()).value is None


def _pruned() -> Any:
    from optuna.trial import TrialState

    return TrialState.PRUNED


def test_the_value_is_that_of_the_scored_epoch(tmp_path: Path, tiny_config: Callable[..., dict[str, Any]]) -> None:
    run = RunDir(tmp_path)
    for epoch, auroc, loss in ((1, 0.8, 0.5), (2, 0.9, 0.6), (3, 0.7, 0.3)):
        run.append_metrics({"epoch": epoch, "val/auroc": auroc, "val/loss": loss})
    last, best = tiny_config(), tiny_config("callbacks.checkpoint.use=best")
    assert [scored_value(run, last, name) for name in ("val/auroc", "val/loss")] == [0.7, 0.3]
    assert [scored_value(run, best, name) for name in ("val/auroc", "val/loss")] == [0.9, 0.6]
    by_loss = tiny_config("callbacks.checkpoint.use=best", "callbacks.checkpoint.monitor=val/loss")
    assert scored_value(run, by_loss, "val/auroc") == 0.7
    assert math.isnan(scored_value(run, last, "block/auroc"))
    assert math.isnan(scored_value(RunDir(tmp_path / "none"), last, "val/auroc"))


def test_the_best_epoch_is_one_of_the_last_stage(tmp_path: Path, tiny_config: Callable[..., dict[str, Any]]) -> None:
    run = RunDir(tmp_path)
    for epoch, stage, auroc in ((1, 1, 0.95), (2, 2, 0.9), (3, 2, 0.8)):
        run.append_metrics({"epoch": epoch, "stage": stage, "val/auroc": auroc})
    cfg = tiny_config("callbacks.checkpoint.use=best", "stages=[{epochs: 1}, {epochs: 2}]")
    assert scored_value(run, cfg, "val/auroc") == 0.9
