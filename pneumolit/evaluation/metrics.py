"""Counts, rates, rankings and probability scores of finished predictions.

A rate whose denominator is zero is None, never NaN: a report has to say "undefined", and JSON knows no NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata


def confusion_matrix(targets: np.ndarray, preds: np.ndarray, num_classes: int) -> np.ndarray:
    """Count images by true and by predicted class.

    Args:
        targets: `(N,)` int in [0, num_classes).
        preds: `(N,)` int in [0, num_classes).
        num_classes: K.

    Returns:
        `(K, K)` int64, row = target, column = prediction.

    Raises:
        ValueError: the lengths differ, or an index lies outside [0, K).
    """
    targets, preds = np.asarray(targets, dtype=np.int64), np.asarray(preds, dtype=np.int64)
    if targets.shape != preds.shape:
        raise ValueError(f"targets and preds must be equally long, got {targets.shape} and {preds.shape}")
    for name, values in (("targets", targets), ("preds", preds)):
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(
                f"{name} must lie in 0..{num_classes - 1}, found {values.min()}..{values.max()}; "
                "check that predictions and class names belong to the same run"
            )
    cells = np.bincount(targets * num_classes + preds, minlength=num_classes**2)
    return np.asarray(cells.reshape(num_classes, num_classes))


def decision_metrics(positives: np.ndarray, positive_preds: np.ndarray) -> dict[str, float | None]:
    """Rates of a yes/no decision.

    Args:
        positives: `(N,)` 0/1, 1 is pneumonia.
        positive_preds: `(N,)` 0/1, 1 is called pneumonia.

    Returns:
        accuracy, balanced_accuracy, sensitivity, specificity, ppv, npv, f1, each in [0, 1], or None where its
        denominator is zero (balanced accuracy: where one class is missing).
    """
    (tn, fp), (fn, tp) = confusion_matrix(positives, positive_preds, 2).tolist()
    sensitivity, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    known = [rate for rate in (sensitivity, specificity) if rate is not None]
    return {
        "accuracy": _ratio(tp + tn, tp + tn + fp + fn),
        "balanced_accuracy": sum(known) / 2 if len(known) == 2 else None,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": _ratio(tp, tp + fp),
        "npv": _ratio(tn, tn + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }


def class_report(confusion: np.ndarray) -> dict[str, Any]:
    """Precision, recall and F1 of every class, with their macro and weighted means.

    The means follow scikit-learn's default: a class that neither occurs nor is ever predicted is left out,
    and an undefined rate of any other class counts as 0 (a class that is never predicted must not raise the
    mean).

    Args:
        confusion: `(K, K)` int, row = target, column = prediction.

    Returns:
        `per_class`: K dicts with precision, recall, f1 (None where undefined) and support, in class order;
        `macro` and `weighted`: dicts with precision, recall, f1 (None where there is no image).
    """
    confusion = np.asarray(confusion, dtype=np.int64)
    hits, support, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    per_class = [
        {
            "precision": _ratio(hit, called),
            "recall": _ratio(hit, occurs),
            "f1": _ratio(2 * hit, called + occurs),
            "support": int(occurs),
        }
        for hit, called, occurs in zip(hits, predicted, support, strict=True)
    ]
    seen = (support + predicted) > 0
    return {
        "per_class": per_class,
        "macro": _mean_rates(per_class, seen.astype(np.float64)),
        "weighted": _mean_rates(per_class, support.astype(np.float64)),
    }


def roc_curve(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every point a threshold can reach on the ROC plane, tied scores taken together.

    Args:
        targets: `(N,)` 0/1; both must occur.
        scores: `(N,)` float, higher speaks for class 1.

    Returns:
        false positive rate, true positive rate, threshold (score >= threshold is called positive), each `(T +
        1,)` for T distinct scores, thresholds falling from +inf.

    Raises:
        ValueError: the lengths differ, a score is NaN, or only one class occurs.
    """
    tp, fp, thresholds = _cumulative_counts(targets, scores)
    return (
        np.concatenate([[0.0], fp / fp[-1]]),
        np.concatenate([[0.0], tp / tp[-1]]),
        np.concatenate([[np.inf], thresholds]),
    )


