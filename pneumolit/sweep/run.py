"""A sweep from its checked configurations to its tables: names, what is left, who runs it, what came out."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from pneumolit.config import flatten
from pneumolit.data.store import cache_folder
from pneumolit.interrupts import RunInterruptedError
from pneumolit.report.sweep import SweepRow
from pneumolit.report.sweep_tables import best_words, counted
from pneumolit.rundir import FAILED, SweepDir, shortest, utc_now, write_json
from pneumolit.sweep.display import Display, say
from pneumolit.sweep.fingerprint import Fingerprints
from pneumolit.sweep.job import Job, train_job
from pneumolit.sweep.places import places_for
from pneumolit.sweep.plan import SweepSettings, choose_jobs, held_sweep
from pneumolit.sweep.results import Tables, collect_row, winner_commands
from pneumolit.sweep.settings import CommonSettings
from pneumolit.training.environment import source_hash
from pneumolit.training.progress import data_progress

_SHOWN = 2  # commands that score the winner; those of all seeds stand in the tables


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
    settings: SweepSettings
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
        places = places_for(asked.launcher, left) if left else None
        _write_record(asked, jobs, monitor)
        done = f", {len(jobs) - len(left)} ended before" if len(left) < len(jobs) else ""
        now = f", {len(left)} to run on {places.words}" if places is not None else ""
        say(console, f"sweep {sweep.path.name}: {len(jobs)} jobs{done}{now}; folder {shortest(sweep.path)}")
        rows = {job.folder: collect_row(job.run, job.choices, monitor=monitor) for job in jobs}
        tables = Tables(sweep, monitor, again=shlex.join(["python", "-m", "pneumolit.train", *sys.argv[1:]]))
        try:
            if places is not None:
                display = Display(console, total=len(left), places=places.count, monitor=monitor)
                with display.shown(), contextlib.closing(places.run(train_job, left, display.look)) as outcomes:
                    for outcome in outcomes:
                        row = collect_row(outcome.job.run, outcome.job.choices, monitor=monitor)
                        rows[outcome.job.folder] = row
                        display.ended(outcome, row.score)
                        tables.write_texts(list(rows.values()))
        except KeyboardInterrupt as stop:
            raise RunInterruptedError(
                "the sweep was stopped; what has begun is kept, and the same command goes on with it",
                getattr(stop, "exit_code", 130),
            ) from None
        finally:  # all of them anew: some were stopped on the way out
            found = [collect_row(job.run, job.choices, monitor=monitor) for job in jobs]
            tables.write_all(found)
        _say_result(sweep, found, monitor, console)
    return sum(row.state == FAILED for row in found)


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
    write_json(asked.sweep.record_file, content)


def _say_result(sweep: SweepDir, rows: Sequence[SweepRow], monitor: str, console: Console) -> None:
    """The last lines: failures with their logs, where to look, the next command, the count."""
    for row in (row for row in rows if row.state == FAILED):
        what = ", ".join(f"{key}={value}" for key, value in row.choices.items())
        log = shortest(sweep.job(row.name).log_file)
        say(console, f"failed: {what or row.name}: {' '.join(row.reason.split())} (log: {log})")
    say(console, f"  result  {best_words(rows, monitor)}")
    say(console, f"  page    {shortest(sweep.page_file)}")
    say(console, f"  curves  tensorboard --logdir {shlex.quote(str(shortest(sweep.path)))}")
    lines = [
        line for _, text in winner_commands(SweepDir(shortest(sweep.path)), rows, monitor) for line in text.split("\n")
    ]
    for line in lines[:_SHOWN]:
        say(console, f"  next    {line}   (once, at the end)")
    if len(lines) > _SHOWN:
        say(
            console,
            f"          and {len(lines) - _SHOWN} more, for its other seeds and folds: {shortest(sweep.markdown_file)}",
        )
    say(console, counted(rows))
