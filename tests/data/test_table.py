"""The table of records: what goes in comes out, in little memory."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumolit.data import table
from pneumolit.data.table import Coded, ImageRecord, RecordTable

names = st.one_of(
    st.text("ab/日ü .-", min_size=1, max_size=40).filter(lambda text: Path(text).as_posix() == text),
    # Any bytes but NUL, which no file name holds and manifests are refused for.
    st.binary(min_size=1, max_size=8)
    .map(os.fsdecode)
    .filter(lambda text: Path(text).as_posix() == text and "\0" not in text),
)
words = st.sampled_from(["", "a", "ü", "train", "日本"])
records_of = st.builds(
    ImageRecord,
    path=names.map(Path),
    label=words,
    patient_id=names,
    cause=words,
    split=words,
    series=words,
    number=st.none() | st.integers(0, 10**18 - 1),
    group=words | names,
)


def numbered(count: int, split: str = "") -> list[ImageRecord]:
    return [ImageRecord(Path(f"{i}.png"), "ab"[i % 2], f"p{i // 3}", split=split, number=i) for i in range(count)]


@given(st.lists(records_of, max_size=20), st.data())
@settings(deadline=None)
def test_records_come_out_as_they_went_in_whatever_their_names(records: list[ImageRecord], data: st.DataObject) -> None:
    made = RecordTable.of(iter(records))
    assert list(made) == records and len(made) == len(records)
    assert list(made.texts("path")) == [r.path.as_posix() for r in records]
    rows = data.draw(st.lists(st.integers(0, len(records) - 1), max_size=20)) if records else []
    assert list(made.select(np.array(rows, dtype=np.int64))) == [records[i] for i in rows]
    assert list(made[1:3]) == records[1:3]


def test_records_of_several_blocks_stay_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_BLOCK", 4)
    records = [*numbered(9, "train"), *numbered(2, "val")]
    made = RecordTable.of(records)
    assert list(made) == records
    assert made.is_in("split", "val").tolist() == [False] * 9 + [True] * 2


@given(st.lists(records_of, min_size=1, max_size=20))
@settings(deadline=None)
def test_groups_and_patients_are_numbered_by_name(records: list[ImageRecord]) -> None:
    made = RecordTable.of(records)
    groups = sorted({r.carve_group for r in records}, key=os.fsencode)
    assert [groups[code] for code in made.carve_groups()] == [r.carve_group for r in records]
    first = {r.patient_id: i for i, r in reversed(list(enumerate(records)))}
    assert all(made.patients()[i] == made.patients()[first[r.patient_id]] for i, r in enumerate(records))
    assert len(np.unique(made.patients())) == len(first)


def test_kinds_are_what_occurs_together_each_once_also_after_changes() -> None:
    made = RecordTable.of(numbered(6, "train")).with_split("val", np.array([0, 1]))
    made = made.with_split("train", np.array([1])).with_split("test", np.array([], dtype=np.int64))
    made = made.changed(label=Coded(["x", "x"], np.array([0, 1, 0, 1, 0, 1])))
    kinds = made.kinds("label", "split")
    assert kinds.values == [("x", "train"), ("x", "val")]
    assert kinds.codes.tolist() == [1, 0, 0, 0, 0, 0]
    assert made.kinds("label").values == [("x",)]


def test_a_changed_table_leaves_the_old_one_as_it_was() -> None:
    before = RecordTable.of(numbered(3, "train"))
    after = before.with_split("val", np.array([True, False, False]))
    assert [r.split for r in before] == ["train"] * 3
    assert [r.split for r in after] == ["val", "train", "train"]
    assert [r.path for r in after] == [r.path for r in before]


def test_rows_are_found_by_path_in_another_table() -> None:
    listed = RecordTable.of([*numbered(2), *numbered(4)[1:]])
    rows = RecordTable.of(reversed(numbered(5))).rows_in(listed)
    assert rows.tolist() == [-1, 4, 3, 2, 0]  # the last of those that have the path
    assert listed.repeated_paths() == ["1.png"]


@pytest.mark.slow
def test_a_record_takes_a_few_bytes_and_its_names_lie_in_a_file() -> None:
    def memory_of(count: int) -> tuple[int, int]:
        """Bytes that are kept, and bytes in use beside them at the worst moment."""
        tracemalloc.start()
        records = RecordTable.of(
            ImageRecord(Path(f"012/film-{i:06d}.png"), "NORMAL", f"patient-{i}", number=i) for i in range(count)
        )
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(records) == count
        return kept, peak - kept

    few, many = 10_000, 40_000
    # The less of two: on the way Python may make its own list of names larger.
    least = [[min(pair) for pair in zip(memory_of(n), memory_of(n), strict=True)] for n in (few, many)]
    kept, beside = [(b - a) / (many - few) for a, b in zip(*least, strict=True)]
    assert kept < 8
    assert beside < 120  # all blocks, for a moment, but never all records as objects


def test_names_stay_in_memory_where_no_file_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(28, "No space left on device")

    records = numbered(30)
    monkeypatch.setattr(table, "_IN_MEMORY", 0)
    assert list(RecordTable.of(records)) == records
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert list(RecordTable.of(records)) == records


def test_a_column_of_more_values_than_a_byte_counts_keeps_them_apart() -> None:
    records = [ImageRecord(Path(f"{i}.png"), f"class {i}", "p", split="train") for i in range(300)]
    made = RecordTable.of(records).with_split("val", np.array([0, 299]))
    assert [r.label for r in made] == [r.label for r in records]
    assert [i for i, r in enumerate(made) if r.split == "val"] == [0, 299]
