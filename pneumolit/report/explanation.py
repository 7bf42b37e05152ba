"""An explanation as words and tables: what was explained, and what the checks of the heat maps found."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pneumolit.report.evaluation import DISCLAIMER, TITLES
from pneumolit.report.explanations import NEAREST, RIGHT, WRONG
from pneumolit.report.tables import Table, number, with_interval

HEADINGS = {RIGHT: "Surest right", WRONG: "Surest wrong", NEAREST: "Nearest to the threshold"}
# lung_box of conf/explain.yaml: top, left, bottom, right as shares of the side. Drawn by eye on the mean image of the
# training films and on 40 of them (20 of each class, at random): it holds both lungs, but for strips at its edge in
# some four of them, and with them heart, mediastinum and chest wall. Neck, arms, side markers and most of the abdomen
# lie outside.
USUAL_BOX = (0.08, 0.08, 0.86, 0.92)
REGIONS = ("lungs", "border", "corners")
WHOLE = {"whole": "whole film", "without_lungs": "{lungs} blanked", "lungs_only": "all else blanked"}
_METHOD_NAMES = {
    "gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++", "layercam": "LayerCAM", "hirescam": "HiResCAM",
    "xgradcam": "XGradCAM", "saliency": "saliency (absolute gradient at the pixels)",
    "integrated_gradients": "integrated gradients", "occlusion": "occlusion",
}  # fmt: skip
_OF_PLACES = ("gradcam", "hirescam", "xgradcam")  # whose heat, summed over the places of the map, is in logits


@dataclass(frozen=True)
class ExplainedFilm:
    """One film that is shown.

    Attributes:
        group: why it was chosen, one of `HEADINGS`.
        path: relative to the data root.
        label: its class.
        called: "pneumonia" or "normal", by the primary rule.
        prob: calibrated probability of pneumonia at prevalence one half.
        side: what the heat speaks for, "pneumonia" or "normal".
        film: `(S, S)` uint8.
        heat: `(S, S)` float32 >= 0.
        lung_share: share of the heat in the lungs; None without heat.
        negative: what "normal" is called for people, where other classes than NORMAL are no pneumonia either.
    """

    group: str
    path: str
    label: str
    called: str
    prob: float
    side: str
    film: np.ndarray
    heat: np.ndarray
    lung_share: float | None
    negative: str = "normal"

    @property
    def name(self) -> str:
        """The file without its folders."""
        return self.path.rpartition("/")[2]

    @property
    def decision(self) -> str:
        """Truth and decision in words."""
        return f"{self.label}, called {self._said(self.called)}, p {self.prob:.3f}"

    def heat_words(self, lungs: str) -> str:
        """How much heat there is, and how much of it lies in the `lungs`, such as "lung box"."""
        greatest = float(self.heat.max())
        side = "" if self.side == self.called else f" for {self._said(self.side)}"
        if greatest <= 0:
            return f"no heat{side}"
        share = "" if self.lung_share is None else f", {100 * self.lung_share:.0f} % in the {lungs}"
        return f"heat{side} up to {digits(greatest)}{share}"

    def _said(self, side: str) -> str:
        return self.negative if side == "normal" else side


@dataclass(frozen=True)
class Explanation:
    """What `explain` has found.

    Attributes:
        checks: content of checks.json, without words.
        films: those that are shown, group after group.
        example: `(0 or 1, S, S)` uint8, a film that shows what is blanked.
        example_lungs: `(S, S)` bool of it.
    """

    checks: dict[str, Any]
    films: Sequence[ExplainedFilm]
    example: np.ndarray
    example_lungs: np.ndarray

    @property
    def lungs(self) -> str:
        """What the lungs are called."""
        return lung_words(self.checks)

    def of_group(self, group: str) -> list[ExplainedFilm]:
        """The films of a group."""
        return [film for film in self.films if film.group == group]


def digits(value: float) -> str:
    """A number >= 0 of any size, to two significant digits or whole, never as a power of ten where it can be read."""
    if value < 1e-4 or value >= 1e5:
        return f"{value:.2g}"
    return f"{value:.{max(0, 1 - int(np.floor(np.log10(value))))}f}"


def lung_words(checks: dict[str, Any]) -> str:
    """What was taken for the lungs: a box is not called lungs."""
    return "lung box" if checks["lungs"]["kind"] == "box" else "lung mask"


def has_usual_box(checks: dict[str, Any]) -> bool:
    """Whether the lungs are the box of conf/explain.yaml, of which more is known than of one that a user drew."""
    lungs = checks["lungs"]
    return lungs["kind"] == "box" and tuple(lungs["box"]) == USUAL_BOX


def unit(checks: dict[str, Any]) -> str:
    """What one unit of heat is."""
    method = checks["method"]
    if method in _OF_PLACES:
        height, width = checks["map_shape"]
        return f"logit per place of the model's {height} x {width} map"
    return {
        "saliency": "logit per step from black to white at a pixel",
        "integrated_gradients": "logit per pixel",
        "occlusion": "logit that is lost with a patch",
    }.get(method, "the method's own unit")


def summary_rows(checks: dict[str, Any]) -> list[tuple[str, str]]:
    """What was explained, and how: for the box at the top of the page and the list in the report."""
    split = TITLES.get(checks["split"], checks["split"])
    counts = f"{checks['num_images']:,} images"
    if checks.get("has_patients", True):
        counts += f" of {checks['num_patients']:,} patients"
    sides = "the side that the model decided for" if checks["side"] == "predicted" else checks["side"]
    lungs = checks["lungs"]
    if lungs["kind"] == "masks":
        where = f"masks that were given, on average {100 * lungs['area']:.0f} % of the film"
    else:
        box = ", ".join(f"{edge:g}" for edge in lungs["box"])
        holds = "; it holds heart and chest wall too" if has_usual_box(checks) else ""
        where = (
            f"one box for all films, {100 * lungs['area']:.0f} % of the film (top, left, bottom, right {box}){holds}"
        )
    scale = checks["scale"]
    above = f"; {100 * scale['share_above']:.1f} % of the pixels lie above" if scale["share_above"] > 0 else ""
    return [
        ("Model", checks["backbone"]),
        ("Images", f"{split}: {counts}, {checks['num_wrong']:,} called wrongly"),
        ("Heat maps", f"{_METHOD_NAMES.get(checks['method'], checks['method'])} of the two-class logit, for {sides}"),
        ("Common scale", f"0 to {digits(scale['greatest']) if scale['greatest'] else 0} {unit(checks)}{above}"),
        ("Lungs", where),
    ]


def randomization_table(found: dict[str, Any]) -> Table:
    """Rank correlation of the heat maps by how much of the network is random."""
    rows = [_step(str(step["groups"]), step) for step in found["cascade"]]
    rows.append(_step(f"all, mean of {found['num_draws']} draws", found))
    header = (f"layer groups drawn anew (of {found['num_groups']})", "of the weights", "median Spearman", "middle half")
    return Table((*header, "images"), tuple(rows))


def _step(label: str, found: dict[str, Any]) -> tuple[str, ...]:
    middle = "n/a" if found["quartiles"] is None else " to ".join(number(value, 2) for value in found["quartiles"])
    share = 100 * found["share_random"]
    weights = f"{share:.1f} %" if share < 99.95 or share == 100 else "> 99.9 %"
    return (label, weights, number(found["median"], 2), middle, str(found["num_known"]))


def places_table(found: dict[str, Any], lungs: str) -> Table:
    """Share of the heat by region, against the region's share of the film and against random weights."""
    header = ("region", "share of the film", "share of the heat", "ratio", "ratio, random weights", "trained / random")
    rows = [
        (
            lungs if key == "lungs" else key,
            f"{100 * found['regions'][key]['area']:.0f} %",
            f"{100 * found['regions'][key]['share']:.0f} %",
            with_interval(found["regions"][key]["ratio"], found["regions"][key]["interval"]),
            number(found["regions"][key]["ratio_random"]),
            with_interval(found["regions"][key]["against_random"], found["regions"][key]["against_random_interval"]),
        )
        for key in REGIONS
        if key in found["regions"]
    ]
    return Table(header, tuple(rows))


