"""sweep.md: the result of a sweep in words and tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from pneumolit.config import monitor_mode
from pneumolit.report.evaluation import DISCLAIMER
from pneumolit.report.sweep import (
    SweepGroup,
    SweepRow,
    choice_keys,
    group_rows,
    lacks_images,
    metric_names,
    rank_rows,
    text_of,
    value_text,
    varied_keys,
    varied_repeats,
)
from pneumolit.report.tables import Table, number
from pneumolit.rundir import DONE

MOST_ROWS = 50  # of a table for people; sweep.csv has all
_DIGITS = 4  # of a score; the runs of a sweep differ by less than a report's three
_STATES = ("done", "failed", "interrupted", "pruned", "waiting")


def sweep_markdown(
    rows: Sequence[SweepRow],
    *,
    title: str,
    monitor: str,
    commands: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
) -> str:
    """Write the report of one sweep.

    Args:
        rows: of all jobs, in any order.
        title: heading of the page.
        monitor: the metric of the scores; a loss is best when it is small.
        commands: (what it does, command line), how to go on.
        notes: one paragraph each.

    Returns:
        Markdown, ending in the disclaimer and a newline.
    """
    blocks = [f"# {_inline(title)}", sentence(rows, monitor), *notes]
    for heading, paragraphs, table in result_tables(rows, monitor):
        blocks += [f"## {heading}", *map(_inline, paragraphs), table.markdown()]
    if any(row.state != DONE for row in rows):
        blocks += ["## Jobs without a result", _without_tags(unfinished_table(rows)).markdown()]
    blocks += ["## Time", time_sentence(rows)]
    if commands:
        blocks += ["## How to go on", *(f"{_inline(what)}:\n\n```\n{line}\n```" for what, line in commands)]
    return "\n\n".join(block.strip("\n") for block in [*blocks, DISCLAIMER]) + "\n"


def sentence(rows: Sequence[SweepRow], monitor: str) -> str:
    """How many jobs ended how, and which is best, in one line."""
    return f"{counted(rows)}. {best_words(rows, monitor)}."


def counted(rows: Sequence[SweepRow]) -> str:
    """`12 runs: 8 done, 4 failed`."""
    counts = Counter(row.state for row in rows)
    states = [*_STATES, *sorted(set(counts) - set(_STATES))]
    found = ", ".join(f"{counts[state]} {state}" for state in states if counts[state])
    return f"{len(rows)} run{'s' * (len(rows) != 1)}" + (f": {found}" if found else "")


def best_words(rows: Sequence[SweepRow], monitor: str) -> str:
    """The best score and the choices that gave it."""
    groups = group_rows(rows, monitor)
    if not groups or groups[0].mean is None:
        return f"No run has a {monitor}"
    best = groups[0]
    keys = [key for key in varied_keys(rows) if key in best.choices]
    chosen = ", ".join(f"{key}={value_text(best.choices[key], 6)}" for key in keys) or best.rows[0].name
    equal = sum(group.mean == best.mean for group in groups) - 1
    also = f"; {equal} other{'s are' if equal > 1 else ' is'} as good" if equal else ""
    if not varied_repeats(rows):
        return f"Best {monitor} {number(best.mean, _DIGITS)} with {chosen}{also}"
    spread = f" (sd {number(best.sd, _DIGITS)})" if best.sd is not None else ""
    alike, runs = f" with {chosen}" if keys else "", "runs" if best.planned > 1 else "run"
    return f"Best mean {monitor} {number(best.mean, _DIGITS)}{spread} over {_n_of(best)} {runs}{alike}{also}"


def summary_box(rows: Sequence[SweepRow], monitor: str) -> list[tuple[str, str]]:
    """The box at the top of the page, as (label, value)."""
    box = [("runs", counted(rows)), ("result", best_words(rows, monitor)), ("time", time_sentence(rows))]
    same = [key for key in choice_keys(rows) if key not in varied_keys(rows)]
    if same and rows:
        box.append(("the same in all", ", ".join(f"{key}={text_of(rows[0], key, 6)}" for key in same)))
    return box


def result_tables(rows: Sequence[SweepRow], monitor: str) -> list[tuple[str, list[str], Table]]:
    """(heading, paragraphs, table): the choices by their means where seeds or folds vary, and the runs."""
    if not any(row.state == DONE for row in rows):
        return []
    direction = "small" if monitor_mode(monitor) == "min" else "large"
    remarks = [
        f"Sorted by {monitor}, which is best when it is {direction}. It comes from validation, and the best of many "
        "is better there than it will be on new images."
    ]
    done = sum(row.state == DONE for row in rows)
    remarks = remarks if done > 1 else []
    more = [f"The best {MOST_ROWS} of {done}; sweep.csv has all."] if done > MOST_ROWS else []
    alike = _alike(rows, monitor)
    repeats = varied_repeats(rows)
    if not repeats:
        return [("Leaderboard", [*remarks, *alike, *more], run_table(rows, monitor))]
    groups = [group for group in group_rows(rows, monitor) if any(row.state == DONE for row in group.rows)]
    remarks.append(f"Mean and sample standard deviation over {', '.join(repeats)}; n counts runs with a score.")
    if len({lacks_images(group, repeats) for group in groups if group.n}) > 1:
        remarks.append("Choices that lack a score stand behind those that lack none: their mean is over other images.")
    first = [f"The best {MOST_ROWS} of {len(groups)}."] if len(groups) > MOST_ROWS else []
    return [
        ("Leaderboard", [*remarks, *first], group_table(groups, rows, monitor)),
        ("All runs", [*alike, *more], run_table(rows, monitor)),
    ]


def group_table(groups: Sequence[SweepGroup], rows: Sequence[SweepRow], monitor: str) -> Table:
    """Choices with the mean over their repeats."""
    keys = [key for key in varied_keys(rows) if key not in varied_repeats(rows)]
    names = metric_names([row for row in rows if row.is_scored], monitor)
    lines = []
    for position, group in enumerate(groups[:MOST_ROWS]):
        rank = sum(better.mean != group.mean for better in groups[:position]) + 1
        choices = [value_text(group.choices[key], 6) if key in group.choices else "-" for key in keys]
        numbers = [number(group.mean, _DIGITS), number(group.sd, _DIGITS), _n_of(group)]
        means = [number(group.mean_of(name), _DIGITS) for name in names]
        lines.append((str(rank) if group.n else "-", *choices, *numbers, *means))
    return Table(("rank", *keys, f"mean {monitor}", "sd", "n", *(f"mean {name}" for name in names)), tuple(lines))


def run_table(rows: Sequence[SweepRow], monitor: str) -> Table:
    """What is done, best first."""
    keys, done = varied_keys(rows), [(rank, row) for rank, row in rank_rows(rows, monitor) if row.state == DONE]
    names = metric_names([row for _, row in done], monitor)
    has_interval = any(row.interval for _, row in done)
    lines = []
    for rank, row in done[:MOST_ROWS]:
        low_high = f"{row.interval[0]:.{_DIGITS}f} to {row.interval[1]:.{_DIGITS}f}" if row.interval else "n/a"
        numbers = [number(row.score if row.is_scored else None, _DIGITS), *[low_high] * has_interval]
        further = [number(row.metrics.get(name), _DIGITS) for name in names]
        tail = ["n/a" if row.epochs is None else str(row.epochs), duration(row.seconds), row.name]
        choices = [text_of(row, key, 6) for key in keys]
        lines.append(("-" if rank is None else str(rank), *choices, *numbers, *further, *tail))
    interval = ["val AUROC, 95 % interval"] * has_interval
    return Table(("rank", *keys, monitor, *interval, *names, "epochs", "time", "folder"), tuple(lines))


def unfinished_table(rows: Sequence[SweepRow]) -> Table:
    """Every job that is not done, with its reason."""
    keys = varied_keys(rows)
    found = sorted((row for row in rows if row.state != DONE), key=lambda row: (row.state, row.name))
    lines = [
        (row.name, row.state, ", ".join(f"{key}={text_of(row, key, 6)}" for key in keys), row.reason.strip())
        for row in found
    ]
    return Table(("folder", "state", "choices", "reason"), tuple(lines), num_labels=4)


def time_sentence(rows: Iterable[SweepRow]) -> str:
    """The work of all jobs, and of one."""
    seconds = [row.seconds for row in rows if row.seconds is not None]
    if not seconds:
        return "no job has a time"
    if len(seconds) == 1:
        return f"{duration(seconds[0])} of work"
    low, high = duration(min(seconds)), duration(max(seconds))
    each = low if low == high else f"{low} to {high}"
    return f"{duration(math.fsum(seconds))} of work in {len(seconds)} jobs, {each} each"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: `38 s`, `4.2 min`, `1.3 h`."""
    if seconds is None:
        return "n/a"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _alike(rows: Sequence[SweepRow], monitor: str) -> list[str]:
    """How many runs validation cannot tell from the best one."""
    scored = [row for _, row in rank_rows(rows, monitor) if row.is_scored]
    if monitor != "val/auroc" or len(scored) < 2 or scored[0].interval is None:
        return []
    low, _ = scored[0].interval
    inside = sum(row.score is not None and row.score >= low for row in scored)
    return [f"{inside} of {len(scored)} runs lie within the 95 % interval of the best one."] if inside > 1 else []


def _n_of(group: SweepGroup) -> str:
    return str(group.n) if group.n == group.planned else f"{group.n} of {group.planned}"


def _without_tags(table: Table) -> Table:
    """`<class 'int'>` in a message is no HTML."""
    rows = tuple(tuple(text.replace("<", r"\<") for text in row) for row in table.rows)
    return Table(table.header, rows, table.num_labels)


def _inline(text: str) -> str:
    return " ".join(text.split())
