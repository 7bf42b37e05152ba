"""Settings of the launchers, checked: the keys under `hydra.launcher`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pneumolit.sweep.pool import FORKSERVER, SPAWN, Limits


def _refuse(key: str, wanted: str, found: Any) -> None:
    raise ValueError(f"hydra.launcher.{key} must be {wanted}, got {found!r}")


def _is_number(value: Any, low: float, *, is_whole: bool = False) -> bool:
    kinds = int if is_whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and low <= value < float("inf")


@dataclass(frozen=True)
class CommonSettings:
    """What all launchers have.

    Attributes:
        job_memory_gb: most memory of a job; None: no limit.
        job_minutes: most time of a job.
        sweep_minutes: most time of the sweep.
    """

    job_memory_gb: float | None = None
    job_minutes: float | None = None
    sweep_minutes: float | None = None

    def __post_init__(self) -> None:
        for key in ("job_memory_gb", "job_minutes", "sweep_minutes"):
            value = getattr(self, key)
            if value is not None and not (_is_number(value, 0) and value > 0):
                _refuse(key, "null or a number above 0", value)

    def _check_whole(self, low: int, *keys: str) -> None:
        for key in keys:
            if not _is_number(getattr(self, key), low, is_whole=True):
                _refuse(key, f"a whole number of at least {low}", getattr(self, key))

    @property
    def limits(self) -> Limits:
        """Of each job."""
        return Limits(self.job_memory_gb, self.job_minutes)


@dataclass(frozen=True)
class DevicesSettings(CommonSettings):
    """Of `hydra/launcher=devices`; the file of that name says what the keys mean."""

    gpus: Any = "auto"
    jobs_per_gpu: int = 1
    cpu_jobs: int | Literal["auto"] = "auto"
    start: str = FORKSERVER

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gpus != "auto":
            if not isinstance(self.gpus, list | tuple):
                _refuse("gpus", "auto or a list of GPUs such as [0,1]", self.gpus)
            names = [str(name) for name in self.gpus]
            if len(set(names)) != len(names):
                _refuse("gpus", "a list that names every GPU once (for several jobs on one: jobs_per_gpu)", self.gpus)
            object.__setattr__(self, "gpus", tuple(names))
        self._check_whole(1, "jobs_per_gpu", *(["cpu_jobs"] if self.cpu_jobs != "auto" else []))
        if self.start not in (FORKSERVER, SPAWN):
            _refuse("start", f"{FORKSERVER} or {SPAWN}", self.start)


@dataclass(frozen=True)
class RaySettings(CommonSettings):
    """Of `hydra/launcher=ray`."""

    address: str | None = None
    num_cpus: float = 1
    num_gpus: float | Literal["auto"] = "auto"
    total_cpus: int | None = None
    total_gpus: int | None = None
    max_retries: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.address is not None and not isinstance(self.address, str):
            _refuse("address", "null, auto or an address such as ray://HOST:PORT", self.address)
        for key in ("num_cpus", "num_gpus"):
            value = getattr(self, key)
            if not (_is_number(value, 0) or (key == "num_gpus" and value == "auto")):
                _refuse(key, "a number of at least 0", value)
        self._check_whole(0, "max_retries")
        for key in ("total_cpus", "total_gpus"):
            if getattr(self, key) is not None:
                self._check_whole(0, key)
                if self.address is not None:
                    raise ValueError(f"hydra.launcher.{key} has no effect on the Ray at {self.address}; leave it out")


@dataclass(frozen=True)
class SlurmSettings(CommonSettings):
    """Of `hydra/launcher=slurm`."""

    cluster: str = "slurm"
    gpus: tuple[str, ...] = ()
    partition: str | None = None
    gpus_per_job: int = 1
    cpus_per_job: int = 4
    memory_gb: float = 16
    minutes: int = 720
    at_once: int = 32
    setup: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    use_srun: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cluster not in ("slurm", "local"):
            _refuse("cluster", "slurm or local", self.cluster)
        if not isinstance(self.gpus, list | tuple) or (self.gpus and self.cluster == "slurm"):
            _refuse("gpus", "a list of GPUs for cluster=local, and left out for Slurm, which gives them", self.gpus)
        object.__setattr__(self, "gpus", tuple(str(name) for name in self.gpus))
        for key, kinds, wanted in (
            ("partition", str | None, "null or the name of a partition"),
            ("setup", list | tuple, "a list of lines of shell such as [module load cuda]"),
            ("options", Mapping, "a mapping from options of sbatch such as {account: radiology}"),
            ("use_srun", bool, "true or false"),
        ):
            if not isinstance(getattr(self, key), kinds):
                _refuse(key, wanted, getattr(self, key))
        self._check_whole(0, "gpus_per_job")
        self._check_whole(1, "cpus_per_job", "minutes", "at_once")
        if not (_is_number(self.memory_gb, 0) and self.memory_gb > 0):
            _refuse("memory_gb", "a number above 0", self.memory_gb)


SETTINGS = {"devices": DevicesSettings, "ray": RaySettings, "slurm": SlurmSettings}
