"""A search whose trials take milliseconds: the objective is a formula, and trials run in this process one by one.

As a program it takes one JSON object, the arguments of `search_quickly`, and prints what that prints.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console

from pneumolit.interrupts import RunPrunedError
from pneumolit.rundir import DONE, FAILED, PRUNED, TuneDir, fingerprint
from pneumolit.search.plan import Search, SearchSettings
from pneumolit.search.run import Ending, run_search
from pneumolit.search.space import read_space
from pneumolit.search.study import SharedStudy
from pneumolit.search.trial import Reporter, open_trial
from pneumolit.sweep.job import Job, Outcome, Outcomes, Target
from pneumolit.sweep.settings import DevicesSettings

SPACE = {"x": {"low": -1.0, "high": 1.0}, "y": {"choices": ["a", "b", "c"]}}
TPE: dict[str, Any] = {"name": "tpe", "n_startup_trials": 5}
BASE: dict[str, Any] = {
    "trainer": {"accelerator": "cpu", "max_epochs": 3},
    "callbacks": {"checkpoint": {"use": "last", "monitor": "val/loss"}},
}


class Inline:
    """One place: this process."""

    count, words = 1, "one place"

    def __init__(self, seconds: float | None = None) -> None:
        self.deadline = None if seconds is None else time.monotonic() + seconds

    def run(self, target: Target, jobs: Iterable[Job | None], look: Any = None) -> Outcomes:
        for job in jobs:
            if self.deadline is not None and time.monotonic() > self.deadline:
                return
            if job is None:
                time.sleep(0.02)  # as the pool does between two looks
                continue
            state, reason = DONE, ""
            try:
                target(job)
            except RunPrunedError as error:
                state, reason = PRUNED, str(error)
            except ValueError as error:
                state, reason = FAILED, str(error)
            if look is not None:
                look([])
            yield Outcome(job, state, reason, 0.01, "here")


def value_of(point: Mapping[str, Any]) -> float:
    return float((float(point["x"]) - 0.3) ** 2 + {"a": 0.0, "b": 0.5, "c": 1.0}[point["y"]])


def quick_job(job: Job) -> None:
    """Three epochs that come down to the formula's value."""
    reporter = Reporter(open_trial(job), "val/loss", 3)
    reporter.replay(job.run.read_metrics())
    for epoch in range(len(job.run.read_metrics()) + 1, 4):
        row = {"epoch": epoch, "val/loss": value_of(job.choices) + 3 - epoch}
        job.run.append_metrics(row)
        reporter.watch(row)
    job.run.write_status(DONE)


def failing_job(job: Job) -> None:
    raise ValueError(f"trial {job.number} cannot be done")


def odd_job(job: Job) -> None:
    """Every third trial fails."""
    if job.number % 3 == 1:
        raise ValueError("one of three")
    quick_job(job)


JOBS: dict[str, Callable[[Job], None]] = {"quick": quick_job, "failing": failing_job, "odd": odd_job}


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    return BASE | dict(override.split("=", 1) for override in overrides)


def search_quickly(
    folder: str,
    n_trials: int,
    *,
    job: str = "quick",
    storage: str | None = None,
    space: Mapping[str, Any] = SPACE,
    seed: int | None = 0,
    pruner: Mapping[str, Any] = MappingProxyType({"name": "none"}),
    sampler: Mapping[str, Any] = MappingProxyType(TPE),
    code: str = "now",
    seconds: float | None = None,
    console: Console | None = None,
    **settings: Any,
) -> Ending:
    known = {"timeout": None, "monitor": "val/loss", "max_failed": 5, "accept_code_change": False} | settings
    search = Search(
        tune=TuneDir(folder),
        settings=SearchSettings(n_trials=n_trials, storage=storage, **known),
        base=BASE,
        base_name="base",
        code=code,
        axes=read_space(space),
        sampler={**sampler, "seed": seed},
        pruner=pruner,
        launcher=DevicesSettings(),
        compose=compose,
        name_run=lambda cfg: fingerprint([json.dumps(cfg, sort_keys=True)]),
    )
    console = console or Console(file=io.StringIO(), width=400)

    def close(study: SharedStudy) -> None:
        counts: dict[str, int] = {}
        for trial in study.trials():
            counts[trial.state.name] = counts.get(trial.state.name, 0) + 1
        console.print(json.dumps(counts), highlight=False)

    return run_search(search, console, close, target=JOBS[job], places=Inline(seconds))


def trials_of(folder: Path, storage: str | None = None) -> list[Any]:
    """All trials of a search, read anew."""
    import optuna

    from pneumolit.search.storage import open_storage

    found = optuna.load_study(study_name=folder.name, storage=open_storage(storage, folder / "study.log"))
    return found.get_trials(deepcopy=False)


def die_after(seconds: float) -> None:
    """Have SIGKILL end this process so long after it has taken its first trial (0: at once, the trial taken).

    The clock starts there because imports take what the machine lets.
    """
    take = SharedStudy.claim
    timers: list[threading.Timer] = []

    def claim(self: SharedStudy, total: int) -> Any:
        trial = take(self, total)
        if trial is not None and not timers:
            if not seconds:
                os.kill(os.getpid(), signal.SIGKILL)
            timers.append(threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGKILL)))
            timers[0].start()
        return trial

    SharedStudy.claim = claim  # type: ignore[method-assign]


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    kill = arguments.pop("kill_after", None)
    if arguments.pop("is_started_with_others", False):
        print("ready", flush=True)
        sys.stdin.readline()
    if kill is not None:
        die_after(kill)
    search_quickly(**arguments, console=Console(width=400))
