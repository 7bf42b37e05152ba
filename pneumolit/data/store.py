"""Decode once: a memory-mapped uint8 array of resized gray images, keyed by the content of the files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from filelock import FileLock, Timeout

from pneumolit.data.decoding import Progress as Progress  # who opens a store may watch it
from pneumolit.data.decoding import decode_files, hash_files
from pneumolit.data.reader import READER_VERSION
from pneumolit.rundir import fingerprint

_IMAGES, _HASHES, _INDEX = "images.npy", "hashes.npy", "index.json"
_BUILDING, _NOT_HASHED, _NO_DIGEST = ".building", "unreadable", bytes(32)


class FileHashes(Sequence[str]):
    """SHA-256 of files as hexadecimal text, "unreadable" for files that could not be read.

    Kept as bytes on disk: as texts, those of 100,000 files would take 12 MB of memory.

    Args:
        digests: `(N, 32)` uint8, zeros for "unreadable".
    """

    def __init__(self, digests: np.ndarray) -> None:
        self._digests = np.asarray(digests)  # of a mapped array a plain view, which is read many times faster

    def __len__(self) -> int:
        return len(self._digests)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> FileHashes: ...
    def __getitem__(self, place: int | slice) -> str | FileHashes:
        if isinstance(place, slice):
            return FileHashes(self._digests[place])
        digest = self._digests[place].tobytes()
        return digest.hex() if digest != _NO_DIGEST else _NOT_HASHED

    def contents(self, rows: np.ndarray | None = None) -> np.ndarray:
        """`(N,)` integers, the same for equal files.

        Args:
            rows: which files, and in what order; None takes all.
        """
        digests = self._as_bytes()
        return np.unique(digests if rows is None else digests[rows], return_inverse=True)[1]

    def fingerprint(self, rows: np.ndarray) -> str:
        """Short hash of some files, in whatever order they are named."""
        order = rows[np.argsort(self._as_bytes()[rows])]
        is_hashed = self._as_bytes()[order] != b""
        ordered = np.concatenate([order[is_hashed], order[~is_hashed]])  # as texts: "unreadable" after all digits
        return fingerprint(self[int(row)] for row in ordered)

    def _as_bytes(self) -> np.ndarray:
        # NumPy takes zeros at the end off, which makes no two of these equal: all have one length.
        return np.ascontiguousarray(self._digests).view("S32").reshape(-1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileHashes) and np.array_equal(self._digests, other._digests)

    __hash__ = None  # type: ignore[assignment]  # as a list has none


@dataclass(frozen=True)
class ImageStore:
    """Images of one data set in the order in which their files were named.

    Attributes:
        images: `(N, S, S)` uint8, memory-mapped and read-only; rows of unreadable files are black.
        hashes: SHA-256 of every file.
        errors: row -> reason, for the files that could not be read.
        key: what the store is named by: hash of contents, order, size and reader version.
        folder: where it lies.
    """

    images: np.ndarray
    hashes: FileHashes
    errors: dict[int, str]
    key: str
    folder: Path


def cache_folder(setting: str | None) -> Path:
    """Where decoded images and stored features live: the setting, else ~/.cache/pneumolit."""
    return Path(setting or "~/.cache/pneumolit").expanduser()


def open_store(
    root: Path,
    paths: Sequence[str],
    *,
    cache_dir: Path,
    store_size: int = 256,
    progress: Progress | None = None,
) -> ImageStore:
    """Open the store of these files, building it first where there is none.

    An existing store is found by the files' names, sizes and times alone (no file is opened). Otherwise every file
    is read: hashed only, where a store of files of the same sizes exists (they may have been moved or touched), else
    hashed and decoded at once. Writing happens under a temporary name and ends with a rename, under a lock, so two
    processes or a kill half way leave nothing broken.

    Args:
        root: the data root.
        paths: files relative to root, with "/" between folders; their order is the order of the rows.
        cache_dir: the store lives in cache_dir/store/<key>.
        store_size: largest side in pixels. Images are squashed to a square; a set whose images are all smaller
            is stored at the largest short side that occurs in it, to which smaller ones among them are enlarged.
        progress: called now and then while files are read.
    """
    base = cache_dir / "store"
    by_stat = base / "by_stat"
    try:
        base.mkdir(parents=True, exist_ok=True)
        stat_key, sizes_key = _stat_keys(root, paths, store_size)
        pointer, same_sizes = by_stat / f"{stat_key}.txt", by_stat / f"{sizes_key}.sizes"
        known = _follow(base, pointer)
        if known is not None:
            return known
        by_stat.mkdir(exist_ok=True)
        with FileLock(by_stat / f"{stat_key}.lock"):
            known = _follow(base, pointer)  # of a process that held the lock before
            if known is None and same_sizes.is_file():
                known = _load(base, _content_key(FileHashes(hash_files(root, paths, progress)), store_size))
            if known is None:
                known = _build(base, stat_key, root, paths, store_size, progress)
            _write_whole(same_sizes, known.key)
            if _NOT_HASHED not in known.hashes:  # else names, sizes and times do not tell when it can be opened
                _write_whole(pointer, known.key)
        return known
    except OSError as error:
        raise ValueError(
            f"cache_dir={cache_dir} cannot be written ({error.strerror}); "
            "set cache_dir=FOLDER or PNEUMOLIT_CACHE to a folder that can"
        ) from error


def _stat_keys(root: Path, paths: Sequence[str], store_size: int) -> tuple[str, str]:
    """Hashes of names, sizes and times, and of sizes alone, which equal files have wherever they lie."""
    given = f"{READER_VERSION} {store_size}"
    named = hashlib.sha256(f"{given} {root.resolve()}".encode("utf-8", "surrogateescape"))
    sized = hashlib.sha256(given.encode())
    for path in paths:
        try:
            stat = os.stat(os.path.join(root, path))  # noqa: PTH116, PTH118  a Path per file would double the time
            told, size = f"{stat.st_size}\0{stat.st_mtime_ns}", stat.st_size
        except OSError:
            told, size = "gone", -1
        named.update(f"{path}\0{told}\n".encode("utf-8", "surrogateescape"))
        sized.update(b"%d\n" % size)
    return named.hexdigest()[:32], sized.hexdigest()[:32]


def read_otherwise(store: ImageStore, key: str, store_size: int) -> str:
    """What to say where a store of the same files had another key because they were read by an earlier version; or "".

    Args:
        store: of the files as they are read now.
        key: of the store that was expected.
        store_size: of both.
    """
    for version in range(1, READER_VERSION):
        if _content_key(store.hashes, store_size, version) == key:
            return (
                f"the files are the same, but pneumolit reads some kinds of them otherwise now (reader {version} then, "
                f"{READER_VERSION} now); use the version that trained the run, or train it again"
            )
    return ""


def _content_key(hashes: FileHashes, store_size: int, version: int = READER_VERSION) -> str:
    digest = hashlib.sha256(f"{version} {store_size}".encode())
    for value in hashes:
        digest.update(value.encode())
    return digest.hexdigest()[:32]


def _build(
    base: Path, stat_key: str, root: Path, paths: Sequence[str], store_size: int, progress: Progress | None
) -> ImageStore:
    """Decode into a folder of a temporary name, which gets its own name when the content is known."""
    _remove_leftovers(base)
    folder = base / f"{stat_key}{_BUILDING}"
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed; the lock says that it is not at work
    folder.mkdir()
    digests, errors = decode_files(root, paths, folder / _IMAGES, store_size=store_size, progress=progress)
    np.save(folder / _HASHES, digests)
    index = {"reader": READER_VERSION, "errors": {str(row): reason for row, reason in errors.items()}}
    _write_whole(folder / _INDEX, json.dumps(index))
    key = _content_key(FileHashes(digests), store_size)
    with FileLock(base / f"{key}.lock"):
        store = _load(base, key)  # of the same files under other names, built at the same time or long ago
        if store is None:
            shutil.rmtree(base / key, ignore_errors=True)  # there, but not whole: a cleaner of caches took a file
            folder.rename(base / key)
            store = _load(base, key)
        else:
            shutil.rmtree(folder)
    assert store is not None
    return store


def _remove_leftovers(base: Path) -> None:
    """Folders of processes that were killed while building other stores."""
    for folder in base.glob(f"*{_BUILDING}"):
        lock = FileLock(base / "by_stat" / f"{folder.name.removesuffix(_BUILDING)}.lock", timeout=0)
        with contextlib.suppress(Timeout), lock:
            shutil.rmtree(folder, ignore_errors=True)


def _follow(base: Path, pointer: Path) -> ImageStore | None:
    return _load(base, pointer.read_text().strip()) if pointer.is_file() else None


def _load(base: Path, key: str) -> ImageStore | None:
    folder = base / key
    try:
        index = json.loads((folder / _INDEX).read_text())
        images = np.load(folder / _IMAGES, mmap_mode="r", allow_pickle=False)
        digests = np.load(folder / _HASHES, mmap_mode="r", allow_pickle=False)
        errors = {int(row): str(reason) for row, reason in index["errors"].items()}
    # np.load has its own word for an empty file; the others are for an index that is none.
    except (OSError, ValueError, EOFError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    return ImageStore(images, FileHashes(digests), errors, key, folder)


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
