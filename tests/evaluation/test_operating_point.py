from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from pneumolit.evaluation.calibration import Calibration
from pneumolit.evaluation.metrics import decision_metrics
from pneumolit.evaluation.operating_point import (
    OperatingPoint,
    fit_operating_points,
    point_at_prevalence,
    prevalence_rule,
)

# Multiples of 1/16 are exact, so that ties are frequent and thresholds can be compared exactly.
validation = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 16)), min_size=2, max_size=60).filter(
    lambda pairs: len({target for target, _ in pairs}) == 2
)


def fitted(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, dict[str, OperatingPoint]]:
    targets, probs = np.array([t for t, _ in pairs]), np.array([p for _, p in pairs]) / 16
    return targets, probs, {point.name: point for point in fit_operating_points(probs, targets)}


@given(validation)
def test_a_point_keeps_on_validation_what_it_promised(pairs: list[tuple[int, int]]) -> None:
    targets, probs, points = fitted(pairs)
    for point in points.values():
        found = decision_metrics(targets, point.decide(probs))
        assert found["sensitivity"] == point.promised_sensitivity
        assert found["specificity"] == point.promised_specificity


@given(validation)
def test_sensitivity_points_reach_their_promise_and_no_higher_threshold_does(
    pairs: list[tuple[int, int]],
) -> None:
    targets, probs, points = fitted(pairs)
    for percent in (95, 98, 99):
        threshold = points[f"sensitivity_{percent}"].threshold
        # In whole numbers, so that rounding cannot decide.
        reached = (probs[targets == 1] >= threshold).sum() * 100
        higher = (probs[targets == 1] >= np.nextafter(threshold, 2)).sum() * 100
        assert reached >= percent * targets.sum() > higher


@given(validation)
def test_specificity_point_reaches_its_promise_and_no_lower_threshold_does(
    pairs: list[tuple[int, int]],
) -> None:
    targets, probs, points = fitted(pairs)
    threshold = points["specificity_95"].threshold
    negatives = probs[targets == 0]
    reached = (negatives < threshold).sum() * 100
    lower = (negatives < np.nextafter(threshold, -1)).sum() * 100
    assert reached >= 95 * len(negatives) > lower


@given(validation)
def test_youden_reaches_the_largest_index_of_sklearns_curve(pairs: list[tuple[int, int]]) -> None:
    targets, probs, points = fitted(pairs)
    fpr, tpr, _ = roc_curve(targets, probs)
    found = decision_metrics(targets, points["youden"].decide(probs))
    assert found["sensitivity"] is not None and found["specificity"] is not None
    assert found["sensitivity"] + found["specificity"] - 1 == pytest.approx((tpr - fpr).max())


def test_youden_stays_at_one_half_where_a_whole_gap_is_equally_good() -> None:
    points = {p.name: p for p in fit_operating_points(np.array([0.1, 0.2, 0.7, 0.9]), np.array([0, 0, 1, 1]))}
    assert points["youden"].threshold == 0.5


def test_primary_is_one_half_whatever_the_data_say() -> None:
    points = fit_operating_points(np.array([0.8, 0.9, 0.95]), np.array([0, 0, 1]))
    assert (points[0].name, points[0].threshold) == ("primary", 0.5)
    assert points[0].decide(np.array([0.5, 0.4999])).tolist() == [1, 0]


def test_specificity_stays_promised_where_the_highest_probability_is_a_negative_at_one() -> None:
    points = {p.name: p for p in fit_operating_points(np.array([1.0, 1.0]), np.array([0, 1]))}
    assert points["specificity_95"].promised_specificity == 1.0


@given(validation)
def test_points_survive_json_bit_for_bit(pairs: list[tuple[int, int]]) -> None:
    for point in fitted(pairs)[2].values():
        assert OperatingPoint.from_dict(json.loads(json.dumps(point.to_dict()))) == point


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="both classes"):
        fit_operating_points(np.array([0.1, 0.2]), np.array([1, 1]))


# The rule for a given prevalence


@given(st.floats(0.01, 0.99), st.lists(st.floats(-8, 8), min_size=1, max_size=20))
def test_the_rule_for_a_prevalence_calls_what_is_likelier_ill_than_not_there(
    prevalence: float, scores: list[float]
) -> None:
    calibration = Calibration(1.3, 0.4, 0.7)
    at_half = calibration.probs(np.array(scores), 0.5)
    there = calibration.probs(np.array(scores), prevalence)
    point = point_at_prevalence(prevalence, at_half, np.ones(len(scores)))
    clear = np.abs(there - 0.5) > 1e-9
    assert point.decide(at_half)[clear].tolist() == (there >= 0.5)[clear].astype(int).tolist()


def test_the_rule_for_a_prevalence_promises_what_it_reached_on_validation() -> None:
    targets, probs = np.array([0, 0, 0, 1, 1, 1, 1]), np.array([0.2, 0.6, 0.95, 0.3, 0.85, 0.9, 0.99])
    point = point_at_prevalence(0.1, probs, targets)
    assert (point.name, point.threshold) == ("prevalence_0.1", 0.9)
    assert point.promised_sensitivity == 2 / 4 and point.promised_specificity == 2 / 3
    assert "prevalence 0.1" in point.rule
    assert OperatingPoint.from_dict(json.loads(json.dumps(point.to_dict()))) == point


def test_at_prevalence_one_half_the_rule_is_the_primary_one() -> None:
    targets, probs = np.array([0, 1, 0, 1]), np.array([0.2, 0.5, 0.7, 0.9])
    point, primary = point_at_prevalence(0.5, probs, targets), fit_operating_points(probs, targets)[0]
    assert point.decide(probs).tolist() == primary.decide(probs).tolist()


def test_the_rarer_pneumonia_is_the_more_it_takes_to_call_it() -> None:
    thresholds = [point_at_prevalence(p, np.array([0.5]), np.array([1])).threshold for p in (0.05, 0.1, 0.4, 0.9)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert prevalence_rule(0.05) == "prevalence_0.05" and prevalence_rule(1 / 8) == "prevalence_0.125"


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.2, 10, float("nan")])
def test_a_prevalence_outside_0_1_is_refused_and_named(prevalence: float) -> None:
    with pytest.raises(ValueError, match=rf"strictly between 0 and 1, got {prevalence}.*one in ten"):
        point_at_prevalence(prevalence, np.array([0.5]), np.array([1]))
