"""How sure a mean over images is: bootstrap over patients, and a test of paired differences by their signs."""

from __future__ import annotations

import numpy as np

from pneumolit.evaluation.clustered import patient_rows
from pneumolit.evaluation.intervals import patient_weights

NUM_RESAMPLES = 2000
NUM_SIGNS = 10_000
LEVEL = 0.95
Interval = list[float]


def mean_interval(values: np.ndarray, patient_ids: np.ndarray, *, seed: int = 0) -> Interval | None:
    """Percentile interval over patients of the mean of `(N,)` values; None for fewer than two patients."""
    return ratio_interval(values, np.ones(len(values)), patient_ids, seed=seed)


def ratio_interval(above: np.ndarray, below: np.ndarray, patient_ids: np.ndarray, *, seed: int = 0) -> Interval | None:
    """Percentile interval over patients of the sum of one quantity over the sum of another, both of the same images.

    Args:
        above: `(N,)` float.
        below: `(N,)` float, of a sum that is above 0.
        patient_ids: `(N,)` who was imaged.
        seed: same seed, same interval.

    Returns:
        [low, high]; None for fewer than two patients, and where some resample has nothing to divide by.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13 (percentile); Field and Welsh, JRSS B 69,
        2007 (whole clusters).
    """
    rows, num_patients = patient_rows(patient_ids)
    if num_patients < 2:
        return None
    sums = np.stack([np.bincount(rows, column, num_patients) for column in (above, below)], axis=1)  # (P, 2)
    strata = np.zeros(len(rows), dtype=np.int64)
    drawn = np.concatenate([w @ sums for w in patient_weights(strata, rows, NUM_RESAMPLES, seed)])
    if not (drawn[:, 1] > 0).all():
        return None
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def sign_test(differences: np.ndarray, patient_ids: np.ndarray, *, seed: int = 0) -> float | None:
    """Two-sided p value of a mean of paired differences, by flipping the signs of whole patients at random.

    Args:
        differences: `(N,)` float, one per image.
        patient_ids: `(N,)` who was imaged; a patient's images are summed and flipped together.
        seed: of the flips.

    Returns:
        In (0, 1], at least 1 / (flips + 1); None for fewer than two patients.

    Source:
        Fisher, The Design of Experiments, 1935, section 21; Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010
        (the observed signs count among the flips, so that p is never 0).
    """
    rows, num_patients = patient_rows(patient_ids)
    if num_patients < 2:
        return None
    sums = np.bincount(rows, differences)
    signs = np.random.default_rng([seed, 2]).choice([-1.0, 1.0], size=(NUM_SIGNS, len(sums)))
    flipped = np.abs(signs @ sums)
    reached = int((flipped >= abs(float(sums.sum())) * (1 - 1e-12)).sum())
    return (reached + 1) / (NUM_SIGNS + 1)
