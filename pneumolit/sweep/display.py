"""What a person sees of a running sweep."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from pneumolit.config import monitor_mode
from pneumolit.report.sweep_tables import duration
from pneumolit.rundir import DONE, FAILED, RunDir
from pneumolit.stage_plan import plan_stages
from pneumolit.sweep.job import Job, Outcome

Running = Sequence[tuple[Job, Any, float]]  # job, device, seconds since its start
_REFRESH_SECONDS = 1.0


class Display:
    """A table that moves on a terminal, and a line for every job that ends everywhere.

    Args:
        console: where it is printed.
        total: jobs to be run.
        places: how many run at once.
        monitor: the metric that the best is chosen by.
    """

    def __init__(self, console: Console, *, total: int, places: int, monitor: str) -> None:
        self.console, self.total, self.places, self.monitor = console, total, places, monitor
        self.counts: dict[str, int] = {}
        self.best: tuple[float, Job] | None = None
        self._seconds: list[float] = []
        self._live: Live | None = None
        self._drawn = 0.0

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """While the jobs run."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as self._live:
            yield
        self._live = None

    def ended(self, outcome: Outcome, score: float | None) -> None:
        """The line of a job that has ended."""
        counts = self.counts
        counts[outcome.state] = counts.get(outcome.state, 0) + 1
        if outcome.state == DONE:
            self._seconds.append(outcome.seconds)
            if score is not None and (self.best is None or self._is_better(score, self.best[0])):
                self.best = (score, outcome.job)
        number = sum(counts.values())
        result = f"{self.monitor} {score:.4f}" if score is not None else outcome.state
        reason = f": {' '.join(outcome.reason.split())}" if outcome.reason else ""
        say(
            self.console,
            f"{number:>{len(str(self.total))}}/{self.total}   {name_of(outcome.job)}   "
            f"{outcome.state + reason if outcome.state != DONE else result}   "
            f"{outcome.seconds:.0f} s on {outcome.device}",
        )

    def look(self, running: Running) -> None:
        """Draw anew, once a second at most."""
        if self._live is not None and time.monotonic() - self._drawn > _REFRESH_SECONDS:
            self._drawn = time.monotonic()
            self._live.update(self._drawing(running), refresh=True)

    def _drawing(self, running: Running) -> Group:
        table = Table(box=box.SIMPLE)
        for name in ("running", "on", "epoch", self.monitor, "for"):
            table.add_column(name, overflow="fold")
        for job, device, seconds in running:
            rows = rows_so_far(job.run)
            planned = sum(stage.epochs for stage in plan_stages(job.cfg))
            value = rows[-1].get(self.monitor) if rows else None
            table.add_row(
                escape(name_of(job)), device.name, f"{len(rows)}/{planned}", "" if value is None else f"{value:.4f}",
                duration(seconds),
            )  # fmt: skip
        counts = self.counts
        ended = sum(counts.values())
        waiting = self.total - ended - len(running)
        words = [f"{counts.get(DONE, 0)} done", f"{counts.get(FAILED, 0)} failed", f"{len(running)} running"]
        words.append(f"{waiting} waiting")
        if self._seconds and self.total > ended:
            mean = sum(self._seconds) / len(self._seconds)
            going = sum(min(seconds, mean) for _, _, seconds in running)
            rest = max(mean * (self.total - ended) - going, 0.0) / self.places
            end = time.strftime("%H:%M", time.localtime(time.time() + rest))
            words.append(f"about {duration(rest)} to go (until {end})")
        best = "" if self.best is None else f"best {self.monitor} {self.best[0]:.4f}: {name_of(self.best[1])}"
        return Group(table, f"  {', '.join(words)}", f"  {escape(best)}")

    def _is_better(self, value: float, than: float) -> bool:
        return value < than if monitor_mode(self.monitor) == "min" else value > than


def say(console: Console, text: str) -> None:
    """A line as it is: names of folders and values are no markup, and are not broken."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def name_of(job: Job) -> str:
    """What sets a job apart, in words."""
    return ", ".join(f"{key}={value}" for key, value in job.choices.items()) or f"job {job.number}"


def rows_so_far(run: RunDir) -> list[dict[str, float]]:
    """Epochs so far; a file that is being replaced has none at this moment."""
    try:
        return run.read_metrics()
    except (OSError, ValueError):
        return []
