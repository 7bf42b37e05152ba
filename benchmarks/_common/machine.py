"""What a benchmark ran on: processor, cores, versions, date."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pneumolit
from pneumolit.training.environment import find_commit, name_processor, package_version

REPOSITORY = Path(__file__).resolve().parents[2]


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """Processor, cores and, on a GPU, its name."""
    machine: dict[str, Any] = {"processor": name_processor(), "cores": count_cores()}
    if device == "cuda":
        machine["gpu"] = _name_gpu()
    return machine


def describe_versions(
    packages: Sequence[str] = ("torch", "torchvision", "timm", "pytorch-lightning"),
) -> dict[str, str]:
    """Versions of Python, of this repository and of some packages; "absent" where one is not installed."""
    found = {"python": platform.python_version(), "pneumolit": pneumolit.__version__, "commit": find_commit()}
    return found | {name: package_version(name) for name in packages}


def today() -> str:
    """The date as ISO writes it."""
    return datetime.date.today().isoformat()


def _name_gpu() -> str:
    """Asked of the driver, so that the benchmark itself takes no memory of the GPU."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
