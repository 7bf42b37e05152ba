"""Tensors on their way to a device, without a wait for what the device still has to do."""

from __future__ import annotations

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; the tensor itself where it is there already.

    A plain copy to a GPU waits until the GPU has finished all that it was given; one out of page-locked memory is
    queued behind it. That memory is kept by torch until the copy is done.
    """
    if tensor.device.type != "cpu" or device.type in {"cpu", "mps"}:  # MPS: queued copies can arrive too late
        return tensor.to(device)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
