"""Launchers of pneumolit's sweeps. Hydra takes launchers from this folder only; the work is done in pneumolit.multirun.

Hydra imports this file at every start of every one of its applications, so nothing beyond Hydra is imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class DevicesLauncher(Launcher):
    """Jobs on the GPUs of this machine, or on shares of its cores."""

    kind = "devices"

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra's sweeper. What a job does is not the task function: it would hold Hydra's state of one."""
        from pneumolit.multirun import begin_sweep

        self.hydra_context, self.config = hydra_context, config
        begin_sweep(config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; ends the command with code 1 where any failed."""
        from pneumolit.multirun import run_sweep

        assert self.hydra_context is not None and self.config is not None
        run_sweep(self.hydra_context, self.config, job_overrides, self.kind, self.settings)
        return []


class RayLauncher(DevicesLauncher):
    """Jobs as tasks of Ray."""

    kind = "ray"


class SlurmLauncher(DevicesLauncher):
    """Jobs through Slurm."""

    kind = "slurm"
