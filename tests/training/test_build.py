"""From configuration to parts: what the place of a run changes in its trainer."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning import Trainer

from pneumolit.rundir import RunDir
from pneumolit.training.build import build_trainer
from pneumolit.training.checkpoints import AtomicCheckpointIO

Configure = Callable[..., dict[str, Any]]


@pytest.fixture
def slurm_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of a task that `srun` started."""
    variables = {"JOB_ID": "4711", "JOB_NAME": "train", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", value)


def trainer_of(cfg: dict[str, Any], folder: Path) -> Trainer:
    return build_trainer(cfg, RunDir(folder), [], None, accelerator="cpu", precision="float32")


def test_slurm_neither_requeues_a_run_nor_writes_checkpoints_in_the_middle_of_an_epoch(
    slurm_job: None, tiny_config: Configure, tmp_path: Path
) -> None:
    trainer = trainer_of(tiny_config(), tmp_path)
    place = trainer._accelerator_connector.cluster_environment
    assert isinstance(place, SLURMEnvironment) and not place.auto_requeue
    before = signal.getsignal(signal.SIGUSR1)
    try:
        trainer._signal_connector.register_signal_handlers()
        assert signal.getsignal(signal.SIGUSR1) == before  # by which Slurm would ask for the checkpoint
    finally:
        trainer._signal_connector.teardown()


def test_outside_of_slurm_no_cluster_is_assumed(
    tiny_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    trainer = trainer_of(tiny_config(), tmp_path)
    assert not isinstance(trainer._accelerator_connector.cluster_environment, SLURMEnvironment)


def test_checkpoints_are_written_whole_inside_of_slurm_too(
    slurm_job: None, tiny_config: Configure, tmp_path: Path
) -> None:
    assert isinstance(trainer_of(tiny_config(), tmp_path).strategy.checkpoint_io, AtomicCheckpointIO)
