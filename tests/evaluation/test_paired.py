"""Tests of one method against another: published examples, and second implementations written differently."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, norm
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from pneumolit.evaluation import paired
from pneumolit.evaluation.agreement import cohen_kappa, common_errors
from pneumolit.evaluation.curve_bands import precision_recall_band, roc_band
from pneumolit.evaluation.intervals import patient_weights
from pneumolit.evaluation.mcnemar import (
    clustered_mcnemar,
    mcnemar_exact,
    mcnemar_mid_p,
    patient_gains,
    sign_flip_mid_p,
)
from pneumolit.evaluation.paired import auroc_differences, resampled_intervals, resampled_metrics
from tests.evaluation.ovarian import OVARIAN

# Obuchowski 1998: glands of 21 patients by PET and SPECT, as the manual of the R package clust.bin.pair prints them.
GLANDS = {
    "both": [0, 2, 3, 1, 2, 4, 3, 2, 1, 1, 2, 2, 3, 2, 0, 2, 2, 2, 2, 1, 2],
    "first": [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    "second": [2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0],
    "none": [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0],
}


def simulated(seed: int, methods: int = 3, patients: int = 60, mixed: bool = True) -> tuple[np.ndarray, ...]:
    """Positives, scores with ties, patient ids: images of a patient resemble each other, some patients have both."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    positives = rng.integers(0, 2, len(ids)) if mixed else rng.integers(0, 2, patients)[ids]
    shared = rng.normal(size=(patients, methods))[ids] + rng.normal(size=(len(ids), 1))
    scores = (shared + rng.normal(size=(len(ids), methods)) + positives[:, None]).round(1)
    return positives, scores, np.array([f"p{i}" for i in ids])


def plain_auroc_variance(positives: np.ndarray, first: np.ndarray, second: np.ndarray, ids: np.ndarray) -> float:
    """Variance of the difference of two AUROCs, Obuchowski 1997, as printed: cluster by cluster, pair by pair."""

    def psi(x: float, y: float) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    pos, neg = np.flatnonzero(positives == 1), np.flatnonzero(positives == 0)
    clusters = sorted(set(ids))
    parts = []
    for scores in (first, second):
        v10 = {i: sum(psi(scores[i], scores[j]) for j in neg) / len(neg) for i in pos}
        v01 = {j: sum(psi(scores[i], scores[j]) for i in pos) / len(pos) for j in neg}
        theta = sum(v10.values()) / len(pos)
        parts.append(
            [
                (
                    sum(v10[i] - theta for i in pos if ids[i] == c),
                    sum(v01[j] - theta for j in neg if ids[j] == c),
                )
                for c in clusters
            ]
        )
    with_pos = sum(any(ids[i] == c for i in pos) for c in clusters)
    with_neg = sum(any(ids[j] == c for j in neg) for c in clusters)
    total = 0.0
    for (one, other), sign in (((0, 0), 1), ((1, 1), 1), ((0, 1), -2)):
        s10 = with_pos / (with_pos - 1) * sum(a[0] * b[0] for a, b in zip(parts[one], parts[other], strict=True))
        s01 = with_neg / (with_neg - 1) * sum(a[1] * b[1] for a, b in zip(parts[one], parts[other], strict=True))
        s11 = sum(a[0] * b[1] + a[1] * b[0] for a, b in zip(parts[one], parts[other], strict=True))
        s11 *= len(clusters) / (len(clusters) - 1)
        total += sign * (s10 / len(pos) ** 2 + s01 / len(neg) ** 2 + s11 / (len(pos) * len(neg)))
    return total


# AUROC


def test_delong_gives_the_printed_comparison_of_three_tests() -> None:
    positives = (OVARIAN[:, 3] == 0).astype(int)
    scores = np.column_stack([-OVARIAN[:, 0], OVARIAN[:, 2], -OVARIAN[:, 1]])  # a low albumin speaks for class 0
    alone = np.arange(len(positives))
    albumin, protein = auroc_differences(positives, scores, alone, [(0, 1), (2, 1)])
    # Estimate, Wald limits and Pr > ChiSq of "Albumin - K-G Score" and "Total Protein - K-G Score".
    assert albumin.interval is not None and protein.interval is not None
    assert [albumin.value, *albumin.interval, albumin.p_value] == pytest.approx(
        [0.0108, -0.1761, 0.1976, 0.9102], abs=5e-5
    )
    assert [protein.value, *protein.interval, protein.p_value] == pytest.approx(
        [-0.0780, -0.2830, 0.1271, 0.4561], abs=5e-5
    )


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_clustered_auroc_test_equals_the_formulas_of_the_paper_written_out(seed: int, mixed: bool) -> None:
    positives, scores, ids = simulated(seed, mixed=mixed)
    for (one, other), found in zip(
        [(0, 1), (2, 0)], auroc_differences(positives, scores, ids, [(0, 1), (2, 0)]), strict=True
    ):
        value = roc_auc_score(positives, scores[:, one]) - roc_auc_score(positives, scores[:, other])
        error = math.sqrt(plain_auroc_variance(positives, scores[:, one], scores[:, other], ids))
        assert found.value == pytest.approx(value, abs=1e-12)
        assert found.p_value == pytest.approx(math.erfc(abs(value) / error / math.sqrt(2)), abs=1e-9)
        assert found.interval == pytest.approx([value - 1.959963985 * error, value + 1.959963985 * error], abs=1e-9)


