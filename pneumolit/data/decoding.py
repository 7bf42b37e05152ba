"""One pass over the files of a data set: every file is read once, hashed, and decoded into its row of an array."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

from pneumolit.data.reader import ImageError, PassingError, read_file, read_gray, read_size

Progress = Callable[[str, int, int], None]  # (what, done, total)
_SAMPLE = 64  # headers from which the side of the stored images is guessed


class _LargerFilmError(Exception):
    """A film is larger than the side that was guessed from a sample."""


def hash_files(root: Path, paths: Sequence[str], progress: Progress | None = None) -> np.ndarray:
    """SHA-256 of every file, `(N, 32)` uint8; zeros where a file cannot be read."""
    digests = np.zeros((len(paths), 32), dtype=np.uint8)

    def hash_one(row: int) -> None:
        try:
            digests[row] = _digest(read_file(root / paths[row]))
        except ImageError:
            return

    _each(hash_one, len(paths), "hashing", progress)
    return digests


def decode_files(
    root: Path, paths: Sequence[str], file: Path, *, store_size: int, progress: Progress | None = None
) -> tuple[np.ndarray, dict[int, str]]:
    """Decode every file into a row of a new .npy file, and hash it on the way.

    Memory does not grow with the number of files: rows are written, not mapped.

    Args:
        root: the data root.
        paths: files relative to root.
        file: written anew: `(N, S, S)` uint8 in the order of the paths; rows of unreadable files are black. S is
            the largest short side that occurs, at most `store_size`.
        store_size: largest side in pixels.
        progress: called now and then.

    Returns:
        (digests as from `hash_files`, row -> reason for the files that cannot be read)
    """
    side = _measure(root, paths[:: max(1, len(paths) // _SAMPLE)], store_size)
    while True:
        try:
            return _decode(root, paths, file, side, store_size, progress)
        except _LargerFilmError:
            side = _measure(root, paths, store_size)


def _decode(
    root: Path, paths: Sequence[str], file: Path, side: int, store_size: int, progress: Progress | None
) -> tuple[np.ndarray, dict[int, str]]:
    images = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(len(paths), side, side))
    begin = images.offset
    del images
    digests = np.zeros((len(paths), 32), dtype=np.uint8)
    errors: dict[int, str] = {}
    turn = threading.Lock()

    def decode_one(row: int) -> None:
        try:
            data = read_file(root / paths[row])
            digests[row] = _digest(data)
            if side < store_size and min(read_size(data)) > side:
                raise _LargerFilmError
            image = read_gray(data, side)
        except ImageError as error:
            errors[row] = str(error)
            if isinstance(error, PassingError):
                digests[row] = 0  # as a file that could not be opened: it is tried again, and no store is named by it
            return
        with turn:
            out.seek(begin + row * side * side)
            if out.write(image.data) != image.nbytes:  # the next one would say so, if there were one
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with file.open("r+b", buffering=0) as out:
        _each(decode_one, len(paths), "decoding", progress, lambda: os.fsync(out.fileno()))
        os.fsync(out.fileno())
    return digests, dict(sorted(errors.items()))


def _measure(root: Path, paths: Sequence[str], store_size: int) -> int:
    """The largest short side of some files, at most `store_size`; nothing is read after a film of that size."""
    sides = [1]

    def measure_one(row: int) -> None:
        if max(sides) < store_size:
            try:
                sides.append(min(read_size(root / paths[row])))
            except ImageError:
                return

    _each(measure_one, len(paths), "measuring", None)
    return min(store_size, max(sides))


def _each(
    function: Callable[[int], None],
    count: int,
    what: str,
    progress: Progress | None,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Call a function for every row, and another one every second; the first error, or Ctrl-C, ends it.

    In threads, not processes: decoding, resizing and hashing run in C without the interpreter's lock.
    """
    rows, done = iter(range(count)), 0
    lock, is_over = threading.Lock(), threading.Event()

    def work() -> None:
        nonlocal done
        while not is_over.is_set():
            with lock:
                row = next(rows, None)
            if row is None:
                return
            function(row)
            with lock:
                done += 1
                if progress is not None and (done % 64 == 0 or done == count):
                    progress(what, done, count)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = cores + 1  # somebody always waits for a file or for the interpreter
    with ThreadPoolExecutor(workers) as pool:
        at_work = {pool.submit(work) for _ in range(workers)}
        try:
            while at_work:
                finished, at_work = wait(at_work, timeout=1, return_when=FIRST_COMPLETED)
                for worker in finished:
                    worker.result()
                meanwhile()
        finally:
            is_over.set()


def _digest(data: bytes) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(data).digest(), dtype=np.uint8)
