"""Means over runs of one configuration: both parts of the variance, and an interval that covers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, ttest_ind
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score, roc_auc_score

from pneumolit.evaluation.clustered import auroc_covariance, auroc_interval, mean_recall_interval, proportion_interval
from pneumolit.evaluation.seeds import METRICS, mean_over_runs

SIZES = (np.ones(100, dtype=int), np.repeat([1, 2, 3, 5], [60, 30, 15, 5]))  # images per patient, normal and pneumonia


def simulated(rng: np.random.Generator, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of as many runs as there are shifts between the classes; the same images, with noise of their own."""
    sizes = np.concatenate(SIZES)
    patients = np.repeat(np.arange(len(sizes)), sizes)
    targets = np.repeat([0, 1], [SIZES[0].sum(), SIZES[1].sum()])
    image = 0.6 * rng.normal(size=len(sizes))[patients] + 0.8 * rng.normal(size=len(targets))
    own = rng.normal(size=(len(targets), len(shifts)))
    return targets, 0.9 * image[:, None] + 0.19**0.5 * own + shifts * targets[:, None], patients


@pytest.fixture(scope="module")
def three() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return simulated(np.random.default_rng(1), np.array([1.4, 1.8, 2.3]))


def test_means_and_their_spread_are_those_of_the_single_runs(three: tuple[np.ndarray, ...]) -> None:
    targets, scores, patients = three
    preds = (scores > 0.9).astype(int)
    found = mean_over_runs(targets, scores, preds, patients, num_resamples=50)
    aurocs = [roc_auc_score(targets, column) for column in scores.T]
    every = {"auroc": aurocs}
    every["sensitivity"] = [recall_score(targets, column) for column in preds.T]
    every["specificity"] = [recall_score(targets, column, pos_label=0) for column in preds.T]
    every["accuracy"] = [accuracy_score(targets, column) for column in preds.T]
    every["balanced_accuracy"] = [balanced_accuracy_score(targets, column) for column in preds.T]
    for name, values in every.items():
        assert found[name]["mean"] == pytest.approx(np.mean(values), abs=1e-12)
        assert found[name]["sd_seeds"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert found[name]["se_seeds"] == pytest.approx(np.std(values, ddof=1) / 3**0.5, abs=1e-12)
    assert set(found) == set(every) == set(METRICS)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_has_the_width_of_welchs_two_sample_interval_on_the_logit_scale(
    three: tuple[np.ndarray, ...], level: float
) -> None:
    # Two samples whose means have just the standard errors of both parts, one as large as there are patients of the
    # class, one as there are runs: Welch's degrees of freedom are Satterthwaite's.
    targets, scores, patients = three
    found = mean_over_runs(targets, scores, (scores > 0.9).astype(int), patients, num_resamples=200, level=level)
    for name, value in (("sensitivity", 1), ("specificity", 0)):
        row, samples = found[name], []
        for error, count in ((row["se_patients"], len(set(patients[targets == value]))), (row["se_seeds"], 3)):
            plain = np.arange(count, dtype=float)
            samples.append((plain - plain.mean()) / plain.std(ddof=1) * error * count**0.5)
        half = ttest_ind(*samples, equal_var=False).confidence_interval(level).high
        odds, steep = row["mean"] / (1 - row["mean"]), row["mean"] * (1 - row["mean"])
        ends = [odds * np.exp(sign * half / steep) for sign in (-1, 1)]
        assert row["interval"] == pytest.approx([end / (1 + end) for end in ends], abs=1e-9)


def test_the_part_of_the_patients_is_that_of_obuchowskis_covariance(three: tuple[np.ndarray, ...]) -> None:
    targets, scores, patients = three
    found = mean_over_runs(targets, scores, (scores > 0).astype(int), patients, num_resamples=2000)
    _, covariance = auroc_covariance(targets, scores, patients)
    assert found["auroc"]["se_patients"] == pytest.approx(covariance.mean() ** 0.5, rel=0.06)


def test_more_runs_of_the_same_images_do_not_make_patients_surer(three: tuple[np.ndarray, ...]) -> None:
    targets, scores, patients = three
    one = scores[:, :1]
    single, many = (
        mean_over_runs(targets, column, (column > 0).astype(int), patients, num_resamples=200)["auroc"]
        for column in (one, np.repeat(one, 9, axis=1))
    )
    assert many["se_patients"] == pytest.approx(single["se_patients"])
    assert many["sd_seeds"] == 0 and single["sd_seeds"] is None
    assert many["interval"] == pytest.approx(single["interval"])


@pytest.mark.parametrize("name", METRICS)
def test_of_a_class_of_few_patients_runs_that_are_alike_promise_no_more_than_one_of_them(name: str) -> None:
    # Six ill patients with ten films each: resamples of six vary by 5/6 of what others would, with five degrees.
    rng = np.random.default_rng(0)
    hits = np.concatenate([[1] * right + [0] * (10 - right) for right in (10, 10, 9, 8, 6, 4)])
    targets, patients = np.repeat([1, 0], 60), np.concatenate([np.repeat(np.arange(6), 10), 100 + np.arange(60)])
    preds = np.concatenate([hits, np.repeat([1, 0], [5, 55])])
    scores = preds + rng.normal(0, 0.7, 120)
    found = mean_over_runs(targets, np.column_stack([scores] * 2), np.column_stack([preds] * 2), patients)[name]
    low, high = found["interval"]
    if name == "auroc":
        single = auroc_interval(targets, scores, patients)
    elif name in ("sensitivity", "specificity"):
        side = targets == (name == "sensitivity")
        single = proportion_interval((preds == targets)[side], patients[side])
    else:
        weights = "images" if name == "accuracy" else "classes"
        single = mean_recall_interval((preds == targets).astype(float), targets, patients, weights=weights)
    assert single is not None and high - low > 0.95 * (single[1] - single[0])


def test_seeds_that_disagree_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    alike, apart = (
        mean_over_runs(*(t, s, (s > 0.9).astype(int), p), num_resamples=100)["auroc"]["interval"]
        for t, s, p in (simulated(rng, np.array(shifts)) for shifts in ((1.8, 1.8, 1.8), (1.0, 1.8, 2.6)))
    )
    assert apart[1] - apart[0] > 2 * (alike[1] - alike[0])


def test_runs_that_are_right_everywhere_get_the_interval_of_one_of_them() -> None:
    targets, patients = np.repeat([0, 1], 20), np.arange(40)
    scores = np.stack([targets * 2.0, targets * 3.0], axis=1)
    found = mean_over_runs(targets, scores, (scores > 1).astype(int), patients, num_resamples=20)
    assert found["auroc"]["interval"] == auroc_interval(targets, scores[:, 0], patients)
    assert found["sensitivity"]["interval"] == proportion_interval(np.ones(20), np.arange(20))
    assert found["specificity"]["interval"][0] < 0.9


def test_a_variance_that_is_rounding_is_none() -> None:
    # Two of three films of the one patient with pneumonia: 2/3 in every resample, but for the last digit.
    targets, patients = np.repeat([0, 1], [6, 3]), np.array([0, 1, 2, 3, 4, 5, 6, 6, 6])
    preds = np.array([0, 0, 0, 0, 0, 0, 1, 1, 0])[:, None]
    found = mean_over_runs(targets, preds - 0.5, preds, patients)
    assert found["sensitivity"]["interval"] == proportion_interval(np.array([1, 1, 0]), np.zeros(3))
    assert found["accuracy"]["interval"][1] - found["accuracy"]["interval"][0] > 0.1


def test_a_class_of_one_patient_gets_no_narrow_interval_from_seeds_that_agree() -> None:
    # Its resamples do not vary, so that the seeds alone would make the interval.
    rng = np.random.default_rng(0)
    targets, patients = np.repeat([0, 1], [60, 10]), np.concatenate([np.arange(60), np.full(10, 60)])
    preds = np.stack([targets] * 3, axis=1)
    for run, wrong in enumerate(((60, 61, 62), (60, 61, 62, 63), (60, 61, 62, 64))):
        preds[list(wrong), run] = 0
    found = mean_over_runs(targets, preds + 0.01 * rng.normal(size=preds.shape), preds, patients, num_resamples=50)
    singles = np.array([proportion_interval((preds == targets[:, None])[60:, k], patients[60:]) for k in range(3)])
    assert found["sensitivity"]["interval"] == [singles[:, 0].min(), singles[:, 1].max()]
    assert found["sensitivity"]["interval"][0] < 0.15 and found["auroc"]["interval"] is None
    assert found["specificity"]["interval"][0] > 0.9  # sixty patients


def test_a_single_patient_has_a_mean_but_no_interval() -> None:
    targets, patients = np.array([0, 1, 0, 1]), np.zeros(4)
    scores = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    found = mean_over_runs(targets, scores, scores.astype(int), patients, num_resamples=20)
    assert found["accuracy"]["mean"] == 0.75 and found["accuracy"]["sd_seeds"] > 0
    assert all(found[name]["interval"] is None for name in found)


@pytest.mark.slow
def test_the_interval_of_three_seeds_covers_the_mean_over_all_seeds() -> None:
    rng, sets, covered = np.random.default_rng(0), 400, 0
    grid = np.linspace(-4, 4, 4001)
    truth = float(np.average(norm.cdf((1.8 + 0.25 * grid) / 2**0.5), weights=norm.pdf(grid)))
    for number in range(sets):
        targets, scores, patients = simulated(rng, 1.8 + 0.25 * rng.normal(size=3))
        found = mean_over_runs(targets, scores, (scores > 0.9).astype(int), patients, num_resamples=300, seed=number)
        low, high = found["auroc"]["interval"]
        covered += low <= truth <= high
    assert 0.93 <= covered / sets <= 0.985  # a little wide: what seeds and patients share is counted in both parts


def test_wrong_shapes_and_a_missing_class_are_refused() -> None:
    ones = np.ones((4, 2))
    with pytest.raises(ValueError, match=r"must be \(N, S\) for N = 3"):
        mean_over_runs(np.array([0, 1, 1]), ones[:3], ones, np.arange(3))
    with pytest.raises(ValueError, match="both classes"):
        mean_over_runs(np.ones(4), ones, ones, np.arange(4))
