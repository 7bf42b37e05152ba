"""Augmentation of a batch: pneumolit against Kornia and a torchvision.v2 loop over the images.

python -m benchmarks.augment [--batch 32] [--store 256] [--sizes 128 224] [--threads 1] [--repeats 9]

All three do random resized crop + affine (rotate, translate, zoom) + mirror + brightness / contrast, each
image with parameters of its own, on the CPU, from uint8 to float32. They take turns (one call each, round
after round), so that a busy machine slows all of them; medians are printed, the last line is JSON. Ours is
also timed with the whole of conf/augment/strong.yaml.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from torch import Tensor

from pneumolit.data.augment import AugmentConfig, BatchAugment, resize_batch

_SUBSET = AugmentConfig(
    crop_scale=(0.25, 1.0),
    crop_ratio=(0.75, 1.333),
    rotate_degrees=10,
    translate=0.05,
    zoom=(0.9, 1.1),
    hflip=0.5,
    brightness=0.25,
    contrast=0.25,
)
_STRONG = Path(__file__).parents[1] / "conf" / "augment" / "strong.yaml"

Augmentation = Callable[[Tensor], Tensor]


def build_ours(config: AugmentConfig, size: int) -> Augmentation:
    augment = BatchAugment(config, seed=0)
    return lambda images: augment(images, torch.arange(len(images)), epoch=0, size=size)


def build_kornia(size: int) -> Augmentation:
    try:
        import kornia.augmentation as ka
    except ImportError as error:
        raise SystemExit("this comparison needs Kornia, which pneumolit does not: pip install kornia") from error
    chain = ka.AugmentationSequential(
        ka.RandomResizedCrop((size, size), scale=_SUBSET.crop_scale, ratio=_SUBSET.crop_ratio),
        ka.RandomAffine(_SUBSET.rotate_degrees, (0.05, 0.05), _SUBSET.zoom, padding_mode="reflection", p=1.0),
        ka.RandomHorizontalFlip(p=_SUBSET.hflip),
        ka.RandomBrightness((0.75, 1.25), p=1.0),
        ka.RandomContrast((0.75, 1.25), p=1.0),
        data_keys=["input"],
    )

    def augment(images: Tensor) -> Tensor:
        out: Tensor = chain(images.float() / 255)
        return out

    return augment


def build_torchvision(size: int) -> Augmentation:
    v2 = importlib.import_module("torchvision.transforms.v2")  # ships no types
    chain = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=_SUBSET.crop_scale, ratio=_SUBSET.crop_ratio, antialias=True),
            v2.RandomAffine(
                _SUBSET.rotate_degrees,
                (0.05, 0.05),
                _SUBSET.zoom,
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            v2.RandomHorizontalFlip(_SUBSET.hflip),
            v2.ColorJitter(brightness=_SUBSET.brightness, contrast=_SUBSET.contrast),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    return lambda images: torch.stack([chain(image) for image in images])


def interleaved_medians(methods: dict[str, Augmentation], images: Tensor, repeats: int) -> dict[str, float]:
    """Milliseconds per batch of each method; the first round warms up and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repeats + 1):
        for name, method in methods.items():
            start = time.perf_counter()
            method(images)
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: round(median(values[1:]), 2) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--store", type=int, default=256, help="side of the stored images")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 224])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    images = torch.randint(0, 256, (args.batch, 1, args.store, args.store), dtype=torch.uint8)
    preset = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(_STRONG)))
    del preset["mixup_alpha"]  # belongs to the training step, not to the images
    strong = AugmentConfig(**preset)
    results: dict[str, dict[str, float]] = {}
    for size in args.sizes:
        methods: dict[str, Augmentation] = {
            "pneumolit": build_ours(_SUBSET, size),
            "kornia": build_kornia(size),
            "torchvision_v2_loop": build_torchvision(size),
            "pneumolit_strong": build_ours(strong, size),
            "resize_only": partial(resize_batch, size=size),
        }
        results[str(size)] = interleaved_medians(methods, images, args.repeats)
        print(f"{args.store} -> {size} px: " + ", ".join(f"{k} {v:.1f} ms" for k, v in results[str(size)].items()))
    print(
        json.dumps(
            {
                "benchmark": "augment",
                "batch": args.batch,
                "store": args.store,
                "threads": args.threads,
                "cores": os.cpu_count(),
                "torch": torch.__version__,
                "ms_per_batch": results,
            }
        )
    )


if __name__ == "__main__":
    main()
