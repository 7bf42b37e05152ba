"""What every loop is told; without torch, so that a benchmark itself starts at once and stays small."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._common.arguments import require, require_positive

WORKERS = 2  # of the loops that read files


@dataclass(frozen=True)
class Work:
    """The same task for every loop."""

    backbone: str = "tf_efficientnet_lite0"
    device: str = "cpu"
    batch_size: int = 32
    image_size: int = 224
    data_root: Path | None = field(default=None, metadata={"key": "data.root"})


@dataclass(frozen=True)
class Forward(Work):
    """How inference is done: `folder` (float32, files, workers), `float32` or `bf16` (one batch in memory)."""

    mode: str = "folder"


@dataclass(frozen=True)
class Scoring(Work):
    """pneumolit's inference: in which number format, and where decoded images lie."""

    precision: str = "float32"
    cache_dir: Path = Path("cache")


@dataclass(frozen=True)
class Turns(Work):
    """The task with how often and how long every contender works on it."""

    rounds: int = 5
    seconds: float = 5.0  # at least, of a round

    def check(self) -> None:
        """Stop with a message where a value makes no sense."""
        check_device(self.device)
        require_positive(self, "batch_size", "image_size", "rounds", "seconds")
        root = self.data_root
        require(root is None or root.is_dir(), f"data.root={root} does not exist or is no folder")


def check_device(device: str) -> None:
    """Stop with a message where no contender knows such a device."""
    require(device in ("cpu", "cuda"), f"device must be cpu or cuda, got {device!r}")
