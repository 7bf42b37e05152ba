"""What the cache folder holds, for people, and how it is made smaller."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pneumolit.auditing.cache_entries import BUILDING, STORE, CacheEntry, list_cache, lock_files, pointers
from pneumolit.auditing.showing import say, show
from pneumolit.data.store import cache_folder
from pneumolit.report.tables import Table

if TYPE_CHECKING:
    from rich.console import Console

ALL = "all"
_DAY = 86400  # seconds


def audit_cache(setting: str | None, prune: Any, console: Console) -> None:
    """List the cache, and remove what `prune` says.

    Args:
        setting: `cache_dir`.
        prune: None, a number of days, or "all".
        console: for people.

    Raises:
        ValueError: `prune` is neither.
    """
    days = read_prune(prune)
    base = cache_folder(setting)
    entries = list_cache(base)
    if not entries:
        say(console, f"cache_dir={base} holds nothing.")
        return
    removed = set() if days is None else set(prune_cache(base, entries, older_than_days=days))
    show(console, cache_table(entries, removed))
    total = sum(entry.num_bytes for entry in entries)
    freed = sum(entry.num_bytes for entry in entries if entry.folder in removed)
    say(
        console, f"{base}: {_size(total)} in {len(entries)} folders" + (f"; {_size(freed)} removed" if removed else ".")
    )
    if days is None:
        say(console, "Removing costs time only: what is needed again is made again. prune=30 removes what was not used")
        say(console, "for 30 days, prune=all everything that no process uses.")


def read_prune(value: Any) -> float | None:
    """Days from the key `prune`: None stays None, "all" is 0.

    Raises:
        ValueError: it is no number of days.
    """
    if value is None:
        return None
    if value == ALL:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"prune must be a number of days above 0, or all, got {value!r}")
    return float(value)


def prune_cache(base: Path, entries: Sequence[CacheEntry], *, older_than_days: float) -> list[Path]:
    """Remove folders that were not used for so many days, never one that a process uses.

    Each is renamed first, so that whoever looks for it meanwhile finds it whole or not at all.

    Args:
        base: the cache folder.
        entries: of `list_cache`.
        older_than_days: 0 removes all.

    Returns:
        What was removed.
    """
    limit = time.time() - older_than_days * _DAY
    removed = []
    for entry in entries:
        if entry.is_in_use or (older_than_days and entry.last_used > limit):
            continue
        with contextlib.suppress(Timeout), _held(lock_files(base, entry.folder, entry.kind)):
            aside = entry.folder.with_name(f"{entry.folder.name}.{time.time_ns()}{BUILDING}")
            entry.folder.rename(aside)
            shutil.rmtree(aside)
            _forget(base, entry)
            removed.append(entry.folder)
    return removed


def cache_table(entries: Sequence[CacheEntry], removed: set[Path]) -> Table:
    """What there is; what was removed says so."""
    now = time.time()
    rows = [
        (
            f"{entry.kind}/{entry.folder.name}",
            entry.what,
            "removed" if entry.folder in removed else "in use" if entry.is_in_use else "-",
            _size(entry.num_bytes),
            _ago(now - entry.last_used),
        )
        for entry in entries
    ]
    return Table(("folder", "what", "state", "size", "last used"), tuple(rows), num_labels=3)


def _forget(base: Path, entry: CacheEntry) -> None:
    # The lock files stay: another process may wait for one this very moment.
    if entry.kind == STORE:
        for pointer in pointers(base, entry.folder.name):
            pointer.unlink(missing_ok=True)


@contextlib.contextmanager
def _held(locks: Sequence[Path]) -> Iterator[None]:
    """Hold lock files, or do not wait for them.

    Raises:
        Timeout: another process holds one.
    """
    with contextlib.ExitStack() as stack:
        for path in locks:
            if path.parent.is_dir():
                stack.enter_context(FileLock(path, timeout=0))
        yield


def _size(num_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes / 1e3:.1f} kB"


def _ago(seconds: float) -> str:
    for word, size in (("day", _DAY), ("hour", 3600), ("minute", 60)):
        count = int(seconds / size)
        if count >= 1:
            return f"{count} {word}{'s' * (count > 1)} ago"
    return "now"
