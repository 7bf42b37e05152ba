"""A table is whole or not there; one that was cut off is gone on with, byte for byte."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pneumolit.prediction.predictor import Prediction
from pneumolit.prediction.table import TableWriter, as_row, whole_records

NAMES = ["a.png", 'say "x", y\nz.png', "폐렴.png", "b\udcff.png", "c\r.png", "=1+1.png"]
ROWS = [
    as_row(Prediction(name, "run", 1 / 3, "normal", ("blurred", "tiny"), -0.7, {"NORMAL": 2 / 3, "PNEUMONIA": 1 / 3}))
    for name in NAMES
]


def writer(target: Path, kind: str, identity: str = "same") -> TableWriter:
    return TableWriter(target, ["NORMAL", "PNEUMONIA"], identity=identity, kind=kind)


def write_all(target: Path, kind: str) -> bytes:
    table = writer(target, kind)
    assert list(table.begin()) == []
    table.write(ROWS)
    table.finish()
    return target.read_bytes()


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_a_table_cut_off_at_any_byte_is_gone_on_with_and_ends_the_same(tmp_path: Path, kind: str) -> None:
    whole = write_all(tmp_path / f"whole{kind}", kind)
    for cut in range(0, len(whole), 7):
        table = writer(tmp_path / f"cut{kind}", kind)
        list(table.begin())
        table.close()
        table.partial_file.write_bytes(whole[:cut])
        again = writer(tmp_path / f"cut{kind}", kind)
        kept = list(again.begin())
        assert [row["path"] for row in kept] == NAMES[: len(kept)]
        assert len(kept) == again.num_kept
        again.write(ROWS[len(kept) :])
        assert not (tmp_path / f"cut{kind}").exists()
        again.finish()
        assert (tmp_path / f"cut{kind}").read_bytes() == whole
        (tmp_path / f"cut{kind}").unlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"whole{kind}"]


def test_rows_of_several_runs_are_kept_by_whole_files(tmp_path: Path) -> None:
    def of_two() -> TableWriter:
        return TableWriter(tmp_path / "t.csv", [], identity="x", with_run=True, rows_per_file=2)

    table = of_two()
    list(table.begin())
    table.write([{"path": name, "run": run} for name in ("a", "b") for run in ("one", "two")])
    table.close()
    text = table.partial_file.read_bytes()
    table.partial_file.write_bytes(text[: text.index(b"b,two")])  # killed between the two rows of b
    again = of_two()
    assert [row["path"] for row in again.begin()] == ["a", "a"]
    again.write([{"path": "b", "run": run} for run in ("one", "two")])
    again.finish()
    assert (tmp_path / "t.csv").read_bytes() == text


def test_a_table_of_other_settings_is_begun_anew(tmp_path: Path) -> None:
    table = writer(tmp_path / "t.csv", ".csv")
    list(table.begin())
    table.write(ROWS[:2])
    table.close()
    assert list(writer(tmp_path / "t.csv", ".csv", "other").begin()) == []


def test_a_table_that_stands_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("old")
    table = writer(tmp_path / "t.csv", ".csv")
    list(table.begin())
    table.write(ROWS)
    assert (tmp_path / "t.csv").read_text() == "old"
    table.finish()
    assert (tmp_path / "t.csv").read_text(errors="surrogateescape").startswith("path,probability,decision")


def test_every_cell_comes_back_from_both_kinds(tmp_path: Path) -> None:
    write_all(tmp_path / "t.csv", ".csv")
    write_all(tmp_path / "t.jsonl", ".jsonl")
    text = (tmp_path / "t.csv").read_bytes().decode("utf-8", "surrogateescape")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    told = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == [row["path"] for row in told] == NAMES
    assert float(rows[0]["prob_NORMAL"]) == told[0]["prob_NORMAL"] == 0.6666667
    assert rows[0]["warnings"] == told[0]["warnings"] == "blurred;tiny"


def test_a_file_that_could_not_be_read_has_empty_cells_and_a_reason() -> None:
    row = as_row(Prediction("x.png", "run", reason="file not found"))
    assert row["reason"] == "file not found" and row["decision"] == ""
    assert not set(row) & {"probability", "score", "width", "prob_NORMAL"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.lists(st.text(max_size=8), min_size=2, max_size=3), max_size=6))
def test_records_are_told_apart_whatever_stands_in_quotes(rows: list[list[str]]) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    data = out.getvalue().encode("utf-8", "surrogatepass")
    records = list(whole_records(io.BytesIO(data), is_csv=True))
    assert b"".join(records) == data and len(records) == len(rows)
