"""What a sweep costs over its jobs, and what shares of the cores gain: heads on stored features.

python -m benchmarks.sweep data.root=chest_xray [jobs=8] [epochs=20] [rounds=3]

    loop        for seed in ...: python -m pneumolit.train seed=$seed
    basic       --multirun with Hydra's own launcher: the jobs one after the other in one process, on all cores
    one         --multirun with the pool, one job at a time on all cores
    two         --multirun with the pool, two shares of the cores

Seconds of wall clock from command to prompt; the commands take turns, features are in place before the first.
`seconds_per_job_of_pool` is (one - basic) / jobs. The last line is one JSON object.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks._common.arguments import read_arguments, require, require_positive
from benchmarks._common.contender import clean_environment
from benchmarks._common.machine import REPOSITORY
from benchmarks._common.report import print_json
from benchmarks._common.rounds import Round, interleave, medians, ratios

_PAIRS = [("loop", "two"), ("basic", "two"), ("one", "two"), ("one", "basic")]


@dataclass(frozen=True)
class Options:
    """Keys of the command line."""

    data_root: Path = field(metadata={"key": "data.root"})
    backbone: str = "tf_efficientnet_lite0"
    image_size: int = 128
    pretrained: bool = True
    jobs: int = 8
    epochs: int = 20
    rounds: int = 3


def main() -> None:
    options = read_arguments(Options, sys.argv[1:], __doc__)
    require_positive(options, "jobs", "epochs", "rounds")
    require((options.data_root / "train").is_dir(), f"data.root={options.data_root} holds no folder train")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        turns: dict[str, Round] = {
            "loop": partial(_loop, options, folder),
            "basic": partial(_sweep, options, folder, "hydra/launcher=basic"),
            "one": partial(_sweep, options, folder, "hydra.launcher.cpu_jobs=1"),
            "two": partial(_sweep, options, folder, "hydra.launcher.cpu_jobs=2"),
        }
        for seed in range(1 if options.pretrained else options.jobs):  # random weights are another backbone each
            _train(options, folder, f"seed={seed}")  # the features
        results = interleave(turns, options.rounds)
    seconds = {contender: [r["seconds"] for r in found] for contender, found in results.items()}
    middle = medians(seconds)
    added = round((middle["one"] - middle["basic"]) / options.jobs, 2)
    print()
    for contender, value in middle.items():
        print(f"  {contender:<6} {value:7.1f} s")
    rounds = {contender: [round(value, 1) for value in values] for contender, values in seconds.items()}
    content = {**middle, "seconds_per_job_of_pool": added, "ratios": ratios(middle, _PAIRS), "rounds": rounds}
    print_json("sweep", {**content, "jobs": options.jobs, "epochs": options.epochs, "backbone": options.backbone})


def _loop(options: Options, folder: Path) -> Mapping[str, float]:
    return {"seconds": sum(_train(options, folder, f"seed={seed}") for seed in range(options.jobs))}


def _sweep(options: Options, folder: Path, launcher: str) -> Mapping[str, float]:
    seeds = ",".join(map(str, range(options.jobs)))
    return {"seconds": _train(options, folder, "--multirun", f"seed={seeds}", launcher)}


def _train(options: Options, folder: Path, *arguments: str) -> float:
    root = options.data_root.absolute()
    command = [
        sys.executable, "-m", "pneumolit.train", *arguments, "freeze=head", "augment=none",
        f"trainer.max_epochs={options.epochs}", f"backbone={options.backbone}", f"data.root={root}",
        f"model.image_size={options.image_size}", f"model.pretrained={str(options.pretrained).lower()}",
        f"cache_dir={folder / 'cache'}", f"output_dir={folder / str(time.time_ns())}", "trainer.accelerator=cpu",
    ]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(command, cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    require(done.returncode == 0, f"{' '.join(command)} ended with code {done.returncode}:\n{done.stderr}")
    return seconds


if __name__ == "__main__":
    main()
