"""Graded distortions, and what is measured under them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks._robustness.distortions import CURVES, distorted, names_of
from benchmarks._robustness.measure import measure, numbers_of
from benchmarks.robustness import draw
from pneumolit.comparison.ensemble import MEAN, build_ensemble, read_members
from pneumolit.comparison.ensemble_folder import save_ensemble
from pneumolit.config import CONFIG_DIR
from pneumolit.rundir import RunDir, read_json, write_json


def films(count: int = 3, side: int = 48) -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side] / side
    return np.stack(
        [128 + 60 * np.sin(9 * x + i) * np.cos(7 * y) + rng.normal(0, 5, (side, side)) for i in range(count)]
    ).astype(np.uint8)


@pytest.mark.parametrize("kind", CURVES)
def test_every_level_takes_a_film_further_from_itself_than_the_one_before_on_its_side(kind: str) -> None:
    plain, rows = films(), np.arange(3)
    away = [
        float(np.abs(distorted(plain, f"{kind} {level:g}", rows).astype(float) - plain).mean())
        for level in CURVES[kind].levels
    ]
    assert all(distance > 0 for distance in away)
    if kind == "contrast":  # a half and twice lie on two sides
        assert away[0] > away[1] > away[2] and away[4] > away[3]
    else:
        assert away == sorted(away)
    assert CURVES[kind].neutral in CURVES[kind].steps and CURVES[kind].neutral not in CURVES[kind].levels


def test_a_distortion_is_the_same_every_time_and_leaves_the_films_given_alone() -> None:
    plain = films()
    for name in (*names_of("stress"), *names_of("curves")):
        one, other = (distorted(plain, name, np.arange(3)) for _ in range(2))
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.uint8 and one.shape == plain.shape
    np.testing.assert_array_equal(plain, films())
    with pytest.raises(ValueError, match="kind must be stress or curves, got test"):
        names_of("test")


def test_numbers_follow_both_rules() -> None:
    positives, largest = np.array([False, False, True, True]), np.array([False, False, True, True])
    found = numbers_of(positives, np.array([-2.0, -0.5, 0.2, 3.0]), largest)
    assert found["auroc"] == 1.0 and found["argmax_sensitivity"] == found["argmax_specificity"] == 1.0
    assert found["primary_sensitivity"] == found["primary_specificity"] == 1.0
    # Calibrated, a film may lie on the other side than its largest logit.
    rebased = numbers_of(positives, np.array([-3.0, -1.5, -0.8, 2.0]), largest)
    assert (rebased["argmax_sensitivity"], rebased["primary_sensitivity"]) == (1.0, 0.5)


def test_films_as_they_are_have_the_numbers_of_the_evaluation_for_a_run_and_for_an_ensemble(
    small_run: Path, copied_run: Path, cache_dir: Path, tmp_path: Path
) -> None:
    other = RunDir(copied_run)
    told = read_json(other.calibration_file)
    told["calibration"]["intercept"] += 6.0  # the mean then calls other films than either member
    write_json(other.calibration_file, told)
    runs = [RunDir(small_run), other]
    ensemble = RunDir(tmp_path / "ensembles" / "mean")
    save_ensemble(build_ensemble(read_members(runs, ["one", "other"]), MEAN), ensemble)
    for run in (runs[0], ensemble):
        plain = measure(run, "val", "stress", None, cache_dir)["plain"]
        metrics = read_json(run.evaluation_metrics_file("val"))
        assert plain["auroc"] == pytest.approx(metrics["ranking"]["auroc"], abs=1e-6)
        for rule in ("argmax", "primary"):
            for side in ("sensitivity", "specificity"):
                assert plain[f"{rule}_{side}"] == pytest.approx(metrics["rules"][rule][side], abs=1e-6), (rule, side)
        with pytest.raises(SystemExit, match=r"sets a block aside|members have no block images in common"):
            measure(run, "block", "stress", None, cache_dir)


def test_curves_are_drawn_for_several_recipes(tmp_path: Path) -> None:
    keys = ("auroc", "argmax_sensitivity", "argmax_specificity", "primary_sensitivity", "primary_specificity")
    table = {name: {row: dict.fromkeys(keys, (0.9, 0.01)) for row in names_of("curves")} for name in ("one", "other")}
    draw(table, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_command_measures_a_run_and_refuses_the_test_split(small_run: Path, cache_dir: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "benchmarks.robustness",
            f"runs={small_run}",
            f"cache_dir={cache_dir}",
            *arguments,
        ]
        return subprocess.run(command, cwd=CONFIG_DIR.parent, capture_output=True, text=True, check=False)

    done = call("split=val")
    assert done.returncode == 0, done.stderr
    assert "film_noise" in done.stdout and '"benchmark": "robustness"' in done.stdout.splitlines()[-1]
    refused = call("split=test")
    assert refused.returncode != 0 and "test is not for this" in refused.stderr
