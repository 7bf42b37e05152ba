"""What a leaderboard says of how a model was made is what the run's own files say."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.metrics import log_loss

from pneumolit.comparison.facts import read_facts, sum_of_facts, what_trained
from pneumolit.comparison.method import Absent, Method, read_method
from pneumolit.comparison.sources import find_runs
from pneumolit.rundir import RunDir, read_json, write_json


@pytest.mark.parametrize(
    ("stages", "is_pretrained", "words"),
    [
        (["none"], True, "everything"),
        (["none"], False, "everything, from scratch"),
        (["head"], True, "head"),
        (["head", "none"], True, "head, then everything"),
        (["head", "head"], True, "head"),
        ([], True, ""),
    ],
)
def test_what_trained_is_told_stage_by_stage(stages: list[str], is_pretrained: bool, words: str) -> None:
    plan = [{"policy": policy, "settings": {"policy": policy}} for policy in stages]
    assert what_trained(plan, is_pretrained=is_pretrained) == words


def test_partial_policies_say_how_much() -> None:
    assert what_trained([{"policy": "groups", "settings": {"last": 2}}], is_pretrained=True) == "last 2 groups"
    assert what_trained([{"policy": "groups", "settings": {"last": 1}}], is_pretrained=True) == "last group"
    assert what_trained([{"policy": "fraction", "settings": {"last": 0.25}}], is_pretrained=True) == "last 25 %"


def test_time_size_and_epochs_are_those_of_the_record(four_runs: list[RunDir]) -> None:
    facts = read_facts(four_runs[1], "primary")
    assert (facts.parameters, facts.trainable, facts.epochs, facts.seconds) == (11_180_000, 180_000, 3, 91.0)
    assert (facts.model, facts.trained, facts.seed) == ("resnet18.tv_in1k", "head", 0)


def test_the_training_loss_is_that_of_the_epoch_that_was_scored(made_runs: ModuleType, tmp_path: Path) -> None:
    """Epoch 1 is the best by val/auroc, epoch 2 the last."""
    last = made_runs.write_run(tmp_path / "last")
    assert read_facts(last, "primary").train_loss == 0.25
    best = made_runs.write_run(tmp_path / "best")
    best.write_status("done", checkpoint="best")
    facts = read_facts(best, "primary")
    assert facts.train_loss == 0.5 and facts.is_loss_logged


def test_a_measured_training_loss_replaces_the_logged_one(made_runs: ModuleType, tmp_path: Path) -> None:
    run = made_runs.write_run(tmp_path / "a", sets={"val": 40, "test": 60, "train": 30})
    facts = read_facts(run, "primary")
    said = run.read_predictions("train")
    assert facts.train_loss == pytest.approx(log_loss(said.targets, said.probs, labels=[0, 1, 2]), abs=1e-9)
    assert facts.train_accuracy == read_json(run.evaluation_metrics_file("train"))["rules"]["primary"]["accuracy"]
    assert not facts.is_loss_logged


def test_a_loss_of_two_classes_is_measured_as_it_was_trained(made_runs: ModuleType, tmp_path: Path) -> None:
    run = made_runs.write_run(
        tmp_path / "a", sets={"val": 40, "test": 60, "train": 30}, settings={"loss": {"name": "binary_cross_entropy"}}
    )
    said = run.read_predictions("train")
    score = said.scores + said.prior_log_odds
    expected = log_loss(said.positives, 1 / (1 + np.exp(-score)))
    assert read_facts(run, "primary").train_loss == pytest.approx(expected, abs=1e-9)


def test_what_chose_the_epoch_is_known_of_a_run_and_of_an_ensemble_of_it(made_runs: ModuleType, tmp_path: Path) -> None:
    found = []
    for use in ("best", "last"):
        settings = {"callbacks": {"checkpoint": {"use": use, "monitor": "block/auroc"}}}
        run = made_runs.write_run(tmp_path / use, settings=settings)
        run.write_status("done", checkpoint=use)
        found.append(read_facts(run, "primary"))
    chosen, fixed = found
    assert (chosen.chosen_by, fixed.chosen_by) == ("block/auroc", "")
    assert sum_of_facts("mean", [fixed, chosen], None).chosen_by == "block/auroc"


def test_what_chose_the_epoch_is_what_the_last_stage_says(
    compose_config: Callable[..., dict[str, Any]], made_runs: ModuleType, tmp_path: Path
) -> None:
    run = made_runs.write_run(tmp_path / "run")
    stages = "stages=[{epochs: 2}, {epochs: 4, callbacks.checkpoint.monitor: block/auroc}]"
    choices = ("callbacks.checkpoint.use=best", "callbacks.checkpoint.monitor=val/auroc", "data.holdout_fraction=0.1")
    run.config_file.write_text(yaml.safe_dump(compose_config(*choices, stages)))
    write_json(run.status_file, read_json(run.status_file) | {"checkpoint": "best"})
    assert read_facts(run, "primary").chosen_by == "block/auroc"


def test_runs_that_a_sweep_has_set_aside_are_compared_where_they_are_named_alone(
    made_runs: ModuleType, tmp_path: Path
) -> None:
    now = made_runs.write_run(tmp_path / "sweep" / "a")
    before = made_runs.write_run(tmp_path / "sweep" / "superseded" / "a_2026")
    for given in (tmp_path / "sweep", tmp_path / "sweep" / "*", tmp_path / "sweep" / "**", tmp_path / "**"):
        assert [run.path for run in find_runs(str(given))] == [now.path]
    for given in (tmp_path / "sweep" / "superseded", tmp_path / "sweep" / "superseded" / "*"):
        assert [run.path for run in find_runs(str(given))] == [before.path]


def test_what_is_not_scored_is_named_with_the_command_that_helps(made_runs: ModuleType, tmp_path: Path) -> None:
    run = made_runs.write_run(tmp_path / "a", sets={"val": 40})
    found = read_method(run, "test", "primary")
    assert isinstance(found, Absent)
    assert found.reason == "test was not scored"
    assert found.command.endswith("split=test   # (a look at the test split)")
    other = read_method(run, "block", "primary")
    assert isinstance(other, Absent) and "no block images" in other.reason and other.command == ""
    cut_off = made_runs.write_run(tmp_path / "b", sets={}, state="interrupted")
    stopped = read_method(cut_off, "test", "primary")
    assert isinstance(stopped, Absent) and "train run_dir=" in stopped.command


def test_a_run_without_calibration_decides_at_one_half_and_says_so(made_runs: ModuleType, tmp_path: Path) -> None:
    run = made_runs.write_run(tmp_path / "a", sets={"test": 60})
    found = read_method(run, "test", "primary")
    assert isinstance(found, Method)
    assert found.rule == "half" and "no calibration" in found.notes[0]
    assert (found.decisions == np.where(run.read_predictions("test").scores >= 0, "1", "0")).all()


def test_a_rule_that_a_run_lacks_is_named_with_those_it_has(four_runs: list[RunDir]) -> None:
    found = read_method(four_runs[0], "test", "youdn")
    assert isinstance(found, Absent)
    assert "no decision rule youdn (it has" in found.reason and "youden" in found.reason


def test_predictions_that_cannot_be_read_do_not_stop_the_others(made_runs: ModuleType, tmp_path: Path) -> None:
    run = made_runs.write_run(tmp_path / "a")
    file = run.predictions_file("test")
    rows = list(csv.reader(file.open()))
    file.write_text("\n".join(",".join(row[1:]) for row in rows))
    found = read_method(run, "test", "primary")
    assert isinstance(found, Absent) and "cannot be read" in found.reason


def test_numbers_come_from_the_run_and_are_not_made_again(made_runs: ModuleType, tmp_path: Path) -> None:
    run = made_runs.write_run(tmp_path / "a")
    content = read_json(run.evaluation_metrics_file("test"))
    content["ranking"]["auroc"] = 0.123
    write_json(run.evaluation_metrics_file("test"), content)
    found = read_method(run, "test", "primary")
    assert isinstance(found, Method) and found.metrics["ranking"]["auroc"] == 0.123
