"""How sure a number is: over patients, within class; by formula where a good one is known, else by bootstrap.

The images of one patient resemble each other, so whole patients are drawn; the number of patients of each
class is fixed by whoever collected the data, so each class is drawn by itself. A resample is a row of
whole-number weights, which turns all of them into a few matrix operations instead of thousands of re-computed
metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pneumolit.evaluation.clustered import auroc_interval, mean_recall_interval, patient_rows, proportion_interval
from pneumolit.evaluation.prevalence import predictive_interval

NUM_RESAMPLES = 10_000
METHODS = {
    "auroc": "logit scale, variance over patients (Obuchowski 1997), Student's t",
    "sensitivity, specificity": "Wilson with the design effect of patients, Student's t where that is estimated",
    "accuracy, balanced accuracy": "weighted sum of the intervals of both recalls (square and add)",
    "PPV, NPV": "ratio of the intervals of both recalls, at the class mix of the set",
    "average precision, F1": "percentiles of a bootstrap of patients within class",
}
_CHUNK = 250  # resamples drawn at a time, where there are not too many patients
_DRAWS = 250 * 1024  # resamples x patients drawn at a time; another number would give other draws of the same seed
_CELLS = 250 * 624  # resamples x images that are ranked at a time: so many float64 stay within a second-level cache
Interval = list[float]


def patient_intervals(
    positives: np.ndarray,
    scores: np.ndarray,
    preds_by_rule: Mapping[str, np.ndarray],
    patient_ids: np.ndarray,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """Intervals over patients of the ranking and of every decision rule, each by the method that `METHODS` names.

    Percentiles of a bootstrap shrink to a point where every image is right; the formulas for recalls and AUROC do not.

    Returns:
        As `bootstrap_intervals`, and `methods`.

    Raises:
        ValueError: as `bootstrap_intervals`.
    """
    found = bootstrap_intervals(
        positives, scores, preds_by_rule, patient_ids, num_resamples=num_resamples, seed=seed, level=level
    )
    auroc, rules = formula_intervals(positives, scores, preds_by_rule, patient_ids, level)
    found["ranking"]["auroc"] = auroc
    for rule, rates in rules.items():
        found["rules"][rule] |= rates
    return found | {"methods": METHODS}


def formula_intervals(
    positives: np.ndarray,
    scores: np.ndarray,
    preds_by_rule: Mapping[str, np.ndarray],
    patient_ids: np.ndarray,
    level: float = 0.95,
) -> tuple[Interval | None, dict[str, dict[str, Interval | None]]]:
    """Intervals over patients of what a formula is known for.

    Args:
        positives: `(N,)` 0/1, N >= 1.
        scores: `(N,)` float, higher speaks for pneumonia.
        preds_by_rule: rule name -> `(N,)` 0/1, 1 is called pneumonia.
        patient_ids: `(N,)` who was imaged.
        level: coverage.

    Returns:
        That of the AUROC; per rule those of sensitivity, specificity and accuracy, and with both classes of
        balanced_accuracy, ppv and npv. None where the number is undefined.
    """
    positives, patient_ids = np.asarray(positives).astype(np.int64), np.asarray(patient_ids).astype(str)
    is_pos = positives == 1
    has_both = 0 < is_pos.sum() < len(is_pos)
    rules = {}
    for rule, preds in preds_by_rule.items():
        hits = np.asarray(preds) == positives
        by_formula = {
            "sensitivity": proportion_interval(hits[is_pos], patient_ids[is_pos], level),
            "specificity": proportion_interval(hits[~is_pos], patient_ids[~is_pos], level),
            "accuracy": mean_recall_interval(hits, positives, patient_ids, weights="images", level=level),
        }
        if has_both:
            by_formula["balanced_accuracy"] = mean_recall_interval(
                hits, positives, patient_ids, weights="classes", level=level
            )
            rates, odds = (float(hits[is_pos].mean()), float(hits[~is_pos].mean())), is_pos.sum() / (~is_pos).sum()
            limits = (by_formula["sensitivity"], by_formula["specificity"])
            by_formula["ppv"] = predictive_interval(rates[0], rates[1], limits, 1 / odds)
            by_formula["npv"] = predictive_interval(rates[1], rates[0], limits[::-1], odds)
        rules[rule] = by_formula
    return auroc_interval(positives, scores, patient_ids, level) if has_both else None, rules


def bootstrap_intervals(
    positives: np.ndarray,
    scores: np.ndarray,
    preds_by_rule: Mapping[str, np.ndarray],
    patient_ids: np.ndarray,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """Percentile intervals over patients of the ranking and of every decision rule.

    A patient with images of both classes forms a stratum of its own kind and stays whole.

    Args:
        positives: `(N,)` 0/1, 1 is pneumonia.
        scores: `(N,)` float, higher speaks for pneumonia.
        preds_by_rule: rule name -> `(N,)` 0/1, 1 is called pneumonia.
        patient_ids: `(N,)` who was imaged.
        num_resamples: >= 1.
        seed: same seed, same intervals.
        level: coverage, strictly between 0 and 1.

    Returns:
        `level`, `num_resamples`, `num_patients`; `ranking`: auroc and average_precision; `rules`: per rule
        accuracy, balanced_accuracy, sensitivity, specificity, ppv, npv, f1, macro_f1. Each interval is [low, high], or
        None where the metric is undefined for want of a class, or in some resample for want of a call, or where all
        resamples agree.

    Raises:
        ValueError: lengths differ, there is no row, or level or num_resamples are out of range.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13 (percentile); Field and Welsh,
        JRSS B 69, 2007 (whole clusters).
    """
    positives = np.asarray(positives).astype(np.int64)
    _check(len(positives), num_resamples, level, scores=scores, patient_ids=patient_ids, **preds_by_rule)
    rows, num_patients = patient_rows(patient_ids)
    has_both = 0 < positives.sum() < len(positives)
    # Once for all: to sort what is sorted again, piece by piece, costs little.
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    ranked = (positives[order], np.asarray(scores)[order])
    piece = max(1, _CELLS // len(positives))
    tallies = _tallies_by_patient(positives, list(preds_by_rule.values()), rows, num_patients)
    ranking, counts = [], []
    for weights in patient_weights(positives, rows, num_resamples, seed):
        counts.append(weights @ tallies)
        if has_both:
            pieces = (weights[i : i + piece] for i in range(0, len(weights), piece))
            ranking += [ranking_of_resamples(*ranked, part[:, rows[order]]) for part in pieces]
    rates = _rates(np.concatenate(counts), list(preds_by_rule))
    auroc, average_precision = np.concatenate(ranking, axis=1) if has_both else (None, None)
    return {
        "level": level,
        "num_resamples": num_resamples,
        "num_patients": num_patients,
        "ranking": {
            "auroc": _percentiles(auroc, level),
            "average_precision": _percentiles(average_precision, level),
        },
        "rules": {
            rule: {name: _percentiles(values, level) for name, values in named.items()} for rule, named in rates.items()
        },
    }


def patient_weights(targets: np.ndarray, rows: np.ndarray, num_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draw patients with replacement, each class by itself.

    Args:
        targets: `(N,)` int class of each image.
        rows: `(N,)` int index of each image's patient, 0..P-1, all of them occurring.
        num_resamples: how many resamples in all.
        seed: of the draws.

    Yields:
        `(R, P)` float64 whole numbers, how often each patient was drawn; R resamples at a time.
    """
    num_patients = int(rows.max()) + 1
    shown = np.zeros((num_patients, int(targets.max()) + 1), dtype=bool)
    shown[rows, targets] = True  # (P, K): the classes a patient's images show
    _, stratum = np.unique(shown, axis=0, return_inverse=True)
    strata = [np.flatnonzero(stratum.ravel() == s) for s in range(int(stratum.max()) + 1)]
    rng = np.random.default_rng(seed)
    chunk = max(1, min(_CHUNK, _DRAWS // num_patients))
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        weights = np.empty((size, num_patients))
        for members in strata:
            count = len(members)
            drawn = rng.integers(0, count, size=(size, count)) + np.arange(size)[:, None] * count
            weights[:, members] = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        yield weights


def ranking_of_resamples(positives: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC and average precision of every resample, ties handled as in `metrics`.

    Args:
        positives: `(N,)` 0/1.
        scores: `(N,)` float.
        weights: `(R, N)` whole numbers, how often each image counts; every row gives both classes some
        weight.

    Returns:
        `(2, R)` float64: AUROC, average precision.
    """
    scores = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    first_of_tie = np.append(0, np.flatnonzero(ranked[1:] != ranked[:-1]) + 1)
    ordered = weights[:, order].astype(np.float64, copy=False)
    pos = ordered * np.asarray(positives)[order]
    neg = ordered - pos
    if len(first_of_tie) < len(scores):
        pos, neg = np.add.reduceat(pos, first_of_tie, axis=1), np.add.reduceat(neg, first_of_tie, axis=1)
    tp, fp = np.cumsum(pos, axis=1), np.cumsum(neg, axis=1)
    num_pos, num_neg = tp[:, -1], fp[:, -1]
    auroc = np.einsum("rt,rt->r", neg, tp - pos / 2) / (num_pos * num_neg)
    precision = tp / np.maximum(tp + fp, 1.0)  # before the first drawn image 0 / 1 instead of 0 / 0
    return np.stack([auroc, np.einsum("rt,rt->r", pos, precision) / num_pos])


def _tallies_by_patient(
    positives: np.ndarray, preds: list[np.ndarray], rows: np.ndarray, num_patients: int
) -> np.ndarray:
    """`(P, 2 + 2 rules)`: a patient's positive and negative images, then per rule those decided rightly."""
    is_pos = positives == 1
    columns = [is_pos, ~is_pos]
    for pred in preds:
        called = np.asarray(pred).astype(bool)
        columns += [is_pos & called, ~is_pos & ~called]
    return np.column_stack([np.bincount(rows, column.astype(np.float64), num_patients) for column in columns])


def _rates(counts: np.ndarray, rules: list[str]) -> dict[str, dict[str, np.ndarray | None]]:
    num_pos, num_neg = counts[:, 0], counts[:, 1]
    rates: dict[str, dict[str, np.ndarray | None]] = {}
    for position, rule in enumerate(rules):
        tp, tn = counts[:, 2 + 2 * position], counts[:, 3 + 2 * position]
        known = [hit / of for hit, of in ((tp, num_pos), (tn, num_neg)) if of.all()]
        rates[rule] = {
            "accuracy": (tp + tn) / (num_pos + num_neg),
            "balanced_accuracy": (known[0] + known[1]) / 2 if len(known) == 2 else None,
            "sensitivity": tp / num_pos if num_pos.all() else None,
            "specificity": tn / num_neg if num_neg.all() else None,
            **_after_the_call(tp, tn, num_pos, num_neg),
        }
    return rates


def _after_the_call(
    tp: np.ndarray, tn: np.ndarray, num_pos: np.ndarray, num_neg: np.ndarray
) -> dict[str, np.ndarray | None]:
    called, passed, wrong = tp + num_neg - tn, tn + num_pos - tp, num_pos - tp + num_neg - tn
    of_both = [2 * hit + wrong for hit in (tp, tn)]
    f1, f1_negative = (2 * hit / of if of.all() else None for hit, of in zip((tp, tn), of_both, strict=True))
    return {
        "ppv": tp / called if called.all() else None,
        "npv": tn / passed if passed.all() else None,
        "f1": f1,
        "macro_f1": None if f1 is None or f1_negative is None else (f1 + f1_negative) / 2,
    }


def _percentiles(values: np.ndarray | None, level: float) -> Interval | None:
    if values is None:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    if low == high:  # such as 1 where every image is right: no resample can tell a width
        return None
    return [float(low), float(high)]


def _check(count: int, num_resamples: int, level: float, **columns: np.ndarray) -> None:
    if not count:
        raise ValueError("intervals need at least one image, found none")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}; 10000 is usual")
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}; 0.95 is usual")
    for name, values in columns.items():
        if len(values) != count:
            raise ValueError(f"{name} has {len(values)} rows, the targets have {count}")
