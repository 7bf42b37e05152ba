"""Two pictures of a sweep: the effect of each hyperparameter, and the time of each run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pneumolit.report.canvas import (
    BLACK,
    BLUE,
    GREY,
    LETTER,
    LINE,
    ORANGE,
    RED,
    blank_figure,
    fits_line,
    plain_text,
    save,
    style,
    wrapped_text,
)
from pneumolit.report.sweep import REPEATS, SweepRow, rank_rows, text_of, varied_keys
from pneumolit.report.sweep_scale import (
    CATEGORY,
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

MOST_PANELS, MOST_BARS = 12, 40
_STATE_COLOURS = {"done": BLUE, "failed": RED, "interrupted": ORANGE, "pruned": GREY, "waiting": BLACK}


def draw_effects(rows: Sequence[SweepRow], monitor: str, path: Path) -> Path:
    """Draw one panel per hyperparameter: the runs of each value as dots, their mean as a bar.

    Runs that are far worse than all others stand below the axis and are not in the mean. The panel with the widest
    means comes first, seeds and folds last.

    Args:
        rows: at least one with a score, and something that varies.
        monitor: the metric of the scores; better is higher, also where it is smaller.
        path: the PNG to write.
    """
    scores, varied = score_scale(rows, monitor), varied_keys(rows)
    keys = sorted(varied, key=lambda key: (key in REPEATS, -_reach(rows, key, scores)))[:MOST_PANELS]
    columns = 2 if len(keys) == 4 else min(3, len(keys))
    height = math.ceil(len(keys) / columns)
    inches = {1: 7.0, 2: 4.6, 3: 3.4}[columns]
    figure = blank_figure(inches * columns + 0.6, 3.1 * height + 0.2)
    grid = figure.subplots(height, columns, squeeze=False, sharey=True)
    names = short_names(varied, parts=2)
    below = np.zeros(grid.size)  # inches of turned labels
    for position, (axes, key) in enumerate(zip(grid.ravel(), keys, strict=False)):
        _effect(axes, rows, scale_of(rows, key), key, scores)
        style(axes, wrapped_text(names[key], 30, 1), "", "")
        below[position] = _name_levels(axes, scale_of(rows, key).ticks, inches - 0.8)
    figure.set_figheight(3.1 * height + 0.2 + below.reshape(grid.shape).max(axis=1).sum())
    has_lost = any(not row.is_scored for row in rows)
    ticks = spread_ticks(scores.ticks, 0.1) + [(WORSE, "worse")] * bool(scores.num_worse)
    grid[0, 0].set_yticks(*zip(*(ticks + [(NO_SCORE, "no score")] * has_lost), strict=True))
    grid[0, 0].set_ylim((NO_SCORE if has_lost else WORSE if scores.num_worse else 0.0) - 0.06, 1.06)
    for row_of_axes in grid:
        row_of_axes[0].set_ylabel(score_name(monitor), fontsize=11)
    for unused in grid.ravel()[len(keys) :]:
        unused.remove()
    return save(figure, path)


def draw_times(rows: Sequence[SweepRow], monitor: str, path: Path) -> Path:
    """Draw the time of every run as a bar, or of more than 40 runs as a histogram.

    Args:
        rows: at least one with a time.
        monitor: the metric that gives the ranks.
        path: the PNG to write.
    """
    ranks = {row.name: rank for rank, row in rank_rows(rows, monitor)}
    timed = sorted((row for row in rows if row.seconds is not None), key=lambda row: (row.seconds or 0.0, row.name))
    seconds = np.array([row.seconds for row in timed], dtype=float)
    unit, name = (3600, "hours") if seconds.max() > 5400 else (60, "minutes") if seconds.max() > 90 else (1, "seconds")
    states = [state for state in _STATE_COLOURS if any(row.state == state for row in timed)]
    is_listed = len(timed) <= MOST_BARS
    figure = blank_figure(9.0, max(1.3 + 0.24 * len(timed), 2.2) if is_listed else 3.8)
    axes = figure.add_subplot()
    if is_listed:
        for state in states:
            own = [i for i, row in enumerate(timed) if row.state == state]
            axes.barh(own, seconds[own] / unit, height=0.7, color=_STATE_COLOURS[state], label=state)
        axes.set_yticks(range(len(timed)), [_run_label(row, ranks[row.name], varied_keys(rows)) for row in timed])
        axes.set_ylim(-0.7, len(timed) - 0.3)
        style(axes, "", name, "", grid=False)
        axes.grid(axis="x", color="#DDDDDD", linewidth=0.7)
    else:
        parts = [seconds[[row.state == state for row in timed]] / unit for state in states]
        edges = np.linspace(0, seconds.max() / unit or 1.0, 31).tolist()
        axes.hist(parts, edges, stacked=True, color=[_STATE_COLOURS[state] for state in states], label=states)
        style(axes, "", f"{name} per run", "runs")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if states != ["done"]:
        figure.legend(loc="outside right upper", fontsize=10, frameon=False)
    return save(figure, path)


def _effect(axes: Axes, rows: Sequence[SweepRow], scale: Scale, key: str, scores: ScoreScale) -> None:
    by_level = _by_level(rows, key)
    half = 0.28 * min([0.3, *(b - a for a, b in pairwise(sorted(scale.places.values())))])
    dots, crosses, means = [], [], []
    for text, level in scale.places.items():
        own = by_level[text]
        found = sorted(scores.place(row.score) for row in own if row.is_scored and row.score is not None)
        dots += list(zip(_fan(level, half, len(found)), found, strict=True))
        crosses += [(x, NO_SCORE) for x in _fan(level, half, len(own) - len(found))]
        mean = _mean(own, scores)
        if mean is not None and scale.has_levels:
            means.append((level, scores.place(mean)))
            reach = 1.1 * half * (len(found) > 1)  # one run is its own mean
            axes.plot([level - reach, level + reach], [means[-1][1]] * 2, color=BLACK, linewidth=2.5)
    if dots:
        axes.plot(*zip(*dots, strict=True), "o", color=BLUE, markersize=5, alpha=0.55, markeredgewidth=0)
    if crosses:
        axes.plot(*zip(*crosses, strict=True), "x", color=GREY, markersize=5)
    if scale.kind != CATEGORY and key not in REPEATS and means:
        axes.plot(*zip(*means, strict=True), color=BLACK, linewidth=1, linestyle=":")
    axes.set_xlim(-half - 0.06, 1 + half + 0.06)


def _fan(level: float, half: float, count: int) -> np.ndarray:
    """Places side by side around a level; every other one on the other side, so that neighbours do not touch."""
    if count < 2:
        return np.full(count, level)
    return level + np.linspace(-half, half, count)[np.argsort(np.arange(count) * 0.618 % 1, kind="stable")]


def _name_levels(axes: Axes, ticks: Sequence[tuple[float, str]], inches: float) -> float:
    """Labels side by side on up to three lines; slanted or upright where that is too narrow for all of them.

    Returns:
        The height in inches that turned labels take.
    """
    letters = max(int(0.92 * inches / len(ticks) / LETTER), 4)
    level = [(place, wrapped_text(label, letters, 3)) for place, label in ticks]
    widest = max(len(line) for _, text in level for line in text.split("\n"))
    if all(fits_line(label, letters) and "..." not in text for (_, label), (_, text) in zip(ticks, level, strict=True)):
        kept = spread_ticks(level, (widest + 0.5) * LETTER / inches)
        if len(kept) == len(level) or all(label[:1].isdigit() for _, label in ticks):  # numbers go on by themselves
            axes.set_xticks(*zip(*kept, strict=True))
            return 0.0
    is_slanted = len(ticks) * 2 * LINE <= inches
    room = (2 if is_slanted else 1.2) * LINE / inches
    turned = [(place, wrapped_text(label, 30, 1)) for place, label in spread_ticks(ticks, room)]
    axes.set_xticks(*zip(*turned, strict=True))
    for label in axes.get_xticklabels():
        label.set(rotation=35, rotation_mode="anchor", ha="right") if is_slanted else label.set(rotation=90)
    return max(len(text) for _, text in turned) * LETTER * (0.6 if is_slanted else 1.0)


def _reach(rows: Sequence[SweepRow], key: str, scores: ScoreScale) -> float:
    """How far the means of the values lie apart."""
    means = [mean for own in _by_level(rows, key).values() if (mean := _mean(own, scores)) is not None]
    return max(means) - min(means) if means else 0.0


def _by_level(rows: Sequence[SweepRow], key: str) -> dict[str, list[SweepRow]]:
    levels: dict[str, list[SweepRow]] = {}
    for row in rows:
        levels.setdefault(text_of(row, key), []).append(row)
    return levels


def _mean(rows: Sequence[SweepRow], scores: ScoreScale) -> float | None:
    """Mean of the scores on the axis: one run that came to nothing would hide all that the others show."""
    found = [row.score for row in rows if row.is_scored and row.score is not None and scores.place(row.score) >= 0]
    return float(np.mean(found)) if found else None


def _run_label(row: SweepRow, rank: int | None, keys: Sequence[str]) -> str:
    names = short_names(keys)
    choices = ", ".join(f"{names[key]}={text_of(row, key, 3)}" for key in keys) or row.name
    return plain_text(f"{'' if rank is None else f'#{rank} '}{choices}", 60)
