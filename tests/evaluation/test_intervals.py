from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_score, roc_auc_score

from pneumolit.evaluation import intervals
from pneumolit.evaluation.clustered import auroc_interval, mean_recall_interval, proportion_interval
from pneumolit.evaluation.intervals import (
    METHODS,
    NUM_RESAMPLES,
    bootstrap_intervals,
    patient_intervals,
    patient_weights,
    ranking_of_resamples,
)
from pneumolit.evaluation.metrics import decision_metrics
from pneumolit.evaluation.prevalence import at_prevalence
from tests.processor_time import times_slower

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
    drawn: dict[str, list[float]] = {}
    for weights in np.concatenate(list(patient_weights(targets, patients, 60, 5))):
        rows = np.repeat(np.arange(len(targets)), weights[patients].astype(int))
        true, called = targets[rows], preds[rows]
        recalls = [(called[true == k] == k).mean() for k in (0, 1)]
        values = {
            "auroc": roc_auc_score(true, scores[rows]),
            "specificity": recalls[0],
            "sensitivity": recalls[1],
            "balanced_accuracy": sum(recalls) / 2,
            "accuracy": (true == called).mean(),
            "ppv": precision_score(true, called),
            "npv": precision_score(true, called, pos_label=0),
            "f1": f1_score(true, called),
            "macro_f1": f1_score(true, called, average="macro"),
        }
        for name, value in values.items():
            drawn.setdefault(name, []).append(float(value))
    assert found["ranking"]["auroc"] == pytest.approx(np.quantile(drawn.pop("auroc"), [0.025, 0.975]))
    assert set(found["rules"]["r"]) == set(drawn)
    for name, column in drawn.items():
        assert found["rules"]["r"][name] == pytest.approx(np.quantile(column, [0.025, 0.975]))


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


def test_a_rate_that_some_resample_cannot_tell_has_no_interval_and_one_that_all_tell_alike_neither() -> None:
    targets, patients = np.repeat([0, 1], 10), np.arange(20)
    preds = np.zeros(20, dtype=int)
    preds[19] = 1  # drawn in two of three resamples; in the others nothing is called ill
    found = bootstrap_intervals(targets, preds, {"r": preds}, patients, num_resamples=200)["rules"]["r"]
    assert found["ppv"] is None
    assert found["specificity"] is None  # 1 in every resample: no width can be told
    assert found["f1"] is not None and found["npv"] is not None


