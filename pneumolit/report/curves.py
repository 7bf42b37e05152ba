"""Training curves from the rows of metrics.csv."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from pneumolit.report.canvas import CYCLE, MARKERS, blank_figure, save, style

_FIRST = ("loss", "auroc")  # then the others as they come, the learning rate last
_LABEL_WIDTH = 0.12  # of "stage 2" as a share of the panel's width
_UNITS = {"loss": "loss (nats)", "auroc": "AUROC", "lr": "learning rate"}


def draw_training_curves(rows: Sequence[dict[str, float]], path: Path) -> Path:
    """Draw one panel per metric, one line per split.

    Args:
        rows: one per epoch with `epoch` and columns such as `train/loss`, `val/auroc`, `lr`; what stands
            before the slash names the line, what stands behind it the panel. Values that are missing or not
            finite leave a gap, columns without a slash other than `lr` are left out.
        path: the PNG to write.

    Raises:
        ValueError: there is no row with anything to draw.
    """
    panels = _panels(rows)
    if not panels:
        raise ValueError("metrics.csv has no column such as train/loss to draw; did the run finish an epoch?")
    columns = min(2, len(panels))
    height = math.ceil(len(panels) / columns)
    figure = blank_figure(5.2 * columns, 3.3 * height)
    figure.set_layout_engine("constrained", w_pad=0.09, h_pad=0.07)
    grid = figure.subplots(height, columns, squeeze=False).ravel()
    for axes, (metric, names) in zip(grid, panels.items(), strict=False):
        for position, name in enumerate(names):
            points = [(row["epoch"], row[name]) for row in rows if _is_number(row.get(name))]
            axes.plot(
                *zip(*points, strict=True),
                color=CYCLE[position % len(CYCLE)],
                marker=MARKERS[position % len(MARKERS)],
                markersize=4,
                label=name.rpartition("/")[0] or name,
            )
        for start, label in _stage_marks(rows):
            axes.axvline(start - 0.5, color="0.6", linestyle=":", linewidth=1)
            axes.annotate(
                label, (start - 0.5, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
                textcoords="offset points", fontsize=8, color="0.35", va="bottom", ha="center",
            )  # fmt: skip
        style(axes, "", "epoch", _UNITS.get(metric, metric.replace("_", " ")))
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(rows) == 1:  # else the one epoch would be magnified to fractions of an epoch
            axes.set_xlim(rows[0]["epoch"] - 1, rows[0]["epoch"] + 1)
        if metric == "lr":
            axes.yaxis.set_major_formatter("{x:.4g}")  # a common factor would stand where a stage's label does
            axes.update_datalim([(rows[0]["epoch"], 0)])
            axes.autoscale_view()
        else:
            axes.ticklabel_format(axis="y", useOffset=False)
        if len(names) > 1 or metric != "lr":
            axes.legend(fontsize=10, frameon=False)
    for unused in grid[len(panels) :]:
        unused.remove()
    return save(figure, path)


def _panels(rows: Sequence[dict[str, float]]) -> dict[str, list[str]]:
    """Panel name -> columns with at least one finite value, in the order of drawing."""
    panels: dict[str, list[str]] = {}
    for name in dict.fromkeys(column for row in rows for column in row):
        metric = "lr" if name.startswith("lr") else name.rpartition("/")[2] if "/" in name else ""
        if metric and any(_is_number(row.get(name)) for row in rows):
            panels.setdefault(metric, []).append(name)
    order = [*_FIRST, *(m for m in panels if m not in (*_FIRST, "lr")), "lr"]
    return {metric: panels[metric] for metric in order if metric in panels}


def _stage_starts(rows: Sequence[dict[str, float]]) -> list[tuple[float, int]]:
    """First epoch of every stage but the first."""
    pairs = itertools.pairwise(rows)
    return [(new["epoch"], int(new["stage"])) for old, new in pairs if old.get("stage") != new.get("stage")]


def _stage_marks(rows: Sequence[dict[str, float]]) -> list[tuple[float, str]]:
    """First epoch and label of every stage but the first; no label where that of a later stage leaves no room."""
    marks: list[tuple[float, str]] = []
    room = math.inf
    for start, stage in reversed(_stage_starts(rows)):
        is_clear = room - start >= _LABEL_WIDTH * (rows[-1]["epoch"] - rows[0]["epoch"])
        marks.insert(0, (start, f"stage {stage}" if is_clear else ""))
        room = start if is_clear else room
    return marks


def _is_number(value: float | None) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
