"""pneumolit's own training command with one more callback behind those of the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pneumolit.entry import run_command
from pneumolit.train import train


def train_with(make_callback: Callable[[], Any]) -> None:
    """Do what the command does, with this process's arguments.

    Args:
        make_callback: called when the others are built; imports Lightning itself, so that nothing is imported
            earlier than the command would.
    """

    def task(cfg: dict[str, Any], folder: Path) -> None:
        from pneumolit.training import stages

        build = vars(stages)["build_callbacks"]
        vars(stages)["build_callbacks"] = lambda *args, **kwargs: [*build(*args, **kwargs), make_callback()]
        train(cfg, folder)

    run_command("train", task)
