"""Predictions as CSV or JSON lines: written row by row to a partial file that becomes the table when it is whole.

A table that was cut off is gone on with: rows that are whole are kept, and their files are not read again.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from pneumolit.prediction.predictor import Prediction
from pneumolit.rundir import LineFeeds, fingerprint, held_alone, naming, read_json, write_json

STDOUT = "-"
SUFFIXES = (".csv", ".jsonl")
_FIRST_LINE = 1_000_000  # bytes of it that are looked at


class TableWriter:
    """A table that appears under its name when it is whole.

    Args:
        target: file, or None for standard output, which nothing is gone on with.
        classes: names of all classes; each has a column.
        identity: of what makes the rows; a partial table of another identity is begun anew.
        with_run: whether a column names the run.
        rows_per_file: of several runs, which are kept together or not at all.
        with_heat: whether a column names the picture.
        kind: ".csv" or ".jsonl".
    """

    def __init__(
        self,
        target: Path | None,
        classes: Sequence[str],
        *,
        identity: str,
        with_run: bool = False,
        rows_per_file: int = 1,
        with_heat: bool = False,
        kind: str = ".csv",
    ) -> None:
        self.target, self.kind = target, kind
        self._rows_per_file = rows_per_file
        self.columns = [
            "path", *(["run"] * with_run), "probability", "decision", "warnings", "score",
            *(f"prob_{name}" for name in classes), "sharpness", "width", "height", "kind",
            *(["heatmap"] * with_heat), "reason",
        ]  # fmt: skip
        self._identity = fingerprint([identity, kind, *self.columns])
        self._file: IO[bytes] | None = None
        self._needs_header = False  # it comes with the first row: without one there is no table
        self._held = contextlib.ExitStack()
        self.num_kept = 0

    @property
    def partial_file(self) -> Path:
        """The rows so far."""
        assert self.target is not None
        return self.target.with_name(f".{self.target.name}.partial")

    @property
    def _partial_record(self) -> Path:
        return self.partial_file.with_name(self.partial_file.name + ".json")

    def begin(self) -> Iterator[dict[str, Any]]:
        """Open the table; gives the rows that an earlier call has left, one after the other, until they end.

        All of them must be taken before the first `write`.

        Raises:
            ValueError: another process writes this table.
        """
        if self.target is None:
            self._file, self._needs_header = sys.stdout.buffer, True
            return
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"output={self.target} cannot be written ({error.strerror}: {error.filename}); give another place"
            ) from error
        refusal = f"another process is writing {self.target}; wait for its end, or give another output"
        lock = self.target.with_name(f".{self.target.name}.lock")
        self._held.enter_context(held_alone(lock, refusal))
        is_ours = (
            self.partial_file.is_file()
            and self._partial_record.is_file()
            and _identity_of(self._partial_record) == self._identity
        )
        if is_ours:
            yield from self._kept_rows()
        else:
            self.partial_file.unlink(missing_ok=True)
            write_json(self._partial_record, {"identity": self._identity})
        self._file = self.partial_file.open("ab")
        self._needs_header = not self._file.tell()

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows; they have reached the system, if not the disk, when this returns."""
        assert self._file is not None
        if self._needs_header:
            self._write_header()
        with self._naming():
            self._file.write("".join(self._line(row) for row in rows).encode("utf-8", "surrogateescape"))
            self._file.flush()

    def finish(self) -> None:
        """Give the table its name."""
        assert self._file is not None
        self._file.flush()
        if self.target is None:
            return
        with naming(self.target):
            os.fsync(self._file.fileno())
        self._file.close()
        self.partial_file.replace(self.target)
        self._partial_record.unlink(missing_ok=True)
        self._held.close()

    def discard(self) -> None:
        """Leave nothing, not even a partial table."""
        self.close()
        if self.target is not None:
            self.partial_file.unlink(missing_ok=True)
            self._partial_record.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the partial table for another time."""
        if self._file is not None and self.target is not None:
            with contextlib.suppress(OSError):  # closing tries a failed write again
                self._file.close()
        self._held.close()

    def _naming(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.target is None else naming(self.target)

    def _write_header(self) -> None:
        assert self._file is not None
        self._needs_header = False
        if self.kind == ".csv":
            with self._naming():
                self._file.write(_csv_line(self.columns).encode())
                self._file.flush()

    def _line(self, row: Mapping[str, Any]) -> str:
        if self.kind == ".csv":
            return _csv_line([row.get(name, "") for name in self.columns])
        told = {name: row[name] for name in self.columns if row.get(name, "") != ""}
        return json.dumps(told, ensure_ascii=True) + "\n"  # plain ASCII: no line break of any script within a name

    def _kept_rows(self) -> Iterator[dict[str, Any]]:
        """Whole rows of the partial file; what a kill has cut off behind them is taken away."""
        end, is_header = 0, self.kind == ".csv"
        group: list[bytes] = []
        with self.partial_file.open("rb") as file:
            for record in whole_records(file, is_csv=self.kind == ".csv"):
                if is_header:
                    end, is_header = len(record), False
                    continue
                group.append(record)
                if len(group) == self._rows_per_file:
                    end += sum(map(len, group))
                    self.num_kept += len(group)
                    yield from map(self._parse, group)
                    group.clear()
        os.truncate(self.partial_file, end)

    def _parse(self, record: bytes) -> dict[str, Any]:
        text = record.decode("utf-8", "surrogateescape")
        if self.kind == ".jsonl":
            told: dict[str, Any] = json.loads(text)
            return told
        (cells,) = csv.reader(io.StringIO(text, newline=""))
        return dict(zip(self.columns, cells, strict=True))


def as_row(prediction: Prediction, *, heatmap: str = "") -> dict[str, Any]:
    """Cells of a prediction; numbers with seven digits, more than a model's float32 is worth."""
    row: dict[str, Any] = {
        "path": prediction.path,
        "run": prediction.run,
        "decision": prediction.decision,
        "warnings": ";".join(prediction.warnings),
        "kind": prediction.kind,
        "heatmap": heatmap,
        "reason": prediction.reason,
    }
    numbers: dict[str, float | None] = {
        "probability": prediction.probability,
        "score": prediction.score,
        "sharpness": prediction.sharpness,
        **{f"prob_{name}": value for name, value in prediction.probs.items()},
    }
    row |= {key: float(f"{value:.7g}") for key, value in numbers.items() if value is not None}
    return row | {k: v for k, v in (("width", prediction.width), ("height", prediction.height)) if v is not None}


def is_table(path: Path) -> bool:
    """Whether a file is empty or, by its first line, a table of predictions; one that cannot be read is none."""
    try:
        with path.open("rb") as file:
            first = file.readline(_FIRST_LINE).decode("utf-8", "replace").strip()
        if not first or path.suffix != ".jsonl":
            return not first or {"path", "probability", "decision"} <= set(first.split(","))
        told = json.loads(first)
        return isinstance(told, dict) and "path" in told and ("decision" in told or "reason" in told)
    except (OSError, ValueError):
        return False


def whole_records(file: IO[bytes], *, is_csv: bool) -> Iterator[bytes]:
    """Records with the line break that ends them; a last one without is left out. In quotes a line goes on."""
    record = b""
    for line in file:
        record += line
        if record.endswith(b"\n") and not (is_csv and record.count(b'"') % 2):
            yield record
            record = b""


def _csv_line(cells: Sequence[Any]) -> str:
    out = io.StringIO()
    csv.writer(LineFeeds(out), lineterminator="\r\n").writerow(cells)
    return out.getvalue()


def _identity_of(path: Path) -> str:
    try:
        return str(read_json(path).get("identity"))
    except (ValueError, AttributeError):  # cut off
        return ""
