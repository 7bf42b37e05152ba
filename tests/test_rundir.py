"""The run folder: whole files, each epoch once, every look counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pneumolit.rundir import LEDGER_NAME, RunDir, read_looks, record_look, write_text


def test_a_folder_that_is_no_run_is_refused_with_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run_dir=.* is not a folder"):
        RunDir.open(tmp_path / "absent")
    (tmp_path / "film.jpeg").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no run: .* found film\.jpeg"):
        RunDir.open(tmp_path)


def test_an_epoch_that_is_written_again_replaces_its_row(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.append_metrics({"epoch": 1, "val/loss": 0.9})
    run.append_metrics({"epoch": 2, "val/loss": 0.7})
    run.append_metrics({"epoch": 2, "val/loss": 0.6, "lr": 0.1})
    assert run.read_metrics() == [{"epoch": 1, "val/loss": 0.9}, {"epoch": 2, "val/loss": 0.6, "lr": 0.1}]


def test_status_keeps_what_it_already_says(tmp_path: Path) -> None:
    from pneumolit.rundir import read_json

    run = RunDir(tmp_path)
    run.write_status("running", configuration="abc")
    run.write_status("done", seconds=3)
    status = read_json(run.status_file)
    assert (status["state"], status["configuration"], status["seconds"]) == ("done", "abc", 3)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(TypeError):
        write_text(path, 7)  # type: ignore[arg-type]
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_that_other_readers_refuse_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        RunDir(tmp_path).write_json(tmp_path / "x.json", {"auroc": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_looks_are_counted_by_test_set_and_configuration(tmp_path: Path) -> None:
    def look(configuration: str, test_set: str = "t") -> tuple[int, int]:
        return record_look(tmp_path, run="r", configuration=configuration, test_set=test_set, purpose="test")

    assert [look("a"), look("a"), look("b"), look("a"), look("b", "other")] == [(1, 1), (2, 1), (3, 2), (4, 1), (1, 1)]


def test_a_line_cut_off_by_a_crash_loses_no_other_look(tmp_path: Path) -> None:
    record_look(tmp_path, run="r", configuration="a", test_set="t", purpose="test")
    with (tmp_path / LEDGER_NAME).open("a") as handle:
        handle.write('{"time": "2026-')
    assert record_look(tmp_path, run="r", configuration="b", test_set="t", purpose="test") == (2, 2)
    assert len(read_looks(tmp_path)) == 2


_LOOKER = """
import sys
from pathlib import Path
from pneumolit.rundir import record_look
for i in range(20):
    record_look(Path(sys.argv[1]), run="r", configuration="c", test_set="t", purpose="test")
"""


def test_two_processes_lose_no_look(tmp_path: Path) -> None:
    running = [subprocess.Popen([sys.executable, "-c", _LOOKER, str(tmp_path)]) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    assert len(read_looks(tmp_path)) == 40


def test_the_ledger_of_a_run_is_found_from_any_folder(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "outputs" / "train" / "2026-01-01" / "12-00-00")
    assert run.ledger_folder(Path("elsewhere")) == tmp_path / "outputs"
    assert RunDir(tmp_path / "mine").ledger_folder(Path("elsewhere")) == Path("elsewhere")
    (tmp_path / LEDGER_NAME).touch()
    assert RunDir(tmp_path / "mine").ledger_folder(Path("elsewhere")) == tmp_path
