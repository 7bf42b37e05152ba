"""A sweep from its checked configurations to its tables: names, what is left, who runs it, what came out."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from pneumolit.config import flatten
from pneumolit.data.store import cache_folder
from pneumolit.interrupts import RunInterruptedError
from pneumolit.rundir import FAILED, SweepDir, utc_now
from pneumolit.sweep.display import Display, shortest
from pneumolit.sweep.fingerprint import Fingerprints
from pneumolit.sweep.job import Job, train_job
from pneumolit.sweep.places import places_for
from pneumolit.sweep.plan import Settings, choose_jobs, held_sweep
from pneumolit.sweep.settings import CommonSettings
from pneumolit.sweep.table import collect_row, write_tables
from pneumolit.training.environment import source_hash
from pneumolit.training.progress import data_progress


@dataclass(frozen=True)
class Asked:
    """What a command asks for.

    Attributes:
        sweep: its folder.
        configurations: of the jobs, complete and checked.
        overrides: of the jobs.
        settings: about what is there already.
        launcher: settings of the launcher, whose type says which.
    """

    sweep: SweepDir
    configurations: Sequence[Mapping[str, Any]]
    overrides: Sequence[tuple[str, ...]]
    settings: Settings
    launcher: CommonSettings


def sweep_jobs(asked: Asked, console: Console) -> int:
    """Run what is left of a sweep and write its tables.

    Returns:
        How many of its jobs have failed, now or before.

    Raises:
        ValueError: the data cannot be read, other code has run a part, or another process runs the sweep.
        RunInterruptedError: stopped by Ctrl-C or SIGTERM; the tables are written, and the same command goes on.
    """
    refuse_several_devices(asked.configurations)
    sweep, monitor = asked.sweep, str(asked.configurations[0]["callbacks"]["checkpoint"]["monitor"])
    jobs = name_jobs(asked, console)
    with held_sweep(sweep):
        left = choose_jobs(sweep, jobs, asked.settings, source_hash())
        _write_record(asked, jobs, monitor)
        places = places_for(asked.launcher, left)
        done = f", {len(jobs) - len(left)} ended before" if len(left) < len(jobs) else ""
        now = f", {len(left)} to run on {places.words}" if left else ""
        console.print(
            f"sweep {sweep.path.name}: {len(jobs)} jobs{done}{now}; folder {shortest(sweep.path)}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
        display = Display(console, total=len(left), places=places.count, monitor=monitor)
        try:
            with display.shown():
                for outcome in places.run(train_job, left, display.look):
                    row = collect_row(outcome.job.run, outcome.job.choices)
                    display.ended(outcome, row.score)
        except KeyboardInterrupt as stop:
            _close(sweep, jobs, monitor, console)
            code = getattr(stop, "exit_code", 130)
            raise RunInterruptedError(
                "the sweep was stopped; what has begun is kept, and the same command goes on with it", code
            ) from None
        return _close(sweep, jobs, monitor, console)


def refuse_several_devices(configurations: Sequence[Mapping[str, Any]]) -> None:
    """A job has one device; those of a sweep share the machine."""
    for cfg in configurations:
        devices = cfg["trainer"]["devices"]
        if devices != 1:
            raise ValueError(
                f"trainer.devices={devices} cannot be inside a sweep, whose jobs have one device each; leave it out, "
                "or train one model on several devices without --multirun"
            )


def name_jobs(asked: Asked, console: Console) -> list[Job]:
    """Jobs with their folders and what sets them apart; what is the same twice is one."""
    choices = varied(asked.configurations, asked.overrides)
    jobs: dict[str, Job] = {}
    with data_progress(console) as progress:
        names = Fingerprints(cache_folder(asked.configurations[0]["cache_dir"]), progress)
        for number, cfg in enumerate(asked.configurations):
            name = names.of(cfg)
            folder = str(asked.sweep.job(name).path)
            jobs.setdefault(name, Job(number, folder, cfg, asked.overrides[number], choices[number]))
    same = len(asked.configurations) - len(jobs)
    if same:
        console.print(f"{same} jobs are the same as others and run once", highlight=False)
    return list(jobs.values())


def varied(configurations: Sequence[Mapping[str, Any]], overrides: Sequence[tuple[str, ...]]) -> list[dict[str, Any]]:
    """What sets each job apart: keys that the jobs' overrides give different values, with these values."""
    pairs = zip(overrides, configurations, strict=True)
    given = [dict(_choice(override, flatten(cfg)) for override in own) for own, cfg in pairs]
    keys = dict.fromkeys(key for own in given for key in own)
    axes = [key for key in keys if len({repr(own.get(key)) for own in given}) > 1]
    return [{key: own.get(key) for key in axes} for own in given]


def _choice(override: str, flat: Mapping[str, Any]) -> tuple[str, Any]:
    key, _, value = override.partition("=")
    key = key.lstrip("+~")
    return key, flat.get(key, value)


def _write_record(asked: Asked, jobs: Sequence[Job], monitor: str) -> None:
    """What was asked for; the tables are made from this and the folders of the jobs."""
    listed = [
        {"name": job.run.path.name, "overrides": list(job.overrides), "choices": dict(job.choices)} for job in jobs
    ]
    content = {"time": utc_now(), "arguments": sys.argv[1:], "monitor": monitor, "jobs": listed}
    asked.sweep.job("").write_json(asked.sweep.record_file, content)


def _close(sweep: SweepDir, jobs: Sequence[Job], monitor: str, console: Console) -> int:
    """Tables and the last lines; how many jobs have failed."""
    rows = [collect_row(job.run, job.choices) for job in jobs]
    write_tables(sweep, rows, monitor=monitor)
    counts = {state: sum(row.state == state for row in rows) for state in dict.fromkeys(row.state for row in rows)}
    for row in (row for row in rows if row.state == FAILED):
        what = ", ".join(f"{key}={value}" for key, value in row.choices.items())
        console.print(
            f"failed: {what}: {' '.join(row.reason.split())} (log: {shortest(sweep.job(row.name).log_file)})",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    folder = shlex.quote(str(shortest(sweep.path)))
    for line in (
        f"  page    {shortest(sweep.page_file)}",
        f"  curves  tensorboard --logdir {folder}",
        f"{len(rows)} jobs: {', '.join(f'{count} {state}' for state, count in counts.items())}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return counts.get(FAILED, 0)
