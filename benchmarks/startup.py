"""How long a command takes to begin, against the imports that every such program pays.

python -m benchmarks.startup [rounds=7]

    imports     python -c "import torch, pytorch_lightning, timm"
    help        python -m pneumolit.train --help
    cfg         python -m pneumolit.train experiment=demo --cfg job
    first_step  from `python -m pneumolit.train experiment=demo` to the end of its first training step, the
                phantoms and their store in place
    frozen      the same with freeze=head augment=none and the features in place

Seconds of wall clock; the commands take turns, the first round warms up. The last line is one JSON object.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks._common.arguments import read_arguments, require, require_positive
from benchmarks._common.contender import Contender, clean_environment
from benchmarks._common.machine import REPOSITORY
from benchmarks._common.report import print_json
from benchmarks._common.rounds import Round, interleave, medians, ratios

_PAIRS = [("help", "imports"), ("cfg", "imports"), ("first_step", "imports"), ("frozen", "imports")]
_FROZEN = ("freeze=head", "augment=none")


@dataclass(frozen=True)
class Options:
    """Keys of the command line."""

    rounds: int = 7


def main() -> None:
    options = read_arguments(Options, sys.argv[1:], __doc__)
    require_positive(options, "rounds")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        command = ("-m", "pneumolit.train")
        turns: dict[str, Round] = {
            "imports": partial(_run, "-c", "import torch, pytorch_lightning, timm"),
            "help": partial(_run, *command, "--help"),
            "cfg": partial(_run, *command, "experiment=demo", "--cfg", "job"),
            "first_step": partial(_first_step, folder),
            "frozen": partial(_first_step, folder, *_FROZEN),
        }
        for run in turns.values():
            run()
        results = interleave(turns, options.rounds)
    seconds = {name: [r["seconds"] for r in found] for name, found in results.items()}
    middle = medians(seconds)
    print()
    for name, value in middle.items():
        print(f"  {name:<10} {value:6.2f} s")
    rounds = {name: [round(value, 2) for value in values] for name, values in seconds.items()}
    print_json("startup", {**middle, "ratios": ratios(middle, _PAIRS), "rounds": rounds})


def _run(*arguments: str) -> Mapping[str, float]:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    require(done.returncode == 0, f"python {' '.join(arguments)} ended with code {done.returncode}:\n{done.stderr}")
    return {"seconds": seconds}


def _first_step(folder: Path, *arguments: str) -> Mapping[str, float]:
    words: Sequence[str] = [
        "experiment=demo",
        f"cache_dir={folder / 'cache'}",
        f"output_dir={folder / 'out'}",
        f"hydra.run.dir={folder / 'out' / str(time.time_ns())}",
        *arguments,
    ]
    start = time.perf_counter()
    contender = Contender("first_step", "benchmarks._loops.first_step", words)
    seconds = time.perf_counter() - start
    contender.close()
    return {"seconds": seconds}


if __name__ == "__main__":
    main()
