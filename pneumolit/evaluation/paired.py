"""Is one method better than another on the same images? Differences with intervals and p-values over patients.

Two methods that judge the same images err together, so that their difference is far surer than two separate intervals
suggest; the images of one patient resemble each other, so that it is less sure than a count of images suggests. All
tests here take both into account. For a test that takes every image for a patient of its own (DeLong's) give every
image its own `patient_ids`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from pneumolit.evaluation.clustered import auroc_covariance, patient_rows
from pneumolit.evaluation.intervals import patient_weights, ranking_of_resamples

Interval = list[float]
Pair = tuple[int, int]  # columns; a difference is the first minus the second
# Of the variance that two independent methods would have: less is rounding, and says that nothing varies.
_NO_VARIANCE = 1e-12
_MOST_CELLS = 40_000_000  # positive times negative images times methods, whose comparisons are held (160 MB)


@dataclass(frozen=True)
class Difference:
    """One method minus another on the same images.

    Attributes:
        value: the difference.
        interval: [low, high]; None where nothing varies between patients, so that no width can be told.
        p_value: two-sided, of no difference; None where it cannot be told (a difference without variance).
    """

    value: float
    interval: Interval | None
    p_value: float | None


def auroc_differences(
    positives: np.ndarray,
    scores: np.ndarray,
    patient_ids: np.ndarray,
    pairs: Sequence[Pair],
    *,
    level: float = 0.95,
) -> list[Difference]:
    """Differences of AUROC, tested with the covariance over patients.

    Args:
        positives: `(N,)` 0/1, 1 is pneumonia. Both must occur, each in at least two patients.
        scores: `(N, M)` float, one column per method, higher speaks for pneumonia.
        patient_ids: `(N,)` who was imaged; one for every image gives DeLong's test.
        pairs: columns to compare.
        level: of the intervals.

    Raises:
        ValueError: as `auroc_covariance`.

    Source:
        Obuchowski, Biometrics 53, 1997; DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988.
    """
    aurocs, covariance = auroc_covariance(positives, scores, patient_ids)
    variances = covariance.diagonal()
    found = []
    for one, other in pairs:
        apart = variances[one] + variances[other]
        variance = apart - 2 * covariance[one, other]
        found.append(normal_difference(aurocs[one] - aurocs[other], variance, variance, apart, level))
    return found


def normal_difference(
    value: float, null_variance: float, variance: float, scale: float, level: float = 0.95
) -> Difference:
    """Interval and p-value of a difference that is normally distributed.

    Args:
        value: the difference.
        null_variance: its variance if there were none, for the p-value.
        variance: its variance as it is, for the interval.
        scale: a variance that is not zero, beside which rounding is told from variance.
        level: of the interval.
    """
    value = float(value)
    limit = _NO_VARIANCE * scale
    p_value: float | None = 1.0 if value == 0 else None
    if value != 0 and null_variance > limit:
        p_value = float(2 * norm.sf(abs(value) / np.sqrt(null_variance)))
    interval = None
    if variance > limit:
        half = float(norm.ppf((1 + level) / 2)) * float(np.sqrt(variance))
        interval = [value - half, value + half]
    return Difference(value, interval, p_value)


def resampled_metrics(
    positives: np.ndarray,
    scores: np.ndarray | None,
    called: np.ndarray,
    patient_ids: np.ndarray,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Metrics of several methods on the same resamples of patients, drawn within class.

    Args:
        positives: `(N,)` 0/1.
        scores: `(N, M)` float; None leaves out the AUROC.
        called: `(N, M)` 0/1, what each method calls pneumonia.
        patient_ids: `(N,)` who was imaged.
        num_resamples: R.
        seed: of the draws; the same seed draws the same patients as `bootstrap_intervals`.

    Returns:
        By name `(R, M)`: accuracy, and where both classes occur sensitivity, specificity, balanced_accuracy and auroc.
    """
    is_pos = np.asarray(positives).astype(bool)
    called = np.asarray(called).astype(bool)
    rows, num_patients = patient_rows(patient_ids)
    sides = [side for side in (is_pos, ~is_pos) if side.any()]
    right = called == is_pos[:, None]
    # (P, M) images decided rightly, and (P,) images, for each class.
    hits = [_by_patient(right[side], rows[side], num_patients) for side in sides]
    sizes = [np.bincount(rows[side], minlength=num_patients).astype(np.float64) for side in sides]
    rates: list[list[np.ndarray]] = [[] for _ in sides]
    accuracies, aurocs = [], []
    rank = _ResampledAuroc(is_pos, scores, rows) if scores is not None and len(sides) == 2 else None
    for weights in patient_weights(is_pos.astype(np.int64), rows, num_resamples, seed):
        drawn, counts = [weights @ hit for hit in hits], [weights @ size for size in sizes]
        accuracies.append(np.sum(drawn, axis=0) / np.sum(counts, axis=0)[:, None])
        for rate, hit, count in zip(rates, drawn, counts, strict=True):
            rate.append(hit / count[:, None])
        if rank is not None:
            aurocs.append(rank(weights))
    found = {"accuracy": np.concatenate(accuracies)}
    if len(sides) == 2:
        found["sensitivity"], found["specificity"] = (np.concatenate(rate) for rate in rates)
        found["balanced_accuracy"] = (found["sensitivity"] + found["specificity"]) / 2
    if aurocs:
        found["auroc"] = np.concatenate(aurocs)
    return found


