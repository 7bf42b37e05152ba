"""Every metric against a second source: scikit-learn and torchmetrics."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import sklearn.metrics as reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import binary_calibration_error

from pneumolit.evaluation import metrics

# Few distinct scores, so that most examples have ties.
ranked = st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=2, max_size=30).filter(
    lambda pairs: len({target for target, _ in pairs}) == 2
)
pairs_of_classes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    left, right = zip(*pairs, strict=True)
    return np.array(left), np.array(right)


@given(ranked)
def test_auroc_and_average_precision_equal_sklearn_with_ties(pairs: list[tuple[int, int]]) -> None:
    targets, scores = columns(pairs)
    assert metrics.auroc(targets, scores) == pytest.approx(reference.roc_auc_score(targets, scores), abs=1e-12)
    expected = reference.average_precision_score(targets, scores)
    assert metrics.average_precision(targets, scores) == pytest.approx(expected, abs=1e-12)


@given(ranked)
def test_curves_equal_sklearn_point_by_point(pairs: list[tuple[int, int]]) -> None:
    targets, scores = columns(pairs)
    for ours, theirs in zip(
        metrics.roc_curve(targets, scores),
        reference.roc_curve(targets, scores, drop_intermediate=False),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs)
    for ours, theirs in zip(
        metrics.precision_recall_curve(targets, scores),
        reference.precision_recall_curve(targets, scores),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs)


@given(ranked)
def test_a_strictly_increasing_rescaling_leaves_the_ranking_metrics(pairs: list[tuple[int, int]]) -> None:
    targets, scores = columns(pairs)
    rescaled = np.exp(scores / 2.0) - 7
    assert metrics.auroc(targets, rescaled) == metrics.auroc(targets, scores)
    assert metrics.average_precision(targets, rescaled) == metrics.average_precision(targets, scores)


def test_a_ranking_with_ties_has_the_value_worked_out_by_hand() -> None:
    # Pairs (pos, neg): (3, 1) won, (3, 2) won, (2, 1) won, (2, 2) tied: 3.5 of 4.
    assert metrics.auroc(np.array([0, 0, 1, 1]), np.array([1, 2, 2, 3])) == 3.5 / 4


@pytest.mark.parametrize("function", [metrics.auroc, metrics.average_precision, metrics.roc_curve])
def test_a_ranking_of_one_class_or_of_nan_is_refused(function) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"both classes.*found \[1\]"):
        function(np.ones(3), np.arange(3.0))
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        function(np.array([0, 1]), np.array([0.0, np.nan]))


@given(pairs_of_classes)
def test_class_report_equals_sklearn_also_for_absent_classes(pairs: list[tuple[int, int]]) -> None:
    targets, preds = columns(pairs)
    confusion = metrics.confusion_matrix(targets, preds, 4)
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(targets, preds, labels=range(4)))
    report = metrics.class_report(confusion)
    for average in ("macro", "weighted"):
        expected = reference.precision_recall_fscore_support(targets, preds, average=average, zero_division=0)
        assert list(report[average].values()) == pytest.approx(expected[:3])
    per_class = reference.precision_recall_fscore_support(targets, preds, labels=range(4), zero_division=0)
    for position, key in enumerate(("precision", "recall", "f1", "support")):
        assert [row[key] or 0 for row in report["per_class"]] == pytest.approx(per_class[position].tolist())


@given(ranked)
def test_decision_metrics_equal_sklearn_where_defined(pairs: list[tuple[int, int]]) -> None:
    targets, scores = columns(pairs)
    preds = (scores > 0).astype(int)
    found = metrics.decision_metrics(targets, preds)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(targets, preds))
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(targets, preds))
    assert found["sensitivity"] == pytest.approx(reference.recall_score(targets, preds))
    assert found["specificity"] == pytest.approx(reference.recall_score(targets, preds, pos_label=0))
    assert (found["ppv"] or 0) == pytest.approx(reference.precision_score(targets, preds, zero_division=0))
    assert (found["npv"] or 0) == pytest.approx(reference.precision_score(targets, preds, pos_label=0, zero_division=0))
    assert found["f1"] == pytest.approx(reference.f1_score(targets, preds, zero_division=0))


def test_rates_without_a_denominator_are_none_and_not_nan() -> None:
    found = metrics.decision_metrics(np.zeros(3, dtype=int), np.zeros(3, dtype=int))
    assert found["sensitivity"] is found["ppv"] is found["balanced_accuracy"] is found["f1"] is None
    assert found["specificity"] == found["npv"] == found["accuracy"] == 1.0


def test_a_class_index_outside_the_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"preds must lie in 0\.\.1, found 0\.\.2"):
        metrics.confusion_matrix(np.array([0, 1]), np.array([0, 2]), 2)


@pytest.mark.parametrize("seed", range(5))
def test_macro_auroc_and_brier_equal_sklearn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets, probs = rng.permutation(np.arange(60) % 3), rng.dirichlet(np.ones(3), 60)
    expected = reference.roc_auc_score(targets, probs, multi_class="ovr", average="macro")
    assert metrics.macro_auroc(targets, probs) == pytest.approx(expected, abs=1e-12)
    expected = reference.brier_score_loss(targets == 1, probs[:, 1])
    assert metrics.brier(targets == 1, probs[:, 1]) == pytest.approx(expected)


def test_macro_auroc_refuses_a_class_that_does_not_occur() -> None:
    with pytest.raises(ValueError, match=r"classes \[2\] do not occur"):
        metrics.macro_auroc(np.array([0, 1]), np.full((2, 3), 1 / 3))


@pytest.mark.parametrize("seed", range(5))
def test_ece_with_equal_widths_equals_torchmetrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets, probs = rng.integers(0, 2, 200), rng.random(200).astype(np.float32)
    expected = float(binary_calibration_error(torch.tensor(probs), torch.tensor(targets), n_bins=10))
    assert metrics.ece(targets, probs, equal_mass=False) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=50)
@given(ranked, st.randoms())
def test_equal_mass_ece_does_not_depend_on_the_order_of_the_rows(pairs: list[tuple[int, int]], random: Random) -> None:
    targets, scores = columns(pairs)
    probs = (scores + 3) / 6
    order = np.array(random.sample(range(len(pairs)), len(pairs)))
    assert metrics.ece(targets[order], probs[order]) == pytest.approx(metrics.ece(targets, probs))


@pytest.mark.parametrize("seed", range(3))
def test_ece_with_bins_of_equally_many_images_equals_sklearns_quantile_bins(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.beta(0.5, 0.5, size=600)  # no ties, and 600 of ten bins: sklearn's quantiles cut in the same places
    targets = (rng.random(600) < probs**1.5).astype(np.int64)
    frequency, mean_prob = calibration_curve(targets, probs, n_bins=10, strategy="quantile")
    assert metrics.ece(targets, probs) == pytest.approx(np.abs(frequency - mean_prob).mean(), abs=1e-9)


def test_equal_mass_bins_hold_equally_many_images() -> None:
    probs = np.random.default_rng(0).random(100) ** 8
    _, _, counts = metrics.reliability_bins(np.arange(100) % 2, probs, 10)
    assert counts.tolist() == [10] * 10
    assert metrics.ece(np.array([0, 1, 1, 1]), np.full(4, 0.75)) == 0
