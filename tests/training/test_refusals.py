"""What the data or the machine do not allow is refused before anything is written; what they do allow is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.training.fit import fit

Configure = Callable[..., dict[str, Any]]
Train = Callable[..., Any]


def class_folders(root: Path, names: tuple[str, str]) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(24):
            film = rng.integers(0, 256, (64, 64), dtype=np.uint8)
            Image.fromarray(film).save(root / name / f"{name.lower()}{number}.png")
    return root


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data.balance=none", "stages=[{epochs: 1}, {epochs: 1, loss.class_weight: [1.0, 2.0]}, {epochs: 1}]"],
            r"^stage 2: loss\.class_weight",
        ),
        (["precision=fp16"], r"^precision=fp16 needs a GPU"),
        (["freeze=head", "model.bn_inference=batch"], r"^model\.bn_inference=batch has no effect"),
        (["freeze=head", "optim.backbone_lr_scale=0.1"], r"^optim\.backbone_lr_scale=0\.1 has no effect because only"),
        (["freeze=head", "optim.layer_decay=0.7"], r"^optim\.layer_decay=0\.7 has no effect because only the head"),
        (["+optim.capturable=true"], r"optim\.capturable must be false"),
        (["freeze=head", "model.bn_inference=drawn_batch"], r"^model\.bn_inference=drawn_batch has no effect"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    tiny_config: Configure, tmp_path: Path, overrides: list[str], message: str
) -> None:
    cfg = tiny_config(*overrides, "trainer.accelerator=cpu")
    with pytest.raises(ValueError, match=message):
        fit(cfg, tmp_path / "run", Console(quiet=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("names", "overrides", "message"),
    [
        (("NORMAL", "PNEUMONIA"), ["data.balance=series"], r"data\.balance=series"),
        (
            ("CATS", "DOGS"),
            ["data.balance=none", "stages=[{epochs: 1}, {epochs: 1, loss: binary_cross_entropy}]"],
            r"^stage 2: loss\.name=binary_cross_entropy needs classes that mean pneumonia",
        ),
    ],
)
def test_what_the_classes_or_names_of_a_set_do_not_allow_is_refused_before_anything_is_written(
    tiny_config: Configure, tmp_path: Path, names: tuple[str, str], overrides: list[str], message: str
) -> None:
    root = class_folders(tmp_path / "films", names)
    cfg = tiny_config("data=image_folder", f"data.root={root}", "data.stress=false", "augment=none", *overrides)
    cfg["callbacks"]["checkpoint"]["monitor"] = "val/loss"
    with pytest.raises(ValueError, match=message):
        fit(cfg, tmp_path / "run", Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_a_plateau_schedule_that_names_no_metric_looks_at_the_loss(
    tiny_config: Configure, tmp_path: Path, train_run: Train
) -> None:
    stages = "stages=[{epochs: 1}, {epochs: 1, scheduler: {name: plateau, factor: 0.5}}]"
    run = train_run(tiny_config(stages), tmp_path / "run")
    assert len(run.read_metrics()) == 2


def test_validation_that_does_not_fit_is_no_training_step(
    tiny_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*arguments: Any, **options: Any) -> NoReturn:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(PneumoniaClassifier, "validation_step", step)
    with pytest.raises(ValueError, match=r"^validation, 64 images at a time with model\.image_size=32, does not fit"):
        fit(tiny_config(), tmp_path / "run", Console(quiet=True))
    monkeypatch.setattr(PneumoniaClassifier, "training_step", step)
    with pytest.raises(ValueError, match=r"^a training step with data\.batch_size=16 .*auto_batch_size=true"):
        fit(tiny_config(), tmp_path / "other", Console(quiet=True))
