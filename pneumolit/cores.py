"""Cores of the processor: those that a process has, and those that others lend while they wait for its result."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")  # tells machines apart that share a folder


def available_cores() -> tuple[int, ...]:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))  # macOS, Windows: no affinity, the count alone matters


def use_cores(cores: Sequence[int], threads: int = 0) -> int:
    """Run on these cores, with a thread on each, or with so many threads where no cores are given; how many it has."""
    import torch

    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    threads = len(cores) or threads or len(available_cores())
    torch.set_num_threads(threads)
    return threads


@contextlib.contextmanager
def lent_cores(folder: Path) -> Iterator[None]:
    """While inside, this process waits and its cores are for the one that looks into the folder.

    Args:
        folder: of the lenders; it is there while anybody lends.
    """
    note = folder / str(os.getpid())
    with contextlib.suppress(OSError):  # lending is a favour: whoever cannot write waits as well
        folder.mkdir(exist_ok=True)
        note.write_text(" ".join(map(str, (_machine(), *available_cores()))))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink()
            folder.rmdir()  # refused while others lend


class BorrowedCores:
    """Cores of the processes that wait for this one, beside its own; as a context they are given back at the end.

    Jobs of a sweep have a share of the cores each. Where they all wait for the same features, the one that computes
    them has the machine for itself.

    Args:
        folder: where others say that they wait.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own = available_cores()
        self._used = self._own
        self._threads = 0  # before anything was borrowed

    def __enter__(self) -> BorrowedCores:
        return self

    def __exit__(self, *error: object) -> None:
        self._use(self._own)

    def look(self) -> None:
        """Take what is lent now, and leave what no longer is."""
        lent = self._lent()
        if lent or self._used != self._own:
            self._use(tuple(sorted({*self._own, *lent})))

    def _lent(self) -> set[int]:
        found: set[int] = set()
        with contextlib.suppress(OSError, ValueError):  # nobody lends, or one has just stopped
            for note in self.folder.iterdir():
                machine, *cores = note.read_text().split()
                if machine == _machine() and Path(f"/proc/{note.name}").exists():
                    found |= set(map(int, cores))
        return found

    def _use(self, cores: tuple[int, ...]) -> None:
        if cores == self._used:
            return
        import torch

        self._threads = self._threads or torch.get_num_threads()
        use_cores(cores)
        if cores == self._own:
            torch.set_num_threads(self._threads)
        self._used = cores


def _machine() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return "-"  # no Linux: there is no /proc to find lenders in either
