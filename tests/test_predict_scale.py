"""Predict over many files: the memory of few, and a row for each, good or broken."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import pneumolit
from tests.malformed import write_malformed

MOST_MORE = 100  # MB


def anonymous_peak(arguments: Sequence[str], folder: Path) -> tuple[int, float]:
    """Exit code of the command `predict`, and the most memory in MB that belonged to it alone."""
    line = [sys.executable, "-m", "pneumolit.predict", *arguments]
    running = subprocess.Popen(line, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    status, most = Path(f"/proc/{running.pid}/status"), 0
    while running.poll() is None:
        for row in status.read_text().splitlines() if status.exists() else ():
            if row.startswith("RssAnon:"):
                most = max(most, int(row.split()[1]))
        time.sleep(0.05)
    return running.returncode, most / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is told by Linux alone")
def test_memory_over_100_000_films_is_that_over_1_000(small_run: Path, demo_root: Path, tmp_path: Path) -> None:
    films = sorted((demo_root / "train").rglob("*.jpeg"))
    peaks = {}
    for count in (1_000, 100_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"film_{number:06d}.jpeg").symlink_to(films[number % len(films)])
        table = tmp_path / f"{count}.csv"
        code, peaks[count] = anonymous_peak(
            [f"run_dir={small_run}", f"input={folder}", f"output={table}", "checks=false"], tmp_path
        )
        assert code == 0
        with table.open(newline="") as rows:
            assert sum(1 for _ in csv.DictReader(rows)) == count
    assert peaks[100_000] - peaks[1_000] <= MOST_MORE, peaks


def test_good_films_among_broken_ones_have_their_numbers_and_each_file_has_its_row(
    small_run: Path, demo_root: Path, tmp_path: Path
) -> None:
    broken = [file for file in write_malformed(tmp_path / "films" / "broken", special=True) if not file.path.is_dir()]
    good = sorted((demo_root / "train").rglob("*.jpeg"))
    (tmp_path / "films" / "good").mkdir()
    for number, film in enumerate(good):
        (tmp_path / "films" / "good" / f"{number:04d}.jpeg").symlink_to(film)
    line = [sys.executable, "-m", "pneumolit.predict", f"run_dir={small_run}", f"input={tmp_path / 'films'}"]
    done = subprocess.run(
        [*line, "output=o.csv", "checks=false"], capture_output=True, cwd=tmp_path, check=False, timeout=300
    )
    assert done.returncode == 1 and done.stderr == b"", done.stderr.decode(errors="replace")
    with (tmp_path / "o.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as rows:
        told = {row["path"]: row for row in csv.DictReader(rows)}
    assert len(broken) >= 60
    assert {str(file.path) for file in broken} | {
        str(tmp_path / "films" / "good" / f"{number:04d}.jpeg") for number in range(len(good))
    } == set(told)
    for file in broken:
        row = told[str(file.path)]
        assert bool(row["reason"]) != bool(row["probability"])
        if file.expected != "either":
            assert bool(row["reason"]) == (file.expected == "refused"), (file.name, file.problem, row["reason"])
    model = pneumolit.load(small_run)
    for number in range(0, len(good), 7):
        path = str(tmp_path / "films" / "good" / f"{number:04d}.jpeg")
        assert float(told[path]["probability"]) == pytest.approx(model.predict(path)[0].probability, abs=1e-5)
