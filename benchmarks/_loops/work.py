"""What the loops without pneumolit share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import nn

from benchmarks._common.pace import Pace
from benchmarks._common.task import Work


def make_net(work: Work, *, in_chans: int, num_classes: int) -> nn.Module:
    """The backbone with random weights on the device; the speed is that of trained ones."""
    settings: dict[str, Any] = {"pretrained": False, "in_chans": in_chans, "num_classes": num_classes}
    try:
        net: nn.Module = timm.create_model(work.backbone, img_size=work.image_size, **settings)
    except TypeError:  # most nets take any size and no such argument
        net = timm.create_model(work.backbone, **settings)
    return net.to(work.device)


def wait_for(device: str) -> None:
    """Until the device has done all that it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def run_rounds(work: Work, step: Callable[[], None], *, lead_in: int = 0, **facts: Any) -> None:
    """Take steps as the benchmark calls for them.

    Args:
        work: names the device.
        step: one training step, its batch read included.
        lead_in: untimed steps before each round, until read-ahead has reached its steady state.
        facts: told to the benchmark at the start.
    """
    pace = Pace.from_environment()
    pace.tell(threads=torch.get_num_threads(), **facts)
    while (steps := pace.next_round()) is not None:
        for _ in range(lead_in):
            step()
        wait_for(work.device)
        start = time.perf_counter()
        for _ in range(steps):
            step()
        wait_for(work.device)
        pace.tell(seconds=time.perf_counter() - start, images=steps * work.batch_size)
