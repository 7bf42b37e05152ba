"""What a run ran on: versions, device, threads, memory. No host or user name."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import pneumolit

_PACKAGES = (
    "torch", "torchvision", "timm", "pytorch-lightning", "hydra-core", "omegaconf", "torchmetrics", "tensorboard",
    "scikit-learn", "numpy", "pillow",
)  # fmt: skip


def describe_environment() -> dict[str, Any]:
    """Versions and hardware as plain values."""
    return {
        "pneumolit": pneumolit.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def anonymous_memory_gb() -> float | None:
    """Resident memory of this process that no file backs, in GB (10^9 bytes); None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    values = {name: text for name, _, text in (line.partition(":") for line in lines)}
    return round(int(values["RssAnon"].split()[0]) * 1024 / 1e9, 2) if "RssAnon" in values else None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _commit() -> str:
    folder = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
