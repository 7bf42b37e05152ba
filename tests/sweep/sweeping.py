"""The command `train --multirun`, whose jobs end badly where the environment says so; run as a script."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # jobs' processes get this path as well

import job_targets  # type: ignore[import-not-found]

from pneumolit.entry import run_command
from pneumolit.sweep import run
from pneumolit.train import train

vars(run)["train_job"] = job_targets.train_or_end

if __name__ == "__main__":
    run_command("train", train)
