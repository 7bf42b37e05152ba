"""The folders of the cache: what each holds, when it was last used, and whether a process uses it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumolit.data.demo import MARKER as DEMO_MARKER
from pneumolit.rundir import is_locked

STORE, FEATURES, DEMO, MNIST = "store", "features", "demo", "pneumoniamnist"
BUILDING = ".building"
_BY_STAT, _WAITING, _PARTIAL = "by_stat", ".waiting", ".partial"
_STALE = 3600  # seconds; phantoms are written in one minute, without a lock
_MAPS = "/proc/{}/maps"  # which files a process has mapped; Linux only


@dataclass(frozen=True)
class CacheEntry:
    """One folder of the cache.

    Attributes:
        folder: where it lies.
        kind: "store", "features", "demo" or "pneumoniamnist".
        what: its content in words.
        num_bytes: on disk.
        last_used: seconds since 1970; where the file system does not note reading, when it was written.
        is_in_use: whether a process writes it or has it mapped.
    """

    folder: Path
    kind: str
    what: str
    num_bytes: int
    last_used: float
    is_in_use: bool


def list_cache(base: Path) -> list[CacheEntry]:
    """Everything that the cache folder holds, the largest first.

    Args:
        base: the cache folder; it need not exist.
    """
    mapped = _mapped_folders(base)
    found = [
        CacheEntry(
            folder,
            kind,
            _describe(folder, kind),
            sum(told.st_size for told in _stats(folder)),
            max((max(told.st_atime, told.st_mtime) for told in _stats(folder)), default=folder.stat().st_mtime),
            folder in mapped or _is_written(base, folder, kind),
        )
        for kind in (STORE, FEATURES, DEMO, MNIST)
        for folder in _folders(base / kind)
    ]
    return sorted(found, key=lambda entry: (-entry.num_bytes, entry.folder))


def lock_files(base: Path, folder: Path, kind: str) -> list[Path]:
    """Lock files that a process holds while it writes this folder."""
    if kind == DEMO:
        return []
    if kind == MNIST:
        return [folder.parent / f"{folder.name.removeprefix('.').removesuffix(_PARTIAL)}.lock"]
    name = folder.name.removesuffix(BUILDING)
    places = [folder.parent / f"{name}.lock"]
    if kind == STORE:
        places.append(folder.parent / _BY_STAT / f"{name}.lock")  # of one that is being built
        places += [pointer.with_suffix(".lock") for pointer in pointers(base, name) if pointer.suffix == ".txt"]
    return places


def pointers(base: Path, key: str) -> list[Path]:
    """Files that lead to a store by names, sizes and times of its images."""
    found = []
    for path in (base / STORE / _BY_STAT).glob("*"):
        if path.suffix in (".txt", ".sizes"):
            with contextlib.suppress(OSError):
                if path.read_text(encoding="utf-8").strip() == key:
                    found.append(path)
    return found


def _folders(base: Path) -> list[Path]:
    if not base.is_dir():
        return []
    # Links are left alone: what they lead to is somebody else's.
    folders = (p for p in base.iterdir() if p.is_dir() and not p.is_symlink())
    return sorted(p for p in folders if p.name != _BY_STAT and p.suffix != _WAITING)


def _stats(folder: Path) -> list[Any]:
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # taken away meanwhile
            if not path.is_symlink() and path.is_file():
                found.append(path.stat())
    return found


def _describe(folder: Path, kind: str) -> str:
    import numpy as np

    if folder.name.endswith((BUILDING, _PARTIAL)):
        return "half written"
    name = {STORE: "images.npy", FEATURES: "features.npy"}.get(kind)
    if kind == MNIST:
        size = folder.name.partition("-")[0]
        return f"PneumoniaMNIST of {size} pixels" if size.isdigit() else "published files of PneumoniaMNIST"
    if name is None:
        return "phantoms" if (folder / DEMO_MARKER).is_file() else "no set of phantoms"
    try:
        with _times_kept(folder / name):
            shape = np.load(folder / name, mmap_mode="r").shape
    except (OSError, ValueError, EOFError):
        return "damaged"
    if kind == STORE:
        return f"{shape[0]:,} images of {shape[1]} x {shape[2]} pixels"
    return f"features of {shape[0]:,} images{_made_by(folder)}"


@contextlib.contextmanager
def _times_kept(path: Path) -> Iterator[None]:
    """To look at the cache must not count as using it."""
    told = path.stat()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))


def _made_by(folder: Path) -> str:
    try:
        with _times_kept(folder / "index.json"):
            model = json.loads((folder / "index.json").read_text(encoding="utf-8")).get("architecture")
    except (OSError, ValueError, RecursionError, AttributeError):
        return ""
    return f" by {model}" if model else ""


def _is_written(base: Path, folder: Path, kind: str) -> bool:
    is_young = folder.suffix == _PARTIAL and time.time() - folder.stat().st_mtime < _STALE
    return is_young or any(is_locked(lock) for lock in lock_files(base, folder, kind))


def _mapped_folders(base: Path) -> set[Path]:
    """Folders of which a process has a file mapped, as whoever trains has a store: no lock is held for that long."""
    prefix, found = f"{base.resolve()}/", set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or gone
            for line in Path(_MAPS.format(process.name)).read_text(errors="replace").splitlines():
                place = line.find(prefix)
                if place >= 0:
                    kind, _, rest = line[place + len(prefix) :].partition("/")
                    found.add(base / kind / rest.partition("/")[0])
    return found
