"""sweep.html: the result of a sweep on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pneumolit.report.html import Section, run_page
from pneumolit.report.sweep import REPEATS, SweepRow, varied_keys
from pneumolit.report.sweep_figures import draw_effects, draw_times
from pneumolit.report.sweep_parallel import MOST_AXES, draw_parallel, parallel_keys
from pneumolit.report.sweep_tables import (
    result_tables,
    summary_box,
    unfinished_table,
)
from pneumolit.rundir import DONE, write_text


def write_sweep_page(
    path: Path,
    rows: Sequence[SweepRow],
    *,
    title: str,
    monitor: str,
    commands: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write a page that needs no other file.

    Args:
        path: the HTML file.
        rows: of all jobs, in any order.
        title: heading of the page; all texts are plain and escaped.
        monitor: the metric of the scores; a loss is best when it is small.
        commands: (what it does, command line), how to go on.
        notes: one paragraph each, below the box.
    """
    tables = [Section(heading, words, [table]) for heading, words, table in result_tables(rows, monitor)]
    unfinished = [Section("Jobs without a result", tables=[unfinished_table(rows)])]
    code = "\n\n".join(f"# {what}\n{line}" for what, line in commands)
    with TemporaryDirectory() as folder:  # the pictures live in the page alone
        sections = [
            *([Section("Notes", notes)] if notes else []),
            *tables[:1],
            *_pictures(rows, monitor, Path(folder)),
            *(unfinished if any(row.state != DONE for row in rows) else []),
            *tables[1:],
            *([Section("How to go on", code=code)] if commands else []),
        ]
        page = run_page(title=title, summary=summary_box(rows, monitor), sections=sections)
    write_text(path, page)
    return path


def _pictures(rows: Sequence[SweepRow], monitor: str, folder: Path) -> list[Section]:
    sections = []
    scored = sum(row.is_scored for row in rows)
    lost = "; dashed grey: no score" if scored < len(rows) else ""
    if scored > 1 and parallel_keys(rows):
        alt = f"one line per run, from its choices to its {monitor}; dark and on top is best{lost}"
        picture = draw_parallel(rows, monitor, folder / "parallel.png")
        left_out = [key for key in varied_keys(rows) if key not in (*parallel_keys(rows), *REPEATS)]
        more = [f"{MOST_AXES} hyperparameters are drawn, not {', '.join(left_out)}."] if left_out else []
        sections.append(Section("Every run", more, images=[(picture, alt)]))
    if scored > 1 and varied_keys(rows):
        crosses = "; grey crosses: no score" if scored < len(rows) else ""
        alt = f"{monitor} by value of each hyperparameter: dots are runs, bars their means{crosses}"
        picture = draw_effects(rows, monitor, folder / "effects.png")
        sections.append(Section("Effect of each hyperparameter", images=[(picture, alt)]))
    if sum(row.seconds is not None for row in rows) > 1:
        picture = draw_times(rows, monitor, folder / "times.png")
        sections.append(Section("Time", images=[(picture, "time of each run, by how it ended")]))
    return sections
