"""Every family under every policy: the frozen part keeps every bit through real steps, and all else moves."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pneumolit.model.backbone import build_backbone, find_backbone
from pneumolit.model.freeze import FreezePlan, apply_freeze, head_parameter_names, hold_still, plan_freeze
from pneumolit.model.optim import build_optimizer, parameter_groups

POLICIES: list[dict[str, Any]] = [
    {"policy": "none"},
    {"policy": "head"},
    {"policy": "groups", "last": 1},
    {"policy": "layers", "last": 20},
    {"policy": "fraction", "last": 0.4},
]
# The smallest square that a family takes; Swin one more, or its last window holds one place and its bias has no effect.
QUICK = {
    "test_resnet": 32, "test_vit": 32, "test_convnext": 32, "test_efficientnet": 32, "mobilenetv3_small_050": 32,
    "regnety_002": 32,
}  # fmt: skip
SLOW = {
    "densenet201": 32, "resnet18": 32, "resnet50": 32, "resnetv2_50": 32, "vgg16": 32, "vgg16_bn": 32,
    "mobilenetv3_large_100": 32, "convnext_tiny": 32, "vit_tiny_patch16_224": 32, "swin_tiny_patch4_window7_224": 64,
    "vit_tiny_r_s16_p8_224": 32,
}  # fmt: skip
CASES = [
    pytest.param(name, size, settings, id=f"{name}-{settings['policy']}", marks=marks)
    for sizes, marks in ((QUICK, ()), (SLOW, pytest.mark.slow))
    for name, size in sizes.items()
    for settings in POLICIES
]
OPTIM = {"_target_": "torch.optim.AdamW", "lr": 0.01, "weight_decay": 0.1}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@functools.lru_cache(maxsize=1)  # cases are ordered by family, and some families fill half a gigabyte
def build(name: str, size: int) -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(
        find_backbone(name), num_classes=3, in_chans=1, image_size=size, drop_rate=0.0, pretrained=False
    )[0]


def take_two_steps(model: nn.Module, plan: FreezePlan, size: int) -> None:
    apply_freeze(model, plan)
    optimizer = build_optimizer(OPTIM, parameter_groups(model, OPTIM, plan.frozen))
    torch.manual_seed(1)
    for _ in range(2):
        model.train()
        hold_still(model, plan)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.randn(4, 1, size, size)), torch.tensor([0, 1, 2, 0]))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.mark.parametrize(("name", "size", "settings"), CASES)
def test_two_steps_leave_every_bit_of_the_frozen_part_and_move_all_else(
    name: str, size: int, settings: dict[str, Any]
) -> None:
    start = build(name, size)
    model = copy.deepcopy(start)
    plan = plan_freeze(model, settings, image_shape=(1, size, size))
    take_two_steps(model, plan, size)
    before, after = start.state_dict(), model.state_dict()
    kept = {key for key, value in after.items() if torch.equal(value, before[key])}
    norms = {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}
    frozen = set(plan.frozen) | {
        f"{n}.{b}" for n, m in norms.items() if f"{n}.weight" in plan.frozen for b in STATISTICS
    }
    assert not frozen - kept
    assert not (after.keys() - frozen) & kept
    assert all((p.grad is None) == (key in plan.frozen) for key, p in model.named_parameters())
    assert head_parameter_names(model) <= set(plan.trainable)
    assert {*plan.still_norms, *plan.moving_norms} == norms.keys()


@pytest.mark.parametrize("settings", POLICIES[2:], ids=lambda settings: settings["policy"])
@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_a_policy_between_none_and_head_freezes_the_front_and_trains_more_than_the_head(
    name: str, settings: dict[str, Any]
) -> None:
    with torch.device("meta"):  # shapes are enough to plan on
        model: Any = timm.create_model(name, num_classes=3, in_chans=1)
    plan = plan_freeze(model, settings, image_shape=(1, *model.pretrained_cfg["input_size"][1:]))
    assert next(iter(model.state_dict())) in plan.frozen
    assert set(plan.trainable) > head_parameter_names(model)
