"""Jobs through Slurm, by submitit; processes, limits and records are those of the pool.

Slurm's jobs do not end with the process that submitted them. A sweep that is started again submits what is not done;
a job that finds its predecessor still at work waits for it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pneumolit.rundir import FAILED, INTERRUPTED
from pneumolit.sweep.devices import Device, count_shares, cpu_devices, gpu_devices
from pneumolit.sweep.job import Job, Outcome, Outcomes, Target, Waiting, note
from pneumolit.sweep.places import Look, missing_package
from pneumolit.sweep.pool import run_one
from pneumolit.sweep.settings import SlurmSettings

_LOOK_SECONDS = 1.0
_Submitted = tuple[Any, Job, Device, float]  # submitit's job, ours, its slot, when it was submitted
_LOGS = ".submitit"  # submitit's own files, beside the jobs' folders


class SlurmPlaces:
    """A cluster with Slurm, or submitit's processes on this machine.

    Args:
        settings: of the launcher.
        jobs: some or all that will run; they share one parent folder.

    Raises:
        ValueError: submitit is not installed, or there is no Slurm.
    """

    def __init__(self, settings: SlurmSettings, jobs: Sequence[Job]) -> None:
        self.settings = settings
        try:
            import submitit
        except ImportError:
            raise missing_package("submitit", "slurm") from None
        folder = Path(jobs[0].folder).parent / _LOGS if jobs else Path(_LOGS)
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=settings.cluster)
        except RuntimeError as error:
            raise ValueError(
                f"hydra/launcher=slurm finds no Slurm here ({error}); start the sweep where sbatch and srun are, or "
                "try its settings with hydra.launcher.cluster=local"
            ) from error
        self._executor.update_parameters(**_parameters(settings))
        self.devices = _devices(settings, len(jobs))
        self.count = len(self.devices)
        where = "Slurm" if settings.cluster == "slurm" else "submitit on this machine"
        is_less = not settings.gpus and self.count < min(settings.at_once, len(jobs))
        room = " (as many as cores and memory take)" if is_less else ""
        self.words = f"{where}, {self.count} at once{room}"

    def run(self, target: Target, jobs: Iterable[Job | None], look: Look | None = None) -> Outcomes:
        """Submit jobs; leaving early cancels what waits or runs."""
        minutes = self.settings.sweep_minutes
        end = time.monotonic() + 60 * minutes if minutes is not None else None
        free, waiting = list(self.devices), Waiting(jobs)
        running: list[_Submitted] = []
        try:
            while True:
                is_late = end is not None and time.monotonic() > end
                while free and not is_late and (job := waiting.take()) is not None:
                    device = free.pop(0)
                    # Another job of Slurm may have it: of a sweep whose process is gone.
                    patient = replace(job, lock_seconds=None) if self.settings.cluster == "slurm" else job
                    submitted = self._executor.submit(run_one, target, patient, device, self.settings.limits)
                    running.append((submitted, job, device, time.monotonic()))
                if is_late:
                    yield from _stop(running, "the time of the sweep was over (hydra.launcher.sweep_minutes)")
                if not running and (waiting.is_over or is_late):
                    return
                time.sleep(_LOOK_SECONDS)
                for entry in [entry for entry in running if entry[0].done()]:
                    running.remove(entry)
                    free.append(entry[2])
                    yield _outcome(*entry)
                if look is not None:
                    look([(job, device, time.monotonic() - began) for _, job, device, began in running])
        finally:
            _stop(running, "the sweep was stopped")


def _stop(running: list[_Submitted], reason: str) -> list[Outcome]:
    """Cancel what waits or runs, and take it off the list."""
    outcomes = []
    while running:
        submitted, job, device, began = running.pop()
        with contextlib.suppress(Exception):  # it may have ended at this moment
            submitted.cancel()
        note(job, INTERRUPTED, reason=reason)
        outcomes.append(Outcome(job, INTERRUPTED, reason, time.monotonic() - began, device.name))
    return outcomes


def _outcome(submitted: Any, job: Job, device: Device, began: float) -> Outcome:
    error = submitted.exception()
    if error is None:
        outcome: Outcome = submitted.result()
        return outcome
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = f"Slurm ended it: {lines[0].strip()}"
    note(job, FAILED, reason=reason)
    return Outcome(job, FAILED, reason, time.monotonic() - began, device.name)


def _devices(settings: SlurmSettings, jobs: int) -> list[Device]:
    """Slots: Slurm finds the place of each job, and has set what it may use; on this machine nobody else does."""
    if settings.cluster == "slurm":
        gpu = "" if settings.gpus_per_job else None
        return [Device("Slurm", gpu, threads=settings.cpus_per_job) for _ in range(settings.at_once)]
    if settings.gpus:
        return gpu_devices(settings.gpus, 1)
    return cpu_devices(min(settings.at_once, count_shares(jobs)))  # no more than cores and memory take


def _parameters(settings: SlurmSettings) -> dict[str, Any]:
    """In submitit's words; those of Slurm alone begin with its name, and other executors pass them over."""
    named = {"slurm_partition": settings.partition} if settings.partition is not None else {}
    setup = {"slurm_setup": list(settings.setup)} if settings.setup else {}
    return {
        "name": "pneumolit",
        "timeout_min": settings.minutes,
        "gpus_per_node": settings.gpus_per_job if settings.cluster == "slurm" else 0,
        "cpus_per_task": settings.cpus_per_job,
        "mem_gb": settings.memory_gb,
        "slurm_use_srun": settings.use_srun,
        "slurm_additional_parameters": dict(settings.options),
        **named,
        **setup,
    }
