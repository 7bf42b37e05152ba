"""Closed-form intervals over patients against published examples, other libraries and the formulas written out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, t, ttest_ind
from sklearn.metrics import roc_auc_score

from pneumolit.evaluation.clustered import (
    auroc_components,
    auroc_covariance,
    auroc_interval,
    effective_size,
    mean_recall_interval,
    newcombe_auroc,
    proportion_interval,
    weighted_sum_interval,
    wilson,
)
from tests.evaluation.ovarian import OVARIAN

Z = 1.959963984540054

# Few scores and few patients: ties and patients with images of both classes are frequent.
rows = st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3), st.integers(0, 9)), min_size=4, max_size=30)
hits_of_patients = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=1, max_size=40)


def columns(drawn: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    return [np.array(column) for column in zip(*drawn, strict=True)]


def has_two_patients_of_each_class(targets: np.ndarray, patients: np.ndarray) -> bool:
    return all(len(set(patients[targets == k])) >= 2 for k in (0, 1))


# Proportions


@pytest.mark.parametrize(
    ("hits", "count", "limits"),
    [
        # Newcombe, Statistics in Medicine 17, 1998, p. 857: the four examples of its table I, method 3.
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0000, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_gives_the_published_limits(hits: int, count: int, limits: tuple[float, float]) -> None:
    assert wilson(hits / count, count) == pytest.approx(limits, abs=5e-5)


@given(st.integers(1, 700).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_equals_scipy(counts: tuple[int, int], level: float) -> None:
    hits, count = counts
    expected = binomtest(hits, count).proportion_ci(level, method="wilson")
    assert wilson(hits / count, count, level) == pytest.approx([expected.low, expected.high], abs=1e-9)


# Liang, Zeger and Qaqish, JRSS B 54, 1992: siblings of patients with chronic obstructive pulmonary disease. Number of
# siblings: {how many of them have impaired function: in so many families}.
_SIBLINGS = {
    1: {0: 36, 1: 12},
    2: {0: 15, 1: 7, 2: 1},
    3: {0: 5, 1: 7, 2: 3, 3: 2},
    4: {0: 3, 1: 3, 2: 1},
    6: {0: 1, 2: 1, 3: 1, 4: 1, 6: 1},
}


def siblings() -> tuple[np.ndarray, np.ndarray]:
    families = [(size, ill) for size, of in _SIBLINGS.items() for ill, count in of.items() for _ in range(count)]
    hits = np.concatenate([np.arange(size) < ill for size, ill in families])
    return hits.astype(int), np.repeat(np.arange(len(families)), [size for size, _ in families])


def test_a_clustered_proportion_has_the_published_interval() -> None:
    # Example of Saha, Miller and Wang 2016 and Short et al. 2020, all digits as the R package ratesci 1.0 prints them
    # for clusterpci(x, n, skew = FALSE): design effect 1.349133.
    hits, families = siblings()
    assert (hits.sum(), len(hits), len(set(families.tolist()))) == (60, 203, 100)
    assert 203 / effective_size(hits, families) == pytest.approx(1.349133, abs=5e-7)
    size = effective_size(hits, families)
    assert wilson(60 / 203, size) == pytest.approx([0.2284814, 0.3728302], abs=5e-8)
    # The printed one has the normal quantile; ours has t with 99 degrees of freedom, which Korn and Graubard (Survey
    # Methodology 24, 1998) put into the effective size.
    expected = wilson(60 / 203, size * (Z / t.ppf(0.975, 99)) ** 2)
    assert proportion_interval(hits, families) == pytest.approx(expected, abs=1e-12)
    assert proportion_interval(hits, families) == pytest.approx([0.2284814, 0.3728302], abs=2e-3)


def test_intervals_of_few_patients_with_many_images_hold_the_truth_nearly_as_often_as_they_say() -> None:
    # 8 patients with 30 images each, whose own rates are spread by a beta distribution (r = .3) around .85: with the
    # normal quantile 86 of 100 intervals hold it, with t 92.
    rng, patients, held = np.random.default_rng(0), np.repeat(np.arange(8), 30), 0
    for _ in range(300):
        rates = rng.beta(0.85 * 7 / 3, 0.15 * 7 / 3, 8)
        low, high = proportion_interval(rng.random(240) < rates[patients], patients) or [0, 0]
        held += low <= 0.85 <= high
    assert held / 300 > 0.895


def test_effective_size_of_four_patients_by_hand() -> None:
    hits, patients = np.array([1, 1, 0, 0, 1, 1, 1, 0]), np.array(list("aabbccdd"))
    # p = 5/8; within: 1/2 over 8 - 4; between: the sums less 5/4 squared add to 11/4, over 2 and over 3; all have two
    # images, so that r = (11/24 - 1/8) / (11/24 + 1/8) = 4/7, and the design effect is 1 + r.
    assert effective_size(hits, patients) == pytest.approx(8 / (11 / 7), abs=1e-12)


@given(hits_of_patients)
def test_effective_size_equals_an_analysis_of_variance_image_by_image(drawn: list[tuple[int, int]]) -> None:
    hits, patients = columns(drawn)
    total, groups = len(hits), [hits[patients == name] for name in sorted(set(patients.tolist()))]
    count = len(groups)
    if hits.mean() in (0, 1) or count == 1:
        assert effective_size(hits, patients) == count
        return
    if count == total:
        assert effective_size(hits, patients) == total
        return
    within = sum((hit - group.mean()) ** 2 for group in groups for hit in group) / (total - count)
    between = sum((group.mean() - hits.mean()) ** 2 for group in groups for _ in group) / (count - 1)
    usual_size = (total - sum(len(group) ** 2 for group in groups) / total) / (count - 1)
    r = min(1, max(0, (between - within) / (between + (usual_size - 1) * within)))
    design_effect = sum(1 + (len(group) - 1) * r for group in groups for _ in group) / total
    assert effective_size(hits, patients) == pytest.approx(total / design_effect, rel=1e-9)


@given(hits_of_patients, st.sampled_from([0.8, 0.95, 0.99]))
def test_a_proportions_interval_holds_it_and_is_never_a_point(drawn: list[tuple[int, int]], level: float) -> None:
    hits, patients = columns(drawn)
    found = proportion_interval(hits, patients, level)
    assert found is not None
    assert 0 <= found[0] <= hits.mean() <= found[1] <= 1
    assert found[1] - found[0] > 0.01
    wider = proportion_interval(hits, patients, (1 + level) / 2)
    assert wider is not None
    assert wider[0] <= found[0] and found[1] <= wider[1] and wider[1] - wider[0] > found[1] - found[0]


def test_390_of_390_images_are_as_sure_as_their_203_patients() -> None:
    patients = np.arange(390) % 203
    expected = binomtest(203, 203).proportion_ci(0.95, method="wilson")
    assert proportion_interval(np.ones(390), patients) == [pytest.approx(expected.low, abs=1e-12), 1.0]
    assert proportion_interval(np.zeros(390), patients) == [0.0, pytest.approx(1 - expected.low, abs=1e-12)]


@given(hits_of_patients, st.integers(2, 5))
def test_copies_of_every_image_do_not_make_a_proportion_surer(drawn: list[tuple[int, int]], times: int) -> None:
    hits = np.array([hit for hit, _ in drawn])
    patients = np.arange(len(hits))
    once = proportion_interval(hits, patients) or [0, 0]
    copied = proportion_interval(np.repeat(hits, times), np.repeat(patients, times)) or [0, 0]
    assert copied[0] <= once[0] + 1e-9 and once[1] - 1e-9 <= copied[1]
    assert effective_size(np.repeat(hits, times), np.repeat(patients, times)) == pytest.approx(len(hits), abs=1e-9)


def test_images_that_agree_within_a_patient_are_less_sure_than_images_of_many() -> None:
    hits = np.repeat([1, 1, 1, 0, 1, 1, 0, 1, 1, 1] * 4, 5)
    low, high = proportion_interval(hits, np.arange(200) // 5) or [0, 0]
    alone_low, alone_high = proportion_interval(hits, np.arange(200)) or [0, 0]
    assert high - low > 2 * (alone_high - alone_low)


def test_no_image_has_no_interval() -> None:
    assert proportion_interval(np.empty(0), np.empty(0)) is None


# Sums of proportions


@pytest.mark.parametrize(
    ("first", "second", "limits"),
    [
        # Newcombe, Statistics in Medicine 17, 1998, p. 873: the examples of its table II, method 10 (square and add).
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((6, 7), (2, 7), (0.0582, 0.8062)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
        ((0, 10), (0, 10), (-0.2775, 0.2775)),
        ((10, 10), (0, 20), (0.6791, 1.0000)),
        ((10, 10), (0, 10), (0.6075, 1.0000)),
        # Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables, 2017, ch. 4: Perondi 2004.
        ((7, 34), (1, 34), (0.0189, 0.3404)),
    ],
)
def test_square_and_add_gives_the_published_differences(
    first: tuple[int, int], second: tuple[int, int], limits: tuple[float, float]
) -> None:
    values = [hits / count for hits, count in (first, second)]
    intervals = [wilson(value, count) for value, (_, count) in zip(values, (first, second), strict=True)]
    assert weighted_sum_interval(values, intervals, (1, -1)) == pytest.approx(limits, abs=5e-5)


def test_accuracy_and_balanced_accuracy_are_put_together_from_both_recalls() -> None:
    rng = np.random.default_rng(0)
    targets, patients = np.repeat([0, 1], [60, 100]), np.arange(160) // 2
    hits = rng.random(160) < 0.8
    recalls = [hits[targets == k].mean() for k in (0, 1)]
    limits = [proportion_interval(hits[targets == k], patients[targets == k]) or [0, 0] for k in (0, 1)]
    for weights, shares in (("images", (60 / 160, 100 / 160)), ("classes", (0.5, 0.5))):
        value = sum(share * recall for share, recall in zip(shares, recalls, strict=True))
        parts = list(zip(shares, recalls, limits, strict=True))
        below = sum((share * (recall - low)) ** 2 for share, recall, (low, _) in parts) ** 0.5
        above = sum((share * (high - recall)) ** 2 for share, recall, (_, high) in parts) ** 0.5
        found = mean_recall_interval(hits, targets, patients, weights=weights)
        assert found == pytest.approx([value - below, value + above], abs=1e-12)


def test_estimates_that_move_together_add_and_those_that_move_against_each_other_cancel() -> None:
    values, limits, together = (0.8, 0.6), ([0.7, 0.85], [0.5, 0.75]), np.ones((2, 2))
    assert weighted_sum_interval(values, limits, (1, 1), together) == pytest.approx([1.2, 1.6])
    assert weighted_sum_interval(values, limits, (1, -1), together) == pytest.approx([0.15, 0.25])
    assert weighted_sum_interval(values, limits, (1, 1), 2 * np.eye(2) - 1) == pytest.approx([1.4, 1.5])


@pytest.mark.parametrize(("weights", "shares"), [("images", (1 / 3, 2 / 3)), ("classes", (1 / 2, 1 / 2))])
def test_patients_with_images_of_both_classes_correlate_the_recalls(weights: str, shares: tuple[float, float]) -> None:
    # Zou and Donner 2008 for correlated estimates, with the correlation summed over pairs of images of a patient.
    rng = np.random.default_rng(2)
    targets, patients = np.arange(120) % 3 > 0, np.arange(120) // 3
    hits = (rng.normal(size=40)[patients] + rng.normal(size=120) < 1).astype(float)
    recalls = [hits[targets == k].mean() for k in (0, 1)]
    sums = {(one, other): 0.0 for one in (0, 1) for other in (0, 1)}
    for i in range(120):
        for j in range(120):
            if patients[i] == patients[j]:
                one, other = int(targets[i]), int(targets[j])
                sums[one, other] += (hits[i] - recalls[one]) * (hits[j] - recalls[other])
    r = sums[0, 1] / (sums[0, 0] * sums[1, 1]) ** 0.5
    assert r > 0.2
    limits = [proportion_interval(hits[targets == k], patients[targets == k]) or [0, 0] for k in (0, 1)]
    ends = []
    for end, sign in ((0, -1), (1, 1)):
        first, second = (shares[k] * (limits[k][end] - recalls[k]) for k in (0, 1))
        ends.append(np.dot(shares, recalls) + sign * (first**2 + second**2 + 2 * r * first * second) ** 0.5)
    assert mean_recall_interval(hits, targets, patients, weights=weights) == pytest.approx(ends, abs=1e-12)


def test_one_patient_of_both_classes_hardly_changes_the_interval_of_balanced_accuracy() -> None:
    rng = np.random.default_rng(3)
    targets, patients, hits = np.repeat([0, 1], 150), np.arange(300) // 2, rng.random(300) < 0.8
    apart = mean_recall_interval(hits, targets, patients, weights="classes")
    patients[targets == 1] -= 1  # the last normal film and the first of pneumonia are now of one patient
    together = mean_recall_interval(hits, targets, patients, weights="classes")
    assert together == pytest.approx(apart, abs=0.02 * (apart[1] - apart[0]))


def test_recalls_that_move_against_each_other_make_no_point() -> None:
    # Every patient has one film of each class, of which one is decided rightly: accuracy is one half in each.
    targets, patients = np.arange(40) % 2, np.arange(40) // 2
    hits = (np.arange(40) // 2 % 2 == targets).astype(int)
    low, high = mean_recall_interval(hits, targets, patients, weights="images")
    assert low < 0.4 and high > 0.6


def test_recalls_without_any_variance_move_together_as_far_as_patients_have_images_of_both_classes() -> None:
    targets, hits = np.arange(40) % 2, np.ones(40)
    recall = wilson(1.0, 20)[0]
    low, _ = mean_recall_interval(hits, targets, np.arange(40) // 2, weights="classes")
    assert low == pytest.approx(recall, abs=1e-12)
    low, _ = mean_recall_interval(hits, targets, np.arange(40), weights="classes")
    assert low == pytest.approx(1 - (1 - recall) / 2**0.5, abs=1e-12)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=40),
    st.booleans(),
    st.sampled_from(["images", "classes"]),
)
def test_a_mean_of_recalls_lies_in_its_interval_and_that_in_0_1(
    drawn: list[tuple[int, int, int]], is_split: bool, weights: str
) -> None:
    hits, targets, patients = columns(drawn)
    if is_split:  # no patient has images of two classes
        patients = patients * 3 + targets
    recalls = [hits[targets == k].mean() for k in set(targets.tolist())]
    value = hits.mean() if weights == "images" else np.mean(recalls)
    low, high = mean_recall_interval(hits, targets, patients, weights=weights)
    assert 0 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1
    assert high - low > 0.01


# AUROC


@settings(max_examples=40)
@given(rows)
def test_components_are_shares_of_the_other_class_counted_one_by_one(drawn: list[tuple[int, int, int]]) -> None:
    targets, scores, _ = columns(drawn)
    pos, neg = scores[targets == 1], scores[targets == 0]
    assume(len(pos) and len(neg))
    v10, v01 = auroc_components(targets, scores)
    wins = [[1 if p > n else 0.5 if p == n else 0 for n in neg] for p in pos]
    assert v10 == pytest.approx([sum(row) / len(neg) for row in wins], abs=1e-12)
    assert v01 == pytest.approx([sum(row[j] for row in wins) / len(pos) for j in range(len(neg))], abs=1e-12)
    assert v10.mean() == pytest.approx(roc_auc_score(targets, scores), abs=1e-12)


def covariance_image_by_image(targets: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Obuchowski 1997, the sums over clusters written as sums over all pairs of images of the same patient."""
    deviations = []  # per method: of each image, its component less the AUROC
    for column in scores.T:
        found = {}
        for i, target in enumerate(targets):
            others = [j for j, other in enumerate(targets) if other != target]
            above = [1 if column[i] > column[j] else 0.5 if column[i] == column[j] else 0 for j in others]
            share = sum(above) / len(others)
            found[i] = (share if target == 1 else 1 - share) - roc_auc_score(targets, column)
        deviations.append(found)
    images = {k: [i for i, target in enumerate(targets) if target == k] for k in (0, 1)}
    patients_of = {k: len({patients[i] for i in of}) for k, of in images.items()}
    factors = {
        (1, 1): patients_of[1] / (patients_of[1] - 1),
        (0, 0): patients_of[0] / (patients_of[0] - 1),
        (1, 0): len(set(patients)) / (len(set(patients)) - 1),
    }
    factors[0, 1] = factors[1, 0]
    covariance = np.zeros((len(deviations), len(deviations)))
    for (one, other), factor in factors.items():
        for i in images[one]:
            for j in images[other]:
                if patients[i] == patients[j]:
                    weight = factor / (len(images[one]) * len(images[other]))
                    for a, first in enumerate(deviations):
                        for b, second in enumerate(deviations):
                            covariance[a, b] += weight * first[i] * second[j]
    return covariance


