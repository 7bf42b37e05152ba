"""The jobs of a sweep as rows: which is best, which are repeats of one another, one line of CSV each."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pneumolit.config import monitor_mode
from pneumolit.rundir import DONE

# Keys that repeat an experiment instead of changing it.
REPEATS = ("seed", "data.seed", "data.fold")
_OTHER_IMAGES = frozenset(("data.seed", "data.fold"))  # those that change which images judge
ABSENT = "-"  # stands for a key that this job does not set


@dataclass(frozen=True)
class SweepRow:
    """One job of a sweep.

    Attributes:
        name: of its folder, the fingerprint.
        choices: what varies between jobs, key -> value; a key that this job does not set may be left out.
        state: "done", "failed", "interrupted", "pruned" or "waiting"; only what is done has a rank.
        reason: of a failure or a stop.
        score: the monitored validation metric at the scored checkpoint; None where it is not known.
        metrics: further numbers by name, such as "stress/auroc".
        interval: 95 % over patients of the validation AUROC.
        seconds: that the job took, all attempts together.
        epochs: that it trained.
    """

    name: str
    choices: Mapping[str, Any]
    state: str
    reason: str = ""
    score: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    seconds: float | None = None
    epochs: int | None = None

    @property
    def is_scored(self) -> bool:
        """Done and with a number to rank it by."""
        return self.state == DONE and self.score is not None and math.isfinite(self.score)


@dataclass(frozen=True)
class SweepGroup:
    """Jobs that differ in nothing but seeds and folds.

    Attributes:
        choices: of all its jobs, without the keys that repeat.
        rows: in the order of seeds and folds.
        mean: of the scores; None where no job has one.
        sd: sample standard deviation of the scores; None for fewer than two.
        n: jobs with a score.
    """

    choices: Mapping[str, Any]
    rows: tuple[SweepRow, ...]
    mean: float | None
    sd: float | None
    n: int

    @property
    def planned(self) -> int:
        """Jobs, with or without a score."""
        return len(self.rows)

    def mean_of(self, metric: str) -> float | None:
        """Mean of a further metric over the jobs that have a score."""
        found = [row.metrics[metric] for row in self.rows if row.is_scored and metric in row.metrics]
        return float(np.mean(found)) if found else None


def rank_rows(rows: Iterable[SweepRow], monitor: str) -> list[tuple[int | None, SweepRow]]:
    """Rows with their ranks, best first; equal scores share a rank, and what has no score comes last without one."""
    sign = -1.0 if monitor_mode(monitor) == "max" else 1.0
    rows = sorted(rows, key=lambda row: (row.state != DONE, row.name))
    scored = sorted((row for row in rows if row.is_scored), key=lambda row: (sign * _score(row), _order(row)))
    scores = [_score(row) for row in scored]
    return [(scores.index(_score(row)) + 1, row) for row in scored] + [(None, r) for r in rows if not r.is_scored]


def group_rows(rows: Iterable[SweepRow], monitor: str) -> list[SweepGroup]:
    """Put repeats together, best mean first; of folds or data seeds, groups that lack a score stand behind whole ones.

    A mean over fewer folds is another quantity, since those that are there may be the easy ones; one over fewer seeds
    is only less sure. Where no seed and no fold varies, every row is a group of its own.

    Args:
        rows: in any order.
        monitor: the metric of the scores; a loss is best when it is small.
    """
    ranked = [row for _, row in rank_rows(rows, monitor)]
    repeats = varied_repeats(ranked)
    members: dict[tuple[str, ...], list[SweepRow]] = {}
    for row in ranked:
        own = (f"{key}={value_text(value)}" for key, value in row.choices.items() if key not in repeats)
        key = tuple(sorted(own)) if repeats else (row.name,)
        members.setdefault(key, []).append(row)
    groups = [_group(found, repeats) for found in members.values()]
    sign = -1.0 if monitor_mode(monitor) == "max" else 1.0
    # Stable: ties stay in rank order.
    return sorted(groups, key=lambda g: (g.mean is None, lacks_images(g, repeats), sign * (g.mean or 0.0)))


def lacks_images(group: SweepGroup, repeats: Sequence[str]) -> bool:
    """Whether a group has no score on images that others have one on; seeds alone all judge the same ones."""
    return group.n < group.planned and not _OTHER_IMAGES.isdisjoint(repeats)


def varied_keys(rows: Iterable[SweepRow]) -> list[str]:
    """Keys of which there is more than one value, the repeating ones last."""
    rows = sorted(rows, key=lambda row: row.name)
    keys = [key for key in choice_keys(rows) if len({text_of(row, key) for row in rows}) > 1]
    return sorted(keys, key=lambda key: key in REPEATS)


def varied_repeats(rows: Iterable[SweepRow]) -> list[str]:
    """Seeds and folds of which there is more than one."""
    return [key for key in varied_keys(rows) if key in REPEATS]


def choice_keys(rows: Iterable[SweepRow]) -> list[str]:
    """All keys of all rows, in the order in which the jobs have them."""
    return list(dict.fromkeys(key for row in sorted(rows, key=lambda row: row.name) for key in row.choices))


def metric_names(rows: Iterable[SweepRow], monitor: str) -> list[str]:
    """Further metrics of any row: those of the stress images and the held-out block first, then by name."""
    names = {name for row in rows for name in row.metrics} - {monitor}
    return sorted(names, key=lambda name: (not name.startswith(("stress/", "block/")), name))


def text_of(row: SweepRow, key: str, digits: int | None = None) -> str:
    """A row's value of a key, "-" where it does not set the key."""
    return value_text(row.choices[key], digits) if key in row.choices else ABSENT


