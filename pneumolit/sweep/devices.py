"""Devices of a pool: every GPU or shares of the processor's cores, and what a process does to keep to one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pneumolit.cores import available_cores, use_cores

_JOB_MEMORY_GB = 3.0  # of a job on a CPU, where shares are counted by themselves: the default recipe takes 2.2
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Device:
    """What one job may use.

    Attributes:
        name: for people: `gpu 0`, `gpu 0 b` for the second job on it, `cpu 1`.
        gpu: what CUDA_VISIBLE_DEVICES shall hold; None: no GPU; "" leaves what a cluster has set.
        cores: numbers of the processor cores; none given leaves them as they are.
        threads: where no cores are given; 0: one per core that the process may use.
    """

    name: str
    gpu: str | None
    cores: tuple[int, ...] = ()
    threads: int = 0

    def enter(self) -> None:
        """Keep this process to the device; before it touches CUDA for the first time.

        CUDA reads the variable once, and threads that exist already keep the cores they had.
        """
        if self.gpu != "":
            os.environ[VISIBLE] = self.gpu or ""
        threads = use_cores(self.cores, self.threads)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # for processes that it starts
            os.environ[name] = str(threads)


def visible_gpus() -> list[str]:
    """GPUs of this machine as CUDA_VISIBLE_DEVICES names them, found without touching CUDA."""
    given = os.environ.get(VISIBLE)
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() and name.strip() != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    asked = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        found = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in found.stdout.splitlines() if line.strip().isdigit()]


def gpu_devices(gpus: Sequence[str], jobs_per_gpu: int) -> list[Device]:
    """One device per job that a GPU takes, each with its part of the cores; neighbours are on different GPUs."""
    slots = [(gpu, turn) for turn in range(jobs_per_gpu) for gpu in gpus]
    parts = share_cores(available_cores(), len(slots))
    names = [f"gpu {gpu}" + (f" {chr(ord('a') + turn)}" if jobs_per_gpu > 1 else "") for gpu, turn in slots]
    return [Device(n, gpu, cores) for n, (gpu, _), cores in zip(names, slots, parts, strict=True)]


def cpu_devices(count: int) -> list[Device]:
    """Shares of the cores."""
    parts = share_cores(available_cores(), count)
    return [Device(f"cpu {number}", None, cores) for number, cores in enumerate(parts)]


def count_shares(jobs: int) -> int:
    """Shares of the cores for so many jobs: a core each, as far as memory allows.

    Jobs of one core each do more in an hour than one job on all cores: a part of every step runs on one.
    """
    import psutil

    by_memory = int(psutil.virtual_memory().available / (_JOB_MEMORY_GB * 1e9))
    return max(1, min(jobs, len(available_cores()), by_memory))


def share_cores(cores: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """Cores in so many parts of neighbours; where there are fewer cores than parts, parts share a core.

    >>> share_cores([0, 1, 2, 3, 4], 2), share_cores([0, 1], 3)
    ([(0, 1), (2, 3, 4)], [(0,), (1,), (0,)])
    """
    if count > len(cores):
        return [(cores[part % len(cores)],) for part in range(count)]
    ends = [len(cores) * part // count for part in range(count + 1)]
    return [tuple(cores[a:b]) for a, b in pairwise(ends)]
