"""What the tests of training share: checkpoints compared tensor by tensor, runs cut off in an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pneumolit.model.classifier import PneumoniaClassifier


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
