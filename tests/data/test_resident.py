"""Images held by a device: the same batches as from the mapped store, nothing held where there is no room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pneumolit.data import datamodule as module
from pneumolit.data import resident
from pneumolit.data.datamodule import ChestXrayDataModule
from pneumolit.data.dataset import load_data
from pneumolit.data.resident import ResidentImages, fits_device
from pneumolit.training.build import build_datamodule

CPU = torch.device("cpu")


class Counted:
    """Images that count how many of them are read at a time."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.most = images, 0

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        self.most = max(self.most, len(positions))
        return np.asarray(self.images[positions])


@pytest.fixture
def loaders(tiny_config: Callable[..., dict[str, Any]]) -> ChestXrayDataModule:
    cfg = tiny_config("data.stress=true", "data.batch_size=8")
    return build_datamodule(cfg, load_data(cfg["data"], Path(cfg["cache_dir"])))


def _is_held(loaders: ChestXrayDataModule, name: str) -> bool:
    images: Any = loaders.images_of(name).images
    return isinstance(images, ResidentImages)


def test_held_images_are_those_of_the_store_and_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_CHUNK", 4)
    images = Counted(np.random.default_rng(0).integers(0, 256, (11, 5, 5), dtype=np.uint8))
    held = ResidentImages(images, 11, CPU)
    assert images.most == 4
    rows = np.array([10, 0, 3, 3])
    assert np.array_equal(held[rows].numpy(), images.images[rows])


def test_every_loader_hands_out_the_same_batches_from_held_images(
    loaders: ChestXrayDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches() -> list[dict[str, Any]]:
        return [b for loader in (loaders.train_dataloader(), *loaders.val_dataloader()) for b in loader]

    before = batches()
    monkeypatch.setattr(module, "fits_device", lambda size, device: True)
    assert loaders.hold_images_on(CPU)
    assert all(_is_held(loaders, name) for name in ("train", *loaders.val_names))
    for old, new in zip(before, batches(), strict=True):
        assert old.keys() == new.keys()
        assert all(torch.equal(torch.as_tensor(old[k]), torch.as_tensor(new[k])) for k in old)


def test_nothing_is_held_on_a_cpu_or_beside_worker_processes(
    loaders: ChestXrayDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not loaders.hold_images_on(CPU)
    monkeypatch.setattr(module, "fits_device", lambda size, device: True)
    loaders.num_workers = 2
    assert not loaders.hold_images_on(CPU)
    assert not _is_held(loaders, "train")


@pytest.mark.parametrize(("size", "expected"), [(250, True), (251, False)])
def test_images_may_take_a_quarter_of_the_free_memory(
    size: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = SimpleNamespace(mem_get_info=lambda device: (1000, 4000))
    monkeypatch.setattr(torch, "cuda", memory)
    assert fits_device(size, torch.device("cuda")) is expected
