"""Methods become what pictures are drawn from: curves with bands, costs, agreement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pneumolit.comparison.rows import RowGroup
from pneumolit.evaluation.curve_bands import precision_recall_band, roc_band
from pneumolit.evaluation.metrics import precision_recall_curve, roc_curve
from pneumolit.report.comparison import MethodRow
from pneumolit.report.comparison_curves import MOST_PANELS, ROC, Curve
from pneumolit.report.comparison_figures import Cost
from pneumolit.report.tables import with_interval

_GRID = 201  # places of a band
_LEAST_RECALL = 0.005  # below it precision is that of a handful of images


def curves_of(group: RowGroup, rows: Sequence[MethodRow], kind: str, *, seed: int = 0) -> list[Curve]:
    """Curves of the first methods of a group, the reference among them.

    Args:
        group: with scores.
        rows: of its methods, in the same order.
        kind: `ROC` or `PRECISION_RECALL`.
        seed: of the resamples of the bands.
    """
    places = drawn_places(rows, MOST_PANELS)
    curves = []
    for place in places:
        row, scores = rows[place], group.scores[:, place]
        key = "auroc" if kind == ROC else "average_precision"
        value = with_interval(row.numbers.get(key), row.intervals.get(key)).replace("0.", ".")
        if kind == ROC:
            x, y, _ = roc_curve(group.positives, scores)
            grid = _corner_grid()
            band = roc_band(group.positives, scores, group.patient_ids, grid, seed=seed)
        else:
            y, x, _ = precision_recall_curve(group.positives, scores)
            grid = np.sort(np.clip(1 - _corner_grid(), _LEAST_RECALL, 1.0))
            band = precision_recall_band(group.positives, scores, group.patient_ids, grid, seed=seed)
        curves.append(Curve(row.title, value, x, y, grid, band, row.is_reference))
    return curves


def drawn_places(rows: Sequence[MethodRow], most: int) -> list[int]:
    """The first methods, and the reference in the last place of them if it comes later."""
    places = list(range(min(most, len(rows))))
    reference = next((i for i, row in enumerate(rows) if row.is_reference), None)
    if reference is not None and reference not in places:
        places[-1] = reference
    return places


def costs_of(rows: Sequence[MethodRow], key: str) -> list[Cost]:
    """Accuracy, and what it took, of every method of which that is known.

    Args:
        rows: of the methods.
        key: of its facts: "seconds" or "parameters".
    """
    costs = []
    for row in rows:
        interval, amount = row.intervals.get("accuracy"), row.facts.get(key)
        if amount:
            ends = (interval[0], interval[1]) if interval else None
            costs.append(Cost(row.number, row.numbers["accuracy"], ends, float(amount), row.is_reference))
    return costs


def _corner_grid() -> np.ndarray:
    """From 0 to 1, closer together near 0, where curves turn."""
    return np.linspace(0, 1, _GRID) ** 2
