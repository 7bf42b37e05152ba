"""ROC and precision-recall curves of several methods: all in one picture, and each with its band."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from pneumolit.report.canvas import (
    BLACK,
    BLUE,
    CYCLE,
    GREY,
    LINE,
    MARKERS,
    SKY,
    SMALL,
    blank_figure,
    plain_text,
    save,
    square,
    style,
)
from pneumolit.report.comparison_figures import wrapped_name

ROC, PRECISION_RECALL = "roc", "precision_recall"
MOST_LINES, MOST_PANELS = 6, 12
_DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)))
_WORTH_MAGNIFYING = 0.45  # of the axis; a larger corner would look the same
_COLUMNS, _PANEL = 3, 1.85  # of the small pictures: how many side by side, and inches of a side
_MARGINS, _EDGE = (0.72, 0.62, 0.12), 0.08  # inches left, below and right of them, and of nothing but white
_LEGEND = 78  # letters of a line below the picture
_CORNER = {ROC: (0.0, 1.0), PRECISION_RECALL: (1.0, 1.0)}
_AXES = {
    ROC: ("1 - specificity", "sensitivity"),
    PRECISION_RECALL: ("recall (sensitivity)", "precision (PPV)"),
}

_AREAS = {ROC: "AUROC", PRECISION_RECALL: "Average precision"}


@dataclass(frozen=True)
class Curve:
    """One method's curve.

    Attributes:
        title: number and name.
        value: the area with its interval.
        x: `(T,)` of the points.
        y: `(T,)` of the points.
        grid: `(G,)` x of the band.
        band: `(2, G)` low and high y, 95 % over patients.
        is_reference: drawn in black where others are compared with it.
    """

    title: str
    value: str
    x: np.ndarray
    y: np.ndarray
    grid: np.ndarray
    band: np.ndarray
    is_reference: bool = False


def draw_overlay(curves: Sequence[Curve], kind: str, path: Path, *, chance: float | None = None) -> Path:
    """Draw up to `MOST_LINES` curves over each other, told apart by colour, dashes and marks; bands where they are few.

    Args:
        curves: the first ones are drawn.
        kind: `ROC` or `PRECISION_RECALL`.
        path: the PNG to write.
        chance: precision of a method that knows nothing; only for `PRECISION_RECALL`.
    """
    shown = curves[:MOST_LINES]
    figure = blank_figure(6.2, 5.6 + 0.21 * len(shown))
    axes = figure.add_subplot()
    span = _corner_span(shown, kind)
    parts = [axes] if span > _WORTH_MAGNIFYING else [axes, _inset(axes, kind, span)]
    for part in parts:
        if chance is None:
            part.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        else:
            part.axhline(chance, color=GREY, linestyle=":", linewidth=1)
        for place, curve in enumerate(shown):
            colour = CYCLE[place % len(CYCLE)]
            if len(shown) <= 2 or curve.is_reference:
                part.fill_between(curve.grid, *curve.band, color=colour, alpha=0.18, linewidth=0)
            part.plot(
                curve.x, curve.y, color=colour, linestyle=_DASHES[place % len(_DASHES)], linewidth=1.8,
                marker=MARKERS[place % len(MARKERS)], markevery=_marks(curve, part, place), markersize=5,
                label=_legend_text(curve) if part is axes else None,
            )  # fmt: skip
    style(axes, "", *_AXES[kind])
    square(axes)
    legend = figure.legend(loc="outside lower left", fontsize=SMALL, frameon=False, handlelength=3.2)
    legend.set_title(f"{_AREAS[kind]} with its 95 % interval", FontProperties(size=SMALL))
    legend.set_alignment("left")
    return save(figure, path)


def draw_panels(curves: Sequence[Curve], kind: str, path: Path) -> Path:
    """Draw up to `MOST_PANELS` curves in small pictures of their own, each with its band and the others in grey.

    Args:
        curves: the first ones are drawn; the reference stands in every picture.
        kind: `ROC` or `PRECISION_RECALL`.
        path: the PNG to write.
    """
    shown = curves[:MOST_PANELS]
    height = math.ceil(len(shown) / _COLUMNS)
    figure, grid = _panel_grid(height)
    spans = _panel_spans(shown, kind)
    for axes, curve, span in zip(grid, shown, spans, strict=False):
        for other in shown:
            if other is not curve and not other.is_reference:
                axes.plot(other.x, other.y, color="#C8C8C8", linewidth=0.8)
        for other in shown:
            if other.is_reference and other is not curve:
                axes.plot(other.x, other.y, color=BLACK, linewidth=1.2, linestyle="--")
        axes.fill_between(curve.grid, *curve.band, color=SKY, alpha=0.45, linewidth=0)
        axes.plot(curve.x, curve.y, color=BLUE, linewidth=1.8)
        axes.set_title(wrapped_name(curve.title, 29), fontsize=SMALL, loc="left")
        axes.set(xlim=_limits(_CORNER[kind][0], span), ylim=_limits(_CORNER[kind][1], span))
        axes.locator_params(nbins=4)
        is_outer = span != min(spans)  # it has axes of its own
        axes.tick_params(labelsize=SMALL, labelbottom=is_outer, labelleft=is_outer)
        axes.grid(color="#DDDDDD", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    for position, axes in enumerate(grid):
        if position >= len(shown):
            axes.remove()
        else:
            is_lowest, is_first = position + _COLUMNS >= len(shown), position % _COLUMNS == 0
            axes.tick_params(**{"labelbottom": True} if is_lowest else {}, **{"labelleft": True} if is_first else {})
    figure.supxlabel(_AXES[kind][0], fontsize=11, y=_EDGE / figure.get_figheight(), va="bottom")
    figure.supylabel(_AXES[kind][1], fontsize=11, x=_EDGE / figure.get_figwidth(), ha="left")
    return save(figure, path)


def _panel_grid(rows: int) -> tuple[Figure, np.ndarray]:
    """A figure with small square axes at fixed places: to lay out a dozen by what is in them takes a second."""
    (left, bottom, right), title, gap = _MARGINS, 2 * LINE + 0.08, 0.38
    side = _PANEL
    width = left + _COLUMNS * side + (_COLUMNS - 1) * gap + right
    height = bottom + rows * (side + title) + (rows - 1) * gap + _EDGE
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    figure.subplots_adjust(
        left=left / width, right=1 - right / width, bottom=bottom / height, top=1 - (title + _EDGE) / height,
        wspace=gap / side, hspace=(title + gap) / side,
    )  # fmt: skip
    return figure, grid.ravel()


def _panel_spans(curves: Sequence[Curve], kind: str) -> list[float]:
    """The same part of the square for all, but all of it for the few curves that lie outside."""
    own = [_corner_span([curve], kind) for curve in curves]
    common = float(np.quantile(own, 0.75))
    return [common if span <= 2.5 * common else 1.0 for span in own]


def _corner_span(curves: Sequence[Curve], kind: str) -> float:
    """How large a corner shows where the curves turn."""
    corner = _CORNER[kind]
    distances = [float(np.min(np.maximum(np.abs(c.x - corner[0]), np.abs(c.y - corner[1])))) for c in curves]
    return float(np.clip(4 * max(distances), 0.02, 1.0))


def _inset(axes: Axes, kind: str, span: float) -> Axes:
    left = 0.42 if kind == ROC else 0.12
    inset = axes.inset_axes((left, 0.1, 0.54, 0.54))
    inset.set(xlim=_limits(_CORNER[kind][0], span), ylim=_limits(_CORNER[kind][1], span))
    inset.set_title("magnified", fontsize=SMALL, loc="left")
    inset.tick_params(labelsize=SMALL)
    inset.locator_params(nbins=4)
    inset.grid(color="#DDDDDD", linewidth=0.7)
    return inset


def _limits(corner: float, span: float) -> tuple[float, float]:
    return (-0.03 * span, span) if corner == 0 else (1 - span, 1 + 0.03 * span)


def _marks(curve: Curve, axes: Axes, place: int) -> list[int]:
    """A few points of the curve within the axes, others for every curve, so that marks do not hide each other."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    seen = np.flatnonzero((curve.x >= left) & (curve.x <= right) & (curve.y >= low) & (curve.y <= high))
    if len(seen) < 2:
        return []
    length = np.append(0.0, np.cumsum(np.hypot(np.diff(curve.x[seen]), np.diff(curve.y[seen]))))
    wanted = (np.arange(4) + (place + 1) / (MOST_LINES + 1)) / 4 * length[-1]
    return sorted({int(seen[min(int(np.searchsorted(length, w)), len(seen) - 1)]) for w in wanted})


def _legend_text(curve: Curve) -> str:
    room = _LEGEND - len(curve.value) - 2
    return f"{plain_text(curve.title, room)}   {curve.value}"
