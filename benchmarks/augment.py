"""Augmentation of a batch: pneumolit against Kornia and a torchvision.v2 loop over the images.

python -m benchmarks.augment [batch=32] [store=256] [sizes=128,224] [threads=1] [rounds=9]

All three do random resized crop + affine (rotate, translate, zoom) + mirror + brightness / contrast, each
image with parameters of its own, on the CPU, from uint8 to float32. They take turns (one call each, round
after round), so that a busy machine slows all of them; medians are printed, the last line is JSON. Ours is
also timed with the whole of conf/augment/strong.yaml.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from torch import Tensor

from benchmarks._common.arguments import read_arguments, require, require_positive
from benchmarks._common.report import print_json
from benchmarks._common.rounds import Round, interleave, medians
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


@dataclass(frozen=True)
class Options:
    """Keys of the command line."""

    batch: int = 32
    store: int = 256  # side of the stored images
    sizes: str = "128,224"
    threads: int = 1
    rounds: int = 9


def build_ours(config: AugmentConfig, size: int) -> Augmentation:
    augment = BatchAugment(config, seed=0)
    return lambda images: augment(images, torch.arange(len(images)), epoch=0, size=size)


def build_kornia(size: int) -> Augmentation:
    try:
        import kornia.augmentation as ka
    except ImportError as error:
        raise SystemExit(
            "benchmark: this comparison needs Kornia, which pneumolit does not: pip install kornia"
        ) from error
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


def timed(method: Augmentation, images: Tensor) -> dict[str, float]:
    start = time.perf_counter()
    method(images)
    return {"seconds": time.perf_counter() - start}


def main() -> None:
    options = read_arguments(Options, sys.argv[1:], __doc__)
    is_list = all(word.isdecimal() and int(word) for word in options.sizes.split(","))
    require(is_list, f"sizes must be whole numbers with commas between them, got {options.sizes!r}")
    sizes = [int(word) for word in options.sizes.split(",")]
    require_positive(options, "batch", "store", "threads", "rounds")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    images = torch.randint(0, 256, (options.batch, 1, options.store, options.store), dtype=torch.uint8)
    preset = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(_STRONG)))
    mixing = ("mixup_alpha", "cutmix_alpha")  # belong to the training step, not to the images
    strong = AugmentConfig(**{key: value for key, value in preset.items() if key not in mixing})
    milliseconds: dict[str, dict[str, float]] = {}
    for size in sizes:
        methods: dict[str, Augmentation] = {
            "pneumolit": build_ours(_SUBSET, size),
            "kornia": build_kornia(size),
            "torchvision_v2_loop": build_torchvision(size),
            "pneumolit_strong": build_ours(strong, size),
            "resize_only": partial(resize_batch, size=size),
        }
        turns: dict[str, Round] = {name: partial(timed, method, images) for name, method in methods.items()}
        rounds = interleave(turns, options.rounds + 1, is_shown=False)
        found = medians({name: [r["seconds"] * 1e3 for r in results[1:]] for name, results in rounds.items()})
        print(f"{options.store} -> {size} px: " + ", ".join(f"{k} {v:.1f} ms" for k, v in found.items()))
        milliseconds[str(size)] = found
    settings = {"batch": options.batch, "store": options.store, "threads": options.threads}
    print_json("augment", {"ms_per_batch": milliseconds, **settings})


if __name__ == "__main__":
    main()