def precision_recall_curve(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall at every threshold, tied scores taken together.

    Returns:
        precision `(T + 1,)` and recall `(T + 1,)`, recall falling from 1 and ending at the point (precision
        1, recall 0); thresholds `(T,)` rising. Same order as scikit-learn.

    Raises:
        ValueError: as `roc_curve`.
    """
    tp, fp, thresholds = _cumulative_counts(targets, scores)
    precision = np.concatenate([(tp / (tp + fp))[::-1], [1.0]])
    recall = np.concatenate([(tp / tp[-1])[::-1], [0.0]])
    return precision, recall, thresholds[::-1]


def auroc(targets: np.ndarray, scores: np.ndarray) -> float:
    """Probability that a random positive scores above a random negative, ties counting one half.

    Raises:
        ValueError: the lengths differ, a score is NaN, or only one class occurs.

    Source:
        Hanley and McNeil, Radiology 143, 1982 (area under ROC = Mann-Whitney U / (P N)).
    """
    targets, scores = _checked(targets, scores)
    num_pos = int(targets.sum())
    num_neg = len(targets) - num_pos
    rank_sum = float(rankdata(scores)[targets == 1].sum())
    return (rank_sum - num_pos * (num_pos + 1) / 2) / (num_pos * num_neg)


def average_precision(targets: np.ndarray, scores: np.ndarray) -> float:
    """Precision averaged over the steps in recall, without interpolation (scikit-learn's definition).

    Raises:
        ValueError: the lengths differ, a score is NaN, or only one class occurs.
    """
    tp, fp, _ = _cumulative_counts(targets, scores)
    gained = np.diff(tp, prepend=0.0)
    return float((gained * tp / (tp + fp)).sum() / tp[-1])


def macro_auroc(targets: np.ndarray, probs: np.ndarray) -> float:
    """Mean over the K classes of the AUROC of each class against all others.

    Args:
        targets: `(N,)` int class index.
        probs: `(N, K)` float; column k ranks class k against the rest.

    Raises:
        ValueError: a class does not occur (a mean over fewer classes would be another quantity).
    """
    targets = np.asarray(targets)
    missing = [k for k in range(probs.shape[1]) if not (targets == k).any()]
    if missing:
        raise ValueError(f"macro AUROC needs every class among the targets; classes {missing} do not occur")
    return float(np.mean([auroc(targets == k, probs[:, k]) for k in range(probs.shape[1])]))


def brier(targets: np.ndarray, probs: np.ndarray) -> float:
    """Mean squared distance of the probability of class 1, `(N,)` in [0, 1], from the 0/1 target."""
    return float(np.mean((np.asarray(probs, dtype=np.float64) - np.asarray(targets)) ** 2))


def reliability_bins(
    targets: np.ndarray, probs: np.ndarray, num_bins: int = 10, *, equal_mass: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare mean probability with observed frequency, bin by bin.

    Args:
        targets: `(N,)` 0/1.
        probs: `(N,)` in [0, 1], probability of class 1.
        num_bins: how many bins at most; empty ones are left out.
        equal_mass: bins hold equally many images, equal probabilities always share a bin; else the bins are
            equally wide on [0, 1], the last one closed on both sides.

    Returns:
        mean probability, observed frequency of class 1, and number of images, each `(B,)` with B <= num_bins.
    """
    targets, probs = np.asarray(targets, dtype=np.float64), np.asarray(probs, dtype=np.float64)
    bins = bin_of_each(probs, num_bins, equal_mass=equal_mass)
    counts = np.bincount(bins, minlength=num_bins)
    kept = counts > 0
    mean_prob = np.bincount(bins, probs, num_bins)[kept] / counts[kept]
    frequency = np.bincount(bins, targets, num_bins)[kept] / counts[kept]
    return mean_prob, frequency, counts[kept]


def bin_of_each(probs: np.ndarray, num_bins: int = 10, *, equal_mass: bool = True) -> np.ndarray:
    """`(N,)` int64 in [0, num_bins): the bin of each image, as `reliability_bins` has them; some may be empty."""
    probs = np.asarray(probs, dtype=np.float64)
    if equal_mass:
        # Rank of the first equal value, so that the order of the rows cannot change the bins.
        return np.asarray(np.searchsorted(np.sort(probs), probs, side="left") * num_bins // max(len(probs), 1))
    return np.asarray(np.minimum((probs * num_bins).astype(np.int64), num_bins - 1))


def ece(targets: np.ndarray, probs: np.ndarray, num_bins: int = 10, *, equal_mass: bool = True) -> float:
    """Expected calibration error: mean distance of probability and frequency over bins, weighted by their
    images.

    Equal-mass bins by default: most scores of this task lie near 0 and 1, where equal widths leave the middle
    bins to a handful of images.

    Source:
        Naeini, Cooper and Hauskrecht, AAAI 2015; equal mass: Nixon et al., CVPR workshops 2019.
    """
    mean_prob, frequency, counts = reliability_bins(targets, probs, num_bins, equal_mass=equal_mass)
    return float((np.abs(mean_prob - frequency) * counts).sum() / counts.sum())


def _ratio(part: int, whole: int) -> float | None:
    return float(part) / float(whole) if whole else None


def _mean_rates(per_class: list[dict[str, Any]], weights: np.ndarray) -> dict[str, float | None]:
    total = float(weights.sum())
    names = ("precision", "recall", "f1")
    if not total:
        return dict.fromkeys(names)
    pairs = list(zip(weights.tolist(), per_class, strict=True))
    return {name: sum(weight * (row[name] or 0.0) for weight, row in pairs) / total for name in names}


def _checked(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    targets, scores = np.asarray(targets).astype(np.int64), np.asarray(scores, dtype=np.float64)
    if targets.shape != scores.shape:
        raise ValueError(f"targets and scores must be equally long, got {targets.shape} and {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores are NaN; the model has diverged")
    classes = np.unique(targets).tolist()
    if classes != [0, 1]:
        raise ValueError(f"a ranking needs targets of both classes, 0 and 1; found {classes}")
    return targets, scores


def _cumulative_counts(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and false positives at each distinct score taken as threshold, from the highest down."""
    targets, scores = _checked(targets, scores)
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_tie = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    tp = np.cumsum(targets[order])[last_of_tie].astype(np.float64)
    return tp, last_of_tie + 1 - tp, ranked[last_of_tie]