def test_same_seed_same_intervals_and_another_seed_others() -> None:
    targets, scores, patients = simulated(np.random.default_rng(2))
    first, again, other = (
        bootstrap_intervals(targets, scores, {}, patients, num_resamples=100, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first["ranking"] != other["ranking"]


# By formula and by bootstrap


def test_each_interval_is_that_of_the_method_it_names() -> None:
    targets, scores, patients = simulated(np.random.default_rng(6))
    preds = (scores > 1).astype(int)
    hits, ill = preds == targets, targets == 1
    found = patient_intervals(targets, scores, {"r": preds}, patients, num_resamples=200, seed=3, level=0.9)
    drawn = bootstrap_intervals(targets, scores, {"r": preds}, patients, num_resamples=200, seed=3, level=0.9)
    assert found["methods"] == METHODS
    assert found["ranking"]["auroc"] == auroc_interval(targets, scores, patients, 0.9)
    assert found["ranking"]["average_precision"] == drawn["ranking"]["average_precision"]
    rates = found["rules"]["r"]
    assert list(rates) == list(drawn["rules"]["r"])
    assert rates["sensitivity"] == proportion_interval(hits[ill], patients[ill], 0.9)
    assert rates["specificity"] == proportion_interval(hits[~ill], patients[~ill], 0.9)
    for name, weights in (("accuracy", "images"), ("balanced_accuracy", "classes")):
        assert rates[name] == mean_recall_interval(hits, targets, patients, weights=weights, level=0.9)
    for name in ("f1", "macro_f1"):
        assert rates[name] == drawn["rules"]["r"][name]
    limits = (rates["sensitivity"], rates["specificity"])
    own = at_prevalence(hits[ill].mean(), hits[~ill].mean(), ill.mean(), threshold=None, intervals=limits)
    for name in ("ppv", "npv"):
        assert rates[name] == pytest.approx(own["intervals"][name], abs=1e-12)
    assert (found["level"], found["num_resamples"], found["num_patients"]) == (0.9, 200, 100)


def test_formula_and_bootstrap_agree_where_nothing_is_extreme() -> None:
    targets, scores, patients = simulated(np.random.default_rng(8), 400, 600, per_patient=3)
    preds = (scores > 0.9).astype(int)
    found = patient_intervals(targets, scores, {"r": preds}, patients, num_resamples=4000)
    drawn = bootstrap_intervals(targets, scores, {"r": preds}, patients, num_resamples=4000)
    pairs = [(found["ranking"]["auroc"], drawn["ranking"]["auroc"])]
    pairs += [(found["rules"]["r"][name], drawn["rules"]["r"][name]) for name in found["rules"]["r"]]
    assert len(pairs) == 9
    for one, other in pairs:
        assert one == pytest.approx(other, abs=0.15 * (other[1] - other[0]))


def test_no_interval_shrinks_to_a_point_where_every_image_is_right() -> None:
    targets, patients = np.repeat([0, 1], [234, 390]), np.arange(624) // 2
    found = patient_intervals(targets, targets - 0.5, {"r": targets}, patients, num_resamples=50)
    for low, high in (found["ranking"]["auroc"], *(found["rules"]["r"][name] for name in (
        "accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv",
    ))):  # fmt: skip
        assert 0.9 < low < 0.995 and high == 1
    assert found["ranking"]["average_precision"] is found["rules"]["r"]["f1"] is None


def assert_holds(limits: list[float] | None, value: float | None) -> None:
    assert (limits is None) == (value is None)
    assert limits is None or value is None or (0 <= limits[0] <= value + 1e-9 and value - 1e-9 <= limits[1] <= 1)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(-3, 3), st.integers(0, 1), st.integers(0, 9)), min_size=1, max_size=30
    )
)
def test_every_interval_by_formula_holds_its_number(rows: list[tuple[int, int, int, int]]) -> None:
    targets, scores, preds, patients = (np.array(column) for column in zip(*rows, strict=True))
    found = patient_intervals(targets, scores, {"r": preds}, patients, num_resamples=2)
    values = decision_metrics(targets, preds)
    for name in ("accuracy", "balanced_accuracy", "sensitivity", "specificity"):
        assert_holds(found["rules"]["r"][name], values[name])
    if 0 < targets.sum() < len(targets):
        for name in ("ppv", "npv"):
            assert_holds(found["rules"]["r"][name], values[name])


def test_one_class_has_the_interval_of_its_own_recall_alone() -> None:
    preds, patients = np.array([1, 1, 1, 0, 1, 1]), np.arange(6)
    rates = patient_intervals(np.ones(6), np.arange(6.0), {"r": preds}, patients, num_resamples=20)
    assert rates["ranking"] == {"auroc": None, "average_precision": None}
    rates = rates["rules"]["r"]
    assert rates["specificity"] is rates["balanced_accuracy"] is None
    assert rates["sensitivity"] == proportion_interval(preds, patients)
    assert rates["accuracy"] == pytest.approx(rates["sensitivity"], abs=1e-12)


def test_ten_thousand_resamples_of_the_test_split_with_eight_rules_take_under_five_seconds() -> None:
    targets, scores, patients = simulated(np.random.default_rng(0), 234, 390)
    rules = {str(i): (scores > i / 4).astype(int) for i in range(8)}
    start = time.process_time()
    found = patient_intervals(targets, scores, rules, patients)
    assert time.process_time() - start < 5 * times_slower()
    assert found["num_resamples"] == NUM_RESAMPLES == 10_000


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
        bootstrap_intervals(ok, ok, {}, ok, num_resamples=0)
    with pytest.raises(ValueError, match="r has 3 rows, the targets have 2"):
        patient_intervals(ok, ok, {"r": np.zeros(3)}, ok)
    with pytest.raises(ValueError, match="at least one image, found none"):
        patient_intervals(np.empty(0), np.empty(0), {}, np.empty(0))
