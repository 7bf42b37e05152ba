"""Whole runs on the demo set as a newcomer types them: the demo recipe solves it, a linear model does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pneumolit.rundir import RunDir, read_json, read_looks
from tests.processor_time import children_seconds, times_slower

pytestmark = pytest.mark.slow


def train(tmp_path: Path, *arguments: str) -> RunDir:
    env = {k: v for k, v in os.environ.items() if not k.startswith("PNEUMOLIT_")}
    env |= {"PNEUMOLIT_CACHE": str(tmp_path / "cache"), "PNEUMOLIT_OUT": str(tmp_path / "out")}
    command = [sys.executable, "-m", "pneumolit.train", "experiment=demo", "test=true", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr
    return RunDir(next((tmp_path / "out").glob("train/*/*")))


def test_the_demo_recipe_solves_the_phantoms_within_three_minutes(tmp_path: Path) -> None:
    before = children_seconds()
    run = train(tmp_path)
    seconds = children_seconds() - before
    assert read_json(run.evaluation_metrics_file("test"))["ranking"]["auroc"] >= 0.95
    # Three minutes on two cores.
    assert seconds < 2 * 180 * times_slower()
    assert len(read_looks(tmp_path / "out")) == 1


def test_logistic_regression_on_pixels_does_not_solve_the_demo_set(tmp_path: Path) -> None:
    run = train(tmp_path, "backbone=logistic", "augment=none", "data.stress=false", "trainer.max_epochs=15")
    assert read_json(run.evaluation_metrics_file("test"))["ranking"]["auroc"] <= 0.85