def value_text(value: Any, digits: int | None = None) -> str:
    """A value as one would type it; equal numbers give equal texts.

    Args:
        value: any plain value.
        digits: significant digits of a float; None: as many as give the same float again.
    """
    if isinstance(value, float | np.floating):
        text = repr(float(value)) if digits is None else f"{float(value):.{digits}g}"
        mantissa, _, exponent = text.removesuffix(".0").partition("e")
        return f"{mantissa}e{int(exponent)}" if exponent else mantissa
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {value_text(v, digits)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(value_text(v, digits) for v in value) + "]"
    return str(value)


def level_order(value: Any) -> tuple[int, float, str]:
    """Sorts values of any kind: numbers by size, then texts, then null."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0 if is_number else 2 if value is None else 1, float(value) if is_number else 0.0, value_text(value))


def sweep_csv(rows: Sequence[SweepRow], monitor: str) -> str:
    """One line per job, best first; the same text in whatever order the rows come.

    Numbers have as many digits as give the same number again; what is not known is empty.

    Args:
        rows: of all jobs.
        monitor: the metric of the scores, name of its column.
    """
    keys, names = choice_keys(rows), metric_names(rows, monitor)
    after = ("interval_low", "interval_high", "epochs", "seconds", "state", "reason", "folder")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["rank", *keys, monitor, *names, *after])
    for rank, row in rank_rows(rows, monitor):
        choices = [row.choices.get(key, "") for key in keys]  # null is a choice
        numbers = [row.score, *(row.metrics.get(name) for name in names), *(row.interval or (None, None))]
        line = [rank, *map(value_text, choices), *map(_digits, numbers), row.epochs, _digits(row.seconds)]
        writer.writerow([_lines(cell) for cell in (*line, row.state, row.reason, row.name)])
    return out.getvalue()


def _group(rows: Sequence[SweepRow], repeats: Sequence[str]) -> SweepGroup:
    scores = [_score(row) for row in rows if row.is_scored]
    return SweepGroup(
        choices={key: value for key, value in rows[0].choices.items() if key not in repeats},
        rows=tuple(sorted(rows, key=lambda row: [level_order(row.choices.get(key)) for key in repeats])),
        mean=float(np.mean(scores)) if scores else None,
        sd=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        n=len(scores),
    )


def _score(row: SweepRow) -> float:
    assert row.score is not None
    return row.score


def _order(row: SweepRow) -> tuple[Any, ...]:
    return ([(key, level_order(value)) for key, value in sorted(row.choices.items())], row.name)


def _digits(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else repr(float(value))


def _lines(cell: Any) -> Any:
    # A bare carriage return, as progress bars print it, would end the line for other readers of CSV.
    return "\n".join(cell.splitlines()) if isinstance(cell, str) else cell
