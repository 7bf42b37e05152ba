"""How sure a curve is: pointwise bands of ROC and precision-recall curves over patients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pneumolit.evaluation.clustered import patient_rows
from pneumolit.evaluation.intervals import patient_weights


def roc_band(
    positives: np.ndarray,
    scores: np.ndarray,
    patient_ids: np.ndarray,
    fpr: np.ndarray,
    *,
    num_resamples: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> np.ndarray:
    """Where the true positive rate may lie at each false positive rate.

    Pointwise: a whole curve leaves its band somewhere more often than `level` says.

    Args:
        positives: `(N,)` 0/1; both must occur.
        scores: `(N,)` float, higher speaks for pneumonia.
        patient_ids: `(N,)` who was imaged; drawn with replacement, each class by itself.
        fpr: `(G,)` in [0, 1].
        num_resamples: >= 1.
        seed: of the draws.
        level: coverage at each point.

    Returns:
        `(2, G)` low and high true positive rates.

    Source:
        Fawcett, Pattern Recognition Letters 27, 2006 (vertical averaging).
    """
    rates = [
        _tpr_at(fp / fp[-1], tp / tp[-1], fpr)
        for tp, fp in _resamples(positives, scores, patient_ids, num_resamples, seed)
    ]
    return np.asarray(np.quantile(rates, [(1 - level) / 2, (1 + level) / 2], axis=0))


def precision_recall_band(
    positives: np.ndarray,
    scores: np.ndarray,
    patient_ids: np.ndarray,
    recall: np.ndarray,
    *,
    num_resamples: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> np.ndarray:
    """As `roc_band`: `(2, G)` low and high precision at each recall in (0, 1], at this set's prevalence."""
    rates = []
    for tp, fp in _resamples(positives, scores, patient_ids, num_resamples, seed):
        first = np.searchsorted(tp / tp[-1], recall - 1e-12)  # the highest threshold that reaches the recall
        rates.append(tp[first] / (tp[first] + fp[first]))
    return np.asarray(np.quantile(rates, [(1 - level) / 2, (1 + level) / 2], axis=0))


def _resamples(
    positives: np.ndarray, scores: np.ndarray, patient_ids: np.ndarray, num_resamples: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """True and false positives of every resample at falling thresholds, tied scores together, from none on."""
    is_pos = np.asarray(positives).astype(bool)
    scores = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_tie = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    rows, _ = patient_rows(patient_ids)
    for weights in patient_weights(is_pos.astype(np.int64), rows, num_resamples, seed):
        by_image = weights[:, rows[order]]
        tp = np.cumsum(by_image * is_pos[order], axis=1)[:, last_of_tie]
        fp = np.cumsum(by_image * ~is_pos[order], axis=1)[:, last_of_tie]
        for one_tp, one_fp in zip(tp, fp, strict=True):
            yield np.append(0.0, one_tp), np.append(0.0, one_fp)


def _tpr_at(fpr: np.ndarray, tpr: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The highest point of the curve over each false positive rate; ties in the scores make slanted pieces."""
    left = np.minimum(np.searchsorted(fpr, at, side="right") - 1, len(fpr) - 2)
    width = fpr[left + 1] - fpr[left]
    share = np.divide(at - fpr[left], width, out=np.ones_like(at), where=width > 0)
    return np.asarray(tpr[left] + share * (tpr[left + 1] - tpr[left]))
