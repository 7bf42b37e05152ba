"""Images held in a GPU's memory: batches are picked there, and nothing but row numbers travels."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pneumolit.data.sending import send

_SHARE = 0.25  # of the device's free memory that images may take; the rest is for training
_CHUNK = 1024  # images copied at a time, so that the host never holds all of them


class Images(Protocol):
    """Images by place, `(N, S, S)` uint8."""

    def __getitem__(self, positions: np.ndarray) -> np.ndarray: ...


class ResidentImages:
    """All images of a data set in a device's memory.

    Args:
        images: read once, from the first to the last.
        count: how many there are.
        device: to hold them.
    """

    def __init__(self, images: Images, count: int, device: torch.device) -> None:
        parts = (np.arange(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
        self.images: Tensor | None = None
        for part in parts:
            chunk = torch.from_numpy(np.ascontiguousarray(images[part]))
            if self.images is None:
                self.images = torch.empty((count, *chunk.shape[1:]), dtype=torch.uint8, device=device)
            self.images[int(part[0]) : int(part[-1]) + 1].copy_(chunk)

    def __getitem__(self, positions: np.ndarray) -> Tensor:
        """`(B, S, S)` uint8 on the device; a GPU does not wait for the row numbers."""
        assert self.images is not None
        return self.images.index_select(0, send(torch.from_numpy(positions), self.images.device))


def fits_device(size: int, device: torch.device) -> bool:
    """Whether images of so many bytes leave enough of a device's memory for training; never on a CPU.

    Args:
        size: bytes of all images.
        device: its free memory is asked now.
    """
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return size <= _SHARE * free
