"""The same numbers for parts of a set: by cause, by series of films, by thirds of sharpness.

A mean can hide that one kind of film fails; these say which. Groups hold few images, and their intervals are wide.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pneumolit.evaluation.clustered import auroc_interval, proportion_interval
from pneumolit.evaluation.metrics import auroc

_THIRDS = ("blurred third", "middle third", "sharp third")


def subgroups(
    positives: np.ndarray,
    scores: np.ndarray,
    preds: np.ndarray,
    patient_ids: np.ndarray,
    *,
    causes: np.ndarray,
    series: np.ndarray,
    sharpness: np.ndarray,
    level: float = 0.95,
) -> list[dict[str, Any]]:
    """Sensitivity, specificity and AUROC of parts of a set.

    A cause occurs among positive images only, so its AUROC is against all negative ones; a series of negative
    ones likewise stands against all positive ones.

    Args:
        positives: `(N,)` 0/1, 1 is pneumonia.
        scores: `(N,)` float, higher speaks for pneumonia.
        preds: `(N,)` 0/1, the decision.
        patient_ids: `(N,)` who was imaged.
        causes: `(N,)` text, empty where unknown.
        series: `(N,)` text, empty where unknown.
        sharpness: `(N,)` float, NaN where unknown; thirds are of the known ones, and there are none where so many are
            equal that a third would be empty.
        level: of the intervals.

    Returns:
        One dict per group: kind, name, num_images, num_positives, num_patients, sensitivity, specificity, auroc, and
        `intervals` of the three; None where a class is missing from the group.
    """
    is_pos = np.asarray(positives) == 1
    causes, series = np.asarray(causes).astype(str), np.asarray(series).astype(str)
    groups: list[tuple[str, str, np.ndarray, np.ndarray]] = []  # kind, name, members, those that the ranking takes
    for cause in sorted(set(causes[is_pos]) - {""}):
        rows = is_pos & (causes == cause)
        groups.append(("cause", cause, rows, rows | ~is_pos))
    for name in sorted(set(series[~is_pos]) - {""}):
        rows = ~is_pos & (series == name)
        groups.append(("series", name, rows, rows | is_pos))
    known = np.isfinite(sharpness)
    if known.sum() >= len(_THIRDS):
        edges = np.quantile(sharpness[known], [1 / 3, 2 / 3])
        third = np.where(known, np.searchsorted(edges, sharpness, side="left"), -1)
        # Where many values are equal a third would be empty, or far from a third.
        if edges[0] < edges[1] and set(third[known].tolist()) == {0, 1, 2}:
            for place, name in enumerate(_THIRDS):
                groups.append(("sharpness", name, third == place, third == place))
    args = (is_pos, np.asarray(scores, dtype=np.float64), np.asarray(preds), np.asarray(patient_ids).astype(str), level)
    return [{"kind": k, "name": n, **_numbers(rows, ranked, *args)} for k, n, rows, ranked in groups if rows.any()]


def _numbers(
    rows: np.ndarray,
    ranked: np.ndarray,
    is_pos: np.ndarray,
    scores: np.ndarray,
    preds: np.ndarray,
    patient_ids: np.ndarray,
    level: float,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "num_images": int(rows.sum()),
        "num_positives": int((rows & is_pos).sum()),
        "num_patients": len(np.unique(patient_ids[rows])),
    }
    intervals = {}
    for name, side, right in (("sensitivity", rows & is_pos, 1), ("specificity", rows & ~is_pos, 0)):
        hits = (preds[side] == right).astype(np.float64)
        found[name] = float(hits.mean()) if len(hits) else None
        intervals[name] = proportion_interval(hits, patient_ids[side], level)
    both = is_pos[ranked], scores[ranked]
    has_both = 0 < both[0].sum() < len(both[0])
    found["auroc"] = auroc(*both) if has_both else None
    intervals["auroc"] = auroc_interval(*both, patient_ids[ranked], level) if has_both else None
    return found | {"intervals": intervals}
