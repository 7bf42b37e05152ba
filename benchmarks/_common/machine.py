"""What a benchmark ran on: processor, cores, versions, date."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """Processor, cores and, on a GPU, its name."""
    machine: dict[str, Any] = {"processor": _processor(), "cores": count_cores()}
    if device == "cuda":
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        machine["gpu"] = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return machine


def describe_versions(
    packages: Sequence[str] = ("torch", "torchvision", "timm", "pytorch-lightning"),
) -> dict[str, str]:
    """Versions of Python, of this repository and of some packages; "absent" where one is not installed."""
    found = {"python": platform.python_version(), "pneumolit": _version("pneumolit"), "commit": _commit()}
    return found | {name: _version(name) for name in packages}


def today() -> str:
    """The date as ISO writes it."""
    return datetime.date.today().isoformat()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
