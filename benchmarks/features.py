"""Training a head on a frozen backbone: pneumolit's stored features against the plain loop that runs it every time.

python -m benchmarks.features data.root=FOLDER [backbone=resnet50] [epochs=10] [image_size=224] [rounds=3] ...

    plain      the head-only loop of the write-ups: ImageFolder, two workers, float32, all but the last layer without
               gradient, the model in train() mode, validation after each epoch. A round takes `steps` batches of
               it; the seconds of all epochs follow from its rates, in proportion
    first      `fit` of pneumolit with an empty cache: decoding, features, all epochs, calibration, scoring, pictures
    again      the same with the features in place, another learning rate; a process of its own for every round
    sweep      a grid of learning rates and dropout with the features in place, one run after the other, once at the end

FOLDER is in the Kaggle layout (train/NORMAL, train/PNEUMONIA, test/...); `images=N` takes so many of its training
images. Weights are random: the speed is the same. The other contenders take turns; medians count. The last line is one
JSON object with seconds and ratios.

compare=NAME,NAME,... instead trains these backbones on stored features and again without them in float32, and prints
the validation AUROC of both; weights are those of `weights=FOLDER/NAME.safetensors` where there is such a file.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._common.arguments import read_arguments, require, require_positive, to_arguments
from benchmarks._common.contender import clean_environment, lineup
from benchmarks._common.report import print_json, print_ratios
from benchmarks._common.rounds import Round, interleave
from benchmarks._common.task import Work, check_device
from pneumolit.allocator import allocator_environment

_SWEEP = {"optim.lr": ("1e-3", "3e-3", "1e-2"), "model.drop_rate": ("0", "0.3")}


@dataclass(frozen=True)
class Options:
    """Keys of the command line."""

    data_root: Path = field(metadata={"key": "data.root"})
    backbone: str = "resnet50"
    device: str = "cpu"
    batch_size: int = 32
    image_size: int = 224
    epochs: int = 10
    images: int | None = None  # of the training images; null: all
    rounds: int = 3
    first_rounds: int = 1  # of those with an empty cache, which take minutes
    steps: int = 9  # training batches of a plain round
    sweep: bool = True
    compare: str = ""
    weights: Path | None = None
    overrides: str = ""  # further arguments of pneumolit's command


def main() -> None:
    options = read_arguments(Options, sys.argv[1:], __doc__)
    check_device(options.device)
    require_positive(options, "batch_size", "image_size", "epochs", "images", "steps")
    require((options.data_root / "train").is_dir(), f"data.root={options.data_root} holds no folder train")
    require(1 <= options.first_rounds <= options.rounds, "first_rounds must lie between 1 and rounds")
    require(options.weights is None or bool(options.compare), "weights has no effect without compare=NAME")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        root = options.data_root if options.images is None else _part(options.data_root, Path(folder), options.images)
        (_compare if options.compare else _measure)(options, root, Path(folder))


def _part(root: Path, folder: Path, count: int) -> Path:
    """Links to every n-th training image and to the whole test folder."""
    films = sorted(p for p in (root / "train").rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    require(0 < count <= len(films), f"images={count}, but {root / 'train'} holds {len(films)}")
    for number in range(count):
        film = films[number * len(films) // count]
        link = folder / "part" / film.relative_to(root)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(film)
    for name in ("val", "test"):
        if (root / name).is_dir():
            (folder / "part" / name).symlink_to(root / name)
    return folder / "part"


def _command(options: Options, root: Path, folder: Path, *further: str) -> list[str]:
    """Arguments of one run; the later ones count."""
    return [
        str(folder / "runs"),
        f"data.root='{root}'",
        f"backbone={options.backbone}",
        "freeze=head",
        "augment=none",
        "model.pretrained=false",
        f"model.image_size={options.image_size}",
        f"data.batch_size={options.batch_size}",
        f"data.store_size={max(256, options.image_size)}",
        f"trainer.max_epochs={options.epochs}",
        f"trainer.accelerator={'gpu' if options.device == 'cuda' else 'cpu'}",
        f"cache_dir='{folder / 'cache'}'",
        f"output_dir='{folder / 'out'}'",
        "trainer.progress_bar=false",
        *options.overrides.split(),
        *further,
    ]


def _fit(name: str, arguments: list[str]) -> Mapping[str, Any]:
    """A run in a fresh process, whose start is not counted."""
    with lineup() as start:
        return start(name, "fit_run", arguments, allocator_environment(clean_environment())).run(1)


def _measure(options: Options, root: Path, folder: Path) -> None:
    work = Work(options.backbone, options.device, options.batch_size, options.image_size, root)
    command = partial(_command, options, root, folder)

    def first() -> Mapping[str, Any]:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        return _fit("first", command())

    # Random weights depend on the seed, so it stays; with pretrained ones any seed finds the same features.
    again = partial(_fit, "again", command("optim.lr=2e-3"))
    with lineup() as start:
        loop = start("plain", "plain_head", to_arguments(work))
        loop.run(1)
        turns: dict[str, Round] = {"plain": partial(loop.run, options.steps), "first": first, "again": again}
        rounds = interleave(turns, options.first_rounds)
        more = interleave({name: turns[name] for name in ("plain", "again")}, options.rounds - options.first_rounds)
    rounds = {name: [*found, *more.get(name, [])] for name, found in rounds.items()}
    sweep = _sweep(command) if options.sweep else []
    _report(options, rounds, sweep)


def _sweep(command: Any) -> list[Mapping[str, Any]]:
    results = []
    for values in itertools.product(*_SWEEP.values()):
        words = [f"{key}={value}" for key, value in zip(_SWEEP, values, strict=True)]
        results.append(_fit("sweep", command(*words)))
        print(f"sweep {' '.join(words)}: {results[-1]['seconds']:.2f} s", flush=True)
    return results


def _report(options: Options, rounds: Mapping[str, list[Mapping[str, Any]]], sweep: list[Mapping[str, Any]]) -> None:
    counts = rounds["first"][0]
    rates = {key: median(r[key] for r in rounds["plain"]) for key in ("train_rate", "val_rate")}
    plain = options.epochs * (counts["train"] / rates["train_rate"] + counts["val"] / rates["val_rate"])
    seconds = {"plain": plain} | {name: median(r["seconds"] for r in rounds[name]) for name in ("first", "again")}
    ratios = {f"plain_over_{name}": round(plain / seconds[name], 1) for name in ("first", "again")}
    if sweep:
        seconds["sweep"] = sum(r["seconds"] for r in sweep)
        ratios["plain_over_sweep"] = round(plain * len(sweep) / seconds["sweep"], 1)
    print(
        f"\n{options.backbone}, {options.image_size} px, {counts['train']} + {counts['val']} images, {options.epochs} "
        f"epochs; plain: {rates['train_rate']:.1f} images/s in training, {rates['val_rate']:.1f} in validation, scaled "
        f"from {len(rounds['plain'])} rounds of {options.steps} batches"
    )
    for name, value in seconds.items():
        print(f"  {name:<6} {value:9.1f} s" + (f"  ({len(sweep)} runs)" if name == "sweep" else ""))
    print_ratios(ratios)
    print_json(
        "features",
        {
            **{f"{name}_seconds": round(value, 2) for name, value in seconds.items()},
            "ratios": ratios,
            "plain_rates": {key: round(value, 2) for key, value in rates.items()},
            "plain_is_scaled_from_batches": options.steps * len(rounds["plain"]),
            "first_feature_seconds": [r["feature_seconds"] for r in rounds["first"]],
            "rounds": {name: [round(r["seconds"], 2) for r in found] for name, found in rounds.items()},
            "sweep_runs": len(sweep),
            "backbone": options.backbone,
            "images": {"train": counts["train"], "val": counts["val"]},
            "epochs": options.epochs,
            "batch": options.batch_size,
            "image_size": options.image_size,
            "device": options.device,
            "precision": counts["precision"],
        },
        options.device,
    )


def _compare(options: Options, root: Path, folder: Path) -> None:
    found = {}
    for backbone in options.compare.split(","):
        words = [f"backbone={backbone}", "optim.lr=1e-2", "data.stress=false"]
        file = (options.weights or folder) / f"{backbone}.safetensors"
        if file.is_file():
            words += ["model.pretrained=true", f"model.weights='{file}'"]
        command = partial(_command, options, root, folder, *words)
        stored = _fit(backbone, command())
        live = _fit(backbone, command("trainer.cache_features=false", "precision=float32"))
        found[backbone] = {
            "stored": round(stored["auroc"], 5),
            "float32": round(live["auroc"], 5),
            "difference": round(abs(stored["auroc"] - live["auroc"]), 5),
            "stored_precision": stored["precision"],
            "seconds": [round(stored["seconds"], 1), round(live["seconds"], 1)],
        }
        print(f"{backbone}: {found[backbone]}", flush=True)
    content: dict[str, Any] = {"runs": found, "epochs": options.epochs, "image_size": options.image_size}
    print_json("features_compare", content, options.device)


if __name__ == "__main__":
    main()
