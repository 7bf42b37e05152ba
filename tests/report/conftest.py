"""A random test set with its evaluation, for every test of a report."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumolit.evaluation.calibration import Calibration, fit_calibration
from pneumolit.evaluation.operating_point import fit_operating_points
from pneumolit.evaluation.summary import summarise
from pneumolit.labels import LabelSet
from pneumolit.predictions import Predictions
from pneumolit.report.run_record import RunRecord
from pneumolit.rundir import RunDir
from tests.browsing import Browser, running_browser

LABELS = LabelSet(("NORMAL", "BACTERIA", "VIRUS"), ("BACTERIA", "VIRUS"))


def predictions_of(targets: np.ndarray, labels: LabelSet = LABELS, shift: float = 2.0) -> Predictions:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(len(targets), labels.num_classes))
    logits[np.arange(len(targets)), targets] += shift
    return Predictions(
        labels,
        np.array([f"{i}.jpeg" for i in range(len(targets))], dtype=object),
        np.array([f"{t}-{i // 2}" for i, t in enumerate(targets)], dtype=object),
        targets,
        logits,
        causes=np.array(["", "bacteria", "virus"], dtype=object)[targets],
        is_copy=np.arange(len(targets)) % 50 == 7,
    )


def evaluated(predictions: Predictions) -> tuple[dict[str, Any], Calibration]:
    calibration = fit_calibration(predictions.scores, predictions.positives)
    points = fit_operating_points(calibration.probs(predictions.scores, 0.5), predictions.positives)
    return summarise(predictions, calibration, points, num_resamples=50), calibration


@pytest.fixture(scope="session")
def predictions() -> Predictions:
    return predictions_of(np.random.default_rng(1).integers(0, 3, 300))


@pytest.fixture(scope="session")
def metrics(predictions: Predictions) -> dict[str, Any]:
    return evaluated(predictions)[0]


@pytest.fixture(scope="session")
def calibration(predictions: Predictions) -> Calibration:
    return evaluated(predictions)[1]


@pytest.fixture(scope="session")
def make_predictions() -> Callable[..., Predictions]:
    return predictions_of


@pytest.fixture(scope="session")
def finished(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a finished run, with its ledger, that is to be read only."""
    out = tmp_path_factory.mktemp("pages")
    shutil.copy(small_run.parents[1] / "test_looks.jsonl", out)
    return Path(shutil.copytree(small_run, out / "train" / "first"))


@pytest.fixture(scope="session")
def record(finished: Path) -> RunRecord:
    """What that run's folder says."""
    return RunRecord.read(RunDir(finished))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ends with its module: tests of sweeps look for processes that were left behind."""
    with running_browser() as found:
        yield found
