"""One number for several runs of one configuration: the mean over seeds, and both reasons why it could be another.

Other patients would have given another number, and so would other seeds. All runs judge the same images, so that what
makes an image hard for all of them stays however many seeds there are. The part of the patients also holds what single
runs make of single images, which averages out over seeds and is in the part of the seeds too: both together are
conservative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t

from pneumolit.evaluation.clustered import (
    NO_VARIANCE,
    Interval,
    auroc_components,
    auroc_interval,
    mean_recall_interval,
    patient_rows,
    proportion_interval,
)
from pneumolit.evaluation.intervals import patient_weights, ranking_of_resamples

METRICS = ("auroc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")
_SEES = dict.fromkeys(METRICS, (True, True)) | {"sensitivity": (True, False), "specificity": (False, True)}


def mean_over_runs(
    positives: np.ndarray,
    scores: np.ndarray,
    preds: np.ndarray,
    patient_ids: np.ndarray,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, dict[str, Any]]:
    """Mean over runs of every metric, with an interval over patients and seeds.

    Patients are resampled within class, the same ones for all runs, which gives the first part of the variance; the
    second is that between the runs over their number. The interval is taken on the logit scale, by Student's t with the
    degrees of freedom of all parts together, ill patients, healthy ones and seeds: three seeds, or a class of a few
    patients, are too few to read tails from resamples of them.

    Args:
        positives: `(N,)` 0/1, 1 is pneumonia. Both must occur.
        scores: `(N, S)` float, a column per run.
        preds: `(N, S)` 0/1, decisions.
        patient_ids: `(N,)` who was imaged.
        num_resamples: of the patients.
        seed: of the resamples.
        level: coverage.

    Returns:
        For each of `METRICS`: `mean`, `sd_seeds` (between single runs; None for one run), `se_patients`, `se_seeds`
        (of the mean, on the metric's own scale), `interval` [low, high]: where the metric looks at a class with a
        single patient, whose resamples tell nothing of others, from the lowest to the highest limit of the single runs;
        None with a single patient in all, and of AUROC with one in a class.

    Raises:
        ValueError: the shapes do not fit, or a class is missing.

    Source:
        Satterthwaite, Biometrics Bulletin 2, 1946 (degrees of freedom of a sum of variances); Bouthillier et al.,
        MLSys 2021 (why seeds belong to the variance).
    """
    positives, patient_ids = np.asarray(positives).astype(np.int64), np.asarray(patient_ids).astype(str)
    scores, preds = np.asarray(scores, dtype=np.float64), np.asarray(preds)
    if scores.ndim != 2 or scores.shape != preds.shape or len(scores) != len(positives):
        raise ValueError(f"scores and preds must be (N, S) for N = {len(positives)}, got {scores.shape}, {preds.shape}")
    hits = (preds == positives[:, None]).astype(np.float64)
    if not 0 < positives.sum() < len(positives):
        raise ValueError("a mean over runs needs images of both classes")
    rows, num_patients = patient_rows(patient_ids)
    ones = np.ones((1, num_patients))
    known = {name: values[0] for name, values in _metrics(positives, scores, hits, rows, ones).items()}  # (S,)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in METRICS}
    for weights in patient_weights(positives, rows, num_resamples, seed):
        for name, values in _metrics(positives, scores, hits, rows, weights).items():
            drawn[name].append(values.mean(axis=1))
    variances = {name: float(np.concatenate(values).var(ddof=1)) for name, values in drawn.items()}
    shares = _shares_of_classes(positives, scores, rows, variances)
    patients = [len(np.unique(rows[positives == value])) for value in (1, 0)]
    found = {}
    for name in METRICS:
        sd = float(known[name].std(ddof=1)) if scores.shape[1] > 1 else None
        # Resamples of k patients vary by (k - 1) / k of what k other patients would.
        parts = [
            (share * variances[name] * count / max(count - 1, 1), max(count - 1, 1))
            for share, count in zip(shares[name], patients, strict=True)
        ]
        mean, se_patients = float(known[name].mean()), sum(part for part, _ in parts) ** 0.5
        se_seeds = 0.0 if sd is None else sd / scores.shape[1] ** 0.5
        parts.append((se_seeds**2, max(scores.shape[1] - 1, 1)))
        has_others = min(count for count, is_seen in zip(patients, _SEES[name], strict=True) if is_seen) > 1
        interval = _interval(mean, parts, level) if has_others else None
        if interval is None and num_patients > 1:  # or every run decides every image alike, rightly or wrongly
            interval = _widest(name, positives, scores, hits, patient_ids, level)
        found[name] = {
            "mean": mean,
            "sd_seeds": sd,
            "se_patients": se_patients,
            "se_seeds": se_seeds,
            "interval": interval,
        }
    return found


def _metrics(
    positives: np.ndarray, scores: np.ndarray, hits: np.ndarray, rows: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Every metric of every resample `(R, P)` and run: `(R, S)` each."""
    by_image = weights[:, rows]
    of_class = [by_image * (positives == value) for value in (1, 0)]
    right = [part @ hits for part in of_class]
    counts = [part.sum(axis=1, keepdims=True) for part in of_class]
    sensitivity, specificity = (hit / count for hit, count in zip(right, counts, strict=True))
    aurocs = [ranking_of_resamples(positives, column, by_image)[0] for column in scores.T]
    return {
        "auroc": np.stack(aurocs, axis=1),
        "accuracy": (right[0] + right[1]) / (counts[0] + counts[1]),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
    }


def _shares_of_classes(
    positives: np.ndarray, scores: np.ndarray, rows: np.ndarray, variances: dict[str, float]
) -> dict[str, tuple[float, float]]:
    """What part of the variance over patients stems from ill ones, and from healthy ones: they are drawn apart."""
    is_pos = positives == 1
    weight, ill, healthy = float(is_pos.mean()), variances["sensitivity"], variances["specificity"]
    components = [auroc_components(is_pos, column) for column in scores.T]  # those of a mean are the means of them
    of_auroc = []
    for side, own in zip((is_pos, ~is_pos), zip(*components, strict=True), strict=True):
        shares = np.mean(own, axis=0)
        sums = np.bincount(rows[side], shares - shares.mean()) / len(shares)
        of_auroc.append(float(sums @ sums))
    parts = {
        "auroc": (of_auroc[0], of_auroc[1]),
        "accuracy": (weight**2 * ill, (1 - weight) ** 2 * healthy),
        "balanced_accuracy": (ill, healthy),
        "sensitivity": (1.0, 0.0),
        "specificity": (0.0, 1.0),
    }
    return {
        name: (one / (one + other), other / (one + other)) if one + other else (0.5, 0.5)
        for name, (one, other) in parts.items()
    }


def _interval(mean: float, parts: Sequence[tuple[float, int]], level: float) -> Interval | None:
    """On the logit scale; None where the mean has no logit or nothing varies.

    Args:
        mean: over runs.
        parts: of its variance, each with its degrees of freedom.
        level: coverage.
    """
    variance = sum(part for part, _ in parts)
    if not 0 < mean < 1 or variance <= NO_VARIANCE * mean * (1 - mean):
        return None
    freedom = variance**2 / sum(part**2 / count for part, count in parts)
    half = float(t.ppf((1 + level) / 2, freedom)) * variance**0.5 / (mean * (1 - mean))
    return [float(expit(logit(mean) - half)), float(expit(logit(mean) + half))]


def _widest(
    name: str, positives: np.ndarray, scores: np.ndarray, hits: np.ndarray, patient_ids: np.ndarray, level: float
) -> Interval | None:
    """From the lowest to the highest limit of the single runs; None where one has none."""
    found = [
        _formula(name, positives, own_scores, own_hits, patient_ids, level)
        for own_scores, own_hits in zip(scores.T, hits.T, strict=True)
    ]
    known = [limits for limits in found if limits is not None]
    return [min(low for low, _ in known), max(high for _, high in known)] if len(known) == len(found) else None


def _formula(
    name: str, positives: np.ndarray, scores: np.ndarray, hits: np.ndarray, patient_ids: np.ndarray, level: float
) -> Interval | None:
    """The interval of a single run, which shrinks to no point."""
    if name == "auroc":
        return auroc_interval(positives, scores, patient_ids, level)
    if name in ("accuracy", "balanced_accuracy"):
        weights = "images" if name == "accuracy" else "classes"
        return mean_recall_interval(hits, positives, patient_ids, weights=weights, level=level)
    side = positives == (1 if name == "sensitivity" else 0)
    return proportion_interval(hits[side], patient_ids[side], level)
