"""Films for benchmarks: gray JPEG files that compress about as real ones do, each different, in class folders."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks._common.machine import count_cores

CLASSES = ("NORMAL", "PNEUMONIA")


def make_film(seed: int, side: int = 256) -> Image.Image:
    """A gray film of about this size: soft shapes and fine grain, drawn from the seed."""
    rng = np.random.default_rng(seed)
    width, height = (int(side * rng.uniform(0.95, 1.15)) for _ in range(2))
    soft = Image.fromarray(rng.integers(20, 235, (9, 9), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grain = rng.integers(-6, 7, (height, width), dtype=np.int16)
    return Image.fromarray((np.asarray(soft, dtype=np.int16) + grain).clip(0, 255).astype(np.uint8))


def write_films(root: Path, *, train: int, val: int, side: int = 256) -> Path:
    """Write root/{train,val}/{NORMAL,PNEUMONIA}/*.jpeg, the classes by turns.

    Args:
        root: made if need be.
        train: number of training films.
        val: number of validation films.
        side: about their width and height in pixels.
    """
    for split in ("train", "val"):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True, exist_ok=True)

    def write(number: int) -> None:
        split = "train" if number < train else "val"
        path = root / split / CLASSES[number % 2] / f"film-{number:06d}.jpeg"
        make_film(number, side).save(path, quality=90)

    _in_threads(write, train + val)
    return root


def write_kaggle_films(root: Path, count: int, side: int = 16) -> Path:
    """Write so many tiny films in the layout and under names as the Kaggle set has them, one in ten for test."""
    for split in ("train", "test"):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True, exist_ok=True)

    def write(number: int) -> None:
        split, patient = "test" if number % 10 == 0 else "train", number // 2
        kind = ("bacteria", "virus")[number // 4 % 2]
        names = {"NORMAL": f"IM-{number:04d}-0001.jpeg", "PNEUMONIA": f"person{patient}_{kind}_{number}.jpeg"}
        name = CLASSES[number // 10 % 4 > 0]
        make_film(number, side).save(root / split / name / names[name])

    _in_threads(write, count)
    return root


def training_folder(root: Path) -> Path:
    """Where the training classes lie: root/train, or root itself."""
    return root / "train" if (root / "train").is_dir() else root


def _in_threads(function: Callable[[int], None], count: int) -> None:
    with ThreadPoolExecutor(count_cores()) as pool:
        for _ in pool.map(function, range(count)):
            pass
