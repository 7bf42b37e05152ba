"""One entry of the model card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pneumolit.report.tables import Table
from pneumolit.stage_plan import Stage

# What an answer is worth: full, in part, not in the data at all, or known to the authors alone.
ANSWERED, PARTLY, OPEN, AUTHORS = "answered", "partly", "open", "authors"


@dataclass(frozen=True)
class Entry:
    """An item that one or both checklists ask for.

    Attributes:
        chapter: of the card.
        title: what is asked for, in a few words.
        claim: its numbers in CLAIM (2024).
        tripod: its numbers in TRIPOD+AI (2024).
        answer: one paragraph each.
        source: where the answer comes from: files of the run folder, or a publication.
        state: what the answer is worth.
        tables: numbers below the answer.
    """

    chapter: str
    title: str
    claim: tuple[int, ...]
    tripod: tuple[str, ...]
    answer: tuple[str, ...]
    source: str = ""
    state: str = ANSWERED
    tables: tuple[Table, ...] = ()


def of_stages(stages: Sequence[Stage], tell: Callable[[Stage], str]) -> tuple[str, ...]:
    """What is told of every stage, each by its number; once where it is the same of all."""
    told = [tell(stage) for stage in stages]
    if len(set(told)) == 1:
        return (told[0],)
    return tuple(f"Stage {stage.index + 1} of {stage.count}: {text}" for stage, text in zip(stages, told, strict=True))


def cannot(why: str) -> str:
    """The answer to what the data do not hold."""
    return f"Cannot be answered from this data: {why}"


def for_authors(why: str) -> str:
    """The answer to what a run folder does not hold, but its authors know."""
    return f"Not in the record of a run; whoever publishes the model must add it: {why}"
