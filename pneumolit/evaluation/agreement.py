"""How far several methods decide alike, and which errors they share."""

from __future__ import annotations

import numpy as np


def cohen_kappa(decisions: np.ndarray) -> np.ndarray:
    """Agreement of each two methods beyond what the shares of their answers alone would give.

    Args:
        decisions: `(N, M)` of any values, N >= 1.

    Returns:
        `(M, M)` float64, at most 1; 1 also where both give one and the same answer to every image.

    Source:
        Cohen, Educational and Psychological Measurement 20, 1960.
    """
    decisions = np.asarray(decisions)
    _, codes = np.unique(decisions, return_inverse=True)
    answers, size = codes.reshape(decisions.shape), decisions.shape[1]
    same, chance = np.zeros((size, size)), np.zeros((size, size))
    for answer in range(int(codes.max()) + 1):
        chosen = (answers == answer).astype(np.float64)
        same += chosen.T @ chosen / len(chosen)
        chance += np.outer(chosen.mean(axis=0), chosen.mean(axis=0))
    kappa = np.ones_like(same)
    np.divide(same - chance, 1 - chance, out=kappa, where=chance < 1 - 1e-12)
    return kappa


def common_errors(correct: np.ndarray) -> np.ndarray:
    """`(M, M)` int64, how many images both of two methods get wrong; the diagonal has each method's own errors.

    Args:
        correct: `(N, M)` 0/1.
    """
    wrong = 1 - np.asarray(correct).astype(np.int64)
    return wrong.T @ wrong
