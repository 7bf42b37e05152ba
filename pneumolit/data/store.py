"""Decode once: a memory-mapped uint8 array of resized gray images, keyed by the content of the files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock

from pneumolit.data.reader import READER_VERSION, ImageError, read_gray, read_size

_IMAGES, _INDEX = "images.npy", "index.json"
_NOT_HASHED = "unreadable"
Progress = Callable[[str, int, int], None]  # (what, done, total)
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class ImageStore:
    """Images of one data set in the order in which their files were named.

    Attributes:
        images: `(N, S, S)` uint8, memory-mapped and read-only; rows of unreadable files are black.
        hashes: `(N,)` SHA-256 of every file.
        errors: row -> reason, for the files that could not be read.
        key: what the store is named by: hash of contents, order, size and reader version.
        folder: where it lies.
    """

    images: np.ndarray
    hashes: tuple[str, ...]
    errors: dict[int, str]
    key: str
    folder: Path


def open_store(
    root: Path,
    paths: Sequence[Path],
    *,
    cache_dir: Path,
    store_size: int = 256,
    progress: Progress | None = None,
) -> ImageStore:
    """Open the store of these files, building it first where there is none.

    An existing store is found by the files' names, sizes and times alone (no file is opened); otherwise every
    file is hashed and, if no store of that content exists, decoded. Writing happens under a temporary name and
    ends with a rename, under a lock, so two processes or a kill half way leave nothing broken.

    Args:
        root: the data root.
        paths: files relative to root; their order is the order of the rows.
        cache_dir: the store lives in cache_dir/store/<key>.
        store_size: largest side in pixels. Images are squashed to a square and never enlarged: a set whose
            images are all smaller is stored at the largest short side that occurs in it.
        progress: called now and then while building.
    """
    base = cache_dir / "store"
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"cache_dir={cache_dir} cannot be written ({error.strerror}); "
            "set cache_dir=FOLDER or PNEUMOLIT_CACHE to a folder that can"
        ) from error
    pointer = base / "by_stat" / f"{_stat_key(root, paths, store_size)}.txt"
    if pointer.is_file():
        known = _load(base, pointer.read_text().strip())
        if known is not None:
            return known
    hashes = _hash_files(root, paths, progress)
    key = _content_key(hashes, store_size)
    with FileLock(base / f"{key}.lock"):
        store = _load(base, key)
        if store is None:
            _build(base, key, root, paths, hashes, store_size, progress)
            store = _load(base, key)
        assert store is not None
    if _NOT_HASHED not in hashes:  # else name, size and time would not tell when the file can be opened again
        _write_whole(pointer, key)
    return store


def _stat_key(root: Path, paths: Sequence[Path], store_size: int) -> str:
    digest = hashlib.sha256(f"{READER_VERSION} {store_size} {root.resolve()}".encode("utf-8", "surrogateescape"))
    for path in paths:
        try:
            stat = (root / path).stat()
            digest.update(f"{path.as_posix()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        except OSError:
            digest.update(f"{path.as_posix()}\0gone\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _content_key(hashes: Sequence[str], store_size: int) -> str:
    digest = hashlib.sha256(f"{READER_VERSION} {store_size}".encode())
    for value in hashes:
        digest.update(value.encode())
    return digest.hexdigest()[:32]


def _hash_files(root: Path, paths: Sequence[Path], progress: Progress | None) -> tuple[str, ...]:
    def hash_one(path: Path) -> str:
        try:
            with (root / path).open("rb") as handle:
                return hashlib.file_digest(handle, "sha256").hexdigest()
        except OSError:
            return _NOT_HASHED

    return tuple(_map(hash_one, paths, "hashing", progress))


def _build(
    base: Path,
    key: str,
    root: Path,
    paths: Sequence[Path],
    hashes: tuple[str, ...],
    store_size: int,
    progress: Progress | None,
) -> None:
    for left in base.glob("*.building"):  # of a process that was killed; the lock says that it is not at work
        if left.name.startswith(key):
            shutil.rmtree(left, ignore_errors=True)
    folder = base / f"{key}.building"
    folder.mkdir()
    side = min(store_size, max(_map(lambda p: _short_side(root / p), paths, "measuring", None), default=1))
    images = np.lib.format.open_memmap(folder / _IMAGES, mode="w+", dtype=np.uint8, shape=(len(paths), side, side))
    errors: dict[int, str] = {}

    def decode_one(row: int) -> None:
        try:
            images[row] = read_gray(root / paths[row], side)
        except ImageError as error:
            errors[row] = str(error)

    _map(decode_one, range(len(paths)), "decoding", progress)
    images.flush()
    index = {
        "reader": READER_VERSION,
        "hashes": hashes,
        "errors": {str(k): errors[k] for k in sorted(errors)},
    }
    _write_whole(folder / _INDEX, json.dumps(index))
    _sync(folder / _IMAGES)
    shutil.rmtree(base / key, ignore_errors=True)  # there, but not whole: a cleaner of caches took a file
    folder.rename(base / key)


def _load(base: Path, key: str) -> ImageStore | None:
    folder = base / key
    try:
        index = json.loads((folder / _INDEX).read_text())
        images = np.load(folder / _IMAGES, mmap_mode="r")
    except (OSError, ValueError, EOFError):  # np.load has its own word for an empty file
        return None
    errors = {int(row): reason for row, reason in index["errors"].items()}
    return ImageStore(images, tuple(index["hashes"]), errors, key, folder)


def _short_side(path: Path) -> int:
    try:
        return max(min(read_size(path)), 1)
    except ImageError:
        return 1


def _map(function: Callable[[_T], _R], items: Sequence[_T], what: str, progress: Progress | None) -> list[_R]:
    # Threads, not processes: decoding, resizing and hashing run in C without the interpreter's lock.
    results = []
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        for done, result in enumerate(pool.map(function, items), start=1):
            results.append(result)
            if progress is not None and (done % 64 == 0 or done == len(items)):
                progress(what, done, len(items))
    return results


def _write_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _sync(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
