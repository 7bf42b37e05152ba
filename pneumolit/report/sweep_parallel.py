"""Every run of a sweep as a line, from its choices to its score."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve

from pneumolit.report.canvas import LETTER, LINE, SMALL, blank_figure, save, wrapped_text
from pneumolit.report.sweep import REPEATS, SweepRow, rank_rows, text_of, varied_keys
from pneumolit.report.sweep_scale import (
    NO_SCORE,
    WORSE,
    Scale,
    ScoreScale,
    scale_of,
    score_name,
    score_scale,
    short_names,
    spread_ticks,
)

MOST_AXES = 9  # beside that of the score


def parallel_keys(rows: Sequence[SweepRow]) -> list[str]:
    """The axes of `draw_parallel` before that of the score: what varies, seeds and folds aside."""
    return [key for key in varied_keys(rows) if key not in REPEATS][:MOST_AXES]


def draw_parallel(rows: Sequence[SweepRow], monitor: str, path: Path) -> Path:
    """Draw one axis per hyperparameter and one for the score; every run is a line, dark where it is good.

    Args:
        rows: at least one with a score, and something that varies.
        monitor: the metric of the scores; the best is on top, also where it is the smallest.
        path: the PNG to write.
    """
    keys, scores = parallel_keys(rows), score_scale(rows, monitor)
    inches = min(max(1.75 * (len(keys) + 1), 7.5), 13.0)
    room = (inches - 1.6) / len(keys)  # inches between two axes
    ranked = [row for rank, row in rank_rows(rows, monitor) if rank is not None]
    lost = [row for row in rows if not row.is_scored]
    scales = {key: scale_of(rows, key) for key in keys}
    height = min(max(4.8, 0.2 * max(len(scale.ticks) for scale in scales.values())), 9.0)
    figure = blank_figure(inches, height)
    axes = figure.add_subplot()
    axes.set_axis_off()
    heights = {key: _heights(scales[key], key, [*lost, *ranked[::-1]]) for key in keys}
    names = short_names(varied_keys(rows), parts=2)
    for column, key in enumerate(keys):
        axes.plot([column, column], [0, 1], color="#999999", linewidth=1, zorder=0.5)
        letters = max(int(0.8 * room / LETTER), 4) if column else 32
        texts = [(place, wrapped_text(label, letters)) for place, label in scales[key].ticks]
        lines = max(text.count("\n") + 1 for _, text in texts)
        for place, text in spread_ticks(texts, 1.1 * lines * LINE / (0.75 * height)):
            _label(axes, column, place, text, to="left")
        _heading(axes, column, names[key], room)
    _score_axis(axes, len(keys), scores, monitor, room, has_lost=bool(lost))
    for row in lost:
        points = [*(heights[key][row.name] for key in keys), NO_SCORE]
        axes.add_patch(_line(points, "#9a9a9a", width=0.8, dash=(0, (4, 3)), layer=1.0))
    thin = 1.5 if len(rows) <= 40 else 0.9
    for position, row in enumerate(reversed(ranked)):  # the best last, on top of the others
        place = scores.place(row.score or 0.0)
        points = [*(heights[key][row.name] for key in keys), place]
        is_best = position == len(ranked) - 1
        axes.add_patch(
            _line(points, _colour(place), width=3.0 if is_best else thin, layer=1.5 + position / len(ranked))
        )
    axes.set_xlim(-0.03, len(keys) + 0.03)
    axes.set_ylim((NO_SCORE if lost else WORSE if scores.num_worse else 0.0) - 0.04, 1.04)
    return save(figure, path)


def _heights(scale: Scale, key: str, rows: Sequence[SweepRow]) -> dict[str, float]:
    """Run -> place on an axis; runs of one value are fanned out in the given order, so that each can be followed."""
    places = [scale.places[text_of(row, key)] for row in rows]
    if not scale.has_levels:
        return {row.name: place for row, place in zip(rows, places, strict=True)}
    levels = sorted(set(places))
    half = 0.3 * min([0.12, *(b - a for a, b in pairwise(levels))])
    heights: dict[str, float] = {}
    for level in levels:
        own = [row.name for row, place in zip(rows, places, strict=True) if place == level]
        fan = np.linspace(-half, half, len(own)) if len(own) > 1 else np.zeros(1)
        heights |= {name: level + float(shift) for name, shift in zip(own, fan, strict=True)}
    return heights


def _line(
    heights: Sequence[float], colour: str | tuple[float, ...], *, width: float, layer: float, dash: object = "-"
) -> PathPatch:
    """A smooth line through one point per axis, level where it crosses an axis."""
    points, codes = [(0.0, heights[0])], [Curve.MOVETO]
    for x, (here, there) in enumerate(pairwise(heights)):
        points += [(x + 0.4, here), (x + 0.6, there), (x + 1.0, there)]
        codes += [Curve.CURVE4] * 3
    curve = Curve(points, codes)
    return PathPatch(
        curve, facecolor="none", edgecolor=colour, linewidth=width, linestyle=dash, zorder=layer, alpha=0.9
    )


def _score_axis(axes: Axes, x: int, scores: ScoreScale, monitor: str, room: float, *, has_lost: bool) -> None:
    if scores.best == scores.worst:
        axes.plot([x, x], [0, 1], color="#999999", linewidth=1)
    else:
        strip = np.linspace(0, 1, 64)
        for low, high in pairwise(strip):
            axes.plot([x, x], [low, high], color=_colour((low + high) / 2), linewidth=6, solid_capstyle="butt")
    for place, label in spread_ticks(scores.ticks, 0.06):
        _label(axes, x, place, label, to="right")
    if scores.num_worse:
        _label(axes, x, WORSE, f"worse ({scores.num_worse})", to="right")
    if has_lost:
        _label(axes, x, NO_SCORE, "no score", to="right")
    _heading(axes, x, score_name(monitor), room)


def _heading(axes: Axes, x: int, name: str, room: float) -> None:
    text = wrapped_text(name, max(int(0.95 * room / (1.1 * LETTER)), 4), 3)
    axes.annotate(
        text, (x, 1.04), xytext=(0, 6), textcoords="offset points", ha="center", va="bottom", fontsize=SMALL,
        fontweight="bold",
    )  # fmt: skip


def _label(axes: Axes, x: float, y: float, text: str, *, to: str) -> None:
    axes.annotate(
        text, (x, y), xytext=(-7 if to == "left" else 7, 0), textcoords="offset points", va="center",
        ha="right" if to == "left" else "left", fontsize=SMALL, linespacing=1.05, zorder=4,
        bbox={"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
    )  # fmt: skip


def _colour(place: float) -> tuple[float, ...]:
    # viridis without its pale end: grows evenly darker also in grey and for every kind of colour blindness.
    found: tuple[float, ...] = colormaps["viridis"](0.92 * (1 - min(max(place, 0.0), 1.0)))
    return found
