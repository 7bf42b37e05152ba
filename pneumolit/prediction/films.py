"""Files become films, in order, read by several threads while the model works; a broken file becomes a reason."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from pneumolit.data.film import Film, ImageError, MissingReaderError
from pneumolit.data.reader import read_file, read_film

_AHEAD = 256  # films that may be read before they are needed: small ones, of the model's stored side


@dataclass(frozen=True)
class ReadFilm:
    """One file.

    Attributes:
        path: as it was named.
        film: at the first of the sides; None where it could not be read.
        images: side -> `(side, side)` uint8.
        reason: why it could not be read; empty where it was.
    """

    path: str
    film: Film | None
    images: dict[int, np.ndarray]
    reason: str = ""


def read_films(paths: Iterable[str], sides: Sequence[int]) -> Iterator[ReadFilm]:
    """Read files, in the order in which they are named.

    Args:
        paths: of any number of files; only some hundred are held.
        sides: in pixels, that every film is read at.
    """
    names = iter(paths)
    with ThreadPoolExecutor(_workers(), thread_name_prefix="films") as pool:
        waiting: deque[Future[ReadFilm]] = deque(pool.submit(_read, name, sides) for name in islice(names, _AHEAD))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(_read, name, sides) for name in islice(names, 1))
        finally:
            for future in waiting:
                future.cancel()


def _read(path: str, sides: Sequence[int]) -> ReadFilm:
    try:
        data = read_file(path)
        films = [read_film(data, side, with_color=True) for side in sides]
    except (ImageError, MissingReaderError) as error:
        return ReadFilm(path, None, {}, str(error))
    return ReadFilm(path, films[0], {side: film.gray for side, film in zip(sides, films, strict=True)})


def _workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1  # somebody always waits for a file or for the interpreter


def file_name(path: str) -> str:
    """Of a path, for a picture of it: letters, digits and dashes of any script, at most 80 bytes."""
    stem = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in Path(path).stem)
    return stem.encode("utf-8", "replace")[:80].decode("utf-8", "ignore")
