"""Optimizers from an allow list, groups that decay what should decay, schedules of the promised shape."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pneumolit.model.freeze import head_parameter_names
from pneumolit.model.optim import build_optimizer, find_optimizer, learning_rate_factor, parameter_groups


@pytest.fixture(scope="module")
def model() -> nn.Module:
    made: nn.Module = timm.create_model("test_resnet", num_classes=3)
    return made


@pytest.mark.parametrize(
    "target", ["os.system", "torch.hub.load", "builtins.eval", "torch.optimizer.X", "pneumolit.model.optim.find"]
)
def test_target_outside_the_allowed_packages_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match=r"is refused: only classes of torch\.optim and timm\.optim"):
        find_optimizer(target)


@pytest.mark.parametrize("target", ["torch.optim.AdamQ", "timm.optim.nothing.Here"])
def test_target_that_does_not_exist_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        find_optimizer(target)


@pytest.mark.parametrize("target", ["torch.optim.lr_scheduler.LambdaLR", "torch.optim.optimizer.partial"])
def test_target_inside_the_packages_that_is_no_optimizer_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match=r"is no optimizer|does not exist"):
        find_optimizer(target)


@pytest.mark.parametrize("target", ["torch.optim.AdamW", "torch.optim.SGD", "timm.optim.Lamb"])
def test_optimizers_of_both_packages_are_built_with_their_arguments(model: nn.Module, target: str) -> None:
    groups = parameter_groups(model, head_parameter_names(model), 0.3)
    optimizer = build_optimizer({"_target_": target, "lr": 0.25, "weight_decay": 0.3}, groups)
    assert f"{type(optimizer).__module__}.{type(optimizer).__name__}".startswith(target.rpartition(".")[0])
    assert {g["lr"] for g in optimizer.param_groups} == {0.25}
    assert {g["name"]: g["weight_decay"] for g in optimizer.param_groups} == {
        "backbone_decay": 0.3, "backbone_no_decay": 0.0, "head_decay": 0.3, "head_no_decay": 0.0,
    }  # fmt: skip


def test_argument_that_the_optimizer_does_not_take_is_named(model: nn.Module) -> None:
    settings: dict[str, Any] = {"_target_": "torch.optim.AdamW", "lr": 0.1, "momentum": 0.9}
    with pytest.raises(ValueError, match=r"optim\.momentum is no argument of torch\.optim\.AdamW; it takes .*betas"):
        build_optimizer(settings, parameter_groups(model, set(), 0.0))


def test_value_that_the_optimizer_refuses_is_told(model: nn.Module) -> None:
    settings = {"_target_": "torch.optim.AdamW", "lr": 0.1, "betas": [2.0, 0.9]}
    with pytest.raises(ValueError, match=r"torch\.optim\.AdamW does not accept optim=.*beta"):
        build_optimizer(settings, parameter_groups(model, set(), 0.0))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_every_parameter_is_in_one_group_and_norms_and_biases_do_not_decay(name: str) -> None:
    net = timm.create_model(name, num_classes=3)
    names = {id(p): n for n, p in net.named_parameters()}
    groups = parameter_groups(net, head_parameter_names(net), 0.1)
    grouped = [names[id(p)] for g in groups for p in g["params"]]
    assert sorted(grouped) == sorted(names.values())
    norms = {f"{n}.weight" for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm)}
    still = {names[id(p)] for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    assert norms and norms <= still
    assert {n for n in names.values() if n.endswith("bias")} <= still
    decaying = {n for n, p in net.named_parameters() if p.ndim >= 2}
    assert decaying == set(names.values()) - still


@given(st.sampled_from(["constant", "cosine"]), st.integers(1, 300), st.floats(0, 0.9), st.floats(0, 1))
def test_schedule_rises_to_one_falls_to_its_end_and_never_leaves_zero_to_one(
    name: str, steps: int, warmup: float, final: float
) -> None:
    factor = learning_rate_factor(name, steps, warmup_fraction=warmup, final_fraction=final)
    values = [factor(i) for i in range(steps + 1)]
    first = round(warmup * steps)
    assert all(0 <= v <= 1 + 1e-12 for v in values)
    assert values[:first] == sorted(values[:first]) and all(0 < v < 1 for v in values[:first])
    if first < steps:
        assert values[first] == pytest.approx(1.0)
        assert values[first:] == sorted(values[first:], reverse=True)
        assert values[-1] == pytest.approx(1.0 if name == "constant" else final)


def test_cosine_without_warm_up_is_that_of_torch() -> None:
    factor = learning_rate_factor("cosine", 20, final_fraction=0.1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20, eta_min=0.1)
    for step in range(20):
        assert factor(step) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert factor(10) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))


def test_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scheduler\.name must be one of constant, cosine, got 'step'"):
        learning_rate_factor("step", 10)
