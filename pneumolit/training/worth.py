"""When it pays to store the output of a frozen front instead of running it in every epoch."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pneumolit.data.datamodule import STRESS_IMAGES, pool_of
from pneumolit.data.dataset import BLOCKS, ChestXrayData
from pneumolit.data.stress import STRESS_FAMILIES
from pneumolit.model.features import bytes_per_image, free_bytes
from pneumolit.model.front import FrontCut

LARGEST = 4e9  # bytes of one set of features that `auto` stores; pooled ones of 120,000 images stay below 0.5 GB
LEAST_GAIN = 1.2
_WISH = "trainer.cache_features=true stores it all the same"


def why_few(cfg: Mapping[str, Any], data: ChestXrayData, accelerator: str, share: float = 1.0) -> str:
    """Why a front is not worth storing for what a stage does with it; empty where it may be.

    Args:
        cfg: complete configuration of the stage.
        data: its images.
        accelerator: Lightning's name of its device.
        share: of the forward pass that would be stored; without it the most that is possible.
    """
    if accelerator != "cpu":
        return f"its stored output was measured to pay on a CPU only; {_WISH}"
    stressed = _stressed(cfg, data)
    gain = gain_of_storing(
        share,
        epochs=cfg["trainer"]["max_epochs"],
        trained=data.num_drawn,
        scored=sum(len(data.rows(name)) for name in ("val", *BLOCKS)) + stressed,
        stored=len(pool_of(data)) + stressed,
    )
    if gain >= LEAST_GAIN:
        return ""
    return f"its stored output would make these epochs {max(gain - 1, 0):.0%} faster, too little for its size; {_WISH}"


def why_large(cfg: Mapping[str, Any], data: ChestXrayData, cut: FrontCut, precision: str, cache_dir: Path) -> str:
    """Why the output of a front is too large to be stored unasked; empty where it is not.

    Args:
        cfg: complete configuration of the stage.
        data: its images.
        cut: where the front ends.
        precision: number format of training.
        cache_dir: folder that would hold it.
    """
    # The model may be that of a stage with smaller images.
    scale = (cfg["model"]["image_size"] / cut.image_shape[1]) ** 2
    size = (len(pool_of(data)) + _stressed(cfg, data)) * bytes_per_image(cut, precision) * scale
    limits = {
        f"{LARGEST / 1e9:.0f} GB": LARGEST,
        "a quarter of the memory, from which every epoch reads it": memory_bytes() / 4,
        f"half of what {cache_dir} has room for": free_bytes(cache_dir) / 2,
    }
    passed = [words for words, limit in limits.items() if size > limit]
    return f"its output would take {size / 1e9:.1f} GB, more than {passed[0]}; {_WISH}" if passed else ""


def gain_of_storing(share: float, *, epochs: int, trained: int, scored: int, stored: int) -> float:
    """How many times faster a stage is expected to be from the stored output of its frozen front.

    Counted in multiply-adds, never timed in a run. Against it, from the times of single steps in bf16 at 224 px with
    the one pass, the writing and the reading (5 epochs of 4,700 training and 3,080 validation images): resnet50 last=1
    2.2 (expected 2.05) on two cores alone; tf_efficientnet_lite0 last=2 1.8 (1.5) and densenet121 last=1 3.2 (3.8) on
    one core of a busy machine; for 2 epochs 1.6 (1.5), 1.4 (1.3) and 1.8 (1.85).

    Args:
        share: of the forward pass that is stored.
        epochs: of the stage.
        trained: images per epoch.
        scored: images of its validation sets.
        stored: images that run through the front once.
    """
    rear = epochs * (trained * 3 + scored) * (1 - share)  # a backward pass is two forward ones
    return (epochs * (trained + scored) * share + rear) / (stored * share + rear)


def memory_bytes() -> int:
    """Memory of this machine; without end where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return sys.maxsize


def _stressed(cfg: Mapping[str, Any], data: ChestXrayData) -> int:
    """Distorted validation images."""
    return min(len(data.rows("val")), STRESS_IMAGES) * len(STRESS_FAMILIES) * bool(cfg["data"]["stress"])
