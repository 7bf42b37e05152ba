"""What is known of every image, by column: names in a mapped file, the rest a few bytes in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, NamedTuple, Self, SupportsIndex, TypeVar, overload

import numpy as np

T = TypeVar("T")
_MANY_VALUED = ("path", "patient_id", "group")
_FEW_VALUED = ("label", "cause", "split", "series")
_UNNUMBERED = -1
_BLOCK = 1024  # records or texts that exist as objects at one time
_IN_MEMORY = 2**16  # bytes of a column that is not worth a file


@dataclass(frozen=True)
class ImageRecord:
    """One image and what is known of it before it is opened.

    Attributes:
        path: relative to the data root.
        label: class name; the folder or the manifest's label until `choose_labels` sets the task's class.
        patient_id: who was imaged, under the chosen reading of the names.
        cause: "bacteria", "virus" or "" where unknown.
        split: train, val or test; "" where the source does not say.
        series: numbering that the name belongs to ("IM", "NORMAL2-IM", "bacteria", "virus"), "" where unknown.
        number: patient number within the series, None where unknown; at most 18 digits.
        group: what carving keeps together, as coarse as the patient or coarser; "" means the patient.
    """

    path: Path
    label: str
    patient_id: str
    cause: str = ""
    split: str = ""
    series: str = ""
    number: int | None = None
    group: str = ""

    @property
    def carve_group(self) -> str:
        """What must not be cut apart by a split."""
        return self.group or self.patient_id


class Coded(NamedTuple, Generic[T]):
    """A column by numbers: row i holds `values[codes[i]]`.

    Attributes:
        values: all that occur, perhaps more, in any order; `kinds` gives each that occurs once, in ascending order.
        codes: `(N,)` integers.
    """

    values: list[T]
    codes: np.ndarray


class Texts(Sequence[str]):
    """A column of texts, read-only.

    Args:
        column: `(N,)` bytes, as `_pack` makes them.
    """

    def __init__(self, column: np.ndarray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Texts: ...
    def __getitem__(self, place: int | slice) -> str | Texts:
        return Texts(self._column[place]) if isinstance(place, slice) else _unpack(self._column[place])

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _BLOCK):
            yield from map(_unpack, self._column[start : start + _BLOCK].tolist())


class RecordTable(Sequence[ImageRecord]):
    """Records of a data set; `table[i]` makes the record of row i.

    Tables are not changed: `select` and `changed` make new ones, which share the columns that stayed.

    Args:
        many: `(N,)` columns of `path`, `patient_id` and `group`, as bytes.
        few: columns of `label`, `cause`, `split` and `series`.
        numbers: `(N,)` int64 patient numbers, `_UNNUMBERED` where there is none.
    """

    def __init__(self, many: dict[str, np.ndarray], few: dict[str, Coded[str]], numbers: np.ndarray) -> None:
        self._many, self._few, self._numbers = many, few, numbers

    @classmethod
    def of(cls, records: Iterable[ImageRecord]) -> Self:
        """The table of some records, which are asked for a block at a time."""
        known: dict[str, dict[str, int]] = {name: {} for name in _FEW_VALUED}
        source = iter(records)
        first = _Block(list(islice(source, _BLOCK)), known)
        blocks = [first, *(_Block(rows, known) for rows in iter(lambda: list(islice(source, _BLOCK)), []))]
        many = {name: _mapped(np.concatenate([b.many.pop(name) for b in blocks])) for name in _MANY_VALUED}
        few = {
            name: _coded(list(known[name]), np.concatenate([b.codes.pop(name) for b in blocks])) for name in _FEW_VALUED
        }
        return cls(many, few, _mapped(np.concatenate([b.numbers for b in blocks])))

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: SupportsIndex) -> ImageRecord: ...
    @overload
    def __getitem__(self, place: slice) -> Self: ...
    def __getitem__(self, place: SupportsIndex | slice) -> ImageRecord | Self:
        if isinstance(place, slice):
            return self.select(np.arange(len(self))[place])
        path, patient_id, group = (_unpack(self._many[name][place]) for name in _MANY_VALUED)
        label, cause, split, series = (self._few[n].values[self._few[n].codes[place]] for n in _FEW_VALUED)
        number = int(self._numbers[place])
        known = number if number != _UNNUMBERED else None
        return ImageRecord(Path(path), label, patient_id, cause, split, series, known, group)

    @property
    def patient_numbers(self) -> np.ndarray:
        """`(N,)` int64, -1 where there is none."""
        return self._numbers

    @property
    def is_numbered(self) -> np.ndarray:
        """`(N,)` bool: which images have a patient number."""
        return np.asarray(self._numbers != _UNNUMBERED)

    def texts(self, name: str) -> Texts:
        """A column by its name."""
        if name in self._many:
            return Texts(self._many[name])
        column = self._few[name]
        return Texts(np.array([_pack(value) for value in column.values], dtype=bytes)[column.codes])

    def is_in(self, name: str, *values: str) -> np.ndarray:
        """`(N,)` bool: where column `label`, `cause`, `split` or `series` has one of these values."""
        column = self._few[name]
        return np.take(np.array([value in values for value in column.values], dtype=bool), column.codes)

    def kinds(self, *names: str) -> Coded[tuple[str, ...]]:
        """What occurs together in columns of `label`, `cause`, `split` and `series`, and which row is of which kind."""
        together = np.zeros(len(self), dtype=np.int64)
        for name in names:
            together = together * max(1, len(self._few[name].values)) + self._few[name].codes
        _, rows, codes = np.unique(together, return_index=True, return_inverse=True)
        values = [tuple(self._few[n].values[self._few[n].codes[row]] for n in names) for row in rows]
        order = sorted(range(len(values)), key=values.__getitem__)
        rank = np.argsort(np.array(order, dtype=np.int64))
        return Coded([values[k] for k in order], rank[codes])

    def patients(self) -> np.ndarray:
        """`(N,)` integers, the same for images of one patient."""
        return np.unique(self._many["patient_id"], return_inverse=True)[1]

    def carve_groups(self) -> np.ndarray:
        """`(N,)` integers from 0, in the order of names, the same for images that a split must not cut apart."""
        group = self._many["group"]
        return np.unique(np.where(group == b"", self._many["patient_id"], group), return_inverse=True)[1]

    def rows_in(self, other: RecordTable) -> np.ndarray:
        """`(N,)` row of another table that has the same path, the last one if several have; -1 where none has."""
        paths = np.concatenate([self._many["path"], other._many["path"]])
        found, codes = np.unique(paths, return_inverse=True)
        row = np.full(len(found), -1, dtype=np.int64)
        row[codes[len(self) :]] = np.arange(len(other))
        return row[codes[: len(self)]]

    def repeated_paths(self) -> list[str]:
        """Paths that more than one row has."""
        found, counts = np.unique(self._many["path"], return_counts=True)
        return [_unpack(value) for value in found[counts > 1]]

    def select(self, rows: np.ndarray) -> Self:
        """The table of some rows.

        Args:
            rows: row numbers, or `(N,)` bool.
        """
        many = {name: column[rows] for name, column in self._many.items()}
        few = {name: Coded(column.values, column.codes[rows]) for name, column in self._few.items()}
        return type(self)(many, few, self._numbers[rows])

    def changed(self, **columns: Coded[str]) -> Self:
        """The table with other columns of `label`, `cause`, `split` or `series`."""
        few = {**self._few, **{name: _distinct(column) for name, column in columns.items()}}
        return type(self)(self._many, few, self._numbers)

    def with_split(self, name: str, rows: np.ndarray) -> Self:
        """The table with some images on another side.

        Args:
            name: the side.
            rows: row numbers, or `(N,)` bool.
        """
        column = self._few["split"]
        codes = column.codes.astype(np.int64)
        codes[rows] = len(column.values)
        return self.changed(split=Coded([*column.values, name], codes))


def _distinct(column: Coded[str]) -> Coded[str]:
    place = {value: i for i, value in enumerate(dict.fromkeys(column.values))}
    return _coded(list(place), np.array([place[v] for v in column.values], dtype=np.int64)[column.codes])


def _coded(values: list[str], codes: np.ndarray) -> Coded[str]:
    """A column with the smallest numbers that do."""
    return Coded(values, codes.astype(np.min_scalar_type(max(len(values) - 1, 0))))


def _mapped(column: np.ndarray) -> np.ndarray:
    """The same values in a file without a name, whose pages the system may drop and read again.

    Where no file can be written they stay in memory.
    """
    if column.nbytes <= _IN_MEMORY:
        return column
    try:
        with tempfile.TemporaryFile(prefix="pneumolit-") as file:
            column.tofile(file)
            return np.asarray(np.memmap(file, dtype=column.dtype, mode="r", shape=column.shape))
    except OSError:
        return column


class _Block:
    """Columns of a few records.

    Args:
        records: some records.
        known: by column, the numbers of the values that were met so far; new ones are added.
    """

    def __init__(self, records: Sequence[ImageRecord], known: dict[str, dict[str, int]]) -> None:
        texts = {
            "path": [r.path.as_posix() for r in records],
            "patient_id": [r.patient_id for r in records],
            "group": [r.group for r in records],
        }
        self.many = {name: np.array([_pack(t) for t in texts[name]], dtype=bytes) for name in _MANY_VALUED}
        self.codes = {
            name: np.array([known[name].setdefault(getattr(r, name), len(known[name])) for r in records], np.int32)
            for name in _FEW_VALUED
        }
        numbers = [_UNNUMBERED if r.number is None else r.number for r in records]
        self.numbers = np.array(numbers, dtype=np.int64)


def _pack(text: str) -> bytes:
    # File names need not be UTF-8. None of what is packed holds a NUL, which NumPy would take off at the end; sorted,
    # bytes of UTF-8 stand in the order of Python's texts.
    return text.encode("utf-8", "surrogateescape")


def _unpack(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")
