"""Pictures of an explanation: films beside their heat maps on one scale, and what the checks found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from pneumolit.report.canvas import BLUE, GREY, ORANGE, RED, SKY, SMALL, blank_figure, save, style
from pneumolit.report.explanation import HEADINGS, WHOLE, ExplainedFilm, Explanation, digits, unit
from pneumolit.report.heat import DPI, MARGIN, beside_heat, draw_scale, inset, picture_sheet

SIDE = 240  # pixels of a film on the page, and of the heat map beside it
_SHEET_SIDE, _SHEET_PAIRS = 180, 2  # pixels of a film on a sheet, pairs in a row: two sheets fit side by side
_HEAD = 92  # pixels
_WIDTH = 5.1  # inches: fits a phone with letters that can be read


def draw_explanation(explanation: Explanation, folder: Path) -> dict[str, Path]:
    """Draw everything but the single films.

    Args:
        explanation: what was found; checks that were not made have no picture.
        folder: an existing folder; pictures of the same names are replaced.

    Returns:
        Name without suffix -> file.
    """
    checks = explanation.checks
    greatest, words = checks["scale"]["greatest"], unit(checks)
    figures = {"scale": scale_figure(greatest, words)}
    for group, heading in HEADINGS.items():
        films = explanation.of_group(group)
        if films:
            figures[group] = sheet(films, heading, greatest, words, lungs=explanation.lungs)
    if checks["randomization"]:
        figures["randomization"] = _randomization(checks["randomization"])
    if checks["removal"]:
        figures["removal"] = _removal(checks["removal"])
    if checks["masked"]:
        figures["masked"] = _masked(explanation)
    files = {name: folder / f"{name}.png" for name in figures}
    for name, figure in figures.items():
        if name in HEADINGS:
            save(figure, files[name], dpi=DPI)
        else:
            save(figure, files[name])
    return files


def draw_films(explanation: Explanation, folder: Path) -> list[Path]:
    """Each film beside its heat map, as a JPEG of twice `SIDE` by `SIDE` pixels, in order."""
    files = []
    for number, film in enumerate(explanation.films):
        pixels = np.rint(pair(film, SIDE, explanation.checks["scale"]["greatest"]) * 255).astype(np.uint8)
        files.append(folder / f"film_{number:02d}.jpeg")
        Image.fromarray(pixels).save(files[-1], quality=88, dpi=(96, 96))
    return files


def pair(film: ExplainedFilm, side: int, greatest: float) -> np.ndarray:
    """The film, and beside it the film under its heat: `(side, 2 * side, 3)` in [0, 1]."""
    return beside_heat(film.film, film.heat, side, greatest)


def sheet(
    films: Sequence[ExplainedFilm], title: str, greatest: float, words: str, *, lungs: str = "lung box"
) -> Figure:
    """A group in rows, with three lines under each pair and the colour bar above.

    Args:
        films: of the group.
        title: above the sheet.
        greatest: heat at which the colours end.
        words: unit of the heat.
        lungs: what the lungs are called.
    """
    pictures = [pair(film, _SHEET_SIDE, greatest) for film in films]
    notes = [(film.name, film.decision, film.heat_words(lungs)) for film in films]
    size = (_SHEET_SIDE, 2 * _SHEET_SIDE)
    figure, axes = picture_sheet(pictures, notes, size=size, columns=_SHEET_PAIRS, head=_HEAD)
    axes.text(MARGIN, 10, title, fontsize=12, va="top")
    length, left = 220, MARGIN + 8  # the number below the left end needs room
    _bar(inset(figure, left, 38, length, 12), greatest)
    axes.text(left + length + 20, 44, f"heat, {words}", fontsize=SMALL, va="center")
    return figure


def scale_figure(greatest: float, words: str) -> Figure:
    """The colour bar that all heat maps share."""
    figure = blank_figure(4.6, 0.85)
    axes = figure.add_subplot()
    _bar(axes, greatest)
    axes.set_xlabel(words, fontsize=SMALL + 0.5)
    return figure


def _bar(axes: Axes, greatest: float) -> None:
    draw_scale(axes, greatest)
    axes.tick_params(labelsize=SMALL)
    if greatest > 0:
        ends = [0, greatest / 2, greatest]  # three numbers never overlap, however many digits they have
        axes.set_xticks(ends, ["0", *map(digits, ends[1:])])
    else:
        axes.set_xticks([0], ["no heat in any film"])


def _randomization(found: dict[str, Any]) -> Figure:
    steps = [step for step in found["cascade"] if step["median"] is not None]
    groups = [step["groups"] for step in steps]
    medians = [step["median"] for step in steps]
    low, high = ([step["quartiles"][end] for step in steps] for end in (0, 1))
    figure = blank_figure(_WIDTH, 4.0)
    axes = figure.add_subplot()
    axes.fill_between(groups, low, high, color=SKY, alpha=0.35, linewidth=0, label="middle half of the images")
    axes.plot(groups, medians, color=BLUE, marker="o", linewidth=2, label="median")
    axes.axhline(0.5, color=RED, linestyle="--", linewidth=1.2, label="0.5: below it the maps depend on the weights")
    axes.axhline(0, color=GREY, linewidth=0.8)
    xlabel = f"layer groups drawn anew, from the head down (of {found['num_groups']})"
    style(axes, "Heat maps before and after randomisation", xlabel, "Spearman correlation")
    axes.set(ylim=(min(-0.4, *low, 0) - 0.05, 1.03))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", fontsize=SMALL, frameon=False)
    return figure


def _removal(found: dict[str, Any]) -> Figure:
    styles = {
        "own": ("own heat map", BLUE, "-", "o"),
        "other": ("heat map of another image", ORANGE, "--", "s"),
        "random": ("random map", GREY, ":", "^"),
    }
    figure = blank_figure(_WIDTH, 6.4)
    percent = 100 * np.array(found["fractions"])
    axes = figure.subplots(2, 1)
    for one, name, what in zip(axes, ("deletion", "insertion"), ("blurred", "given sharp"), strict=True):
        for kind, (label, colour, dash, marker) in styles.items():
            curve = found["curves"][name][kind]
            one.plot(percent, curve, color=colour, linestyle=dash, marker=marker, markersize=5, label=label)
        title = "Deletion (lower is better)" if name == "deletion" else "Insertion (higher is better)"
        style(one, title, f"hottest pixels {what} (%)", "mean probability")
        one.set(ylim=(-0.02, 1.02))
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", fontsize=SMALL, frameon=False)
    return figure


def _masked(explanation: Explanation) -> Figure:
    film, lungs, gray = explanation.example[0], explanation.example_lungs, explanation.checks["masked"]["gray"]
    shown = {
        "whole": film,
        "without_lungs": np.where(lungs, np.uint8(gray), film),
        "lungs_only": np.where(lungs, film, np.uint8(gray)),
    }
    figure = blank_figure(_WIDTH, _WIDTH / 3 + 0.5)
    for axes, (key, pixels) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        if key == "whole":
            axes.contour(lungs.astype(float), levels=[0.5], colors=[ORANGE], linewidths=2)
        auroc = explanation.checks["masked"][key]["auroc"]
        axes.set_title(f"{WHOLE[key].format(lungs=explanation.lungs)}\nAUROC {auroc:.3f}", fontsize=SMALL)
        axes.set_axis_off()
    return figure