def resampled_intervals(resampled: np.ndarray, pairs: Iterable[Pair], level: float = 0.95) -> list[Interval | None]:
    """Percentile intervals of differences, both methods on the same resamples.

    Args:
        resampled: `(R, M)`, as `resampled_metrics` gives a metric.
        pairs: columns to compare.
        level: of the intervals.

    Returns:
        [low, high] of each pair; None where no resample differs from another, so that no width can be told.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13.
    """
    ends = [(1 - level) / 2, (1 + level) / 2]
    found: list[Interval | None] = []
    for one, other in pairs:
        differences = resampled[:, one] - resampled[:, other]
        varies = np.ptp(differences) > 1e-12  # less is rounding
        found.append([float(end) for end in np.quantile(differences, ends)] if varies else None)
    return found


def _by_patient(values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Sums of the rows of `(n, M)` values by patient, `(count, M)`."""
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, rows, values.astype(np.float64))
    return sums


class _ResampledAuroc:
    """AUROCs of M methods under weights of patients: who beats whom is settled once, the weights only count it."""

    def __init__(self, is_pos: np.ndarray, scores: np.ndarray, rows: np.ndarray) -> None:
        self._is_pos, self._rows = is_pos, rows
        self._scores = np.asarray(scores, dtype=np.float64)
        self._wins: list[np.ndarray] = []
        pos, neg = self._scores[is_pos], self._scores[~is_pos]
        if pos.size * neg.shape[0] <= _MOST_CELLS:
            for one, other in zip(pos.T, neg.T, strict=True):
                above = np.sign(one[:, None] - other[None, :])
                self._wins.append(((above + 1) / 2).astype(np.float32))  # ties count one half

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """`(r, M)` from `(r, patients)`."""
        by_image = weights[:, self._rows]
        if not self._wins:
            columns = self._scores.T
            return np.stack([ranking_of_resamples(self._is_pos, c, by_image)[0] for c in columns], axis=1)
        pos, neg = by_image[:, self._is_pos], by_image[:, ~self._is_pos]
        drawn = pos.astype(np.float32)  # sums of halves, exact in float32 as far as images can be counted
        sums = [np.einsum("rn,rn->r", (drawn @ wins).astype(np.float64), neg) for wins in self._wins]
        return np.asarray(np.stack(sums, axis=1) / (pos.sum(axis=1) * neg.sum(axis=1))[:, None])
