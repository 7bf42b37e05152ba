"""How heat is shown: a film under its heat map, the colours of the scale, and a sheet of such pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pneumolit.report.canvas import SMALL, wrapped_text

DPI = 100
GAP, MARGIN = 18, 12  # pixels
LETTER = 8.0  # pixels, on average, generously
_LINE = 17  # pixels, a line of text
_CLEAREST = 0.75  # share of the colour where the heat is greatest


def gray(film: np.ndarray, side: int) -> np.ndarray:
    """A film, `(H, W)` uint8, as `(side, side, 3)` in [0, 1]."""
    return np.repeat(_resized(film.astype(np.float32) / 255, side)[..., None], 3, axis=2)


def beside_heat(film: np.ndarray, heat: np.ndarray, side: int, greatest: float) -> np.ndarray:
    """A film, and beside it the film under its heat: `(side, 2 * side, 3)` in [0, 1].

    Args:
        film: `(H, W)` uint8.
        heat: `(h, w)` float >= 0, of any size.
        side: in pixels.
        greatest: heat at which the colours end; 0 where no film holds any.
    """
    plain = gray(film, side)
    share = _resized(heat, side) / greatest if greatest > 0 else np.zeros((side, side))
    return np.asarray(np.clip(np.concatenate([plain, _under(plain, share)], axis=1), 0.0, 1.0))


def draw_scale(axes: Axes, greatest: float = 1.0) -> None:
    """Fill axes with the colours from no heat to the greatest, as they look over middle gray."""
    share = np.linspace(0, 1, 256)[None, :]
    axes.imshow(_under(np.full((1, 256, 3), 0.5), share), extent=(0, greatest or 1, 0, 1), aspect="auto")
    axes.set_yticks([])


def picture_sheet(
    pictures: Sequence[np.ndarray], notes: Sequence[Sequence[str]], *, size: tuple[int, int], columns: int, head: int
) -> tuple[Figure, Axes]:
    """Pictures in rows with lines of text under each, and room above.

    One axes holds everything: a picture of many axes takes seconds.

    Args:
        pictures: `(height, width, 3)` in [0, 1].
        notes: for each as many lines as for the first; too long ones lose their middle.
        size: (height, width) of a picture.
        columns: pictures in a row.
        head: pixels above.

    Returns:
        The figure, and its axes, whose units are pixels from the upper left corner.
    """
    height, width = size
    cell = height + max((len(lines) for lines in notes), default=0) * _LINE + GAP
    rows = -(-len(pictures) // columns)
    # Bytes: matplotlib makes larger copies of floats. A full sheet took 345 MB as floats at 140 dpi, 300 MB as bytes;
    # at its own dpi it takes 190 MB.
    pixels = np.full((head + rows * cell + MARGIN, columns * (width + GAP) - GAP + 2 * MARGIN, 3), 255, dtype=np.uint8)
    corners = [(head + i // columns * cell, MARGIN + i % columns * (width + GAP)) for i in range(len(pictures))]
    for (top, left), picture in zip(corners, pictures, strict=True):
        pixels[top : top + height, left : left + width] = np.rint(np.clip(picture, 0, 1) * 255)
    figure = Figure(figsize=(pixels.shape[1] / DPI, pixels.shape[0] / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.imshow(pixels, interpolation="nearest", aspect="auto")
    for (top, left), lines in zip(corners, notes, strict=True):
        text = "\n".join(wrapped_text(line, int(width / LETTER), 1) for line in lines)
        axes.text(left, top + height + 3, text, fontsize=SMALL, va="top", linespacing=1.25)
    return figure, axes


def inset(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes on a sheet, in its pixels."""
    whole_width, whole_height = figure.get_size_inches() * DPI
    return figure.add_axes(
        (left / whole_width, 1 - (top + height) / whole_height, width / whole_width, height / whole_height)
    )


def _under(plain: np.ndarray, share: np.ndarray) -> np.ndarray:
    strength = np.sqrt(np.clip(share, 0.0, 1.0))  # the root lets weak heat be seen too
    opacity = _CLEAREST * strength[..., None]
    return np.asarray((1 - opacity) * plain + opacity * colormaps["inferno"](strength)[..., :3])


def _resized(values: np.ndarray, side: int) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
