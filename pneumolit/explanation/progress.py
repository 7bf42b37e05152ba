"""A bar while the checks of heat maps are made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pneumolit.explanation.methods import Advance


@contextlib.contextmanager
def check_progress(console: Console, what: str, total: int) -> Iterator[Advance]:
    """A bar that goes when its work is done; the function within is told of every image."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)
