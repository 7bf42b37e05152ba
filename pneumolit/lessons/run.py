"""Trains the runs of a lesson, measures, and says in one sentence what the mistake costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from pneumolit.interrupts import RunInterruptedError
from pneumolit.lessons import choosing, conditions, splitting
from pneumolit.lessons.finding import Finding
from pneumolit.lessons.plan import Lesson, PlannedRun
from pneumolit.lessons.taught import Taught, quiet
from pneumolit.lessons.words import WORDS
from pneumolit.report.language import ENGLISH, LANGUAGES, translate
from pneumolit.report.tables import Table
from pneumolit.rundir import RunDir, write_json, write_text
from pneumolit.training.console import say_duration
from pneumolit.training.fit import fit

MEASURES: Mapping[str, Callable[[Taught], Finding]] = {
    "patient_split": splitting.patient_split,
    "validation_of_16": splitting.validation_of_16,
    "threshold_on_test": choosing.threshold_on_test,
    "best_of_20": choosing.best_of_20,
    "augmented_validation": splitting.augmented_validation,
    "batch_norm": conditions.batch_norm,
    "class_mix": conditions.class_mix,
}
PHANTOMS_ONLY = "Phantoms drawn by formulas: the number shows how the mistake works, not how large it is on real films."


def teach(lesson: Lesson, folder: Path, console: Console) -> Finding:
    """Run a lesson from its first phantom to its sentence.

    Args:
        lesson: from `plan_lesson`.
        folder: of the lesson; its runs lie below, with lesson.json and lesson.md beside them.
        console: for people.

    Raises:
        ValueError: the folder holds a lesson already, or a run cannot be trained.
        RunInterruptedError: Ctrl-C or SIGTERM.
    """
    language, started = lesson.cfg["report"]["language"], time.monotonic()
    if (folder / "lesson.json").exists():
        raise ValueError(f"{folder} already holds a lesson; choose another folder")
    words = WORDS[lesson.name]
    for line in ("", f"[bold]{translate(words.title, language)}[/bold]", translate(words.question, language), ""):
        console.print(line, highlight=False, soft_wrap=True)
    taught = Taught.of(lesson)
    for number, planned in enumerate(lesson.runs, start=1):
        _train(planned, taught, folder, f"{number}/{len(lesson.runs)}", console)
    finding = MEASURES[lesson.name](taught)
    _write(lesson, finding, taught, folder)
    console.print("")
    for line in (f"[bold]{escape(translate(finding.sentence, language))}[/bold]", translate(words.remedy, language)):
        console.print(line, highlight=False, soft_wrap=True)
    took = say_duration(time.monotonic() - started)
    console.print(f"\n  {translate(PHANTOMS_ONLY, language)}", highlight=False, soft_wrap=True)
    console.print(f"  {folder / 'lesson.md'}   ({took})", highlight=False, soft_wrap=True)
    return finding


def _train(planned: PlannedRun, taught: Taught, folder: Path, place: str, console: Console) -> None:
    """One run, as `train` would do it, with one line on the console."""
    begun = time.monotonic()
    cfg = {**planned.cfg, "data": {**planned.cfg["data"], "root": str(taught.root)}}
    run = RunDir(folder / planned.name)
    try:
        fit(cfg, run.path, quiet(), is_scored=taught.lesson.seeds == 1)
    except RunInterruptedError as stop:  # its own words are about going on with one run
        raise RunInterruptedError(
            "stopped in the middle of a lesson; start it again, it takes a minute", stop.exit_code
        ) from stop
    taught.runs[planned.name], taught.cfgs[planned.name] = run, cfg
    what = ", ".join(f"{key}={_shown(value)}" for key, value in planned.changes.items())
    console.print(
        f"  {place:<6} {planned.name:<13} {escape(what):<28} {time.monotonic() - begun:4.0f} s",
        highlight=False,
        soft_wrap=True,
    )


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _write(lesson: Lesson, finding: Finding, taught: Taught, folder: Path) -> None:
    """lesson.json with every language, lesson.md in that of the reports."""
    language, words = lesson.cfg["report"]["language"], WORDS[lesson.name]
    changes = {planned.name: dict(planned.changes) for planned in lesson.runs}
    write_json(
        folder / "lesson.json",
        {
            "lesson": lesson.name,
            **finding.to_dict(),
            "sentence": {other: translate(finding.sentence, other) for other in LANGUAGES},
            "runs": {name: {"folder": run.path.name, "changes": changes[name]} for name, run in taught.runs.items()},
        },
    )

    def say(text: str) -> str:
        return translate(text, language) if language != ENGLISH else text

    rows = tuple((say(label), value) for label, value in finding.rows)
    parts = (
        f"# {say(words.title)}\n\n{say(words.question)}\n\n**{say(finding.sentence)}**\n",
        Table((say("measured"), say("value")), rows).markdown(),
        f"{say(words.remedy)}\n\n{say(PHANTOMS_ONLY)}\n",
    )
    write_text(folder / "lesson.md", "\n".join(parts))
