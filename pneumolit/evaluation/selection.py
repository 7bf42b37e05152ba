"""Which models to average: greedy forward selection on validation scores."""

from __future__ import annotations

import numpy as np

_ROUNDS = 50  # picks at most; a model may be picked again, which is how it gets more weight


def balanced_log_loss(positives: np.ndarray, log_odds: np.ndarray) -> np.ndarray:
    """Mean log loss in nats with both classes at one half, of each column.

    Unlike AUROC it does not stand still where validation is ranked almost perfectly.

    Args:
        positives: `(N,)` 0/1. Both must occur.
        log_odds: `(N, M)` float, of pneumonia at prevalence one half.

    Returns:
        `(M,)` float64.
    """
    is_pos = np.asarray(positives).astype(bool)
    log_odds = np.asarray(log_odds, dtype=np.float64)
    missed = np.logaddexp(0.0, -log_odds[is_pos]).mean(axis=0)
    alarmed = np.logaddexp(0.0, log_odds[~is_pos]).mean(axis=0)
    return np.asarray((missed + alarmed) / 2)


def select_greedily(
    positives: np.ndarray, log_odds: np.ndarray, rounds: int = _ROUNDS
) -> tuple[np.ndarray, list[float]]:
    """Pick columns, one after the other and with repetition, so that the mean of all picked has the least loss.

    Args:
        positives: `(N,)` 0/1 of validation.
        log_odds: `(N, M)` float, of each candidate.
        rounds: picks at most.

    Returns:
        `(M,)` float64 weights that sum to one, those of the best of all steps (the first of equals), and the loss
        after every pick.

    Source:
        Caruana, Niculescu-Mizil, Crew and Ksikes, ICML 2004 (selection with replacement; the best step is kept).
    """
    log_odds = np.asarray(log_odds, dtype=np.float64)
    total, counts = np.zeros(len(log_odds)), np.zeros(log_odds.shape[1])
    best, losses = counts, []
    for picked in range(1, rounds + 1):
        found = balanced_log_loss(positives, (total[:, None] + log_odds) / picked)
        choice = int(found.argmin())
        total, counts = total + log_odds[:, choice], counts.copy()
        counts[choice] += 1
        losses.append(float(found[choice]))
        if losses[-1] < min(losses[:-1], default=np.inf):
            best = counts
    return best / best.sum(), losses
