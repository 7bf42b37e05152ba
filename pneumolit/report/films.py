"""A sheet of films with a word under each, and with heat maps beside them where there are some."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pneumolit.report.canvas import SMALL, wrapped_text
from pneumolit.report.heat import DPI, LETTER, MARGIN, beside_heat, draw_scale, gray, inset, picture_sheet

_PAIRS, _PAIR_SIDE = 3, 168  # of a row, and pixels of each of the two pictures
_SINGLES, _SINGLE_SIDE = 4, 312  # a line of 39 letters: "PNEUMONIA, called no pneumonia, p 0.031"
_HEAD = 58  # pixels: title and caption
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
    greatest = float(heat.max()) if heat is not None and count else 0.0
    if heat is None:
        size, columns = (_SINGLE_SIDE, _SINGLE_SIDE), _SINGLES
        pictures = [gray(film, _SINGLE_SIDE) for film in films]
    else:
        size, columns = (_PAIR_SIDE, 2 * _PAIR_SIDE), _PAIRS
        pictures = [beside_heat(film, own, _PAIR_SIDE, greatest) for film, own in zip(films, heat, strict=True)]
    figure, axes = picture_sheet(pictures, notes, size=size, columns=columns, head=_HEAD)
    width = round(figure.get_size_inches()[0] * DPI)
    axes.text(MARGIN, 10, title, fontsize=12, va="top")
    axes.text(MARGIN, 33, wrapped_text(caption, int(width / LETTER), 1), fontsize=SMALL, va="top")
    if heat is not None:
        right, top = width - MARGIN - _SCALE_WORDS, _SCALE_TOP - 1
        scale = inset(figure, right - _SCALE[0], _SCALE_TOP, *_SCALE)
        draw_scale(scale)
        scale.set_axis_off()
        axes.text(right - _SCALE[0] - 6, top, "no heat", fontsize=SMALL, va="top", ha="right")
        axes.text(right + 6, top, "most of all" if greatest > 0 else "none at all", fontsize=SMALL, va="top")
    return figure
