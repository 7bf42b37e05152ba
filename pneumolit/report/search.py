"""Pictures of a search: its history, what mattered, each setting against the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pneumolit.report.canvas import BLUE, GREY, ORANGE, blank_figure, plain_text, save, style
from pneumolit.report.sweep_scale import far_worse

COMPLETE, PRUNED = "complete", "pruned"
_COLUMNS = 3
_MARGIN = 0.08  # of the range of complete trials, above and below


@dataclass(frozen=True)
class TrialRow:
    """A trial for tables and pictures.

    Attributes:
        number: of the trial, from 0.
        state: complete, pruned, failed, cut off, running or waiting.
        value: of the monitor: of a pruned trial at its last epoch; None where there is none.
        point: what varied, by key.
        reason: of a failure, or why it was pruned.
        seconds: of the attempt that ended.
        epochs: trained.
        run: its folder, by name.
    """

    number: int
    state: str
    value: float | None = None
    point: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    seconds: float | None = None
    epochs: int | None = None
    run: str = ""


def draw_history(rows: Sequence[TrialRow], path: Path, *, monitor: str, mode: str) -> Path:
    """Draw the value of every trial and the best so far.

    Args:
        rows: trials in any order; at least one is complete.
        path: the PNG to write.
        monitor: what is on the upright axis.
        mode: "min" or "max".
    """
    complete, pruned = _with_values(rows, COMPLETE), _with_values(rows, PRUNED)
    figure = blank_figure(9.6, 3.6)
    axes = figure.subplots()
    low, high = _limits(complete, mode)
    for group, look in _looks(complete, pruned, (low, high)):
        axes.plot(_numbers(group), np.clip(_values(group), low, high), ms=6, **look)
    best = (np.minimum if mode == "min" else np.maximum).accumulate(_values(complete))
    last = max(row.number for row in [*complete, *pruned])
    axes.step(
        [*_numbers(complete), last], [*best, best[-1]], where="post", color=ORANGE, linewidth=2, label="best so far"
    )
    style(axes, "", "trial", monitor)
    axes.set_ylim(low - 0.02 * (high - low), high + 0.02 * (high - low))
    axes.set_xlim(-0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.legend(fontsize=10, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return save(figure, path)


def draw_importance(importance: Mapping[str, float], path: Path) -> Path:
    """Draw which settings the result depended on, the most important one at the top.

    Args:
        importance: share of the variance by key.
        path: the PNG to write.
    """
    names = sorted(importance, key=lambda name: importance[name])
    figure = blank_figure(9.6, 1.0 + 0.42 * len(names))
    axes = figure.subplots()
    bars = axes.barh([plain_text(name, 40) for name in names], [importance[name] for name in names], color=BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=10)
    style(axes, "", "share of the variance between complete trials", "")
    axes.set_xlim(0, max([*importance.values(), 0.1]) * 1.12)
    axes.grid(visible=False, axis="y")
    return save(figure, path)


def draw_slices(rows: Sequence[TrialRow], path: Path, *, monitor: str, mode: str, scales: Mapping[str, str]) -> Path:
    """Draw each setting against the value, one panel per setting.

    Args:
        rows: trials in any order; at least one is complete.
        path: the PNG to write.
        monitor: what is on the upright axis.
        mode: "min" or "max".
        scales: "linear" or "log" for settings that are numbers between two bounds; others are one of several.
    """
    complete, pruned = _with_values(rows, COMPLETE), _with_values(rows, PRUNED)
    names = list(dict.fromkeys(name for row in complete for name in row.point))
    best = (min if mode == "min" else max)(complete, key=lambda row: (row.value, row.number))
    columns = min(_COLUMNS, len(names))
    height = math.ceil(len(names) / columns)
    figure = blank_figure(3.6 * columns, 3.0 * height)
    low, high = _limits(complete, mode)
    grid = figure.subplots(height, columns, squeeze=False, sharey=True).ravel()
    for position, (axes, name) in enumerate(zip(grid, names, strict=False)):
        shown = [row.point[name] for row in [*complete, *pruned] if name in row.point]
        place = _scale(axes, shown, scales.get(name))
        for group, look in _looks(complete, pruned, (low, high)):
            known = [row for row in group if name in row.point]
            places = [place(row.point[name]) for row in known]
            axes.plot(places, np.clip(_values(known), low, high), ms=5, **look)
        axes.plot(place(best.point[name]), best.value, "*", color=ORANGE, ms=14, mec="black", mew=0.6)
        style(axes, "", plain_text(name, 30), monitor if position % columns == 0 else "")
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.set_ylim(low - 0.02 * (high - low), high + 0.02 * (high - low))
    for unused in grid[len(names) :]:
        unused.remove()
    return save(figure, path)


def _scale(axes: Axes, values: Sequence[Any], scale: str | None) -> Callable[[Any], float]:
    """Where a value stands on the level axis: a number where it is, one of several side by side with the others."""
    if scale is not None:
        axes.set_xscale(scale)
        return float
    try:
        labels = sorted(set(values))
    except TypeError:  # of several kinds, or lists
        labels = list({str(value): value for value in values}.values())
    texts = [str(label) for label in labels]
    axes.set_xticks(range(len(texts)), ["null" if t == "None" else plain_text(t, 14) for t in texts])
    axes.set_xlim(-0.6, len(texts) - 0.4)
    return lambda value: float(texts.index(str(value)))


def _with_values(rows: Sequence[TrialRow], state: str) -> list[TrialRow]:
    """Trials of a state that have a finite value, by number."""
    found = [row for row in rows if row.state == state and row.value is not None and math.isfinite(row.value)]
    return sorted(found, key=lambda row: row.number)


def _numbers(rows: Sequence[TrialRow]) -> list[int]:
    return [row.number for row in rows]


def _values(rows: Sequence[TrialRow]) -> list[float]:
    return [float(row.value) for row in rows if row.value is not None]


def _looks(
    complete: Sequence[TrialRow], pruned: Sequence[TrialRow], limits: tuple[float, float]
) -> list[tuple[list[TrialRow], dict[str, Any]]]:
    """Trials that are drawn alike, and how; groups without trials are left out.

    What lies beyond the limits is drawn at the border and hollow, or one bad trial would make all others one line.
    """
    is_near = [limits[0] <= value <= limits[1] for value in _values(complete)]
    near = [row for row, near in zip(complete, is_near, strict=True) if near]
    far = [row for row, near in zip(complete, is_near, strict=True) if not near]
    hollow = {"linestyle": "none", "mfc": "none"}
    groups: list[tuple[list[TrialRow], dict[str, Any]]] = [
        (list(pruned), {**hollow, "marker": "v", "mec": GREY, "label": "pruned, at its last epoch"}),
        (far, {**hollow, "marker": "o", "mec": BLUE, "label": "complete, far worse: at the border"}),
        (near, {"linestyle": "none", "marker": "o", "color": BLUE, "label": "complete"}),
    ]
    return [(group, look) for group, look in groups if group]


def _limits(complete: Sequence[TrialRow], mode: str) -> tuple[float, float]:
    """The range of the complete trials and a little more, without those that are far worse than the others."""
    sign = 1.0 if mode == "max" else -1.0
    goodness = sign * np.array(_values(complete))
    kept = sign * goodness[goodness >= far_worse(goodness)]
    low, high = float(kept.min()), float(kept.max())
    margin = _MARGIN * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin
