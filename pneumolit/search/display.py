"""What a person sees of a running search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from pneumolit.config import monitor_mode
from pneumolit.report.sweep_tables import duration
from pneumolit.search.study import SharedStudy
from pneumolit.search.trial import epochs_of
from pneumolit.sweep.display import Display, Running, rows_so_far, say
from pneumolit.sweep.job import Outcome


class SearchDisplay(Display):
    """A table that moves on a terminal, and a line for every trial that ends everywhere.

    Args:
        console: where it is printed.
        total: finished trials that are wanted.
        places: how many run at once.
        monitor: what is optimised.
    """

    def __init__(self, console: Console, *, total: int, places: int, monitor: str) -> None:
        super().__init__(console, total=total, places=places, monitor=monitor)
        self._finished = 0
        self._top: tuple[float, int] | None = None

    def begin(self, study: SharedStudy) -> None:
        """Take up what there is already."""
        finished = study.finished()
        self._finished = len(finished)
        better = min if monitor_mode(self.monitor) == "min" else max
        # A pruned trial has a value too, but not one of a run that came to its end.
        complete = [trial for trial in finished if trial.state.name == "COMPLETE"]
        self._top = better(((t.values[0], t.number) for t in complete), key=lambda pair: pair[0], default=None)

    def told(self, study: SharedStudy, outcome: Outcome, state: str, value: float | None, reason: str) -> None:
        """The line of a trial that has ended."""
        self.begin(study)
        if state == "COMPLETE":
            result = f"{self.monitor} {value:.4f}"
        else:
            result = f"{'pruned' if state == 'PRUNED' else 'failed'}{f': {reason}' if reason else ''}"
        best = "" if self._top is None else f"   best {self._top[0]:.4f} (trial {self._top[1]})"
        width = len(str(self.total))
        self.say(
            f"{self._finished:>{width}}/{self.total}   trial {outcome.job.number}   {result}{best}   "
            f"{say_point(outcome.job.choices)}   {outcome.seconds:.0f} s on {outcome.device}"
        )

    def say(self, text: str) -> None:
        """A line that stays."""
        say(self.console, text)

    def _drawing(self, running: Running) -> Group:
        table = Table(box=box.SIMPLE)
        for name in ("trial", "on", "epoch", self.monitor, "for", "with"):
            table.add_column(name, overflow="fold")
        for job, device, seconds in running:
            rows = rows_so_far(job.run)
            value = rows[-1].get(self.monitor) if rows else None
            table.add_row(
                str(job.number), device.name, f"{len(rows)}/{epochs_of(job.cfg)}",
                "" if value is None else f"{value:.4f}", duration(seconds), escape(say_point(job.choices)),
            )  # fmt: skip
        best = "" if self._top is None else f"; best {self.monitor} {self._top[0]:.4f} (trial {self._top[1]})"
        return Group(table, f"  {self._finished} of {self.total} trials finished{best}")


def say_point(point: Mapping[str, Any]) -> str:
    """A point in words.

    >>> say_point({"optim.lr": 0.00123456, "optim": "sgd"})
    'optim.lr=0.001235, optim=sgd'
    """
    return ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in point.items())
