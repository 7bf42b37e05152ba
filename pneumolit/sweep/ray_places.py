"""Jobs as tasks of Ray: it chooses machine and GPU; processes, limits and records are those of the pool."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pneumolit.rundir import FAILED, INTERRUPTED, read_json
from pneumolit.sweep.devices import Device
from pneumolit.sweep.job import Job, Outcome, Outcomes, Target, Waiting, note
from pneumolit.sweep.places import Look, missing_package
from pneumolit.sweep.pool import Limits, run_one
from pneumolit.sweep.settings import RaySettings

_LOOK_SECONDS = 0.5
_STOP_SECONDS = 40.0  # for jobs that were asked to end: a little longer than the pool beside them waits


class RayPlaces:
    """A Ray of its own on this machine, or a cluster that is there.

    Args:
        settings: of the launcher.
        only_cpu: whether every job asks for the CPU.

    Raises:
        ValueError: Ray is not installed or cannot be reached, or has not what one job needs.
    """

    def __init__(self, settings: RaySettings, *, only_cpu: bool) -> None:
        self.settings = settings
        self._ray = _start(settings)
        has = self._ray.cluster_resources()
        gpus = settings.num_gpus
        if gpus == "auto":
            gpus = 1 if has.get("GPU") and not only_cpu else 0
        self.needs: dict[str, float] = {"CPU": settings.num_cpus, "GPU": gpus}
        for kind, needed in self.needs.items():
            if needed > has.get(kind, 0):
                self._ray.shutdown()
                key = f"{kind.lower()}s"
                raise ValueError(
                    f"hydra.launcher.num_{key}={needed:g}, but Ray has {has.get(kind, 0):g}; lower it, or say what "
                    f"there is by hydra.launcher.total_{key}"
                )
        if not any(self.needs.values()):
            self._ray.shutdown()
            raise ValueError(
                "hydra.launcher.num_cpus=0 without a GPU: a job that needs nothing cannot be counted; give num_cpus or "
                "num_gpus above 0"
            )
        self.count = int(min(has.get(kind, 0) // needed for kind, needed in self.needs.items() if needed))
        self.words = f"Ray, {self.count} at once"

    def run(self, target: Target, jobs: Iterable[Job | None], look: Look | None = None) -> Outcomes:
        """Run jobs as tasks; a task's worker ends with it."""
        ray, settings = self._ray, self.settings
        here = str(Path.cwd())
        task = ray.remote(
            num_cpus=self.needs["CPU"], num_gpus=self.needs["GPU"], max_retries=settings.max_retries, max_calls=1
        )(_run_here)
        end = time.monotonic() + 60 * settings.sweep_minutes if settings.sweep_minutes is not None else None
        running: dict[Any, tuple[Job, float]] = {}
        waiting = Waiting(jobs)
        # Where a task asks for no GPU, Ray leaves all of them visible.
        device = Device("Ray", "" if self.needs["GPU"] else None, threads=max(1, int(settings.num_cpus)))
        try:
            while True:
                is_late = end is not None and time.monotonic() > end
                while len(running) < self.count and not is_late and (job := waiting.take()) is not None:
                    running[task.remote(target, job, settings.limits, device, here)] = (job, time.monotonic())
                if not running and (waiting.is_over or is_late):
                    return
                if is_late:
                    yield from self._stop(running, "the time of the sweep was over (hydra.launcher.sweep_minutes)")
                    return
                yield from self._ended(running)
                if look is not None:
                    now = time.monotonic()
                    look([(job, device, now - began) for job, began in running.values()])
        finally:
            self._stop(running, "the sweep was stopped")
            ray.shutdown()

    def _ended(self, running: dict[Any, tuple[Job, float]]) -> list[Outcome]:
        if not running:
            time.sleep(_LOOK_SECONDS)
            return []
        ready, _ = self._ray.wait(list(running), timeout=_LOOK_SECONDS)
        outcomes = []
        for reference in ready:
            job, began = running.pop(reference)
            try:
                outcome = self._ray.get(reference)
                file = job.run.job_file
                if outcome.state == FAILED and not (file.is_file() and read_json(file)["state"] == FAILED):
                    note(job, FAILED, reason=outcome.reason)  # its machine could not
                outcomes.append(outcome)
            except Exception as error:  # Ray has many for a worker that is gone
                lines = str(error).strip().splitlines() or [type(error).__name__]
                reason = f"Ray lost its worker: {lines[0]}"
                note(job, FAILED, reason=reason)
                outcomes.append(Outcome(job, FAILED, reason, time.monotonic() - began, "Ray"))
        return outcomes

    def _stop(self, running: dict[Any, tuple[Job, float]], reason: str) -> list[Outcome]:
        """Ask what runs to end; what has come to its end meanwhile counts."""
        for reference in running:
            self._ray.cancel(reference, force=False)  # as Ctrl-C in the worker, whose pool stops the job
        outcomes = []
        end = time.monotonic() + _STOP_SECONDS
        while running and time.monotonic() < end:
            ready, _ = self._ray.wait(list(running), timeout=_LOOK_SECONDS)
            for reference in ready:
                job, began = running.pop(reference)
                outcome = Outcome(job, INTERRUPTED, reason, time.monotonic() - began, "Ray")
                with contextlib.suppress(Exception):
                    outcome = self._ray.get(reference)
                note(job, outcome.state, reason=outcome.reason)
                outcomes.append(outcome)
        return outcomes


def _start(settings: RaySettings) -> Any:
    """Connect to a cluster, or start a Ray that ends with this process."""
    try:
        import ray
    except ImportError:
        raise missing_package("ray", "ray") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is to be sent anywhere
    totals: dict[str, Any] = (
        {"num_cpus": settings.total_cpus, "num_gpus": settings.total_gpus} if settings.address is None else {}
    )
    try:
        ray.init(
            address=settings.address or "local", include_dashboard=False if settings.address is None else None,
            log_to_driver=False, logging_level=logging.ERROR, **totals,
        )  # fmt: skip
    except Exception as error:  # by its way of connecting, of many kinds
        what, way = ("no Ray can be started here", "use hydra/launcher=devices")
        if settings.address is not None:
            what = f"there is no Ray at hydra.launcher.address={settings.address}"
            way = "give the address that `ray start --head` prints, or leave it out for a Ray of its own"
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{what} ({lines[0]}); {way}") from error
    return ray


def _run_here(target: Target, job: Job, limits: Limits, device: Device, folder: str) -> Outcome:
    """Body of a task; Ray has set CUDA_VISIBLE_DEVICES for its worker where it asked for a GPU.

    A worker of a cluster that was there stands where that was started, and paths are relative to the sweep's `folder`.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        reason = f"the sweep was started in {folder}, which is not on this machine ({error.strerror}); share it"
        return Outcome(job, FAILED, reason, 0.0, "Ray")
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    name = "Ray, cpu" if device.gpu is None else f"Ray, gpu {gpus}"
    return run_one(target, job, replace(device, name=name), limits)
