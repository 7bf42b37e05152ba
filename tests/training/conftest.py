"""What the tests of training share: checkpoints compared tensor by tensor, runs cut off in an epoch."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from pneumolit.data.dataset import load_data
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.rundir import RunDir, write_json
from pneumolit.stage_plan import plan_stages
from pneumolit.training.build import build_datamodule, build_model, check_names
from pneumolit.training.place import Workplace
from pneumolit.training.resume import find_progress
from pneumolit.training.stages import train_stages


@pytest.fixture(scope="session")
def train_run() -> Callable[..., RunDir]:
    """`train_run(cfg, folder)`: a run's stages without record and scores, from the start or the newest checkpoint."""

    def train(cfg: dict[str, Any], folder: Path, told: io.StringIO | None = None) -> RunDir:
        run, stages = RunDir(folder), plan_stages(cfg)
        datamodule = build_datamodule(cfg, load_data(cfg["data"], Path(cfg["cache_dir"])))
        spec = check_names(stages[0].cfg)
        run.path.mkdir(exist_ok=True)
        if not run.environment_file.is_file():
            write_json(run.environment_file, {})
        console = Console(file=told or io.StringIO(), width=200)
        place = Workplace(run, spec, datamodule, "cpu", "float32", console, Path(cfg["cache_dir"]))
        found = find_progress(run, stages)
        model = None if found else build_model(stages[0].cfg, spec, datamodule)[0]
        train_stages(stages, place, model, found)
        return run

    return train


@pytest.fixture(scope="session")
def tensors_of() -> Callable[..., dict[str, torch.Tensor]]:
    """`tensors_of(content)`: every tensor of a checkpoint by its place."""

    def found(content: Any, name: str = "") -> dict[str, torch.Tensor]:
        if isinstance(content, torch.Tensor):
            return {name: content}
        is_list = isinstance(content, list)
        items = content.items() if isinstance(content, dict) else enumerate(content) if is_list else ()
        return {place: t for key, value in items for place, t in found(value, f"{name}/{key}").items()}

    return found


@pytest.fixture
def cut_off_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`cut_off_in(epoch, batch=0)`: the training step there raises RuntimeError("cut off"), once."""

    def arranged(epoch: int, batch: int = 0) -> None:
        whole = PneumoniaClassifier.training_step
        done: list[int] = []

        def step(self: PneumoniaClassifier, data: Any, batch_idx: int) -> Any:
            if (self.current_epoch, batch_idx) == (epoch, batch) and not done:
                done.append(1)
                raise RuntimeError("cut off")
            return whole(self, data, batch_idx)

        monkeypatch.setattr(PneumoniaClassifier, "training_step", step)

    return arranged
