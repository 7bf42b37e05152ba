"""Inference speed: pneumolit's scoring of stored images against a notebook's loop and bare forward passes.

python -m benchmarks.predict backbone=resnet50 [device=cuda] [batch_size=64] [image_size=224] [rounds=5] ...

    folder          a notebook's loop: ImageFolder, two workers, float32, torch.no_grad, softmax
    float32         forward passes of one batch in memory, float32, NCHW, inference mode
    pneumolit       `evaluate`'s way from the store to logits in float32, its default; always in batches of 64
    bf16            forward passes of one batch in memory, bf16 autocast, channels-last
    pneumolit_bf16  as pneumolit with precision=bf16

Every contender lives in a process of its own and works only when it is its turn; the first round warms up. All read
the same generated JPEG files, or the class folders below data.root. The last line is one JSON object.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks._common.arguments import read_arguments, to_arguments
from benchmarks._common.contender import Contender, lineup
from benchmarks._common.films import write_films
from benchmarks._common.report import print_json, print_rates, print_ratios
from benchmarks._common.rounds import choose_steps, interleave, medians, ratios
from benchmarks._common.task import Forward, Scoring, Turns, Work

_FILMS = 1024
_PAIRS = [
    ("pneumolit", "folder"),
    ("pneumolit", "float32"),
    ("pneumolit_bf16", "folder"),
    ("pneumolit_bf16", "float32"),
    ("pneumolit_bf16", "bf16"),
]


@dataclass(frozen=True)
class Options(Turns):
    """Keys of the command line."""

    batch_size: int = 64
    seconds: float = 3.0


def main() -> None:
    options = read_arguments(Options, sys.argv[1:], __doc__)
    options.check()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, lineup() as start:
        _measure(options, Path(folder), start)


def _measure(options: Options, folder: Path, start: Callable[..., Contender]) -> None:
    side = max(256, options.image_size)
    root = options.data_root or write_films(folder / "films", train=_FILMS, val=32, side=side)
    task = (options.backbone, options.device, options.batch_size, options.image_size, root)
    tasks: dict[str, tuple[str, Work]] = {
        "folder": ("forward", Forward(*task, mode="folder")),
        "float32": ("forward", Forward(*task, mode="float32")),
        "pneumolit": ("score_rows", Scoring(*task, precision="float32", cache_dir=folder / "cache")),
        "bf16": ("forward", Forward(*task, mode="bf16")),
        "pneumolit_bf16": ("score_rows", Scoring(*task, precision="bf16", cache_dir=folder / "cache")),
    }
    turns, facts = {}, {}
    for name, (module, work) in tasks.items():
        contender = start(name, module, to_arguments(work))
        facts[name] = contender.facts
        steps, _ = choose_steps(contender.run, options.seconds)
        turns[name] = partial(contender.run, steps)
    results = interleave(turns, options.rounds)
    rates = {name: [r["images"] / r["seconds"] for r in found] for name, found in results.items()}
    middle = medians(rates)
    found = ratios(middle, _PAIRS)
    print(f"\n{options.backbone}, {options.image_size} px, batches of {options.batch_size}, {options.device}:")
    print_rates(middle, "images/s")
    print_ratios(found)
    print_json(
        "predict",
        {
            **middle,
            "ratios": found,
            "rounds": {name: [round(rate, 1) for rate in values] for name, values in rates.items()},
            "backbone": options.backbone,
            "batch": options.batch_size,
            "image_size": options.image_size,
            "device": options.device,
            "contenders": facts,
        },
        options.device,
    )


if __name__ == "__main__":
    main()
