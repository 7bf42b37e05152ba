"""How often the reported intervals hold the truth: simulated test sets with the images per patient of the real one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import binom, norm

from pneumolit.evaluation.intervals import patient_intervals

# Official test split of the Kaggle set: {images: patients who have so many}.
NORMAL = {1: 220, 2: 1, 3: 4}
PNEUMONIA = {1: 126, 2: 29, 3: 19, 4: 11, 5: 10, 6: 4, 7: 2, 8: 1, 9: 1}
SIZES = np.array([size for kind in (NORMAL, PNEUMONIA) for size, count in kind.items() for _ in range(count)])
IDS = np.repeat(np.arange(len(SIZES)), SIZES)
TARGETS = np.repeat([0, 1], [234, 390])
SENSITIVITY, SPECIFICITY = 0.95, 0.90
TRUTH = {
    "sensitivity": SENSITIVITY,
    "specificity": SPECIFICITY,
    "accuracy": (390 * SENSITIVITY + 234 * SPECIFICITY) / 624,
    "balanced_accuracy": (SENSITIVITY + SPECIFICITY) / 2,
    "ppv": 390 * SENSITIVITY / (390 * SENSITIVITY + 234 * (1 - SPECIFICITY)),
    "npv": 234 * SPECIFICITY / (234 * SPECIFICITY + 390 * (1 - SENSITIVITY)),
}
CONDITIONS = [(correlation, auroc) for correlation in (0.0, 0.3, 0.8) for auroc in (0.90, 0.98)]


def simulated(rng: np.random.Generator, correlation: float, auroc: float) -> tuple[np.ndarray, np.ndarray]:
    """Binormal scores, of which images of a patient share a part, and calls.

    The calls are made at the true thresholds, one per class, since no single one has both rates at both AUROCs.
    """
    shared, own = rng.normal(size=len(SIZES))[IDS], rng.normal(size=len(IDS))
    noise = correlation**0.5 * shared + (1 - correlation) ** 0.5 * own  # (624,), unit variance
    calls = np.where(TARGETS == 1, noise > norm.ppf(1 - SENSITIVITY), noise > norm.ppf(SPECIFICITY))
    return noise + TARGETS * 2**0.5 * norm.ppf(auroc), calls.astype(int)


def calls_that_agree(rng: np.random.Generator, agreement: float) -> np.ndarray:
    """Calls whose own correlation within a patient is `agreement`: so often one draw stands for all images of one."""
    rate = np.where(TARGETS == 1, SENSITIVITY, 1 - SPECIFICITY)
    together = rng.random(len(SIZES))[IDS] < agreement
    return (np.where(together, rng.random(len(SIZES))[IDS], rng.random(len(IDS))) < rate).astype(int)


def coverage(num_sets: int, correlation: float, auroc: float, seed: int, *, of_calls: bool = False) -> dict[str, float]:
    """Fraction of simulated sets in which each reported interval holds the truth; without AUROC for `of_calls`."""
    rng, held = np.random.default_rng(seed), Counter[str]()
    for _ in range(num_sets):
        scores, calls = simulated(rng, correlation, auroc)
        if of_calls:
            calls = calls_that_agree(rng, correlation)
        found = patient_intervals(TARGETS, scores, {"r": calls}, IDS, num_resamples=1)
        for name, value in TRUTH.items():
            low, high = found["rules"]["r"][name]
            held[name] += low <= value <= high
        low, high = found["ranking"]["auroc"]
        held["auroc"] += low <= auroc <= high
    return {name: held[name] / num_sets for name in ("auroc", *TRUTH)}


def test_the_simulated_sets_are_the_test_split() -> None:
    assert [len(IDS), len(SIZES), (TARGETS == 0).sum(), SIZES[:225].sum()] == [624, 428, 234, 234]
    rng = np.random.default_rng(0)
    scores, calls = (np.array(column) for column in zip(*(simulated(rng, 0.8, 0.98) for _ in range(400)), strict=True))
    assert calls[:, TARGETS == 1].mean() == pytest.approx(SENSITIVITY, abs=0.005)
    assert calls[:, TARGETS == 0].mean() == pytest.approx(1 - SPECIFICITY, abs=0.01)
    above = [(pair[:390, None] > pair[None, 390:]).mean() for pair in np.roll(scores[:100], 390, axis=1)]
    assert np.mean(above) == pytest.approx(0.98, abs=0.002)
    first, second = np.flatnonzero((SIZES == 2)[IDS])[-58:].reshape(29, 2).T  # both films of 29 patients
    assert np.corrcoef(scores[:, first].ravel(), scores[:, second].ravel())[0, 1] == pytest.approx(0.8, abs=0.02)
    agreed = np.array([calls_that_agree(rng, 0.8) for _ in range(400)])
    assert agreed[:, TARGETS == 1].mean() == pytest.approx(SENSITIVITY, abs=0.005)
    assert np.corrcoef(agreed[:, first].ravel(), agreed[:, second].ravel())[0, 1] == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("of_calls", [False, True])
def test_intervals_of_much_alike_images_hold_the_truth_about_as_often_as_they_say(of_calls: bool) -> None:
    # A coverage of .93 would give fewer, one of .97 more, once in 1,000 times. Images counted as independent would give
    # .83 and .79 for sensitivity.
    low, high = binom.ppf(1e-3, 150, 0.93) / 150, binom.ppf(1 - 1e-3, 150, 0.97) / 150
    for name, found in coverage(150, 0.8, 0.98, seed=0, of_calls=of_calls).items():
        assert low <= found <= high, name


@pytest.mark.slow
@pytest.mark.parametrize(("correlation", "auroc"), CONDITIONS)
def test_reported_intervals_hold_the_truth_in_93_to_97_of_100_sets(correlation: float, auroc: float) -> None:
    found = coverage(1000, correlation, auroc, seed=1)
    assert {name: value for name, value in found.items() if not 0.93 <= value <= 0.97} == {}


@pytest.mark.slow
@pytest.mark.parametrize("agreement", [0.0, 0.3, 0.8])
def test_so_do_those_of_calls_that_agree_so_much_within_a_patient(agreement: float) -> None:
    found = coverage(1000, agreement, 0.90, seed=1, of_calls=True)
    assert {name: value for name, value in found.items() if not 0.93 <= value <= 0.97} == {}
