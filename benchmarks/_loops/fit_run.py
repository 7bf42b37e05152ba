"""One run of pneumolit as `train` would do it, timed from the composed configuration to the finished run folder.

python -m benchmarks._loops.fit_run FOLDER [group=option] [key=value ...]: a round is a run in a folder of its own.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any, cast

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

from benchmarks._common.pace import Pace
from pneumolit.allocator import describe_allocator
from pneumolit.composition import register_resolvers
from pneumolit.config import CONFIG_DIR
from pneumolit.training.fit import fit


def main() -> None:
    folder, overrides = Path(sys.argv[1]), sys.argv[2:]
    register_resolvers()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        composed = cast(dict[str, Any], OmegaConf.to_container(compose("train", overrides=overrides), resolve=True))
    cfg = {key: value for key, value in composed.items() if key not in ("resume", "run_dir")}
    pace, number = Pace.from_environment(), 0
    pace.tell(threads=torch.get_num_threads(), allocator=describe_allocator())
    while pace.next_round() is not None:
        run = folder / f"{time.time_ns()}-{number}"
        number += 1
        start = time.perf_counter()
        results = fit(cfg, run, Console(file=io.StringIO()))
        seconds = time.perf_counter() - start
        environment = json.loads((run / "environment.json").read_text())
        counts = json.loads((run / "data.json").read_text())["counts"]
        pace.tell(
            seconds=seconds,
            auroc=results["val"]["ranking"]["auroc"],
            train=sum(counts["train"].values()),
            val=sum(counts["val"].values()),
            feature_seconds=sum(stage["seconds"] for stage in environment.get("features", {}).values()),
            precision=environment["precision"]["training"],
        )


if __name__ == "__main__":
    main()
