"""What a sampler finds in as many trials as random search: heads on the stored features of a frozen backbone.

python -m benchmarks.search [data.root=FOLDER] [backbone=tf_efficientnet_lite0] [trials=20] [seeds=5] [epochs=10] ...

    tpe      python -m pneumolit.tune search=head with the sampler tpe, nothing pruned
    random   the same space, drawn blindly

For each seed of the samplers both search as many trials over the same space, with the same split and training seed,
and the smallest validation loss among their trials counts. TPE's first ten trials are drawn blindly, and are those of
random search with that seed. FOLDER is in the Kaggle layout; without it phantoms are made, which say little of films.
The features are computed once, by the first search. Searches take turns. The last line is one JSON object with mean and
standard error over the seeds, and of the differences seed by seed.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import mean, stdev

from benchmarks._common.arguments import read_arguments, require, require_positive
from benchmarks._common.contender import clean_environment
from benchmarks._common.machine import REPOSITORY
from benchmarks._common.report import print_json

_SAMPLERS = {"tpe": (), "random": ("search.sampler.name=random", "search.sampler.multivariate=null")}
_MONITOR = "val/loss"


@dataclass(frozen=True)
class Options:
    """Keys of the command line."""

    data_root: Path | None = field(default=None, metadata={"key": "data.root"})
    backbone: str = "tf_efficientnet_lite0"
    image_size: int = 128
    trials: int = 20
    seeds: int = 5
    epochs: int = 10
    overrides: str = ""  # further arguments of both


def main() -> None:
    options = read_arguments(Options, sys.argv[1:], __doc__)
    require_positive(options, "image_size", "trials", "seeds", "epochs")
    require(options.seeds > 1, "seeds must be 2 or more, for a standard error")
    root = options.data_root
    require(root is None or root.is_dir(), f"data.root={root} does not exist or is no folder")
    best: dict[str, list[float]] = {name: [] for name in _SAMPLERS}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for seed in range(options.seeds):
            for name, words in _SAMPLERS.items():
                best[name].append(
                    _search(options, Path(folder), f"{name}-{seed}", [f"search.sampler.seed={seed}", *words])
                )
                print(f"seed {seed}  {name:<6}  best {_MONITOR} {best[name][-1]:.5f}", flush=True)
    differences = [tpe - random for tpe, random in zip(best["tpe"], best["random"], strict=True)]
    rows = {**best, "tpe_minus_random": differences}
    print()
    for name, values in rows.items():
        print(f"  {name:<16} {mean(values):9.5f} +- {_error(values):.5f}")
    content = {name: {"mean": round(mean(v), 5), "error": round(_error(v), 5)} for name, v in rows.items()}
    print_json(
        "search",
        {
            **content,
            "best": {name: [round(value, 6) for value in values] for name, values in best.items()},
            "monitor": _MONITOR,
            "trials": options.trials,
            "seeds": options.seeds,
            "epochs": options.epochs,
            "backbone": options.backbone,
            "image_size": options.image_size,
            "data": "phantoms" if root is None else "films",
        },
    )


def _error(values: Sequence[float]) -> float:
    """Standard error of a mean."""
    return stdev(values) / sqrt(len(values))


def _search(options: Options, folder: Path, name: str, words: Sequence[str]) -> float:
    """Run one search in a process of its own; the best value among its trials."""
    data = "data=demo" if options.data_root is None else f"data.root={options.data_root}"
    arguments = [
        "search=head", f"name={name}", f"n_trials={options.trials}", f"monitor={_MONITOR}", "search.pruner.name=none",
        "search.pruner.n_startup_trials=null", "search.pruner.n_warmup_steps=null", data,
        f"backbone={options.backbone}", f"model.image_size={options.image_size}",
        f"trainer.max_epochs={options.epochs}", "data.stress=false", "logger=none",
        f"output_dir={folder / 'out'}", f"cache_dir={folder / 'cache'}", *options.overrides.split(), *words,
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "pneumolit.tune", *arguments],
        cwd=REPOSITORY,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    require(done.returncode == 0, f"the search {name} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
    with (folder / "out" / "tune" / name / "trials.csv").open(encoding="utf-8") as handle:
        return min(float(row[_MONITOR]) for row in csv.DictReader(handle) if row["state"] == "complete")


if __name__ == "__main__":
    main()
