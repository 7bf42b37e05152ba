from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from pneumolit.evaluation import intervals
from pneumolit.evaluation.intervals import (
    bootstrap_accuracy,
    bootstrap_intervals,
    patient_weights,
    ranking_of_resamples,
)

weighted = st.lists(
    st.tuples(st.integers(0, 1), st.integers(-3, 3), st.integers(0, 3)), min_size=2, max_size=25
).filter(lambda rows: {target for target, _, weight in rows if weight} == {0, 1})


def simulated(
    rng: np.random.Generator, num_neg: int = 90, num_pos: int = 110, per_patient: int = 2, shared: float = 0.7
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`shared` is the part of the variance of the scores that the images of one patient share."""
    targets = np.repeat([0, 1], [num_neg, num_pos])
    patients = np.arange(len(targets)) // per_patient
    noise = np.sqrt(shared) * rng.normal(size=len(targets))[patients]
    noise += np.sqrt(1 - shared) * rng.normal(size=len(targets))
    return targets, noise + 1.8 * targets, patients


@given(weighted)
def test_weighted_ranking_equals_sklearn_on_repeated_rows(rows: list[tuple[int, int, int]]) -> None:
    targets, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    auroc, average_precision = ranking_of_resamples(targets, scores, weights[None])[:, 0]
    repeated_targets, repeated_scores = np.repeat(targets, weights), np.repeat(scores, weights)
    assert auroc == pytest.approx(roc_auc_score(repeated_targets, repeated_scores), abs=1e-12)
    expected = average_precision_score(repeated_targets, repeated_scores)
    assert average_precision == pytest.approx(expected, abs=1e-12)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), min_size=1, max_size=30), st.integers(0, 99))
def test_every_resample_draws_as_many_patients_of_each_kind_as_there_are(
    rows: list[tuple[int, int]], seed: int
) -> None:
    targets, keys = (np.array(column) for column in zip(*rows, strict=True))
    _, patients = np.unique(keys, return_inverse=True)
    weights = np.concatenate(list(patient_weights(targets, patients, 300, seed)))
    assert weights.shape == (300, patients.max() + 1)
    kinds = [frozenset(targets[patients == p].tolist()) for p in range(patients.max() + 1)]
    for kind in set(kinds):
        members = [p for p, of in enumerate(kinds) if of == kind]
        assert (weights[:, members].sum(axis=1) == len(members)).all()


def test_intervals_equal_a_plain_loop_over_the_same_draws() -> None:
    targets, scores, patients = simulated(np.random.default_rng(3))
    preds = (scores > 1).astype(int)
    names = np.array([f"person{number:03}" for number in patients])  # sorts like the numbers
    found = bootstrap_intervals(targets, scores, {"r": preds}, names, num_resamples=60, seed=5)
    aurocs, specificities, balanced = [], [], []
    for weights in np.concatenate(list(patient_weights(targets, patients, 60, 5))):
        drawn = np.repeat(np.arange(len(targets)), weights[patients].astype(int))
        hit = preds[drawn] == targets[drawn]
        aurocs.append(roc_auc_score(targets[drawn], scores[drawn]))
        specificities.append(hit[targets[drawn] == 0].mean())
        balanced.append((specificities[-1] + hit[targets[drawn] == 1].mean()) / 2)
    assert found["ranking"]["auroc"] == pytest.approx(np.quantile(aurocs, [0.025, 0.975]))
    assert found["rules"]["r"]["specificity"] == pytest.approx(np.quantile(specificities, [0.025, 0.975]))
    assert found["rules"]["r"]["balanced_accuracy"] == pytest.approx(np.quantile(balanced, [0.025, 0.975]))


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth = 0.89845  # P(N(1.8, 2) > 0) = Phi(1.8 / sqrt 2)
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(150):
        targets, scores, patients = simulated(rng)
        found = bootstrap_intervals(targets, scores, {}, patients, num_resamples=300, seed=seed)
        low, high = found["ranking"]["auroc"]
        covered += low <= truth <= high
    assert 0.87 <= covered / 150 <= 0.99


def test_images_of_one_patient_count_as_fewer_than_images_of_many() -> None:
    targets, scores, patients = simulated(np.random.default_rng(1), per_patient=5, shared=0.95)
    clustered = bootstrap_intervals(targets, scores, {}, patients)["ranking"]["auroc"]
    independent = bootstrap_intervals(targets, scores, {}, np.arange(len(targets)))["ranking"]["auroc"]
    assert clustered[1] - clustered[0] > 1.5 * (independent[1] - independent[0])


def test_one_class_gives_none_where_the_other_is_needed() -> None:
    found = bootstrap_intervals(np.ones(6), np.arange(6.0), {"r": np.array([1, 1, 1, 0, 1, 1])}, np.arange(6))
    assert found["ranking"] == {"auroc": None, "average_precision": None}
    assert found["rules"]["r"]["specificity"] is found["rules"]["r"]["balanced_accuracy"] is None
    assert found["rules"]["r"]["sensitivity"] == found["rules"]["r"]["accuracy"]


def test_class_accuracy_interval_equals_the_two_class_one() -> None:
    targets, scores, patients = simulated(np.random.default_rng(2))
    preds = (scores > 1).astype(int)
    both = bootstrap_intervals(targets, scores, {"r": preds}, patients, seed=4)
    assert bootstrap_accuracy(targets, preds, patients, seed=4) == both["rules"]["r"]["accuracy"]


def test_same_seed_same_intervals_and_another_seed_others() -> None:
    targets, scores, patients = simulated(np.random.default_rng(2))
    first, again, other = (
        bootstrap_intervals(targets, scores, {}, patients, num_resamples=100, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first["ranking"] != other["ranking"]


def test_two_thousand_resamples_of_the_test_split_take_under_a_second_and_a_half() -> None:
    targets, scores, patients = simulated(np.random.default_rng(0), 234, 390)
    rules = {str(i): (scores > i / 4).astype(int) for i in range(8)}
    start = time.process_time()
    bootstrap_intervals(targets, scores, rules, patients)
    assert time.process_time() - start < 1.5


def test_many_images_are_ranked_in_pieces_that_change_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, scores, patients = simulated(np.random.default_rng(4))
    scores = scores.round(1)  # ties
    preds = {"half": (scores > 0.9).astype(int)}
    whole = bootstrap_intervals(targets, scores, preds, patients, num_resamples=300)
    for cells in (1, 7 * len(targets)):
        monkeypatch.setattr(intervals, "_CELLS", cells)
        assert bootstrap_intervals(targets, scores, preds, patients, num_resamples=300) == whole


@pytest.mark.parametrize("images_of_a_patient", [100, 2])
def test_intervals_of_many_images_take_little_memory(images_of_a_patient: int) -> None:
    targets = np.repeat([0, 1], 15_000)
    scores = np.random.default_rng(0).normal(size=len(targets)) + targets
    tracemalloc.start()
    bootstrap_intervals(targets, scores, {}, np.arange(len(targets)) // images_of_a_patient, num_resamples=250)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30e6  # ranked all at once, the resamples would take 60 MB for every step of the computation


def test_wrong_input_is_refused_and_named() -> None:
    ok = np.array([0, 1])
    with pytest.raises(ValueError, match="scores has 3 rows, the targets have 2"):
        bootstrap_intervals(ok, np.arange(3.0), {}, ok)
    with pytest.raises(ValueError, match=r"level .* got 95"):
        bootstrap_intervals(ok, ok, {}, ok, level=95)
    with pytest.raises(ValueError, match="num_resamples must be at least 1, got 0"):
        bootstrap_accuracy(ok, ok, ok, num_resamples=0)