def test_every_image_a_patient_of_its_own_is_delong_by_sample_covariances() -> None:
    positives, scores, _ = simulated(5, methods=2)
    pos, neg = scores[positives == 1], scores[positives == 0]
    wins = (pos[:, None] > neg[None]) + 0.5 * (pos[:, None] == neg[None])  # (P, Q, 2)
    covariance = np.cov(wins.mean(axis=1).T) / len(pos) + np.cov(wins.mean(axis=0).T) / len(neg)
    z = np.diff(wins.mean(axis=(0, 1)))[0] / math.sqrt(np.array([1, -1]) @ covariance @ np.array([1, -1]))
    (found,) = auroc_differences(positives, scores, np.arange(len(positives)), [(1, 0)])
    assert found.p_value == pytest.approx(2 * norm.sf(abs(z)), abs=1e-12)


def test_copies_of_every_image_in_its_patient_add_no_evidence() -> None:
    positives, scores, _ = simulated(6, methods=2)
    once = np.arange(len(positives))
    (plain,) = auroc_differences(positives, scores, once, [(0, 1)])
    (copied,) = auroc_differences(np.tile(positives, 3), np.tile(scores, (3, 1)), np.tile(once, 3), [(0, 1)])
    assert copied.p_value == pytest.approx(plain.p_value, abs=1e-12)
    (as_if_new,) = auroc_differences(np.tile(positives, 3), np.tile(scores, (3, 1)), np.arange(3 * len(once)), [(0, 1)])
    assert as_if_new.p_value is not None and plain.p_value is not None
    assert as_if_new.p_value < plain.p_value  # the mistake of taking images for patients


def test_a_method_does_not_differ_from_itself_and_what_cannot_vary_has_no_p_value() -> None:
    positives, scores, ids = simulated(7, methods=2)
    scores[:, 1] = scores[:, 0]
    (same,) = auroc_differences(positives, scores, ids, [(0, 1)])
    assert (same.value, same.p_value, same.interval) == (0.0, 1.0, None)
    perfect = np.column_stack([positives, 0 * positives])  # 1 against one half, both without any variance
    (found,) = auroc_differences(positives, perfect, ids, [(0, 1)])
    assert (found.value, found.p_value, found.interval) == (0.5, None, None)


# Accuracy


@pytest.mark.parametrize(
    ("counts", "exact", "mid"),
    [
        ((1, 7), 0.0703125, 0.0390625),  # Bentur et al. 2009, table 1 of Fagerland et al. 2013
        ((12, 2), 0.012939453125, 0.007385253906),  # Armitage and Berry 1994, p. 127; StatsDirect prints .0129
        ((5, 5), 1.0, 0.876953125),
        ((0, 0), 1.0, 1.0),
        ((0, 3), 0.25, 0.125),
    ],
)
def test_exact_and_mid_p_mcnemar_give_published_values(counts: tuple[int, int], exact: float, mid: float) -> None:
    assert mcnemar_exact(*counts) == mcnemar_exact(*counts[::-1]) == pytest.approx(exact, abs=1e-9)
    assert mcnemar_mid_p(*counts) == mcnemar_mid_p(*counts[::-1]) == pytest.approx(mid, abs=1e-9)


def gland_decisions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    cells = [(1, 1, "both"), (1, 0, "first"), (0, 1, "second"), (0, 0, "none")]
    rows = [
        (first, second, patient)
        for first, second, name in cells
        for patient, count in enumerate(GLANDS[name])
        for _ in range(count)
    ]
    first, second, patients = (np.array(column) for column in zip(*rows, strict=True))
    return first, second, patients


