"""The commands' allocator settings: made where they help, never over what the user decided, once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pneumolit import allocator
from pneumolit.allocator import SWITCH, TUNABLES, VARIABLE, allocator_environment, describe_allocator

IS_GLIBC = bool(allocator_environment({}))
needs_glibc = pytest.mark.skipif(not IS_GLIBC, reason="the settings are glibc's (2.35 or newer)")


@needs_glibc
def test_a_process_gets_all_settings_beside_other_tunables() -> None:
    assert allocator_environment({})[VARIABLE] == ":".join(f"{k}={v}" for k, v in TUNABLES.items())
    found = allocator_environment({VARIABLE: "glibc.cpu.hwcaps=-AVX512F"})[VARIABLE]
    assert found.startswith("glibc.cpu.hwcaps=-AVX512F:glibc.malloc.mmap_max=0:")


@pytest.mark.parametrize(
    "given",
    [
        {VARIABLE: "glibc.malloc.arena_max=1"},
        {"MALLOC_ARENA_MAX": "1"},
        {"LD_PRELOAD": "libjemalloc.so.2"},
        {SWITCH: "default"},
    ],
)
def test_what_the_user_decided_about_the_allocator_stays(given: dict[str, str]) -> None:
    assert allocator_environment(given) == {}


@pytest.mark.parametrize("answer", ["glibc 2.31", "musl 1.2", "", None, ValueError("unknown"), AttributeError("none")])
def test_another_libc_is_left_alone(answer: str | Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def confstr(name: str) -> str | None:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(os, "confstr", confstr)
    assert allocator_environment({}) == {}


def run(code: str, **variables: str) -> str:
    known = {k: v for k, v in os.environ.items() if k not in {VARIABLE, "LD_PRELOAD", allocator._MARK}}
    environment = {k: v for k, v in known.items() if not k.startswith("MALLOC_")} | variables
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return found.stdout


# Stands in for `python -m pneumolit.train`: the module that runs has that name.
COMMAND = """
import os, sys, types
sys.modules["__main__"].__spec__ = types.SimpleNamespace(name="pneumolit.train")
from pneumolit.allocator import VARIABLE, restart_with_allocator
first = os.getpid()
print("start", first, os.environ.get(VARIABLE), flush=True)
restart_with_allocator()
print("work", os.getpid(), flush=True)
"""


@needs_glibc
def test_a_command_starts_itself_again_once_and_keeps_its_process_number() -> None:
    lines = [line.split() for line in run(COMMAND).splitlines()]
    assert [line[0] for line in lines] == ["start", "start", "work"]
    assert lines[0][2] == "None"
    assert lines[1][2] == allocator_environment({})[VARIABLE]
    assert len({line[1] for line in lines}) == 1


@needs_glibc
def test_a_command_works_on_when_its_settings_were_made_already() -> None:
    assert run(COMMAND, **allocator_environment({})).count("start") == 1
    assert run(COMMAND, **{SWITCH: "default"}).count("start") == 1


@needs_glibc
def test_a_script_or_notebook_is_never_started_again() -> None:
    code = COMMAND.replace('name="pneumolit.train"', 'name="somebody.elses"')
    assert run(code).count("start") == 1


@needs_glibc
@pytest.mark.skipif(sys.platform != "linux", reason="page faults are counted by Linux")
def test_a_large_block_costs_no_page_faults_the_second_time() -> None:
    code = """
import resource
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(100_000_000)
before = faults()
for _ in range(3): bytearray(100_000_000)
print(faults() - before)
"""
    with_settings, without = int(run(code, **allocator_environment({}))), int(run(code))
    assert without > 50_000
    assert with_settings < 1_000


def test_the_record_says_what_the_process_was_started_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert describe_allocator() == "default"
    monkeypatch.setenv(VARIABLE, "glibc.malloc.mmap_max=0")
    assert describe_allocator() == "glibc.malloc.mmap_max=0"