def removal_table(found: dict[str, Any]) -> Table:
    """Area under deletion and insertion curves with the own map, that of another image, and random ones."""
    header = ("", "own map", "another image's", "random", "better than random", "p", "better than another's", "p")
    rows = []
    for name, label in (("deletion", "deletion (lower is better)"), ("insertion", "insertion (higher is better)")):
        part = found[name]
        areas = [number(part[f"area_{kind}"]) for kind in ("own", "other", "random")]
        cells = []
        for kind in ("random", "other"):
            better = part[f"better_than_{kind}"]
            cells += [with_interval(better["mean"], better["interval"]), p_value(better["p"])]
        rows.append((label, *areas, *cells))
    return Table(header, tuple(rows))


def masked_table(found: dict[str, Any], lungs: str) -> Table:
    """AUROC of whole films, of films without lungs, and of lungs alone."""
    rows = [
        (label.format(lungs=lungs), with_interval(found[key]["auroc"], found[key]["interval"]))
        for key, label in WHOLE.items()
    ]
    return Table(("film", "AUROC"), tuple(rows))


def p_value(p: float | None) -> str:
    """To three digits, never 0."""
    return "n/a" if p is None else "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def films_csv(films: Sequence[ExplainedFilm]) -> str:
    """One line per film that is shown, as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("group", "path", "label", "called", "prob", "explained_side", "greatest_heat", "lung_share"))
    for film in films:
        share = "" if film.lung_share is None else f"{film.lung_share:.4g}"
        heat = f"{float(film.heat.max()):.6g}"
        writer.writerow((film.group, film.path, film.label, film.called, f"{film.prob:.6g}", film.side, heat, share))
    return out.getvalue()


def explanation_report(explanation: Explanation, words: Sequence[str], *, title: str) -> str:
    """Markdown with the words first, then the tables, and the sheets of films as pictures beside it."""
    checks = explanation.checks
    blocks = [f"# {title}", "\n".join(f"- {label}: {value}" for label, value in summary_rows(checks))]
    if words:
        blocks += ["## What the checks found", "\n".join(f"- {text}" for text in words)]
    for group, heading in HEADINGS.items():
        films = explanation.of_group(group)
        blocks.append(f"## {heading}")
        if not films:
            blocks.append("None.")
            continue
        blocks.append(f"![{heading}: films beside their heat maps]({group}.png)")
        rows = tuple((film.name, film.decision, film.heat_words(explanation.lungs)) for film in films)
        blocks.append(Table(("image", "decision", "heat"), rows, num_labels=3).markdown())
    for key, heading, make in (
        ("randomization", "Weights drawn anew", randomization_table),
        ("removal", "Deletion and insertion", removal_table),
        ("places", "Where the heat lies", lambda found: places_table(found, explanation.lungs)),
        ("masked", "With lungs blanked", lambda found: masked_table(found, explanation.lungs)),
    ):
        if checks[key]:
            blocks += [f"## {heading}", make(checks[key]).markdown()]
    return "\n\n".join(block.strip("\n") for block in [*blocks, DISCLAIMER]) + "\n"
