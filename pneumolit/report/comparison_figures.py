"""What accuracy costs, and which methods decide alike, as pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from pneumolit.report.canvas import (
    BLACK,
    BLUE,
    LETTER,
    LINE,
    ORANGE,
    SMALL,
    blank_figure,
    save,
    style,
    wrapped_text,
)

MOST_MATRIX, MOST_NUMBERED = 12, 30
_CELL = 0.46  # inches of a cell of a matrix
_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.8}  # under a number, above all lines
_NAME = 29  # letters of a line of a name beside a matrix


@dataclass(frozen=True)
class Cost:
    """One method in a picture of costs.

    Attributes:
        number: that stands for it.
        accuracy: on the compared images.
        interval: 95 % over patients; None where there is none.
        amount: seconds of training or parameters of the model, > 0.
        is_reference: drawn larger.
    """

    number: int
    accuracy: float
    interval: tuple[float, float] | None
    amount: float
    is_reference: bool


def draw_frontier(costs: Sequence[Cost], kind: str, path: Path) -> Path:
    """Draw accuracy over what it took; a line joins the methods that none beats at the same or a lower cost.

    Args:
        costs: of at least one method.
        kind: what the amounts are: "seconds" or "parameters".
        path: the PNG to write.
    """
    unit, label = _unit(max(cost.amount for cost in costs), kind)
    places = _spread([cost.amount / unit for cost in costs])
    figure = blank_figure(6.2, 4.4)
    axes = figure.add_subplot()
    style(axes, "", f"{label}, logarithmic", "accuracy")
    axes.set_xscale("log")
    low, high = min(places), max(places)
    margin = max((high / low) ** 0.08, 1.15)
    axes.set_xlim(low / margin, high * margin)
    front = _front(costs, places)
    steps = [(places[i], costs[i].accuracy) for i in front]
    axes.plot(*zip(*steps, (high * margin, steps[-1][1]), strict=True), color=ORANGE, linewidth=2,
              drawstyle="steps-post", zorder=1)  # fmt: skip
    for place, cost in zip(places, costs, strict=True):
        if cost.interval is not None:
            axes.plot([place, place], cost.interval, color="#A9C7DB", linewidth=1.2, zorder=2)
        axes.plot(
            place, cost.accuracy, "D" if cost.is_reference else "o", color=BLACK if cost.is_reference else BLUE,
            markersize=8 if cost.is_reference else 6, zorder=3,
        )  # fmt: skip
    _name_amounts(axes, low / margin, high * margin)
    chosen = [i for i, c in enumerate(costs) if len(costs) <= MOST_NUMBERED or i in front or c.is_reference]
    _number_points(
        axes, [(places[i], costs[i]) for i in chosen], list(zip(places, [c.accuracy for c in costs], strict=True))
    )
    return save(figure, path)


def draw_matrix(values: np.ndarray, titles: Sequence[str], path: Path, *, label: str, is_count: bool) -> Path:
    """Draw a number for every two methods, darker where it is larger.

    Args:
        values: `(M, M)`, symmetric; the first `MOST_MATRIX` are drawn.
        titles: M times number and name; the columns are marked by the number alone.
        path: the PNG to write.
        label: what the numbers are.
        is_count: whole numbers; else numbers of at most 1, with two digits.
    """
    size = min(len(titles), MOST_MATRIX)
    values = np.asarray(values)[:size, :size]
    names = [wrapped_name(title, _NAME) for title in titles[:size]]
    left = max(len(line) for name in names for line in name.split("\n")) * LETTER
    figure = blank_figure(left + size * _CELL + 0.3, size * _CELL + 0.8)
    axes = figure.add_subplot()
    off = values[~np.eye(size, dtype=bool)].astype(float)
    low, high = (
        (0.0, max(float(off.max(initial=1.0)), 1.0)) if is_count else (min(float(off.min(initial=0.9)), 0.9), 1.0)
    )
    axes.imshow(values, cmap="Oranges" if is_count else "Blues", vmin=low, vmax=high, aspect="auto")
    for row in range(size):
        for column in range(size):
            value = float(values[row, column])
            text = f"{value:.0f}" if is_count else _kappa_text(value)
            dark = (value - low) / max(high - low, 1e-9) > 0.6
            cell = axes.text(
                column, row, text, ha="center", va="center", fontsize=SMALL, color="white" if dark else "black"
            )
            cell.set_in_layout(False)  # it lies within the axes; to measure a hundred of them takes half a second
    axes.set_xticks(range(size), [title.split()[0] for title in titles[:size]])
    axes.set_yticks(range(size), names)
    style(axes, "", label, "", grid=False)
    axes.tick_params(labelsize=SMALL, length=0)
    return save(figure, path)


def wrapped_name(title: str, width: int) -> str:
    """A name as matplotlib text on two lines, broken between its parts where they fit, else within them."""
    lines = textwrap.wrap(" ".join(title.split()), width, break_long_words=False, break_on_hyphens=False)
    fits = len(lines) <= 2 and all(len(line) <= width for line in lines)
    return "\n".join(lines).replace("$", r"\$") if fits else wrapped_text(title, width)


def _front(costs: Sequence[Cost], places: Sequence[float]) -> list[int]:
    """Methods that none beats in accuracy at the same or a lower cost, from the cheapest on."""
    order = sorted(range(len(costs)), key=lambda i: (costs[i].amount, -costs[i].accuracy))
    front: list[int] = []
    for i in order:
        if not front or costs[i].accuracy > costs[front[-1]].accuracy:
            front.append(i)
    return sorted(front, key=lambda i: places[i])


def _unit(most: float, kind: str) -> tuple[float, str]:
    """What amounts are divided by, and the words for it."""
    if kind == "parameters":
        return (1e6, "parameters (millions)") if most >= 1e6 else (1e3, "parameters (thousands)")
    unit, name = (3600.0, "hours") if most > 5400 else (60.0, "minutes") if most > 90 else (1.0, "seconds")
    return unit, f"training time ({name})"


def _spread(values: Sequence[float]) -> list[float]:
    """The values, with equal ones a little apart on a logarithmic axis, so that none hides another."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    low, high = min(values), max(values)
    step = max((high / low) ** 0.012, 1.02)
    places = list(values)
    for before, here in pairwise(order):
        places[here] = max(places[here], places[before] * step)
    return places


