from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from pneumolit.evaluation.calibration import Calibration, fit_calibration

pairs_of_both_classes = st.lists(
    st.tuples(st.integers(0, 1), st.floats(-50, 50).map(lambda value: round(value, 3))),
    min_size=2,
    max_size=40,
).filter(lambda pairs: len({target for target, _ in pairs}) == 2)


def noisy_scores(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(1.0, 3.0, 4000)
    return scores, (rng.random(4000) < expit(0.5 * scores - 1.0)).astype(int)


def test_the_fit_equals_sklearns_logistic_regression_on_smoothed_targets() -> None:
    scores, targets = noisy_scores()
    pos, neg = targets.sum(), (1 - targets).sum()
    smoothed = np.where(targets == 1, (pos + 1) / (pos + 2), 1 / (neg + 2))
    # A soft target t is the same as one row of class 1 with weight t and one of class 0 with weight 1 - t.
    model = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(
        np.tile(scores, 2)[:, None],
        np.repeat([1, 0], len(scores)),
        sample_weight=np.concatenate([smoothed, 1 - smoothed]),
    )
    found = fit_calibration(scores, targets)
    assert found.slope == pytest.approx(model.coef_[0, 0], rel=1e-4)
    assert found.intercept == pytest.approx(model.intercept_[0], rel=1e-4)


def test_slope_and_intercept_of_the_simulation_are_found_again() -> None:
    found = fit_calibration(*noisy_scores())
    assert found.slope == pytest.approx(0.5, abs=0.05)
    assert found.intercept == pytest.approx(-1.0, abs=0.15)


@given(pairs_of_both_classes)
def test_calibration_is_finite_and_never_changes_the_ranking(pairs: list[tuple[int, float]]) -> None:
    targets, scores = (np.array(column) for column in zip(*pairs, strict=True))
    found = fit_calibration(scores, targets)
    assert 0 < found.slope < np.inf
    assert np.isfinite(found.intercept)
    ordered = found.probs(np.sort(scores))
    assert (np.diff(ordered) >= 0).all()
    assert 0 <= ordered[0] <= ordered[-1] <= 1


def test_separable_scores_give_a_finite_slope_and_the_right_side_of_one_half() -> None:
    found = fit_calibration(np.array([-9.0, -8, 8, 9] * 50), np.array([0, 0, 1, 1] * 50))
    assert found.probs(np.array([-9.0, 9.0])) == pytest.approx([1 / 102, 101 / 102], abs=0.01)


def test_scores_worse_than_chance_give_the_prevalence_and_keep_their_order() -> None:
    scores, targets = noisy_scores()
    probs = fit_calibration(-scores, targets).probs(np.array([-5.0, 0.0, 5.0]))
    assert probs == pytest.approx(targets.mean(), abs=0.01)
    assert probs[0] < probs[1] < probs[2]


def test_equal_scores_give_the_smoothed_prevalence() -> None:
    probs = fit_calibration(np.full(100, 3.7), np.arange(100) % 4 == 0).probs(np.array([3.7]))
    assert probs == pytest.approx([0.25], abs=0.02)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(-5, 5))
def test_rebasing_multiplies_the_odds_by_the_ratio_of_the_prior_odds(old: float, new: float, score: float) -> None:
    calibration = Calibration(1.3, 0.2, old)
    before, after = (calibration.probs(np.array([score]), prevalence=p)[0] for p in (None, new))
    assert logit(after) - logit(before) == pytest.approx(logit(new) - logit(old), abs=1e-9)


def test_a_calibration_survives_json_bit_for_bit() -> None:
    calibration = fit_calibration(*noisy_scores())
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


def test_wrong_input_is_refused_and_named() -> None:
    with pytest.raises(ValueError, match=r"both classes in the validation split, found \[1\]"):
        fit_calibration(np.arange(3.0), np.ones(3))
    with pytest.raises(ValueError, match="1 of 2 validation scores are not finite"):
        fit_calibration(np.array([0.0, np.inf]), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"strictly between 0 and 1, got 1\.0"):
        Calibration(1.0, 0.0, 0.5).probs(np.zeros(1), prevalence=1.0)
    with pytest.raises(ValueError, match=r"slope .* above 0, got 0"):
        Calibration(0.0, 0.0, 0.5)