@settings(max_examples=25, deadline=None)
@given(rows, st.integers(0, 99))
def test_covariance_equals_obuchowskis_formulas_image_by_image(drawn: list[tuple[int, int, int]], seed: int) -> None:
    targets, first, patients = columns(drawn)
    assume(has_two_patients_of_each_class(targets, patients))
    second = first + np.random.default_rng(seed).integers(-2, 3, len(first))
    scores = np.column_stack([first, second])
    aurocs, covariance = auroc_covariance(targets, scores, patients)
    assert aurocs == pytest.approx([roc_auc_score(targets, column) for column in scores.T], abs=1e-12)
    assert covariance == pytest.approx(covariance_image_by_image(targets, scores, patients), abs=1e-12)


def test_with_one_image_per_patient_it_is_delongs_printed_example() -> None:
    died = OVARIAN[:, 3] == 0
    scores = np.column_stack([-OVARIAN[:, 0], OVARIAN[:, 2], -OVARIAN[:, 1]])
    aurocs, covariance = auroc_covariance(died, scores, np.arange(len(OVARIAN)))
    assert aurocs == pytest.approx([0.7366, 0.7258, 0.6478], abs=5e-5)
    assert np.sqrt(np.diag(covariance)) == pytest.approx([0.0927, 0.1028, 0.1000], abs=5e-5)
    # And in every digit: sample covariances of the components.
    parts = [auroc_components(died, column) for column in scores.T]
    expected = sum(np.cov([part[k] for part in parts]) / len(parts[0][k]) for k in (0, 1))
    assert covariance == pytest.approx(expected, abs=1e-12)


