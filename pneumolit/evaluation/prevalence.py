"""What a decision means where pneumonia is rarer than in the set: PPV, NPV and net benefit at stated prevalences.

A set that was collected case by case has a class mix of its own; sensitivity and specificity carry over to another
mix as far as the patients are of the same kind, predictive values do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pneumolit.evaluation.clustered import Interval, weighted_sum_interval

PREVALENCES = (0.05, 0.10, 0.20, 0.40)


def at_prevalence(
    sensitivity: float,
    specificity: float,
    prevalence: float,
    *,
    threshold: float | None,
    intervals: tuple[Interval, Interval],
) -> dict[str, Any]:
    """Predictive values and net benefit of a decision rule.

    Args:
        sensitivity: in [0, 1].
        specificity: in [0, 1].
        prevalence: fraction of pneumonia, strictly between 0 and 1.
        threshold: of the rule on the probability re-based to prevalence one half; None where it has none.
        intervals: [low, high] of sensitivity and of specificity, taken as independent.

    Returns:
        `prevalence`; `ppv`, `npv`: in [0, 1], None where nothing is called so; `threshold_probability`: the probability
        at this prevalence from which on the rule calls pneumonia, which says how many needless treatments it takes for
        a missed one; `net_benefit`: true positives per patient less false positives weighted by the odds of that
        probability; `net_benefit_all`: that of calling everybody ill (of calling nobody it is 0); the last three
        None without a threshold in (0, 1); `intervals`: of ppv, npv, net_benefit.

    Raises:
        ValueError: the prevalence lies outside (0, 1).

    Source:
        Vickers and Elkin, Medical Decision Making 26, 2006 (net benefit); Donner and Zou, Statistical Methods in
        Medical Research 21, 2012 (limits of a ratio).
    """
    if not 0 < prevalence < 1:
        raise ValueError(f"a prevalence must lie strictly between 0 and 1, got {prevalence}")
    odds = prevalence / (1 - prevalence)
    found: dict[str, Any] = {"prevalence": prevalence}
    limits: dict[str, Interval | None] = {}
    for key, right, other, of, weight in (
        ("ppv", sensitivity, specificity, intervals, 1 / odds),
        ("npv", specificity, sensitivity, intervals[::-1], odds),
    ):
        wrong = 1 - other
        found[key] = right / (right + weight * wrong) if wrong or right else None
        limits[key] = predictive_interval(right, other, of, weight)
    net, net_all, at, of_net = None, None, None, None
    if threshold is not None and 0 < threshold < 1:
        at_odds = threshold / (1 - threshold) * odds
        at = at_odds / (1 + at_odds)
        cost = (1 - prevalence) * at_odds
        net, net_all = prevalence * sensitivity - cost * (1 - specificity), prevalence - cost
        low, high = weighted_sum_interval((sensitivity, specificity), intervals, (prevalence, cost))
        of_net = [low - cost, high - cost]
    found |= {"threshold_probability": at, "net_benefit": net, "net_benefit_all": net_all}
    return found | {"intervals": {**limits, "net_benefit": of_net}}


def predictive_interval(
    right: float, other: float, intervals: Sequence[Interval | None], weight: float
) -> Interval | None:
    """Interval of a predictive value, `right / (right + weight * (1 - other))`.

    Args:
        right: recall of the class that is called: sensitivity for PPV, specificity for NPV.
        other: recall of the other class.
        intervals: [low, high] of both, taken as independent.
        weight: how many images of the other class there are for one of the class that is called.

    Returns:
        [low, high]; None where nothing is called so.
    """
    of_right, of_other = intervals
    if of_right is None or of_other is None or (right == 0 and other == 1):
        return None
    # The predictive value falls as errors per right answer rise.
    low, high = ratio_interval(1 - other, right, [1 - of_other[1], 1 - of_other[0]], of_right)
    return [1 / (1 + weight * high), 1 / (1 + weight * low)]


def ratio_interval(above: float, below: float, of_above: Interval, of_below: Interval) -> Interval:
    """Limits of a ratio of two independent proportions from the limits of each.

    Args:
        above: numerator, in [0, 1].
        below: denominator, in [0, 1].
        of_above: [low, high] around `above`.
        of_below: [low, high] around `below`.

    Returns:
        [low, high]; the upper limit is infinite where the denominator may be 0.

    Source:
        Donner and Zou, Statistical Methods in Medical Research 21, 2012 (MOVER-R).
    """
    (low_above, high_above), (low_below, high_below) = of_above, of_below
    product = above * below
    # Each limit is a root of quadratic * ratio^2 - 2 * product * ratio + constant = 0.
    quadratic, constant = high_below * (2 * below - high_below), low_above * (2 * above - low_above)
    reach = product + max(product**2 - quadratic * constant, 0.0) ** 0.5
    low = constant / reach if reach else 0.0  # by the other root, since `quadratic` may be 0 or less
    quadratic, constant = low_below * (2 * below - low_below), high_above * (2 * above - high_above)
    reach = product + max(product**2 - quadratic * constant, 0.0) ** 0.5
    return [max(0.0, low), reach / quadratic if quadratic else float("inf")]
