"""A sheet of films with a word under each, and with heat maps beside them where there are some."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pneumolit.report.canvas import SMALL, wrapped_text

_DPI = 100
_PAIRS, _PAIR_SIDE = 3, 168  # of a row, and pixels of each of the two pictures
_SINGLES, _SINGLE_SIDE = 4, 312  # a line of 39 letters: "PNEUMONIA, called no pneumonia, p 0.031"
_GAP, _MARGIN = 18, 12  # pixels
_HEAD, _LINE = 58, 17  # pixels: title and caption, a line of text
_LETTER = 8.0  # pixels, on average, generously
_CLEAREST = 0.75  # share of the colour where the heat is greatest
_SCALE, _SCALE_TOP, _SCALE_WORDS = (120, 12), 13, 84  # pixels


def film_sheet(
    films: np.ndarray,
    notes: Sequence[tuple[str, str]],
    *,
    title: str,
    caption: str = "",
    heat: np.ndarray | None = None,
) -> Figure:
    """Draw films in rows, each with two lines under it; with heat, each film once plain and once under its heat.

    One axes holds everything: a picture of many axes takes seconds.

    Args:
        films: `(N, H, W)` uint8.
        notes: N times the lines under a film; too long ones lose their middle.
        title: above the sheet.
        caption: a line under the title.
        heat: `(N, h, w)` float >= 0, of any size; one scale for all films, up to the greatest of them.

    Raises:
        ValueError: the lengths differ.
    """
    count = len(films)
    maps = count if heat is None else len(heat)
    if len(notes) != count or maps != count:
        raise ValueError(f"{count} films need as many notes and heat maps, got {len(notes)} and {maps}")
    columns, side, width = (
        (_SINGLES, _SINGLE_SIDE, _SINGLE_SIDE) if heat is None else (_PAIRS, _PAIR_SIDE, 2 * _PAIR_SIDE)
    )
    cell = side + 2 * _LINE + _GAP
    rows = -(-count // columns)
    sheet = np.full((_HEAD + rows * cell + _MARGIN, columns * (width + _GAP) - _GAP + 2 * _MARGIN, 3), 1.0)
    greatest = float(heat.max()) if heat is not None and count else 0.0
    corners = []
    for i, film in enumerate(films):
        top, left = _HEAD + i // columns * cell, _MARGIN + i % columns * (width + _GAP)
        corners.append((top, left))
        plain = np.repeat(_resized(film.astype(np.float32) / 255, side)[..., None], 3, axis=2)
        sheet[top : top + side, left : left + side] = plain
        if heat is not None:
            sheet[top : top + side, left + side : left + width] = _under_heat(plain, heat[i], greatest)
    if heat is not None:
        _draw_scale(sheet)
    figure = Figure(figsize=(sheet.shape[1] / _DPI, sheet.shape[0] / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    axes.text(_MARGIN, 10, title, fontsize=12, va="top")
    axes.text(_MARGIN, 33, wrapped_text(caption, int(sheet.shape[1] / _LETTER), 1), fontsize=SMALL, va="top")
    if heat is not None:
        _name_scale(axes, sheet.shape[1], greatest)
    letters = int(width / _LETTER)
    for (top, left), lines in zip(corners, notes, strict=True):
        text = "\n".join(wrapped_text(line, letters, 1) for line in lines)
        axes.text(left, top + side + 3, text, fontsize=SMALL, va="top", linespacing=1.25)
    return figure


def _resized(values: np.ndarray, side: int) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def _under_heat(plain: np.ndarray, heat: np.ndarray, greatest: float) -> np.ndarray:
    share = _resized(heat, len(plain)) / greatest if greatest > 0 else np.zeros(plain.shape[:2])
    share = np.clip(share, 0.0, 1.0)
    opacity = (_CLEAREST * np.sqrt(share))[..., None]  # the root lets weak heat be seen too
    coloured: np.ndarray = (1 - opacity) * plain + opacity * colormaps["inferno"](share)[..., :3]
    return coloured


def _draw_scale(sheet: np.ndarray) -> None:
    length, height = _SCALE
    right = sheet.shape[1] - _MARGIN - _SCALE_WORDS
    ramp = np.sqrt(np.linspace(0, 1, length))[None, :, None]
    colours = colormaps["inferno"](np.linspace(0, 1, length))[None, :, :3]
    sheet[_SCALE_TOP : _SCALE_TOP + height, right - length : right] = (1 - ramp) * 0.5 + ramp * colours


def _name_scale(axes: Axes, width: int, greatest: float) -> None:
    right = width - _MARGIN - _SCALE_WORDS
    top = _SCALE_TOP - 1
    axes.text(right - _SCALE[0] - 6, top, "no heat", fontsize=SMALL, va="top", ha="right")
    axes.text(right + 6, top, "most of all" if greatest > 0 else "none at all", fontsize=SMALL, va="top")
