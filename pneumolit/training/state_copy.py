"""Copies of the state of training in the computer's own memory, which training then leaves as they are."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor


class StateCopies:
    """Takes copies of a stage's checkpoints; what is frozen stays as it is anyhow, and all copies share it.

    Args:
        model: that is trained; what is frozen stays so as long as this lives.
    """

    def __init__(self, model: LightningModule) -> None:
        self._frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        self._kept: dict[str, Tensor] = {}  # what is frozen, where it lies on another device

    def take(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """A copy of a checkpoint, complete when this returns; a GPU's tensors are in page-locked memory."""
        states = [checkpoint[key] for key in ("state_dict", "current_model_state") if key in checkpoint]
        frozen = {id(v): name for state in states for name, v in state.items() if name in self._frozen}
        tensors = {id(t): t for t in _tensors_in(checkpoint)}
        copies: dict[int, Any] = {
            key: self._still(frozen[key], tensor) if key in frozen else _copied(tensor)
            for key, tensor in tensors.items()
        }
        for device in {t.device for t in tensors.values() if t.is_cuda}:
            torch.cuda.current_stream(device).synchronize()  # the copies are only under way
        return copy.deepcopy(checkpoint, copies)

    def _still(self, name: str, tensor: Tensor) -> Tensor:
        if tensor.device.type == "cpu":
            return tensor
        if name not in self._kept:
            self._kept[name] = _copied(tensor)
        return self._kept[name]


def _tensors_in(content: Any) -> Iterator[Tensor]:
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _tensors_in(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _tensors_in(value)


def _copied(tensor: Tensor) -> Tensor:
    """The same values and strides on the CPU."""
    # Not left to deepcopy: that takes five times as long for a net of a thousand small tensors.
    tensor = tensor.detach()
    if tensor.device.type == "cpu":
        return tensor.clone()
    if tensor.device.type != "cuda":
        return tensor.cpu()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
