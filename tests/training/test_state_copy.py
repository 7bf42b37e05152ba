"""Copies of the state of training: the same bits, apart from what goes on changing, together with what does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from pneumolit.training.state_copy import StateCopies

Tensors = Callable[..., dict[str, Tensor]]


class Net(LightningModule):
    """A frozen and a moving convolution, a batch norm with whole-number buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Conv2d(3, 4, 3).requires_grad_(False)
        self.moving = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.to(memory_format=torch.channels_last)


def checkpoint_of(model: Net) -> dict[str, Any]:
    """As Lightning and the average make it: moving weights beside averaged ones, frozen ones once."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    current = model.state_dict()
    average = {k: v if k.startswith("frozen") else v + 1 for k, v in current.items()}
    return {
        "epoch": 3,
        "state_dict": average,
        "current_model_state": current,
        "optimizer_states": [optimizer.state_dict()],
        "hyper_parameters": {"mean": [0.5]},
    }


def test_copy_stays_what_it_was_while_training_changes_everything_that_moves(tensors_of: Tensors) -> None:
    model = Net()
    checkpoint = checkpoint_of(model)
    expected = {k: v.clone() for k, v in tensors_of(checkpoint).items()}
    copied = StateCopies(model).take(checkpoint)
    for name, tensor in tensors_of(checkpoint).items():
        if "frozen" not in name:
            tensor.add_(1)
    checkpoint["hyper_parameters"]["mean"].append(0.1)
    found = tensors_of(copied)
    assert found.keys() == expected.keys()
    assert [k for k in expected if not torch.equal(found[k], expected[k])] == []
    assert [k for k in expected if found[k].stride() != expected[k].stride()] == []
    assert (copied["epoch"], copied["hyper_parameters"]) == (3, {"mean": [0.5]})
    assert type(copied["current_model_state"]) is type(checkpoint["current_model_state"])


def test_frozen_weights_are_not_copied_and_everything_else_is(tensors_of: Tensors) -> None:
    model = Net()
    checkpoint = checkpoint_of(model)
    found, originals = tensors_of(StateCopies(model).take(checkpoint)), tensors_of(checkpoint)
    shared = {k for k in originals if found[k].data_ptr() == originals[k].data_ptr()}
    names = ("frozen.weight", "frozen.bias")
    assert shared == {f"/{state}/{name}" for state in ("state_dict", "current_model_state") for name in names}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_state_of_a_gpu_is_copied_to_page_locked_memory_and_what_is_frozen_once(tensors_of: Tensors) -> None:
    model = Net().cuda()
    checkpoint, copies = checkpoint_of(model), StateCopies(model)
    expected = {k: v.cpu() for k, v in tensors_of(checkpoint).items()}
    first = tensors_of(copies.take(checkpoint))
    second = tensors_of(copies.take(checkpoint))
    for name, tensor in tensors_of(checkpoint).items():
        if tensor.is_cuda:
            assert first[name].is_pinned()
            tensor.zero_()
        assert (first[name].data_ptr() == second[name].data_ptr()) == ("frozen" in name), name
    assert [k for k in expected if first[k].is_cuda or not torch.equal(first[k], expected[k])] == []
