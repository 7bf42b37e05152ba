"""Predictive values and net benefit at other class mixes, by counting, and their intervals by solving for them."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from pneumolit.evaluation.clustered import wilson
from pneumolit.evaluation.metrics import decision_metrics
from pneumolit.evaluation.prevalence import PREVALENCES, at_prevalence, predictive_interval, ratio_interval

Limits = tuple[list[float], list[float]]
counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def rates_and_limits(tp: int, positives: int, tn: int, negatives: int) -> tuple[float, float, Limits]:
    sensitivity, specificity = tp / positives, tn / negatives
    return sensitivity, specificity, (wilson(sensitivity, positives), wilson(specificity, negatives))


def at(
    tp: int, positives: int, tn: int, negatives: int, prevalence: float, threshold: float | None = 0.5
) -> dict[str, Any]:
    sensitivity, specificity, limits = rates_and_limits(tp, positives, tn, negatives)
    return at_prevalence(sensitivity, specificity, prevalence, threshold=threshold, intervals=limits)


@pytest.mark.parametrize("percent", [5, 10, 20, 40])
def test_predictive_values_are_those_of_a_ward_counted_child_by_child(percent: int) -> None:
    # 10,000 children; 90 % of the ill and 80 % of the healthy are told rightly.
    ill, healthy = 100 * percent, 100 * (100 - percent)
    found = at(90, 100, 80, 100, percent / 100)
    calls = np.repeat([1, 0, 0, 1], [ill * 9 // 10, ill // 10, healthy * 8 // 10, healthy * 2 // 10])
    counted = decision_metrics(np.repeat([1, 0], [ill, healthy]), calls)
    assert (found["ppv"], found["npv"]) == pytest.approx((counted["ppv"], counted["npv"]), abs=1e-12)


def test_predictive_values_of_the_liver_scan_are_those_that_altman_and_bland_print() -> None:
    # Altman and Bland, BMJ 309, 1994, p. 102: 231 of 258 abnormal livers and 54 of 86 normal ones are told rightly.
    in_the_study = at(231, 258, 54, 86, 258 / 344)
    assert (in_the_study["ppv"], in_the_study["npv"]) == pytest.approx((231 / 263, 54 / 81), abs=1e-12)
    where_rarer = at(231, 258, 54, 86, 0.25)
    assert (where_rarer["ppv"], where_rarer["npv"]) == pytest.approx((0.45, 0.95), abs=0.005)


def test_bayes_theorem_at_the_prevalences_of_the_report() -> None:
    assert PREVALENCES == (0.05, 0.10, 0.20, 0.40)
    # sensitivity 99/100, specificity 90/100: prevalence * 99 / (prevalence * 99 + (1 - prevalence) * 10).
    expected = [Fraction(99 * p, 99 * p + 10 * (100 - p)) for p in (5, 10, 20, 40)]
    found = [at(99, 100, 90, 100, prevalence)["ppv"] for prevalence in PREVALENCES]
    assert found == pytest.approx([float(value) for value in expected], abs=1e-12)


@given(counts, counts, st.floats(0.02, 0.98))
def test_net_benefit_at_the_sets_own_prevalence_is_vickers_and_elkins_from_counts(
    pos: tuple[int, int], neg: tuple[int, int], threshold: float
) -> None:
    (tp, positives), (tn, negatives) = pos, neg
    total, fp = positives + negatives, negatives - tn
    prevalence = positives / total
    found = at(tp, positives, tn, negatives, prevalence, threshold)
    # A probability re-based from prevalence one half to this one: its odds times the odds of the prevalence.
    odds = threshold / (1 - threshold) * positives / negatives
    assert found["threshold_probability"] == pytest.approx(odds / (1 + odds), abs=1e-12)
    assert found["net_benefit"] == pytest.approx(tp / total - fp / total * odds, abs=1e-9, rel=1e-9)
    assert found["net_benefit_all"] == pytest.approx(positives / total - negatives / total * odds, abs=1e-9, rel=1e-9)


@pytest.mark.parametrize(
    ("prevalence", "probability", "net_benefit", "of_all"),
    [(0.1, 0.1, 0.07, 0.0), (0.2, 3 / 31, 0.162857, 0.114286), (0.05, 0.3, -0.036429, -0.357143)],
)
def test_net_benefit_is_what_the_package_dcurves_prints(
    prevalence: float, probability: float, net_benefit: float, of_all: float
) -> None:
    # dcurves 1.1.7, by the authors of net benefit: dca(..., thresholds=[probability], prevalence=prevalence),
    # on 100 ill of which 90 are called, and 200 healthy of which 160 are not.
    odds = probability / (1 - probability) * (1 - prevalence) / prevalence  # of the rule at prevalence one half
    found = at(90, 100, 160, 200, prevalence, odds / (1 + odds))
    assert found["threshold_probability"] == pytest.approx(probability, abs=1e-12)
    assert found["net_benefit"] == pytest.approx(net_benefit, abs=5e-7)
    assert found["net_benefit_all"] == pytest.approx(of_all, abs=5e-7)


def test_at_threshold_one_half_net_benefit_is_youdens_index_times_the_prevalence() -> None:
    found = at(90, 100, 80, 100, 0.1)
    assert found["threshold_probability"] == pytest.approx(0.1)
    assert found["net_benefit"] == pytest.approx(0.1 * (0.9 + 0.8 - 1))
    assert found["net_benefit_all"] == pytest.approx(0)


def test_interval_of_net_benefit_is_square_and_add_of_both_rates() -> None:
    sensitivity, specificity, ((low_sens, high_sens), (low_spec, high_spec)) = rates_and_limits(90, 100, 160, 200)
    found = at(90, 100, 160, 200, 0.2, threshold=0.3)
    cost = 0.8 * (0.3 / 0.7) * (0.2 / 0.8)  # of a false positive, times the healthy
    below = math.hypot(0.2 * (sensitivity - low_sens), cost * (specificity - low_spec))
    above = math.hypot(0.2 * (high_sens - sensitivity), cost * (high_spec - specificity))
    value = found["net_benefit"]
    assert found["intervals"]["net_benefit"] == pytest.approx([value - below, value + above], abs=1e-12)


@pytest.mark.parametrize("threshold", [None, 0.0, 1.0, math.nextafter(1, 2)])
def test_without_a_threshold_inside_0_1_there_is_no_net_benefit(threshold: float | None) -> None:
    found = at(90, 100, 80, 100, 0.1, threshold)
    assert found["net_benefit"] is found["net_benefit_all"] is found["threshold_probability"] is None
    assert found["intervals"]["net_benefit"] is None
    assert found["ppv"] is not None and found["intervals"]["ppv"] is not None


# Intervals of ratios


def test_ratio_of_proportions_has_the_published_limits() -> None:
    # Perondi 2004, survival after high-dose and standard-dose epinephrine, 7 of 34 and 1 of 34; Fagerland, Lydersen and
    # Laake, Statistical Analysis of Contingency Tables, 2017, ch. 4, as their R package contingencytables prints it.
    # The denominator's upper limit is above twice its value, where the formula's own denominator is negative.
    found = ratio_interval(7 / 34, 1 / 34, wilson(7 / 34, 34), wilson(1 / 34, 34))
    assert found == pytest.approx([1.1537, 41.9763], abs=5e-5)


@given(counts, counts)
def test_limits_of_a_ratio_are_where_the_difference_leaves_its_own_interval(
    above: tuple[int, int], below: tuple[int, int]
) -> None:
    # MOVER-R: a ratio r lies inside where 0 lies in the square-and-add interval of `above - r * below`.
    a, b = above[0] / above[1], below[0] / below[1]
    (low_a, high_a), (low_b, high_b) = wilson(a, above[1]), wilson(b, below[1])

    def lower_end(ratio: float) -> float:
        return a - ratio * b - math.hypot(a - low_a, ratio * (high_b - b))

    def upper_end(ratio: float) -> float:
        return a - ratio * b + math.hypot(high_a - a, ratio * (b - low_b))

    low, high = ratio_interval(a, b, [low_a, high_a], [low_b, high_b])
    if b:
        assert low <= a / b * (1 + 1e-9) and a / b <= high * (1 + 1e-9)
    expected_low = brentq(lower_end, 0, 1e9, xtol=1e-12, rtol=1e-12) if low_a else 0.0
    assert low == pytest.approx(expected_low, rel=1e-6, abs=1e-9)
    if low_b == 0:
        assert high == math.inf
    else:
        assert high == pytest.approx(brentq(upper_end, 0, 1e9, xtol=1e-12, rtol=1e-12), rel=1e-6, abs=1e-9)


@given(st.floats(0.1, 0.9), st.floats(0.2, 0.9), st.floats(0.01, 0.05), st.floats(0.01, 0.05))
def test_symmetric_limits_give_fiellers_interval(a: float, b: float, error_a: float, error_b: float) -> None:
    # Fieller, JRSS B 16, 1954, for two independent means and their half-widths.
    g = (error_b / b) ** 2
    half = math.sqrt(error_a**2 + (a / b) ** 2 * error_b**2 - g * error_a**2) / b / (1 - g)
    found = ratio_interval(a, b, [a - error_a, a + error_a], [b - error_b, b + error_b])
    centre = a / b / (1 - g)
    assert found == pytest.approx([centre - half, centre + half], rel=1e-9, abs=1e-9)


# Intervals of predictive values


@given(counts, counts, st.floats(0.01, 0.99))
def test_predictive_values_lie_in_their_intervals_and_those_in_0_1(
    pos: tuple[int, int], neg: tuple[int, int], prevalence: float
) -> None:
    found = at(*pos, *neg, prevalence)
    for key in ("ppv", "npv"):
        if found[key] is None:
            assert found["intervals"][key] is None
        else:
            low, high = found["intervals"][key]
            assert 0 <= low <= found[key] + 1e-12 and found[key] - 1e-12 <= high <= 1
            assert low < high
    low, high = found["intervals"]["net_benefit"]
    assert low - 1e-12 <= found["net_benefit"] <= high + 1e-12


@given(counts, counts, st.floats(0.01, 0.99))
def test_swapping_the_classes_swaps_the_predictive_values(
    pos: tuple[int, int], neg: tuple[int, int], prevalence: float
) -> None:
    found, swapped = at(*pos, *neg, prevalence), at(*neg, *pos, 1 - prevalence)
    assert swapped["ppv"] == pytest.approx(found["npv"], abs=1e-9)
    assert swapped["intervals"]["ppv"] == pytest.approx(found["intervals"]["npv"], abs=1e-9)


def test_ppv_falls_and_npv_rises_where_pneumonia_is_rarer() -> None:
    found = [at(380, 390, 180, 234, prevalence) for prevalence in PREVALENCES]
    assert [row["ppv"] for row in found] == sorted(row["ppv"] for row in found)
    assert [row["npv"] for row in found] == sorted((row["npv"] for row in found), reverse=True)


def test_nothing_called_ill_has_no_ppv_and_no_false_call_has_ppv_one() -> None:
    never = at(0, 50, 50, 50, 0.1)
    assert never["ppv"] is never["intervals"]["ppv"] is None
    assert never["npv"] == pytest.approx(0.9)
    clean = at(40, 50, 50, 50, 0.1)
    assert clean["ppv"] == 1 and clean["intervals"]["ppv"][1] == 1 and clean["intervals"]["ppv"][0] < 0.75
    wrong = at(0, 50, 40, 50, 0.1)
    assert wrong["ppv"] == 0 and wrong["intervals"]["ppv"][0] == 0 < wrong["intervals"]["ppv"][1]


def test_a_rate_without_an_interval_leaves_the_predictive_value_without_one() -> None:
    assert predictive_interval(0.9, 0.8, (None, [0.7, 0.9]), 1.0) is None
    assert predictive_interval(0.9, 0.8, ([0.8, 0.95], None), 1.0) is None


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, 12])
def test_a_prevalence_outside_0_1_is_refused_and_named(prevalence: float) -> None:
    with pytest.raises(ValueError, match=rf"strictly between 0 and 1, got {prevalence}"):
        at(90, 100, 80, 100, prevalence)
