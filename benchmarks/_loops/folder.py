"""Class folders as notebooks read them: ImageFolder, torchvision's transforms on Pillow images, two workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler
from torchvision import datasets, transforms

from benchmarks._common.task import WORKERS

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_READ_AHEAD = 2 * WORKERS  # batches; DataLoader's default


class EndlessOrder(Sampler[int]):
    """Epoch after epoch in shuffled orders, so that a round can end anywhere."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __iter__(self) -> Iterator[int]:
        while True:
            yield from torch.randperm(self.length).tolist()


def open_folder(root: Path, image_size: int, *, is_augmented: bool) -> datasets.ImageFolder:
    """Three-channel float32 images, normalized."""
    random = [transforms.RandomHorizontalFlip(), transforms.RandomRotation(10)] if is_augmented else []
    chain = [
        transforms.Resize((image_size, image_size)),
        *random,
        transforms.ToTensor(),
        transforms.Normalize(_MEAN, _STD),
    ]
    return datasets.ImageFolder(str(root), transforms.Compose(chain))


def endless_loader(data: datasets.ImageFolder, batch_size: int) -> DataLoader[Any]:
    """Shuffled batches without end, read ahead by workers."""
    return DataLoader(data, batch_size=batch_size, sampler=EndlessOrder(len(data)), num_workers=WORKERS)


def lead_in(device: str) -> int:
    """Untimed steps of a round.

    While it waits for its turn a loop's workers fill their queue. On a CPU it is full again at the end of a round,
    since a step lasts longer than reading a batch; on a GPU the round would begin with batches that cost nothing.
    """
    return _READ_AHEAD + 1 if device == "cuda" else 0
