"""The model card: the items of CLAIM (2024) and TRIPOD+AI (2024), each answered from the record or said to be open.

Where both ask for the same thing it is answered once and carries both numbers.

Source:
    Tejani et al., Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update, Radiology: Artificial
    Intelligence 6, 2024, e240300 (44 items); Collins et al., TRIPOD+AI statement, BMJ 385, 2024, e078378 (27 items in
    52 parts).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from pneumolit.report.card_entry import ANSWERED, AUTHORS, OPEN, PARTLY, Entry
from pneumolit.report.card_model import model_entries
from pneumolit.report.card_results import result_entries
from pneumolit.report.card_study import study_entries
from pneumolit.report.evaluation import DISCLAIMER
from pneumolit.report.html import Section, run_page
from pneumolit.report.language import translate
from pneumolit.report.provenance import provenance
from pneumolit.report.run_record import RunRecord
from pneumolit.report.tables import Table

TITLE = "Model card"
_TONES = {ANSWERED: "", PARTLY: "", OPEN: "open", AUTHORS: "open"}
_STATES = {
    ANSWERED: "Answered",
    PARTLY: "Answered in part",
    OPEN: "Cannot be answered from this data",
    AUTHORS: "For the authors to add",
}
_GUIDELINES = (
    "CLAIM: Tejani et al., Checklist for Artificial Intelligence in Medical Imaging: 2024 Update, Radiology: "
    "Artificial Intelligence 6, 2024, e240300 (44 items).",
    "TRIPOD+AI: Collins et al., BMJ 385, 2024, e078378 (52 items and parts of items).",
)
_INTRODUCTION = (
    "The items of two reporting guidelines, answered from the record of this run. Each answer says "
    "where it comes from. What neither the record nor the data can say stands here as open, not as a guess."
)


def card_entries(record: RunRecord) -> list[Entry]:
    """All entries, in the order of a paper.

    Args:
        record: at least one set was evaluated.
    """
    known = provenance(record)
    return [*study_entries(record, known), *model_entries(record), *result_entries(record, known)]


def card_page(record: RunRecord, language: str) -> str:
    """The card as a page that needs no other file."""
    entries = card_entries(record)
    return run_page(
        title=f"{TITLE}: {record.run.path.name}",
        summary=_summary(record, entries),
        sections=[Section("How to read this", [_INTRODUCTION], items=_GUIDELINES), *_sections(entries)],
        language=language,
        has_contents=True,
    )


def card_markdown(record: RunRecord, language: str) -> str:
    """The card as Markdown, ending in the disclaimer and a newline."""
    entries = card_entries(record)

    def said(text: str) -> str:
        return " ".join(translate(text, language).split())

    blocks = [
        f"# {said(f'{TITLE}: {record.run.path.name}')}",
        "\n".join(f"- {said(label)}: {said(value)}" for label, value in _summary(record, entries)),
        said(_INTRODUCTION),
        "\n".join(f"- {said(text)}" for text in _GUIDELINES),
    ]
    for chapter, group in groupby(enumerate(entries, start=1), key=lambda pair: pair[1].chapter):
        blocks.append(f"## {said(chapter)}")
        for number, entry in group:
            blocks.append(f"### {number}. {said(entry.title)}")
            blocks.append(f"*{said(_label(entry))}*")
            blocks += [said(text) for text in entry.answer]
            blocks += [translated(table, language).markdown() for table in entry.tables]
            if entry.source:
                blocks.append(said(f"Source: {entry.source}"))
    return "\n\n".join(block.strip("\n") for block in [*blocks, said(DISCLAIMER)]) + "\n"


def translated(table: Table, language: str) -> Table:
    """A table in another language."""
    rows = tuple(tuple(translate(text, language) for text in row) for row in table.rows)
    return Table(tuple(translate(text, language) for text in table.header), rows, table.num_labels)


def _summary(record: RunRecord, entries: Sequence[Entry]) -> list[tuple[str, str]]:
    counts = Counter(entry.state for entry in entries)
    return [
        ("Model", str(record.environment["weights"]["name"])),
        ("Run", record.run.path.name),
        ("Data", provenance(record).name),
        *[(_STATES[state], str(counts[state])) for state in _STATES if counts[state]],
    ]


def _sections(entries: Sequence[Entry]) -> list[Section]:
    sections = []
    for chapter, group in groupby(enumerate(entries, start=1), key=lambda pair: pair[1].chapter):
        sections.append(Section(chapter, parts=[_part(number, entry) for number, entry in group]))
    return sections


def _part(number: int, entry: Entry) -> Section:
    return Section(
        f"{number}. {entry.title}",
        entry.answer,
        entry.tables,
        label=_label(entry),
        note=f"Source: {entry.source}" if entry.source else "",
        tone=_TONES[entry.state],
    )


def _label(entry: Entry) -> str:
    """`CLAIM 7; TRIPOD+AI 5a`."""
    numbers = [("CLAIM", [str(n) for n in entry.claim]), ("TRIPOD+AI", list(entry.tripod))]
    return "; ".join(f"{name} {', '.join(items)}" for name, items in numbers if items)
