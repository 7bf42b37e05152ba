"""A bar while images are hashed and decoded.

Without torch: whoever names the jobs of a sweep starts at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from pneumolit.data.store import Progress as StoreProgress


@contextlib.contextmanager
def data_progress(console: Console) -> Iterator[StoreProgress]:
    """A bar while images are hashed and decoded for the first time."""
    progress = Progress(
        TextColumn("{task.description} images"), BarColumn(), MofNCompleteColumn(), console=console, transient=True
    )
    tasks: dict[str, Any] = {}

    def advance(what: str, done: int, total: int) -> None:
        if not tasks:
            progress.start()  # not before: an existing store needs no bar, not even an empty line
        if what not in tasks:
            tasks[what] = progress.add_task(what, total=total)
        progress.update(tasks[what], completed=done)

    try:
        yield advance
    finally:
        if tasks:
            progress.stop()
