"""Where the jobs of a sweep run: on devices of this machine, on Ray, through Slurm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from pneumolit.cores import available_cores
from pneumolit.sweep.devices import Device, count_shares, cpu_devices, gpu_devices, visible_gpus
from pneumolit.sweep.job import Job, Outcomes, Target
from pneumolit.sweep.pool import Pool
from pneumolit.sweep.settings import CommonSettings, DevicesSettings, RaySettings, SlurmSettings

Look = Callable[[list[tuple[Job, Device, float]]], None]


class Places(Protocol):
    """What runs jobs.

    Attributes:
        count: how many run at once.
        words: where, for people.
    """

    count: int
    words: str

    def run(self, target: Target, jobs: Iterable[Job | None], look: Look | None = None) -> Outcomes:
        """Run jobs, read one by one as there is room (None: none now); outcomes as they end."""
        ...


class LocalPlaces:
    """GPUs of this machine, or shares of its cores.

    Args:
        settings: of the launcher.
        total: jobs that there are at most.
        only_cpu: whether every job asks for the CPU, so that GPUs are not looked for.
    """

    def __init__(self, settings: DevicesSettings, total: int, *, only_cpu: bool) -> None:
        self.settings = settings
        gpus = list(settings.gpus) if settings.gpus != "auto" else [] if only_cpu else visible_gpus()
        self.devices: list[Device]
        if gpus:
            self.devices = gpu_devices(gpus, settings.jobs_per_gpu)
            each = f", {settings.jobs_per_gpu} jobs on each" if settings.jobs_per_gpu > 1 else ""
            self.words = f"GPU{'s' * (len(gpus) > 1)} {', '.join(gpus)}{each}"
        else:
            shares = settings.cpu_jobs if settings.cpu_jobs != "auto" else count_shares(total)
            self.devices = cpu_devices(shares)
            cores = len(available_cores())
            self.words = f"{shares} share{'s' * (shares > 1)} of {cores} core{'s' * (cores > 1)}"
        self.count = len(self.devices)

    def run(self, target: Target, jobs: Iterable[Job | None], look: Look | None = None) -> Outcomes:
        """Run jobs on the devices."""
        minutes = self.settings.sweep_minutes
        deadline = None if minutes is None else time.monotonic() + 60 * minutes
        limits, start = self.settings.limits, self.settings.start
        yield from Pool(self.devices, target, limits, start=start, deadline=deadline, on_look=look).run(jobs)


def places_for(settings: CommonSettings, jobs: Sequence[Job]) -> Places:
    """The places that the settings of a launcher describe.

    Args:
        settings: of the launcher.
        jobs: those that will run.

    Raises:
        ValueError: what the launcher needs is not installed or not there.
    """
    only_cpu = all(job.cfg["trainer"]["accelerator"] == "cpu" for job in jobs)
    if isinstance(settings, RaySettings):
        from pneumolit.sweep.ray_places import RayPlaces

        return RayPlaces(settings, only_cpu=only_cpu)
    if isinstance(settings, SlurmSettings):
        from pneumolit.sweep.slurm_places import SlurmPlaces

        return SlurmPlaces(settings, jobs)
    assert isinstance(settings, DevicesSettings)
    return LocalPlaces(settings, len(jobs), only_cpu=only_cpu)


def missing_package(name: str, extra: str) -> ValueError:
    """What to say where a launcher's package is not installed."""
    return ValueError(f"hydra/launcher={extra} needs the package {name}: python -m pip install 'pneumolit[{extra}]'")
