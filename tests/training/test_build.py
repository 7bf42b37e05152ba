"""From configuration to parts: what the place of a run changes in its trainer."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning import Trainer

from pneumolit.model.backbone import find_backbone
from pneumolit.rundir import RunDir
from pneumolit.stage_plan import plan_stages
from pneumolit.training.build import build_trainer, check_backbones
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


@pytest.mark.parametrize(
    "choices", [("backbone=vit_tiny_patch16_224",), ("model.pool=flatten",)], ids=["vit", "flatten"]
)
def test_net_that_belongs_to_one_size_is_refused_another_one_in_training(
    tiny_config: Configure, choices: tuple[str, ...]
) -> None:
    for size in ("null", "32"):
        same = tiny_config(*choices, f"model.train_size={size}")
        check_backbones(plan_stages(same), find_backbone(same["backbone"]), needs_weights=False)
    other = tiny_config(*choices, "model.train_size=64")
    with pytest.raises(ValueError, match=r"model\.train_size=64: backbone=\w+\S*, built for model\.image_size=32"):
        check_backbones(plan_stages(other), find_backbone(other["backbone"]), needs_weights=False)
