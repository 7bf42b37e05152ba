"""The page of an explanation: one HTML file with every film, its heat map and what the checks found."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pneumolit.report.evaluation import TITLES
from pneumolit.report.explanation import (
    HEADINGS,
    Explanation,
    explanation_report,
    films_csv,
    has_usual_box,
    masked_table,
    places_table,
    randomization_table,
    removal_table,
    summary_rows,
)
from pneumolit.report.explanation_figures import draw_explanation, draw_films
from pneumolit.report.explanation_words import WARNING, findings
from pneumolit.report.explanations import NEAREST, RIGHT, SHEETS, WRONG
from pneumolit.report.html import Section, run_page
from pneumolit.rundir import ExplanationDir, write_json, write_text

_GROUP_WORDS = {
    RIGHT: "The right decisions that the model is surest of, of both classes in turn{one_each}.",
    WRONG: "The wrong decisions that the model is surest of, the worst first{one_each}.",
    NEAREST: "The films whose probability is nearest to one half, right or wrong.",
}
_HOW_TO_READ = (
    "Left the film, right the same film under its heat: {what} All heat maps share one scale, so a pale one has little "
    "heat. A heat map shows where the network looks, not what it sees there, and no heat map makes a decision right."
)
_SPEAKS = "what is coloured speaks for the decision named below it."
_SENSITIVE = "where it is coloured a change of the pixels would change the score, be it for either side."
_RANDOMIZATION = (
    "The network's weights are replaced by random ones, from the head down, and the heat maps of the same films are "
    "made again. Maps that stay the same cannot be reasons of this model. The last row is what the statement is about: "
    "all weights random, the mean over several draws. (Adebayo et al. 2018)"
)
_REMOVAL = (
    "Deletion blurs the hottest pixels first, insertion starts from the blurred film and gives them back first; the "
    "model scores every step. Held against smooth random maps {coarse}, and against the heat map of "
    "another film, which knows where lungs usually lie but not this film. Areas under the curves are means over "
)
_PLACES = (
    "Ratio: share of the heat in a region over the region's share of the film; heat spread evenly gives 1. Border: a "
    "tenth of the side all around. Corners: four squares of a fifth of the side."
)
_MASKED = (
    "The whole split is scored with the lungs filled with one gray, and with all but the lungs filled. A model that "
    "still ranks well without lungs can decide by something else."
)
_BOX = " The lungs are one box for all films."
_USUAL_BOX = " The lungs are one box for all films, drawn by hand, which holds heart and chest wall too."


def write_explanation(explanation: Explanation, target: ExplanationDir, *, run_name: str) -> list[str]:
    """Write pictures, films.csv, report.md, explanation.html and checks.json, the last when all others stand.

    Args:
        explanation: what was found.
        target: the folder; what an earlier call has left there is replaced.
        run_name: of the run, for the headings.

    Returns:
        The words that checks.json holds too.
    """
    target.path.mkdir(parents=True, exist_ok=True)
    for name in (*SHEETS, "scale", "randomization", "removal", "masked"):
        target.picture_file(name).unlink(missing_ok=True)
    target.checks_file.unlink(missing_ok=True)
    words = findings(explanation.checks)
    split = explanation.checks["split"]
    title = f"Heat maps of the run {run_name}: {TITLES.get(split, split).lower()}"
    pictures = draw_explanation(explanation, target.path)
    write_text(target.films_file, films_csv(explanation.films))
    write_text(target.report_file, explanation_report(explanation, words, title=title))
    with tempfile.TemporaryDirectory() as folder:  # the page holds them; beside it the sheets are enough
        films = draw_films(explanation, Path(folder))
        write_text(target.page_file, explanation_page(explanation, words, pictures, films, title=title))
    write_json(target.checks_file, {**explanation.checks, "words": words})
    return words


def explanation_page(
    explanation: Explanation,
    words: Sequence[str],
    pictures: dict[str, Path],
    films: Sequence[Path],
    *,
    title: str,
) -> str:
    """The page.

    Args:
        explanation: what was found.
        words: of the checks.
        pictures: name -> file, from `draw_explanation`.
        films: one picture per film of the explanation, in order.
        title: of the page.
    """
    is_warned = any(text.startswith(WARNING) for text in words)
    texts = list(words) or ["No check was made: checks=false. Heat maps that nobody has checked may show anything."]
    found = Section("What the checks found", items=texts, tone="warning" if is_warned or not words else "")
    scale = (pictures["scale"], "Common scale of all heat maps on this page")
    sections = [found, Section("How to read the heat maps", [_how_to_read(explanation.checks)], images=[scale])]
    has_patients = explanation.checks.get("has_patients", True)
    one_each = ", each of another patient" if has_patients else ""
    for group, heading in HEADINGS.items():
        images = [
            (path, f"{film.name}: {film.decision}; {film.heat_words(explanation.lungs)}")
            for film, path in zip(explanation.films, films, strict=True)
            if film.group == group
        ]
        none = [] if images else ["None: no decision of this split is " + ("right." if group == RIGHT else "wrong.")]
        sections.append(Section(heading, [_GROUP_WORDS[group].format(one_each=one_each), *none], images=images))
    return run_page(
        title=title,
        summary=summary_rows(explanation.checks),
        sections=[*sections, *_check_sections(explanation, pictures)],
        has_contents=True,
    )


def _how_to_read(checks: Mapping[str, Any]) -> str:
    """The gradient at the pixels has no side: its size is drawn, whichever way it points."""
    return _HOW_TO_READ.format(what=_SENSITIVE if checks["method"] == "saliency" else _SPEAKS)


def _check_sections(explanation: Explanation, pictures: dict[str, Path]) -> list[Section]:
    checks, found = explanation.checks, []
    box = "" if checks["lungs"]["kind"] != "box" else _USUAL_BOX if has_usual_box(checks) else _BOX
    if checks["randomization"]:
        alt = "rank correlation of heat maps by how many groups of layers are random, counted from the head"
        found.append(
            Section(
                "Weights drawn anew",
                [_RANDOMIZATION],
                [randomization_table(checks["randomization"])],
                [(pictures["randomization"], alt)],
            )
        )
    if checks["removal"]:
        part = checks["removal"]
        of_patients = f" of {part['num_patients']} patients" if checks.get("has_patients", True) else ""
        count = f"{part['num_images']} films{of_patients}."
        words = _REMOVAL.format(coarse="as coarse as its own" if checks["map_shape"] else "of 16 x 16 places") + count
        alt = "mean probability of the explained side while the hottest pixels are blurred, and while they are given"
        found.append(Section("Deletion and insertion", [words], [removal_table(part)], [(pictures["removal"], alt)]))
    if checks["places"] and checks["places"]["regions"]:
        found.append(
            Section("Where the heat lies", [_PLACES + box], [places_table(checks["places"], explanation.lungs)])
        )
    if checks["masked"]:
        lungs = explanation.lungs
        alt = f"one film whole with its {lungs} outlined, with the {lungs} blanked, and with all else blanked"
        found.append(
            Section(
                "With lungs blanked",
                [_MASKED + box],
                [masked_table(checks["masked"], explanation.lungs)],
                [(pictures["masked"], alt)],
            )
        )
    return found
