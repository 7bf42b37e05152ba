"""Slope, intercepts, ECE and Brier score against scikit-learn, root finding and the sums written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from pneumolit.evaluation.calibration_check import check_calibration

Z = 1.959963984540054
REGRESSED = ("slope", "intercept", "in_the_large")


def simulated(
    seed: int = 0, patients: int = 120, slope: float = 1.0, intercept: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log odds, outcomes and patients with one to four images each, which share half of the variance."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    log_odds = 1.5 * (rng.normal(size=patients)[ids] + rng.normal(size=len(ids)))
    return log_odds, (rng.random(len(ids)) < expit(slope * log_odds + intercept)).astype(int), ids


def errors_patient_by_patient(design: np.ndarray, log_odds: np.ndarray, targets: np.ndarray, ids: np.ndarray) -> Any:
    """Liang and Zeger's sandwich for given fitted log odds, summed image by image, patient by patient."""
    size = design.shape[1]
    information, meat = np.zeros((size, size)), np.zeros((size, size))
    for row, z in zip(design, log_odds, strict=True):
        information += expit(z) * (1 - expit(z)) * np.outer(row, row)
    names = sorted(set(ids.tolist()))
    for name in names:
        score = np.zeros(size)
        for row, z, target, of in zip(design, log_odds, targets, ids, strict=True):
            if of == name:
                score += (target - expit(z)) * row
        meat += np.outer(score, score)
    bread = np.linalg.inv(information)
    return np.sqrt(np.diag(len(names) / (len(names) - 1) * bread @ meat @ bread))


# Albumin before surgery of 43 patients with ovarian cancer, and whether they died: DeLong, DeLong and Clarke-Pearson,
# Biometrics 44, 1988, as printed in the SAS/STAT User's Guide, The LOGISTIC Procedure.
_ALBUMIN = """
3 3.2 3.9 2.8 3.2 0.9 2.5 1.6 3.8 3.7 3.2 3.8 4.1 3.6 4.3 3.6 2.3 4.2 4 3.5 3.8 3 4.5 3.7 3.1 4.1 4.3 4.3 3.2
2.6 3.3 1.7 3.7 3.3 4.2 3.5 2.9 2.1 2.8 4 3.3 3.7 3.6
"""
_DIED = """
1 0 0 1 0 1 1 0 0 0 0 0 0 0 0 1 0 1 1 0 0 1 0 0 0 0 0 0 0 0 1 1 0 0 0 0 1 0 1 0 0 0 0
"""


