"""Training speed: pneumolit's real training path against plain loops and against the bare step.

python -m benchmarks.training backbone=resnet50 [device=cuda] [batch_size=32] [image_size=224] [rounds=5] ...

    plain      the loop of the write-ups: ImageFolder, torchvision transforms, two workers, float32, loss.item()
    lightning  a plain Lightning loop with workers that logs everything in every step, float32
    bare       PyTorch's own bf16 autocast, channels-last step on one batch in memory, the default allocator
    pneumolit  `python -m pneumolit.train` with its default recipe: data, augmentation, callbacks, TensorBoard
    variant    the same with further arguments, where variant='key=value ...' is given (words in capitals are
               environment variables), to see what a choice costs or gains
    timm       timm's train.py with --amp --amp-dtype bfloat16 --channels-last, where timm_script=PATH is given

Every contender lives in a process of its own and works only when it is its turn, round after round; the first
round warms up. A round of pneumolit is an epoch; validation and checkpoints are in `epoch_seconds` alone. All read
the same JPEG files: generated ones, or the class folders below data.root. The last line is one JSON object: images
per second (medians), ratios, all rounds.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._common.arguments import read_arguments, require, require_positive, to_arguments
from benchmarks._common.contender import Contender, clean_environment, lineup
from benchmarks._common.films import write_films
from benchmarks._common.report import print_json, print_rates, print_ratios
from benchmarks._common.rounds import Round, choose_steps, interleave, medians, ratios
from benchmarks._common.task import Turns, Work
from benchmarks._loops.timm_script import run_script
from pneumolit.allocator import allocator_environment

_GUESSED_GAIN = 2.5  # of pneumolit over the bare step, only to choose the length of its rounds
_FEWEST_FILMS, _MOST_FILMS, _VAL_FILMS = 512, 50_000, 32
_PAIRS = [
    ("pneumolit", "bare"),
    ("pneumolit", "plain"),
    ("pneumolit", "lightning"),
    ("pneumolit", "variant"),
    ("pneumolit", "timm"),
    ("lightning", "bare"),
    ("plain", "bare"),
    ("timm", "bare"),
]


@dataclass(frozen=True)
class Options(Turns):
    """Keys of the command line."""

    steps: int | None = None  # of every contender's rounds, instead of seconds
    overrides: str = ""  # further arguments of pneumolit's command
    variant: str = ""
    timm_script: Path | None = None


def main() -> None:
    options = read_arguments(Options, sys.argv[1:], __doc__)
    options.check()
    require_positive(options, "steps")
    script = options.timm_script
    require(script is None or script.is_file(), f"timm_script={script} does not exist")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, lineup() as start:
        _measure(options, Path(folder), start)


def _measure(options: Options, folder: Path, start: Callable[..., Contender]) -> None:
    def paced(contender: Contender) -> Round:
        facts[contender.name] = contender.facts
        steps, speeds[contender.name] = choose_steps(contender.run, options.seconds)
        return partial(contender.run, options.steps or steps)

    facts: dict[str, Mapping[str, Any]] = {}
    speeds: dict[str, float] = {}
    work = Work(options.backbone, options.device, options.batch_size, options.image_size)
    bare = paced(start("bare", "bare", to_arguments(work)))
    epoch = options.steps or math.ceil(_GUESSED_GAIN * options.seconds / speeds["bare"])
    root, epoch = _films(options, folder, epoch)
    work = Work(options.backbone, options.device, options.batch_size, options.image_size, root)
    turns = {name: paced(start(name, name, to_arguments(work))) for name in ("plain", "lightning")} | {"bare": bare}
    for name, words in (("pneumolit", ""), ("variant", options.variant)):
        if name == "pneumolit" or words:
            arguments, environment = _command(options, f"{options.overrides} {words}", root, folder / name, epoch)
            contender = start(name, "train_command", arguments, environment)
            contender.run(epoch)
            facts[name] = contender.facts
            turns[name] = partial(contender.run, epoch)
    if options.timm_script is not None:
        script = partial(run_script, options.timm_script, root, steps=max(1, epoch // 2))
        sizes = {"batch_size": options.batch_size, "image_size": options.image_size}
        turns["timm"] = partial(script, backbone=options.backbone, device=options.device, **sizes)
    _report(options, interleave(turns, options.rounds), facts)


def _films(options: Options, folder: Path, steps: int) -> tuple[Path, int]:
    """The class folders of the benchmark, and how many steps an epoch over them can have."""
    if options.data_root is not None:
        names = (p for p in options.data_root.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        most = int(0.8 * sum(1 for _ in names)) // options.batch_size  # the rest may be for validation
        require(most >= 1, f"data.root={options.data_root} holds fewer films than two batches")
        return options.data_root, min(steps, most)
    count = min(max(steps * options.batch_size, _FEWEST_FILMS), max(_MOST_FILMS, options.batch_size))
    steps = min(steps, count // options.batch_size)
    print(f"writing {count} films for epochs of {steps} steps", flush=True)
    return write_films(folder / "films", train=count, val=_VAL_FILMS, side=max(256, options.image_size)), steps


def _command(options: Options, words: str, root: Path, folder: Path, steps: int) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of pneumolit's command."""
    given = words.split()
    environment = dict(word.split("=", 1) for word in given if word.partition("=")[0].isupper())
    return [
        f"backbone={options.backbone}",
        "model.pretrained=false",
        f"model.image_size={options.image_size}",
        "data=image_folder",
        "data.target=classes",  # the folders, as the other contenders read them
        f"data.root={root}",
        f"data.batch_size={options.batch_size}",
        f"data.store_size={max(256, options.image_size)}",
        f"trainer.accelerator={'gpu' if options.device == 'cuda' else 'cpu'}",
        f"trainer.limit_train_batches={steps}",
        f"trainer.max_epochs={options.rounds + 2}",  # one to warm up; a round is over when the next epoch begins
        f"output_dir={folder / 'out'}",
        f"cache_dir={folder.parent / 'cache'}",
        f"hydra.run.dir={folder / 'run'}",
        *(word for word in given if not word.partition("=")[0].isupper()),
    ], environment | allocator_environment(clean_environment() | environment)  # as the command itself would start


def _report(
    options: Options, results: Mapping[str, list[Mapping[str, Any]]], facts: Mapping[str, Mapping[str, Any]]
) -> None:
    rates = {name: [r["images"] / r["seconds"] for r in found] for name, found in results.items()}
    middle = medians(rates)
    whole = [r["images"] / r["epoch_seconds"] for r in results["pneumolit"]]
    found = ratios(middle, _PAIRS)
    print(f"\n{options.backbone}, {options.image_size} px, batches of {options.batch_size}, {options.device}:")
    print_rates(middle, "images/s")
    print_rates(medians({"whole epochs": whole}), "images/s of training, validation and checkpoints included")
    print_ratios(found)
    print_json(
        "training",
        {
            **middle,
            "pneumolit_whole_epochs": medians({"": whole})[""],
            "ratios": found,
            "rounds": {name: [round(rate, 2) for rate in values] for name, values in rates.items()},
            "backbone": options.backbone,
            "batch": options.batch_size,
            "image_size": options.image_size,
            "device": options.device,
            "overrides": options.overrides,
            "variant_of": options.variant,
            "contenders": facts,
        },
        options.device,
    )


if __name__ == "__main__":
    main()