def test_clustered_mcnemar_gives_the_printed_test_of_the_glands() -> None:
    first, second, patients = gland_decisions()
    found = clustered_mcnemar(first, second, patients)
    # chi-square = 2.8571, p-value = 0.09097 in the manual of clust.bin.pair, method "obuchowski"; 20 / 7 exactly.
    assert found.p_value == pytest.approx(chi2.sf(20 / 7, 1), abs=1e-12)
    assert found.p_value == pytest.approx(0.09097, abs=5e-6)
    assert found.value == pytest.approx(-6 / 51)
    assert clustered_mcnemar(second, first, patients).p_value == found.p_value


def test_rounding_is_not_taken_for_variance() -> None:
    # Every patient gains one of 49 images, so nothing varies; 49 * (1 / 49) is not 1 for a computer.
    first = np.tile(np.arange(49) == 0, 3).astype(int)
    found = clustered_mcnemar(first, np.zeros(147, dtype=int), np.repeat(["a", "b", "c"], 49))
    assert found.value == pytest.approx(1 / 49) and found.interval is None
    alike = np.linspace(0.2, 0.9, 50)[:, None] * [1.0, 1.0]
    assert resampled_intervals(alike, [(0, 1)]) == [None]


def test_clustered_mcnemar_equals_obuchowskis_variances_and_covariance_written_out() -> None:
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(40), rng.integers(1, 6, 40))
    base = rng.random(40)[ids]
    first, second = (rng.random(len(ids)) < 0.5 + 0.4 * base).astype(int), (rng.random(len(ids)) < 0.75).astype(int)
    found = clustered_mcnemar(first, second, ids)
    sizes = [(ids == k).sum() for k in range(40)]
    x, y = ([int(hit[ids == k].sum()) for k in range(40)] for hit in (first, second))
    pooled = (first.mean() + second.mean()) / 2

    def covariance(a: list[int], b: list[int], p: float, q: float) -> float:
        total = sum((a[k] - sizes[k] * p) * (b[k] - sizes[k] * q) for k in range(40))
        return 40 / 39 * float(total) / len(ids) ** 2

    null = covariance(x, x, pooled, pooled) + covariance(y, y, pooled, pooled) - 2 * covariance(x, y, pooled, pooled)
    p, q = float(first.mean()), float(second.mean())
    free = covariance(x, x, p, p) + covariance(y, y, q, q) - 2 * covariance(x, y, p, q)
    assert found.p_value == pytest.approx(chi2.sf((p - q) ** 2 / null, 1), abs=1e-12)
    half = 1.959963985 * math.sqrt(free)
    assert found.interval == pytest.approx([p - q - half, p - q + half], abs=1e-9)


def test_decisions_that_never_differ_have_p_one_and_no_interval() -> None:
    found = clustered_mcnemar(np.array([1, 0, 1]), np.array([1, 0, 1]), np.array(["a", "a", "b"]))
    assert (found.value, found.interval, found.p_value) == (0.0, None, 1.0)
    alone = clustered_mcnemar(np.array([1, 1]), np.array([1, 0]), np.array(["a", "a"]))
    assert (alone.value, alone.interval, alone.p_value) == (0.5, None, None)


