"""What the tests of sweeps share: jobs without training, and their outcomes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pneumolit.sweep.job import Job, Target


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module `job_targets`, under the name by which jobs' processes find it."""
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")])))
    import job_targets  # type: ignore[import-not-found]

    yield job_targets


@pytest.fixture
def act(targets: Any) -> Target:
    """A target that ends as `Job.extra` says."""
    target: Target = targets.act
    return target


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """`job(number, how="", seconds=0)`: one that `act` understands."""

    def made(number: int, how: str = "", seconds: float = 0, **keys: Any) -> Job:
        cfg = {"trainer": {"accelerator": "auto", "devices": 1}}
        extra = {"how": how, "seconds": seconds}
        return Job(number, str(tmp_path / f"job{number}"), cfg, (f"a={number}",), {"a": number}, extra=extra, **keys)

    return made


@pytest.fixture
def facts() -> Callable[[Job], dict[str, Any]]:
    """`facts(job)`: what `act` wrote down."""

    def read(job: Job) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((Path(job.folder) / "facts.json").read_text())
        return content

    return read