def _number_points(axes: Axes, numbered: Sequence[tuple[float, Cost]], points: Sequence[tuple[float, float]]) -> None:
    """Write each number beside its point where it covers no point and no other number."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    to_pixels, inch = axes.transData.transform, figure.dpi
    taken: list[tuple[float, ...]] = [(x - 5, y - 5, x + 5, y + 5) for x, y in (to_pixels(point) for point in points)]
    for place, cost in numbered:
        x, y = to_pixels((place, cost.accuracy))
        width, height = LETTER * len(str(cost.number)) * inch, LINE * inch
        for reach in (0.09, 0.19, 0.3):
            # The line arrives from below and leaves to the right.
            sides = [(-1, 1), (1, 1), (-1, 0), (1, 0), (-1, -1), (1, -1), (0, 1), (0, -1)]
            spots = [(reach * across, reach * up) for across, up in sides]
            free = [spot for spot in spots if _is_free(_box(x, y, spot, width, height, inch), taken)]
            if free:
                break
        else:
            free = [(0.09, 0)]
        box = _box(x, y, free[0], width, height, inch)
        taken.append(box)
        middle = axes.transData.inverted().transform(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
        axes.text(
            middle[0], middle[1], str(cost.number), fontsize=SMALL, ha="center", va="center", zorder=4, bbox=_PAPER
        )


def _box(x: float, y: float, spot: tuple[float, float], width: float, height: float, inch: float) -> tuple[float, ...]:
    across, up = spot
    middle = x + across * inch + np.sign(across) * width / 2, y + up * inch
    return (middle[0] - width / 2, middle[1] - height / 2, middle[0] + width / 2, middle[1] + height / 2)


def _is_free(box: tuple[float, ...], taken: Sequence[tuple[float, ...]]) -> bool:
    return all(box[0] >= t[2] or box[2] <= t[0] or box[1] >= t[3] or box[3] <= t[1] for t in taken)


def _name_amounts(axes: Axes, low: float, high: float) -> None:
    """Round numbers, as many as fit."""
    wide = high / low
    subs = (1.0,) if wide > 1000 else (1.0, 3.0) if wide > 60 else (1.0, 2.0, 5.0)
    marks = [sub * 10.0**power for power in range(-6, 10) for sub in subs]
    inside = [mark for mark in marks if low <= mark <= high]
    if len(inside) < 2:
        inside = [float(mark) for mark in np.linspace(low, high, 5)[1:4]]
    axes.set_xticks(inside, [f"{mark:.3g}" for mark in inside])
    axes.minorticks_off()


def _kappa_text(value: float) -> str:
    return "1" if value >= 0.995 else f"{value:.2f}".replace("0.", ".")
