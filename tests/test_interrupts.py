"""Ctrl-C ends a command with one line while Python still imports, and only where it is Ctrl-C's to end it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pneumolit.allocator import _MARK, allocator_environment

STOP = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
needs_a_restart = pytest.mark.skipif(not allocator_environment({}), reason="commands start themselves again with glibc")


@pytest.fixture
def stopped_at(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`stopped_at(module, code)`: a training command that finds this code in place of a module that it imports."""

    def run(module: str, code: str, *, is_ignored: bool = False) -> subprocess.CompletedProcess[str]:
        (tmp_path / f"{module}.py").write_text(code)
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        handler = signal.SIG_IGN if is_ignored else signal.SIG_DFL
        return subprocess.run(
            [sys.executable, "-m", "pneumolit.train", "experiment=demo"],
            env={k: v for k, v in os.environ.items() if k != _MARK} | {"PYTHONPATH": path},
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
            preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
        )  # fmt: skip

    return run


@pytest.mark.parametrize("module", ["difflib", "hydra"])  # one of the first imports, and a later one
def test_interrupt_among_the_imports_is_one_line(
    stopped_at: Callable[..., subprocess.CompletedProcess[str]], module: str
) -> None:
    result = stopped_at(module, STOP)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "pneumolit: stopped before the end\n")


@needs_a_restart
def test_interrupt_while_python_starts_for_the_second_time_waits_until_it_can_be_one_line(
    stopped_at: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    second_time_only = f"import os\nif os.environ.get('{_MARK}'): exec({STOP!r})\n"
    result = stopped_at("sitecustomize", second_time_only)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "pneumolit: stopped before the end\n")


def test_interrupt_that_is_ignored_stays_ignored(
    stopped_at: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    # So a shell starts jobs in the background: Ctrl-C is meant for another program.
    result = stopped_at("hydra", STOP + "os._exit(7)\n", is_ignored=True)
    assert (result.returncode, result.stderr) == (7, "")