def test_every_number_and_interval_is_that_of_statsmodels() -> None:
    # statsmodels 0.15.0: Logit (slope, intercept), GLM with an offset (in the large) and OLS of the squared errors on a
    # constant (Brier score), each with cov_type="cluster", use_correction=False; groups of three in the printed order.
    log_odds, died = 2 * (3.4 - np.array(_ALBUMIN.split(), dtype=float)), np.array(_DIED.split(), dtype=int)
    found = check_calibration(log_odds, died, np.arange(43) // 3)
    for name, value, error in (
        ("slope", 0.5260132632, 0.2550570002),
        ("intercept", -1.1123175872, 0.3722646815),
        ("in_the_large", -1.3246602291, 0.3736147318),
        ("brier", 0.2285935279, 0.0373758622),
    ):
        assert found[name] == pytest.approx(value, abs=1e-9)
        half = Z * error * (15 / 14) ** 0.5  # 15 groups; the correction that was left out
        assert found["intervals"][name] == pytest.approx([value - half, value + half], abs=1e-8)


@pytest.mark.parametrize(("seed", "slope", "intercept"), [(0, 1.0, 0.0), (1, 0.4, 1.0), (2, 2.0, -1.5)])
def test_slope_and_intercept_equal_scikit_learns_regression(seed: int, slope: float, intercept: float) -> None:
    log_odds, targets, ids = simulated(seed, slope=slope, intercept=intercept)
    found = check_calibration(log_odds, targets, ids)
    expected = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
    expected.fit(log_odds[:, None], targets)
    assert found["slope"] == pytest.approx(expected.coef_[0, 0], abs=1e-6)
    assert found["intercept"] == pytest.approx(expected.intercept_[0], abs=1e-6)
    assert abs(found["slope"] - slope) < 0.25 * slope and abs(found["intercept"] - intercept) < 0.5


def test_slope_and_intercept_have_the_least_log_loss() -> None:
    log_odds, targets, ids = simulated(3, slope=0.6, intercept=-0.5)

    def loss(pair: np.ndarray) -> float:
        probs = expit(pair[0] * log_odds + pair[1])
        return -float(np.sum(np.log(np.where(targets == 1, probs, 1 - probs))))

    expected = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x
    found = check_calibration(log_odds, targets, ids)
    assert [found["slope"], found["intercept"]] == pytest.approx(expected, abs=1e-6)


outcomes = st.lists(st.tuples(st.integers(-60, 60), st.integers(0, 1), st.integers(0, 9)), min_size=2, max_size=40)


@given(outcomes)
def test_in_the_large_makes_the_mean_probability_what_was_observed(drawn: list[tuple[int, int, int]]) -> None:
    log_odds, targets, ids = (np.array(column, dtype=float) for column in zip(*drawn, strict=True))
    assume(0 < targets.sum() < len(targets))
    found = check_calibration(log_odds / 4, targets, ids)

    def excess(shift: float) -> float:
        return float(np.sum(expit(log_odds / 4 + shift) - targets))

    assert found["in_the_large"] == pytest.approx(brentq(excess, -40, 40, xtol=1e-13), abs=1e-6)


def test_in_the_large_of_nearly_certain_probabilities_keeps_its_digits() -> None:
    normal, ill = np.array([-38.0, -31.0, -29.5]), np.array([24.0, 27.0, 40.0])

    def excess(shift: float) -> float:
        return float(np.log(expit(normal + shift).sum()) - np.log(expit(-ill - shift).sum()))

    found = check_calibration(np.concatenate([normal, ill]), np.repeat([0, 1], 3), np.arange(6))
    assert found["in_the_large"] == pytest.approx(brentq(excess, -9, 9), abs=1e-6)
    assert found["in_the_large"] > 2


def test_intervals_of_the_regressions_are_the_sandwich_over_patients() -> None:
    log_odds, targets, ids = simulated(4, slope=0.7, intercept=0.3)
    found = check_calibration(log_odds, targets, ids)
    ones = np.ones((len(ids), 1))
    design = np.hstack([log_odds[:, None], ones])
    slope_error, intercept_error = errors_patient_by_patient(
        design, found["slope"] * log_odds + found["intercept"], targets, ids
    )
    (shift_error,) = errors_patient_by_patient(ones, log_odds + found["in_the_large"], targets, ids)
    for name, error in zip(REGRESSED, (slope_error, intercept_error, shift_error), strict=True):
        assert found["intervals"][name] == pytest.approx([found[name] - Z * error, found[name] + Z * error], abs=1e-6)


def test_brier_score_and_its_interval_over_patients() -> None:
    log_odds, targets, ids = simulated(5)
    found = check_calibration(log_odds, targets, ids)
    assert found["brier"] == pytest.approx(brier_score_loss(targets, expit(log_odds)), abs=1e-12)
    names = sorted(set(ids.tolist()))
    squares = 0.0
    for name in names:
        losses = [(expit(z) - t) ** 2 for z, t, of in zip(log_odds, targets, ids, strict=True) if of == name]
        squares += sum(loss - found["brier"] for loss in losses) ** 2
    error = (len(names) / (len(names) - 1) * squares) ** 0.5 / len(ids)
    expected = [found["brier"] - Z * error, found["brier"] + Z * error]
    assert found["intervals"]["brier"] == pytest.approx(expected, abs=1e-9)


def test_ece_is_the_mean_gap_of_ten_bins_of_equally_many_images() -> None:
    rng = np.random.default_rng(6)
    log_odds, targets = rng.normal(size=200), rng.integers(0, 2, 200)  # all different: ten bins of twenty
    gaps = []
    for members in np.split(np.argsort(log_odds), 10):
        gaps.append(abs(expit(log_odds[members]).mean() - targets[members].mean()))
    found = check_calibration(log_odds, targets, np.arange(200))
    assert found["ece"] == pytest.approx(np.mean(gaps), abs=1e-12)
    assert (found["observed"], found["expected"]) == pytest.approx((targets.mean(), expit(log_odds).mean()), abs=1e-12)


def test_stretched_and_shifted_log_odds_are_told_as_such() -> None:
    log_odds, targets, ids = simulated(7)
    honest, stretched = check_calibration(log_odds, targets, ids), check_calibration(2 * log_odds + 1, targets, ids)
    assert stretched["slope"] == pytest.approx(honest["slope"] / 2, abs=1e-6)
    assert stretched["intercept"] == pytest.approx(honest["intercept"] - honest["slope"] / 2, abs=1e-6)
    shifted = check_calibration(log_odds + 1, targets, ids)
    assert shifted["in_the_large"] == pytest.approx(honest["in_the_large"] - 1, abs=1e-6)


def test_flipped_classes_keep_the_slope_and_turn_the_intercepts() -> None:
    log_odds, targets, ids = simulated(8, intercept=0.8)
    found, flipped = check_calibration(log_odds, targets, ids), check_calibration(-log_odds, 1 - targets, ids)
    assert flipped["slope"] == pytest.approx(found["slope"], abs=1e-6)
    assert flipped["intervals"]["slope"] == pytest.approx(found["intervals"]["slope"], abs=1e-6)
    for name in ("intercept", "in_the_large"):
        assert flipped[name] == pytest.approx(-found[name], abs=1e-6)
        low, high = found["intervals"][name]
        assert flipped["intervals"][name] == pytest.approx([-high, -low], abs=1e-6)
    assert (flipped["brier"], flipped["ece"]) == pytest.approx((found["brier"], found["ece"]), abs=1e-9)


def test_copies_of_every_image_in_its_patient_change_no_number() -> None:
    log_odds, targets, ids = simulated(9)
    once = check_calibration(log_odds, targets, ids)
    twice = check_calibration(np.repeat(log_odds, 2), np.repeat(targets, 2), np.repeat(ids, 2))
    for name in (*REGRESSED, "brier"):
        assert twice[name] == pytest.approx(once[name], abs=1e-6)
        assert twice["intervals"][name] == pytest.approx(once["intervals"][name], abs=1e-6)


def test_images_that_agree_within_a_patient_widen_every_interval() -> None:
    log_odds, targets, ids = (np.repeat(column, 4) for column in simulated(10))
    clustered = check_calibration(log_odds, targets, ids)["intervals"]
    independent = check_calibration(log_odds, targets, np.arange(len(ids)))["intervals"]
    for name in (*REGRESSED, "brier"):
        assert np.diff(clustered[name]) > 1.8 * np.diff(independent[name])


@pytest.mark.parametrize(
    ("log_odds", "targets"),
    [
        ([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1]),
        ([-2.0, 1.0, 1.0, 2.0], [0, 0, 1, 1]),  # touching
        ([-2.0, -1.0, 1.0, 2.0], [1, 1, 0, 0]),  # the wrong way round
        ([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 1]),  # no score says more than another
    ],
)
def test_scores_that_separate_the_classes_have_no_slope_and_still_the_rest(
    log_odds: list[float], targets: list[int]
) -> None:
    found = check_calibration(np.array(log_odds), np.array(targets), np.arange(4))
    assert found["slope"] is found["intercept"] is None
    assert found["intervals"]["slope"] is found["intervals"]["intercept"] is None
    assert found["in_the_large"] is not None and found["intervals"]["in_the_large"] is not None


def test_one_class_has_no_regression_and_one_patient_no_interval() -> None:
    alone = check_calibration(np.array([1.0, 2.0]), np.array([1, 1]), np.arange(2))
    assert [alone[name] for name in REGRESSED] == [None] * 3
    assert alone["observed"] == 1 and alone["brier"] > 0 and alone["intervals"]["brier"] is not None
    log_odds, targets, _ = simulated(11)
    found = check_calibration(log_odds, targets, np.zeros(len(targets)))
    assert found["slope"] is not None
    assert found["intervals"] == dict.fromkeys((*REGRESSED, "brier"))


def test_a_brier_score_that_all_images_share_has_no_interval_rather_than_a_point() -> None:
    found = check_calibration(np.array([0.7, 0.7, -0.7, -0.7]), np.array([1, 1, 0, 0]), np.arange(4))
    assert found["brier"] == pytest.approx(expit(-0.7) ** 2) and found["intervals"]["brier"] is None


@settings(max_examples=60)
@given(outcomes, st.sampled_from([0.25, 1.0, 20.0, 1e3]))
def test_every_number_is_finite_or_none_and_lies_in_its_interval(
    drawn: list[tuple[int, int, int]], scale: float
) -> None:
    log_odds, targets, ids = (np.array(column, dtype=float) for column in zip(*drawn, strict=True))
    found = check_calibration(scale * log_odds, targets, ids)
    for name in (*REGRESSED, "brier"):
        limits = found["intervals"][name]
        if limits is not None:
            assert np.isfinite([found[name], *limits]).all()
            assert limits[0] <= found[name] <= limits[1]
    low, high = found["intervals"]["brier"] or (0, 1)
    assert low >= 0 and high <= 1