@settings(max_examples=40)
@given(st.lists(st.integers(-3, 3), max_size=9))
def test_signs_are_flipped_in_every_way(gains: list[int]) -> None:
    sums = [
        abs(sum(s * g for s, g in zip(signs, gains, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(gains))
    ]
    seen = abs(sum(gains))
    expected = np.mean([1.0 if s > seen else 0.5 if s == seen else 0.0 for s in sums]) if any(gains) else 1.0
    assert sign_flip_mid_p(np.array(gains, dtype=float)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("first", "second"), [(7, 1), (0, 6), (4, 4), (0, 0)])
def test_with_one_image_per_patient_flipped_signs_are_mcnemar(first: int, second: int) -> None:
    gains = np.array([1] * first + [-1] * second + [0] * 20)
    assert sign_flip_mid_p(gains) == pytest.approx(mcnemar_mid_p(first, second), abs=1e-12)


def test_gains_of_a_patient_are_counted_over_its_images() -> None:
    sizes, gains = patient_gains(np.array([1, 1, 0, 1]), np.array([0, 1, 1, 0]), np.array(["b", "a", "a", "b"]))
    assert sizes.tolist() == [2, 2] and gains.tolist() == [-1, 2]


# Bootstrap of a difference


@pytest.mark.parametrize("cells", [10**9, 0])
def test_resampled_metrics_equal_a_plain_loop_over_the_same_draws(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "_MOST_CELLS", cells)
    positives, scores, ids = simulated(3, patients=25)
    called = scores > 0.5
    found = resampled_metrics(positives, scores, called, ids, num_resamples=30, seed=5)
    _, rows = np.unique(ids, return_inverse=True)
    for r, weights in enumerate(np.concatenate(list(patient_weights(positives, rows, 30, 5)))):
        drawn = np.repeat(np.arange(len(ids)), weights[rows].astype(int))
        for m in range(scores.shape[1]):
            hit = called[drawn, m] == positives[drawn]
            sensitivity, specificity = hit[positives[drawn] == 1].mean(), hit[positives[drawn] == 0].mean()
            assert found["auroc"][r, m] == pytest.approx(roc_auc_score(positives[drawn], scores[drawn, m]), abs=1e-12)
            assert found["accuracy"][r, m] == pytest.approx(hit.mean(), abs=1e-12)
            assert found["sensitivity"][r, m] == pytest.approx(sensitivity, abs=1e-12)
            assert found["balanced_accuracy"][r, m] == pytest.approx((sensitivity + specificity) / 2, abs=1e-12)
    (interval,) = resampled_intervals(found["auroc"], [(2, 0)])
    assert interval == pytest.approx(np.quantile(found["auroc"][:, 2] - found["auroc"][:, 0], [0.025, 0.975]))


def test_bootstrap_and_formula_agree_on_how_sure_a_difference_is() -> None:
    positives, scores, ids = simulated(8, methods=2, patients=300, mixed=False)
    (by_formula,) = auroc_differences(positives, scores, ids, [(0, 1)])
    resampled = resampled_metrics(positives, scores, scores > 0.5, ids)
    (by_draws,) = resampled_intervals(resampled["auroc"], [(0, 1)])
    assert by_formula.interval is not None and by_draws is not None
    assert by_draws[1] - by_draws[0] == pytest.approx(by_formula.interval[1] - by_formula.interval[0], rel=0.1)


def test_one_class_leaves_accuracy_alone() -> None:
    found = resampled_metrics(np.ones(4), None, np.array([[1], [0], [1], [1]]), np.arange(4), num_resamples=20)
    assert list(found) == ["accuracy"] and found["accuracy"].shape == (20, 1)


# Agreement and bands


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), min_size=3, max_size=20))
def test_kappa_equals_sklearn_and_is_one_where_all_answers_are_the_same(rows: list[tuple[int, int, int]]) -> None:
    called = np.array(rows)
    found = cohen_kappa(called)
    for one, other in itertools.product(range(3), repeat=2):
        if len(set(called[:, one]) | set(called[:, other])) > 1:
            expected = cohen_kappa_score(called[:, one], called[:, other], labels=[0, 1, 2])
            assert found[one, other] == pytest.approx(expected, abs=1e-12)
        else:
            assert found[one, other] == 1


def test_common_errors_are_counted_for_each_two_methods() -> None:
    correct = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0]])
    assert common_errors(correct).tolist() == [[2, 2, 1], [2, 3, 2], [1, 2, 2]]


def test_bands_equal_quantiles_of_curves_drawn_anew() -> None:
    positives, scores, ids = simulated(4, methods=1, patients=30)
    grid = np.array([0.0, 0.2, 0.5, 1.0])
    band = roc_band(positives, scores[:, 0], ids, grid, num_resamples=40, seed=2)
    precision = precision_recall_band(positives, scores[:, 0], ids, np.array([0.3, 1.0]), num_resamples=40, seed=2)
    _, rows = np.unique(ids, return_inverse=True)
    rates, precisions = [], []
    for weights in np.concatenate(list(patient_weights(positives, rows, 40, 2))):
        drawn = np.repeat(np.arange(len(ids)), weights[rows].astype(int))
        target, score = positives[drawn], scores[drawn, 0]
        points = [(0.0, 0.0)]
        at_recall: dict[float, float] = {}
        for threshold in sorted(set(score), reverse=True):
            tp, fp = (score[target == 1] >= threshold).sum(), (score[target == 0] >= threshold).sum()
            points.append((fp / (target == 0).sum(), tp / (target == 1).sum()))
            for recall in (0.3, 1.0):
                if points[-1][1] >= recall - 1e-12:
                    at_recall.setdefault(recall, tp / (tp + fp))
        row = []
        for x in grid:
            on = [t for f, t in points if f == x]
            before, after = (
                max(p for p in points if p[0] <= x),
                min((p for p in points if p[0] > x), default=(1.0, 1.0)),
            )
            slope = (after[1] - before[1]) / (after[0] - before[0]) if after[0] > before[0] else 0.0
            row.append(max(on) if on else before[1] + slope * (x - before[0]))
        rates.append(row)
        precisions.append([at_recall[0.3], at_recall[1.0]])
    assert band == pytest.approx(np.quantile(rates, [0.025, 0.975], axis=0), abs=1e-12)
    assert precision == pytest.approx(np.quantile(precisions, [0.025, 0.975], axis=0), abs=1e-12)
