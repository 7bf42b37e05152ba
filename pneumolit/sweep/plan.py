"""What of a sweep is done, what was cut off, what is left; and whether other code did it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pneumolit.rundir import DONE, FAILED, RunDir, SweepDir, locked, read_json, utc_now
from pneumolit.sweep.job import Job
from pneumolit.training.resume import is_begun, is_held

CUT_OFF, NEW = "cut off", "new"


@dataclass(frozen=True)
class SweepSettings:
    """The keys under `sweep`.

    Attributes:
        retry_failed: whether jobs that failed run again.
        accept_code_change: whether what other code has done counts, and is gone on with.
        rerun: whether what other code has done is done again.

    Raises:
        ValueError: a value that is none.
    """

    retry_failed: bool = True
    accept_code_change: bool = False
    rerun: bool = False

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if not isinstance(value, bool):
                raise ValueError(f"sweep.{key} must be true or false, got {value!r}")
        if self.rerun and self.accept_code_change:
            raise ValueError(
                "sweep.rerun=true and sweep.accept_code_change=true contradict each other; leave one of them out"
            )


def standing(run: RunDir) -> str:
    """How the folder of a job stands: done, failed, cut off or new."""
    state = read_json(run.status_file)["state"] if is_begun(run) else None
    if state == DONE:
        return DONE if run.page_file.is_file() else CUT_OFF  # killed while the page was drawn
    if run.job_file.is_file() and read_json(run.job_file)["state"] == FAILED:
        return FAILED
    return CUT_OFF if state is not None else NEW


def choose_jobs(sweep: SweepDir, jobs: Sequence[Job], settings: SweepSettings, code: str) -> list[Job]:
    """Jobs that are to be run now, in their order.

    Args:
        sweep: their folder.
        jobs: all of the sweep.
        settings: what to do about failed ones and other code.
        code: hash of the sources as they are.

    Raises:
        ValueError: other code has run some, and nobody said what that means; or one is being run.
    """
    changed = [job for job in jobs if is_begun(job.run) and read_json(job.run.status_file).get("code") != code]
    if changed and not (settings.accept_code_change or settings.rerun):
        raise ValueError(
            f"{len(changed)} of the {len(jobs)} jobs in {sweep.path} were run or begun by other code (of labels, data, "
            "model or training). Give sweep.accept_code_change=true to count them and go on, or sweep.rerun=true to "
            f"run them again (what they left moves to {sweep.superseded_folder})"
        )
    if settings.rerun:
        for job in changed:
            _supersede(sweep, job)
    left = []
    for job in jobs:
        state = standing(job.run)
        if state in (CUT_OFF, NEW) or (state == FAILED and settings.retry_failed):
            left.append(job)
    return left


@contextlib.contextmanager
def held_sweep(sweep: SweepDir) -> Iterator[None]:
    """Hold a sweep's folder, so that two processes do not take the same jobs.

    Raises:
        ValueError: another process holds it.
    """
    sweep.path.mkdir(parents=True, exist_ok=True)
    refusal = f"another process is running the sweep in {sweep.path}; wait for it, or give another sweep.name"
    with locked(sweep.lock_file, refusal):
        try:
            yield
        finally:
            if [path.name for path in sweep.path.iterdir()] == [sweep.lock_file.name]:
                sweep.lock_file.unlink()  # of a sweep that was refused


def _supersede(sweep: SweepDir, job: Job) -> None:
    if is_held(job.run):
        raise ValueError(f"another process is working on the run in {job.folder}; wait for it or stop it")
    sweep.superseded_folder.mkdir(exist_ok=True)
    name = f"{job.run.path.name}_{utc_now().replace(':', '-')}"
    shutil.move(job.run.path, sweep.superseded_folder / name)
