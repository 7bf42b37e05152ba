"""Which run folders and which files of predictions are meant: lists, patterns, folders that hold runs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pneumolit.rundir import RunDir

_DEPTH = 4  # of runs below a folder: outputs, train, date, time
_NOT_RUNS = frozenset(("superseded", "checkpoints", "evaluation", "tensorboard"))


def find_runs(given: Any) -> list[RunDir]:
    """Runs that `runs=` names, each once, in the order given.

    Args:
        given: a text or a list of texts: a run's folder, a folder that holds runs (at most four levels down), or a
            pattern with `*`, `?` or `[...]` of such folders. None: no run.

    Raises:
        FileNotFoundError: a text that leads to no run.
        ValueError: neither a text nor a list of texts.
    """
    found: dict[Path, RunDir] = {}
    for text in _texts(given, "runs"):
        paths = _runs_of(text)
        if not paths:
            hint = "; several are given as runs=[a,b]" if "," in text else ""
            raise FileNotFoundError(
                f"runs={text} leads to no run: a run's folder, a folder that holds runs (such as outputs/train or a "
                f"sweep), or a pattern of such folders is expected{hint}"
            )
        for path in paths:
            found.setdefault(path.resolve(), RunDir(path))
    return list(found.values())


def find_predictions(given: Any) -> list[Path]:
    """Files that `predictions=` names, each once.

    Raises:
        FileNotFoundError: a file that is not there, or a pattern without files.
        ValueError: neither a text nor a list of texts.
    """
    found: dict[Path, Path] = {}
    for text in _texts(given, "predictions"):
        path = Path(text).expanduser()
        matches = [path] if path.is_file() else [p for p in _matches(text) if p.is_file()]
        if not matches:
            raise FileNotFoundError(
                f"predictions={text} is no file; a CSV file with the columns path and score is expected"
            )
        for match in matches:
            found.setdefault(match.resolve(), match)
    return list(found.values())


def is_run(path: Path) -> bool:
    """Whether a folder holds a run, or an ensemble, which is like one."""
    return RunDir(path).config_file.is_file() and RunDir(path).status_file.is_file()


def _texts(given: Any, key: str) -> list[str]:
    if given is None:
        return []
    if isinstance(given, str) and given[:1] + given[-1:] == "[]" and not Path(given).exists():
        # The value of a path key reaches us as it was typed.
        given = [part.strip().strip("'\"") for part in given[1:-1].split(",")]
    listed = given if isinstance(given, list | tuple) else [given]
    if not all(isinstance(text, str | int | float) and not isinstance(text, bool) and str(text) for text in listed):
        raise ValueError(f"{key} must be a path or a list of paths such as {key}=[a,b], got {given!r}")
    return [str(text) for text in listed]


def _runs_of(text: str) -> list[Path]:
    path = Path(text).expanduser()
    # What a sweep has set aside is compared only where somebody names it.
    unnamed = _NOT_RUNS - set(path.parts)
    folders = [path] if path.is_dir() else [found for found in _matches(text) if not unnamed & set(found.parts)]
    return [run for folder in folders for run in _runs_below(folder)]


def _matches(text: str) -> list[Path]:
    return [Path(match) for match in sorted(glob.glob(str(Path(text).expanduser()), recursive=True))]  # noqa: PTH207


def _runs_below(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    if not folder.is_dir():
        return
    if is_run(folder):
        yield folder
    elif depth:
        with os.scandir(folder) as entries:
            inner = sorted(e.name for e in entries if e.is_dir() and e.name[0] != "." and e.name not in _NOT_RUNS)
        for name in inner:
            yield from _runs_below(folder / name, depth - 1)
