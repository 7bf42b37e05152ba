"""What a run ran on: versions, device, threads, memory. No host or user name."""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pneumolit
from pneumolit.allocator import describe_allocator

_PACKAGES = (
    "torch", "torchvision", "timm", "pytorch-lightning", "hydra-core", "omegaconf", "torchmetrics", "tensorboard",
    "scikit-learn", "numpy", "pillow",
)  # fmt: skip
_DECIDING = ("data", "model", "training")


def describe_environment() -> dict[str, Any]:
    """Versions and hardware as plain values."""
    import torch  # here, so that the rest of this file is at hand without it

    return {
        "pneumolit": pneumolit.__version__,
        "commit": find_commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": name_processor(),
        "threads": torch.get_num_threads(),
        "allocator": describe_allocator(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: package_version(name) for name in _PACKAGES},
    }


def peak_memory_gb() -> float | None:
    """Largest resident memory of this process so far in GB (10^9 bytes), mapped files included; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if platform.system() == "Darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 2)


@functools.cache
def source_hash() -> str:
    """Hash of the sources that decide what a run learns: labels, data, model, training.

    Taken once in a process: what it has imported it goes on with, whatever becomes of the files.
    """
    package, digest = Path(pneumolit.__file__).parent, hashlib.sha256()
    files = [package / "labels.py", *(p for part in _DECIDING for p in (package / part).rglob("*.py"))]
    for path in sorted(files):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def package_version(name: str) -> str:
    """Version of an installed package; "absent" where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def find_commit() -> str:
    """Commit of the checkout that this file lies in, "-dirty" behind it after changes; empty outside of one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / "pyproject.toml").is_file() or not (folder / ".git").exists():
        return ""  # installed: a repository around the environment is somebody else's
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


def name_processor() -> str:
    """Name of the processor as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
