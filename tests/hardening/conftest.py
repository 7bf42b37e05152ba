"""Small and read-only disks, and commands as processes of their own that are told when to go on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PAGE = 4096  # bytes that a file system in memory gives away at a time


def _mount(*arguments: str) -> None:
    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("disks of their own are mounted on Linux only")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def mounted() -> Iterator[list[Path]]:
    """Places where something is mounted; freed at the end, the last one first."""
    places: list[Path] = []
    yield places
    for place in reversed(places):
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def read_only(mounted: list[Path], tmp_path: Path) -> Callable[[Path], Path]:
    """`read_only(folder)`: the same folder at another place where nothing can be written, not even by root."""

    def made(folder: Path) -> Path:
        place = tmp_path / f"read_only_{len(mounted)}" / folder.name
        place.mkdir(parents=True)
        _mount("--bind", str(folder), str(place))
        mounted.append(place)
        _mount("-o", "remount,ro,bind", str(place))
        return place

    return made


class SmallDisk:
    """A disk of its own that can be filled up and given room again.

    Args:
        path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / ".ballast"

    def fill(self, *, leave: int = 0) -> None:
        """Take all room but so many pages."""
        self.make_room()
        size = 0
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    size += file.write(bytes(PAGE))
            except OSError:
                file.truncate(size - leave * PAGE)

    def make_room(self) -> None:
        """Take the ballast away."""
        self._ballast.unlink(missing_ok=True)

    def files(self, below: str = "") -> dict[str, bytes]:
        """Content of every file but locks and the ballast, by its name."""
        return {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in sorted((self.path / below).rglob("*"))
            if path.is_file() and path != self._ballast and path.suffix != ".lock"
        }


@pytest.fixture
def small_disk(mounted: list[Path], tmp_path: Path) -> SmallDisk:
    """A disk of 64 MB."""
    place = tmp_path / "small disk"
    place.mkdir()
    _mount("-t", "tmpfs", "-o", "size=64m", "none", str(place))
    mounted.append(place)
    return SmallDisk(place)


Started = subprocess.Popen[str]


@pytest.fixture
def start(tmp_path: Path, cache_dir: Path) -> Iterator[Callable[..., Started]]:
    """`start(name, *arguments, before="")`: a command as a process of its own, after some lines of Python.

    In these lines `pause(word)` prints the word on a line of its own and waits for a line, so that a test can act at
    a known moment; `patch("package.module.name", lambda old: new)` puts something else in a name's place.
    """
    started: list[Started] = []
    prelude = (
        "import importlib, os, signal, sys\n"
        "def pause(word):\n    print(word, flush=True)\n    sys.stdin.readline()\n"
        "def patch(name, changed):\n"
        "    path, _, last = name.rpartition('.')\n"
        "    try:\n        owner = importlib.import_module(path)\n"
        "    except ModuleNotFoundError:\n"
        "        module, _, kind = path.rpartition('.')\n"
        "        owner = getattr(importlib.import_module(module), kind)\n"
        "    setattr(owner, last, changed(getattr(owner, last)))\n"
    )

    def run(name: str, *arguments: str, before: str = "", cwd: Path | None = None) -> Started:
        code = f"{prelude}{before}\nfrom pneumolit import {name}\nfrom pneumolit.entry import run_command\n"
        code += f"run_command({name!r}, {name}.{name}, sys.argv[1:])\n"
        given = {"PNEUMOLIT_OUT": str(tmp_path / "out"), "PNEUMOLIT_CACHE": str(cache_dir), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], cwd=cwd or tmp_path, env={**os.environ, **given},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def wait_for() -> Callable[[Started, str], None]:
    """`wait_for(process, word)`: read what a process prints up to this line."""

    def waited(process: Started, word: str) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == word:
                return
        raise AssertionError(f"{word} was never reached: {process.communicate()[1]}")

    return waited


@pytest.fixture
def is_one_line() -> Callable[[Any], bool]:
    """Whether an error is one line of ours, without a traceback."""
    return lambda text: text.startswith("pneumolit: ") and text.count("\n") == 1 and "Traceback" not in text
