"""Cores that waiting processes lend: taken while they wait, given back after, never those of another machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pneumolit.cores import BorrowedCores, available_cores, lent_cores, use_cores

CORES = available_cores()
pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="one core alone cannot be lent")


@pytest.fixture(autouse=True)
def on_the_first_core() -> Iterator[None]:
    before = torch.get_num_threads()
    use_cores(CORES[:1])
    yield
    os.sched_setaffinity(0, CORES)
    torch.set_num_threads(before)


@pytest.fixture
def lender(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, on the second core, that waits until its standard input ends."""
    code = (
        f"import os, sys; os.sched_setaffinity(0, [{CORES[1]}]);"
        "from pathlib import Path; from pneumolit.cores import lent_cores\n"
        f"with lent_cores(Path({str(tmp_path / 'waiting')!r})): print('waits', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    yield process
    process.kill()
    process.wait()


def test_cores_of_a_process_that_waits_are_taken_and_left_when_it_goes_on(
    lender: subprocess.Popen[str], tmp_path: Path
) -> None:
    with BorrowedCores(tmp_path / "waiting") as cores:
        cores.look()
        assert (available_cores(), torch.get_num_threads()) == (CORES[:2], 2)
        lender.communicate()
        cores.look()
        assert (available_cores(), torch.get_num_threads()) == (CORES[:1], 1)
    assert not (tmp_path / "waiting").exists()


def test_borrowed_cores_are_given_back_at_the_end(lender: subprocess.Popen[str], tmp_path: Path) -> None:
    with BorrowedCores(tmp_path / "waiting") as cores:
        cores.look()
    assert (available_cores(), torch.get_num_threads()) == (CORES[:1], 1)


def test_nothing_is_taken_from_a_process_that_was_killed(lender: subprocess.Popen[str], tmp_path: Path) -> None:
    lender.kill()
    lender.wait()
    assert list((tmp_path / "waiting").iterdir())
    with BorrowedCores(tmp_path / "waiting") as cores:
        cores.look()
        assert available_cores() == CORES[:1]


def test_nothing_is_taken_from_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.sched_setaffinity(0, CORES)
    with lent_cores(tmp_path / "waiting"):
        use_cores(CORES[:1])
        monkeypatch.setattr("pneumolit.cores._BOOT", tmp_path / "none")
        with BorrowedCores(tmp_path / "waiting") as cores:
            cores.look()
            assert available_cores() == CORES[:1]