def test_the_covariance_over_patients_is_put_together_from_statsmodels_clustered_regression() -> None:
    # The components of the example above on one constant per class, groups of three patients in the printed order as
    # one: statsmodels 0.15.0, OLS.fit(cov_type="cluster", use_correction=False). Obuchowski's factors are written out:
    # of the 15 groups 8 have deaths, 15 survivors, 15 either.
    (auroc,), ((variance,),) = auroc_covariance(OVARIAN[:, 3] == 0, -OVARIAN[:, 0], np.arange(43) // 3)
    assert auroc == pytest.approx(0.73655913978495, abs=1e-12)
    expected = 8 / 7 * 0.00816969848794 + 15 / 14 * (0.00176297275439 + 2 * 0.00049647575641)
    assert variance == pytest.approx(expected, abs=1e-12)


def test_the_variance_counts_patients_with_both_classes_as_surer_or_less_sure_as_they_move_together() -> None:
    # Positive and negative image of a patient share a shift, which cancels in their comparison.
    rng = np.random.default_rng(0)
    patients, targets = np.arange(400) // 2, np.arange(400) % 2
    scores = targets + rng.normal(size=200)[patients] + 0.5 * rng.normal(size=400)
    (_,), ((together,),) = auroc_covariance(targets, scores, patients)
    (_,), ((apart,),) = auroc_covariance(targets, scores, np.arange(400))
    assert together < 0.9 * apart


def test_a_class_of_one_patient_has_no_variance_and_no_interval() -> None:
    targets, scores = np.array([1, 1, 0, 0, 0]), np.arange(5.0)
    with pytest.raises(ValueError, match=r"at least two patients in each class, found 1 with pneumonia and 2 without"):
        auroc_covariance(targets, scores, np.array(list("aabbc")))
    assert auroc_interval(targets, scores, np.array(list("aabbc"))) is None
    assert auroc_interval(np.ones(3), scores[:3], np.arange(3)) is None


def test_interval_is_the_walds_on_the_logit_scale() -> None:
    rng = np.random.default_rng(3)
    targets, patients = np.repeat([0, 1], 60), np.arange(120) // 3
    scores = 1.5 * targets + rng.normal(size=40)[patients] + rng.normal(size=120)
    value = roc_auc_score(targets, scores)
    error = covariance_image_by_image(targets, scores[:, None], patients)[0, 0] ** 0.5
    odds = value / (1 - value)
    # All patients have three images, so that Welch's test of the patients' means has the degrees of freedom.
    means = [shares.reshape(20, 3).mean(axis=1) for shares in auroc_components(targets, scores)]
    quantile = t.ppf(0.975, ttest_ind(*means, equal_var=False).df)
    ends = [odds * np.exp(sign * quantile * error / (value * (1 - value))) for sign in (-1, 1)]
    assert auroc_interval(targets, scores, patients) == pytest.approx([end / (1 + end) for end in ends], abs=1e-9)


@settings(max_examples=30)
@given(
    st.floats(0.001, 0.999) | st.sampled_from([0.0, 1.0]),
    st.integers(2, 400),
    st.integers(2, 400),
    st.sampled_from([0.9, 0.95, 0.99]),
)
def test_newcombes_interval_solves_his_equation(value: float, num_pos: int, num_neg: int, level: float) -> None:
    # Newcombe, Statistics in Medicine 25, 2006, p. 559, method 5: Hanley and McNeil's variance for exponential scores
    # at the limit itself, with both N - 1 replaced by their mean.
    size, z = (num_pos - 1 + num_neg - 1) / 2, norm.ppf((1 + level) / 2)

    def excess(limit: float) -> float:
        q1, q2 = limit / (2 - limit), 2 * limit**2 / (1 + limit)
        variance = (limit * (1 - limit) + size * (q1 - limit**2) + size * (q2 - limit**2)) / (num_pos * num_neg)
        return float((value - limit) ** 2 - z**2 * variance)

    low, high = newcombe_auroc(value, num_pos, num_neg, level)
    assert 0 <= low <= value <= high <= 1
    # At 0 and 1 the estimate itself solves the equation too, and is one end.
    expected = [
        0.0 if value == 0 else brentq(excess, 0, min(value, 1 - 1e-9), xtol=1e-13),
        1.0 if value == 1 else brentq(excess, max(value, 1e-9), 1, xtol=1e-13),
    ]
    assert [low, high] == pytest.approx(expected, abs=1e-9)
    assert newcombe_auroc(1 - value, num_pos, num_neg, level) == pytest.approx([1 - high, 1 - low], abs=1e-9)


def test_no_overlap_counts_patients_not_images() -> None:
    targets = np.repeat([0, 1], [40, 60])
    scores, patients = targets * 2.0, np.arange(100) // 4
    assert auroc_interval(targets, scores, patients) == newcombe_auroc(1.0, 15, 10)
    assert auroc_interval(targets, -scores, patients) == newcombe_auroc(0.0, 15, 10)
    low, high = newcombe_auroc(1.0, 15, 10)
    assert 0.7 < low < 0.9 and high == 1
    # Where all scores are equal there is no variance either.
    assert auroc_interval(targets, np.zeros(100), patients) == newcombe_auroc(0.5, 15, 10)


@pytest.mark.parametrize("below", [1, 2, 4, 6])
def test_a_variance_that_is_only_rounding_makes_no_point(below: int) -> None:
    # Of each patient's normal films so many of seven lie below all with pneumonia: no patient differs from another.
    scores = np.concatenate([np.zeros(7), np.tile(np.where(np.arange(7) < below, -1.0, 1.0), 6)])
    targets, patients = np.repeat([1, 0], [7, 42]), np.concatenate([np.arange(7), 20 + np.arange(42) // 7])
    assert auroc_covariance(targets, scores, patients)[1][0, 0] < 1e-30  # and above 0
    assert auroc_interval(targets, scores, patients) == pytest.approx(newcombe_auroc(below / 7, 7, 6), abs=1e-9)


@settings(max_examples=40)
@given(rows)
def test_an_aurocs_interval_holds_it_and_lies_in_0_1(drawn: list[tuple[int, int, int]]) -> None:
    targets, scores, patients = columns(drawn)
    assume(has_two_patients_of_each_class(targets, patients))
    found = auroc_interval(targets, scores, patients)
    assert found is not None
    value = roc_auc_score(targets, scores)
    assert 0 <= found[0] <= value + 1e-9 and value - 1e-9 <= found[1] <= 1
    assert found[0] < found[1]


@settings(max_examples=40)
@given(rows)
def test_rescaling_order_and_names_change_no_auroc_interval_and_negation_mirrors_it(
    drawn: list[tuple[int, int, int]],
) -> None:
    targets, scores, patients = columns(drawn)
    assume(has_two_patients_of_each_class(targets, patients))
    found = auroc_interval(targets, scores, patients)
    assert found is not None
    assert auroc_interval(targets, np.exp(scores / 2) * 1e-3 + 7, patients) == found
    shuffled = np.random.default_rng(0).permutation(len(targets))
    assert auroc_interval(targets[shuffled], scores[shuffled], patients[shuffled]) == pytest.approx(found, abs=1e-9)
    names = np.array([f"person {9 - patient} of 9" for patient in patients], dtype=object)
    assert auroc_interval(targets, scores, names) == pytest.approx(found, abs=1e-9)
    assert auroc_interval(1 - targets, -scores, patients) == pytest.approx(found, abs=1e-9)
    assert auroc_interval(targets, -scores, patients) == pytest.approx([1 - found[1], 1 - found[0]], abs=1e-9)


@settings(max_examples=40)
@given(hits_of_patients)
def test_order_and_names_change_no_proportions_interval_and_misses_mirror_it(drawn: list[tuple[int, int]]) -> None:
    hits, patients = columns(drawn)
    found = proportion_interval(hits, patients)
    assert found is not None
    shuffled = np.random.default_rng(0).permutation(len(hits))
    names = np.array([f"person {9 - patient} of 9" for patient in patients], dtype=object)
    assert proportion_interval(hits[shuffled], names[shuffled]) == pytest.approx(found, abs=1e-9)
    assert proportion_interval(1 - hits, patients) == pytest.approx([1 - found[1], 1 - found[0]], abs=1e-9)


@settings(max_examples=40)
@given(rows)
def test_copies_of_every_image_in_its_patient_change_no_auroc_interval(drawn: list[tuple[int, int, int]]) -> None:
    targets, scores, patients = columns(drawn)
    assume(has_two_patients_of_each_class(targets, patients))
    once = auroc_interval(targets, scores, patients)
    doubled = [np.concatenate([column, column]) for column in (targets, scores, patients)]
    twice = auroc_interval(doubled[0], doubled[1], doubled[2])
    assert twice == pytest.approx(once, abs=1e-9)
