"""Two tables of predictions compared where their films were scored in other batches."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest


def rows_of(file: Path) -> list[dict[str, Any]]:
    """All rows, of a CSV file or of JSON lines."""
    text = file.read_bytes().decode("utf-8", "surrogateescape")
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return list(csv.DictReader(io.StringIO(text, newline="")))


def assert_same_table(found: Path, expected: Path) -> None:
    """The same rows in the same order; scores to 1e-5, for in a batch of another size a processor may sum otherwise."""
    rows, others = rows_of(found), rows_of(expected)
    assert [row["path"] for row in rows] == [other["path"] for other in others]
    for row, other in zip(rows, others, strict=True):
        assert list(row) == list(other)
        for column, value in other.items():
            if column.startswith(("prob", "score")) and value not in ("", None):
                assert float(row[column]) == pytest.approx(float(value), abs=1e-5), column
            else:
                assert row[column] == value, column
