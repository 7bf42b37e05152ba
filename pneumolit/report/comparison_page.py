"""comparison.md and comparison.html: many methods side by side, for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pneumolit.evaluation.mcnemar import FEW_GAINS
from pneumolit.report.comparison import AbsentRow, MethodRow, PairRow
from pneumolit.report.comparison_tables import (
    LOGGED,
    MOST_PAIRS,
    absent_table,
    apart_table,
    differing,
    independent_table,
    leaderboard,
    pair_table,
    resampled_table,
    source_table,
)
from pneumolit.report.evaluation import DISCLAIMER
from pneumolit.report.html import Section, run_page
from pneumolit.report.tables import Table
from pneumolit.rundir import write_text

Pictures = Sequence[tuple[Path, str]]


@dataclass(frozen=True)
class Comparison:
    """All that a comparison says.

    Attributes:
        title: of the page.
        split: name of the evaluated set, in words.
        summary: (label, value) of the box at the top.
        methods: on the same images, in the order of the leaderboard.
        pairs: tests between them.
        apart: methods on other images.
        absent: what has no numbers.
        notes: one paragraph each, for the leaderboard.
        reference: title of the method that the others are tested against; "" where all pairs are tested.
        extras: further parts of their own, such as an ensemble: (heading, paragraphs, tables).
        commands: that would complete the table, (what for, command lines).
        has_patients: whether patients are known; else every image counts as its own.
    """

    title: str
    split: str
    summary: Sequence[tuple[str, str]]
    methods: Sequence[MethodRow]
    pairs: Sequence[PairRow] = ()
    apart: Sequence[MethodRow] = ()
    absent: Sequence[AbsentRow] = ()
    notes: Sequence[str] = ()
    reference: str = ""
    extras: Sequence[tuple[str, Sequence[str], Sequence[Table]]] = ()
    commands: Sequence[tuple[str, str]] = ()
    has_patients: bool = True


@dataclass(frozen=True)
class Drawn:
    """Pictures of a page, by what they show: (file, alt text) each; empty where there is nothing to draw.

    Attributes:
        curves: ROC and precision-recall of the first methods over each other.
        panels: the same of more methods, each in a small picture of its own.
        costs: accuracy over time and size.
        agreement: matrices.
        gallery: small pictures of disputed images.
        disputed: about them, in words.
    """

    curves: Pictures = ()
    panels: Pictures = ()
    costs: Pictures = ()
    agreement: Pictures = ()
    gallery: Pictures = ()
    disputed: Sequence[str] = field(default_factory=list)


def comparison_markdown(found: Comparison) -> str:
    """The result in words and tables, ending in the disclaimer and a newline."""
    blocks = [f"# {_inline(found.title)}", "\n".join(f"- {_inline(a)}: {_inline(b)}" for a, b in found.summary)]
    for section in _parts(found, Drawn()):
        blocks += _markdown(section, "##")
    return "\n\n".join(block.strip("\n") for block in [*blocks, DISCLAIMER]) + "\n"


def _markdown(section: Section, level: str) -> list[str]:
    blocks = [f"{level} {section.heading}", *map(_inline, section.paragraphs)]
    blocks += [table.markdown() for table in section.tables]
    blocks += [f"```\n{section.code}\n```"] * bool(section.code)
    blocks += [_inline(section.note)] * bool(section.note)
    return blocks + [block for part in section.parts for block in _markdown(part, f"{level}#")]


def write_comparison_page(path: Path, found: Comparison, drawn: Drawn) -> Path:
    """Write a page that needs no other file.

    Args:
        path: the HTML file.
        found: what it says.
        drawn: pictures, read here and not needed afterwards.
    """
    page = run_page(title=found.title, summary=found.summary, sections=_parts(found, drawn), has_contents=True)
    write_text(path, page)
    return path


_DISPUTED = "Images on which the methods disagree"


def _parts(found: Comparison, drawn: Drawn) -> list[Section]:
    board = Section(
        "Leaderboard", found.notes, [leaderboard(found.methods)], note=_marks(found.methods), tone="rich board"
    )
    sections = [board]
    if drawn.curves or drawn.panels:
        parts = [Section("All in one picture", images=drawn.curves)] * bool(drawn.curves)
        parts += [Section("Each with its band", images=drawn.panels)] * bool(drawn.panels)
        sections.append(Section("Curves", _curves(_counted(found)), parts=parts))
    sections += _tests(found)
    sections += [Section(heading, words, tables, tone="rich") for heading, words, tables in found.extras]
    sections += [Section("What accuracy costs", _COSTS, images=drawn.costs)] * bool(drawn.costs)
    sections += [Section("Do they agree?", _AGREEMENT, images=drawn.agreement)] * bool(drawn.agreement)
    if drawn.disputed or drawn.gallery:
        sections.append(Section(_DISPUTED, drawn.disputed, images=drawn.gallery, is_gallery=True))
    if found.apart:
        sections.append(Section("On other images", _APART, [apart_table(found.apart)], tone="rich"))
    if found.absent:
        sections.append(Section("Not compared", tables=[absent_table(found.absent)], tone="warning"))
    if found.commands:
        code = "\n\n".join(f"# {what}\n{lines}" for what, lines in found.commands)
        sections.append(Section("How to go on", code=code))
    where = source_table([*found.methods, *found.apart])
    sections.append(Section("Where the methods are", tables=[where], is_folded=True))
    sections.append(Section("How the numbers were made", _methods(_counted(found)), is_folded=True))
    return sections


def _counted(found: Comparison) -> str:
    """What is resampled, and what intervals are over: where patients are not known, every image is its own."""
    return "patients" if found.has_patients else "images"


def _tests(found: Comparison) -> list[Section]:
    pairs, is_one, counted = found.pairs, bool(found.reference), _counted(found)
    if not pairs:
        return []
    words = [
        (f"Each method against {found.reference}" if is_one else "Each method against each other")
        + ": the difference is that of the method minus the other, with a 95 % interval; p is that of no difference, "
        "taking into account that all judge the same images"
        + (" and that images of one patient resemble each other." if found.has_patients else "."),
        f"Differences {differing(pairs)}.",
    ]
    few = sum(row.is_sign_flip for row in pairs)
    if few:
        words.append(
            f"In {few} of {len(pairs)} comparisons the methods differ in accuracy on fewer than {FEW_GAINS} {counted}; "
            "their p is that of flipped signs (mid-p), here and in Holm's correction. Their intervals are the normal "
            "ones, so that one may leave out zero although p is above .05."
        )
    if len(pairs) > MOST_PAIRS:
        words.append(f"The {MOST_PAIRS} surest of {len(pairs)} differences; pairs.csv has all.")
    resampled = (
        f"The same differences by the bootstrap: {counted} drawn with replacement, each class by itself, and both "
        "methods measured on the same draw. An interval that leaves out zero speaks for a difference; these are not "
        "corrected for the number of comparisons, and there is none where no draw differs."
    )
    independent = (
        "Most published comparisons use these tests, which take every image for a patient of its own. They stand "
        "here to be set beside other work; the tests above are those to go by."
    )
    parts = [
        Section(f"Over resampled {counted}", [resampled], [resampled_table(pairs, is_against_one=is_one)]),
        Section("If images were independent", [independent], [independent_table(pairs, is_against_one=is_one)]),
    ]
    table = pair_table(pairs, is_against_one=is_one)
    return [Section("Which differences are real", words, [table], parts=parts, tone="rich")]


def _marks(rows: Sequence[MethodRow]) -> str:
    if any(row.is_loss_logged for row in rows):
        return (
            f"{LOGGED} logged while training, with augmentation, and so not comparable with the loss of whole images; "
            "a run measures both after  python -m pneumolit.evaluate run_dir=FOLDER split=train"
        )
    return ""


def _curves(counted: str) -> tuple[str, ...]:
    return (
        f"Bands hold 95 % of resamples of {'whole ' * (counted == 'patients')}{counted} at each place. In the large "
        "pictures every curve has its own colour, dashes and marks, and the reference its band. The small ones show "
        "the same part of the square, but all of it where a curve lies outside; in them the reference is dashed black "
        "and the other methods are grey.",
    )


_COSTS = (
    "Numbers stand for the methods of the leaderboard, bars are 95 % intervals of the accuracy, and the line joins "
    "those that none beats at the same or a lower cost; equal costs are drawn a little apart. Times compare only where "
    "the machine is the same.",
)
_AGREEMENT = (
    "Cohen's kappa is 1 where two methods decide every image alike and 0 where they agree as by chance. Errors in "
    "common are images that both decide wrongly; on the diagonal stand each method's own errors.",
)
_APART = (
    "Tests need the same images with the same targets. These methods were scored on others, so that their numbers must "
    "not be set beside those above.",
)


def _methods(counted: str) -> tuple[str, ...]:
    return (
        f"Intervals in the leaderboard are those of each run's metrics.json, over {counted}; its own report explains "
        "them.",
        f"Differences of AUROC: covariance over {counted} of the placement values (Obuchowski, Biometrics 53, 1997), "
        "which with one image per patient is DeLong's test (Biometrics 44, 1988).",
        "Differences of accuracy: McNemar's test for clustered pairs (Obuchowski, Statistics in Medicine 17, 1998). "
        f"Where two methods differ on fewer than {FEW_GAINS} {counted}, p is instead the mid-p over all signs that the "
        f"gains of these {counted} could have; pairs.csv has it for every pair.",
        "Correction for many comparisons: Holm (Scandinavian Journal of Statistics 6, 1979), for AUROC and accuracy "
        "apart.",
        "If images were independent: DeLong's test; McNemar's exact test (Psychometrika 12, 1947) and its mid-p form "
        "(Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91, 2013).",
    )


def _inline(text: str) -> str:
    return " ".join(text.split())
