"""Colours, fonts and blank axes that all pictures share.

Figures are built from `matplotlib.figure.Figure` and never through pyplot: no global state, no backend chosen
at import, nothing left open in a training process.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pneumolit.rundir import decoded

# Okabe and Ito, "Color Universal Design", 2008: told apart with every common kind of colour blindness.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#767676"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

_DPI = 140
_TITLE, _LABEL, _TICK = 12, 11, 10
SMALL = 9.5  # points
LETTER, LINE = 0.6 * SMALL / 72, 1.2 * SMALL / 72  # inches: an average letter of DejaVu Sans, generously, and a line
_PART = r"[^\s._/=,:-]*(?:[\s._/=,:-]|$)"  # of a name, with the separator behind it


def blank_figure(width: float, height: float) -> Figure:
    """A figure of that many inches with an Agg canvas, laid out so that labels never overlap axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes, title: str, xlabel: str, ylabel: str, *, grid: bool = True) -> None:
    """Give axes their texts, a light grid and no frame above and to the right."""
    axes.set_title(title, fontsize=_TITLE, loc="left")
    axes.set_xlabel(xlabel, fontsize=_LABEL)
    axes.set_ylabel(ylabel, fontsize=_LABEL)
    axes.tick_params(labelsize=_TICK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(color="#DDDDDD", linewidth=0.7)


def square(axes: Axes) -> None:
    """Both axes from 0 to 1, equally long, with room for lines that run along the border."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")


def plain_text(name: str, limit: int = 16) -> str:
    """A name as matplotlib text: no mathematics from dollar signs, and not longer than `limit` characters."""
    name = decoded(name)  # matplotlib refuses bytes that are no text
    short = name if len(name) <= limit else name[: limit - 3] + "..."
    return short.replace("$", r"\$")


def fits_line(name: str, width: int) -> bool:
    """Whether no part between separators is longer than a line of `width` characters."""
    return max(map(len, re.findall(_PART, name)), default=0) <= width


def wrapped_text(name: str, width: int, lines: int = 2) -> str:
    """A name as matplotlib text on a few lines, broken behind separators; too long a one loses its middle.

    Args:
        name: any text.
        width: most characters on a line, at least 4.
        lines: most lines.
    """
    name = " ".join(decoded(name).split())  # matplotlib refuses bytes that are no text
    for limit in range(min(len(name), (width + 1) * lines), 3, -1):
        kept = limit - 3
        short = name if limit == len(name) else name[: kept - kept // 2] + "..." + name[len(name) - kept // 2 :]
        broken = _broken(short, width)
        if len(broken) <= lines:
            break
    else:
        broken = [name]  # of at most three characters
    return "\n".join(broken).replace("$", r"\$")


def _broken(text: str, width: int) -> list[str]:
    rows = [""]
    for part in re.findall(_PART, text):
        pieces = [part[i : i + width] for i in range(0, len(part), width)]
        for piece in pieces:
            if len((rows[-1] + piece).rstrip()) <= width:
                rows[-1] += piece
            else:
                rows.append(piece)
    return [row.rstrip() for row in rows]


def names_and_markers(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """(name, colour, marker) for a legend in which neither colour nor shape alone has to be told apart."""
    return [(name, CYCLE[1:][i % (len(CYCLE) - 1)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)]


def save(figure: Figure, path: Path, *, dpi: float = _DPI) -> Path:
    """Write a PNG whose bytes depend on the picture alone.

    Args:
        figure: to write.
        path: of the file.
        dpi: pixels per inch; `figure.dpi` for a sheet of films, which then stay pixel by pixel as they were composed.
    """
    figure.savefig(path, dpi=dpi, metadata={"Software": None})
    return path
