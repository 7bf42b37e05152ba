"""Optimizers from an allow list, over groups that decay what should decay at the rate that their depth asks for."""

from __future__ import annotations

import copy
import functools
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import timm.optim
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import Optimizer

from pneumolit.config import CONFIG_DIR
from pneumolit.model.freeze import apply_freeze, head_parameter_names, plan_freeze
from pneumolit.model.layers import head_distances
from pneumolit.model.optim import build_optimizer, check_optimizer, find_optimizer, parameter_groups

ADAMW: dict[str, Any] = {"_target_": "torch.optim.AdamW", "lr": 0.1, "weight_decay": 0.3}
UNSUITED = {
    "torch.optim.LBFGS", "torch.optim.Muon", "torch.optim.SparseAdam", "timm.optim.Adahessian", "timm.optim.Lookahead",
}  # fmt: skip


@functools.cache
def build(name: str) -> nn.Module:
    made: nn.Module = timm.create_model(name, num_classes=3, in_chans=1)
    return made


def rates(model: nn.Module, groups: list[dict[str, Any]]) -> dict[str, float]:
    """Learning rate by name of the parameter."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group["lr"] for group in groups for p in group["params"]}


def optimizers() -> Iterator[str]:
    for package in (torch.optim, timm.optim):
        for name, kind in sorted(vars(package).items()):
            if inspect.isclass(kind) and issubclass(kind, Optimizer) and kind is not Optimizer:
                yield f"{package.__name__}.{name}"


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


@pytest.mark.parametrize("target", sorted({*optimizers()} - UNSUITED))
def test_every_suited_optimizer_trains_our_groups_and_leaves_the_frozen_one_alone(target: str) -> None:
    model = copy.deepcopy(build("test_convnext"))
    plan = plan_freeze(model, {"policy": "groups", "last": 1}, image_shape=(1, 32, 32))
    apply_freeze(model, plan)
    arguments = inspect.signature(find_optimizer(target).__init__).parameters
    group = {"_target_": target, "lr": 0.01, "backbone_lr_scale": 0.5, "layer_decay": 0.9}
    group |= {"weight_decay": 0.1} if "weight_decay" in arguments else {}
    optimizer = build_optimizer(group, parameter_groups(model, group, plan.frozen))

    def closure() -> torch.Tensor:  # Lightning steps through a closure
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.randn(4, 1, 32, 32)), torch.arange(4) % 3)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(2):
        optimizer.step(closure)  # type: ignore[arg-type]  # torch types it as float, and Lightning gives a tensor
    start = dict(build("test_convnext").named_parameters())
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, start[name])}
    assert not moved & set(plan.frozen)
    # Gains of one inside blocks that start at 1e-6 get steps below float32's resolution.
    assert {name for name in plan.trainable if not name.endswith("norm.weight")} <= moved


@pytest.mark.parametrize(
    ("target", "settings", "expected"),
    [
        ("torch.optim.AdamW", {}, True),
        ("torch.optim.SGD", {"momentum": 0.9}, True),
        ("torch.optim.AdamW", {"fused": False}, False),
        ("torch.optim.AdamW", {"foreach": True}, None),  # both at once would be refused by torch
        ("torch.optim.RMSprop", {}, None),
        ("timm.optim.Lion", {}, None),
    ],
)
def test_a_step_is_one_kernel_where_the_optimizer_has_one_and_nothing_else_was_asked(
    target: str, settings: dict[str, Any], expected: bool | None
) -> None:
    group = {"_target_": target, "lr": 0.01, **settings}
    groups = parameter_groups(build("test_resnet"), group)
    assert build_optimizer(group, groups, is_fused=True).defaults.get("fused") is expected
    assert not build_optimizer(group, groups).defaults.get("fused")


@pytest.mark.parametrize("target", [*sorted(UNSUITED), "torch.optim.lbfgs.LBFGS", "timm.optim.lookahead.Lookahead"])
def test_optimizer_that_cannot_work_here_is_refused_with_the_reason(target: str) -> None:
    with pytest.raises(ValueError, match=rf"optim\._target_={target} does not fit: it (needs|takes|wraps) .*another"):
        build_optimizer({"_target_": target, "lr": 0.1}, parameter_groups(build("test_vit"), {"lr": 0.1}))


@pytest.mark.parametrize("path", sorted((CONFIG_DIR / "optim").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_of_the_optim_group_builds_and_names_the_keys_that_shape_the_groups(path: Any) -> None:
    group = yaml.safe_load(path.read_text())
    assert (group["backbone_lr_scale"], group["layer_decay"]) == (1.0, None)
    optimizer = build_optimizer(group, parameter_groups(build("test_vit"), group))
    assert {g["lr"] for g in optimizer.param_groups} == {group["lr"]}
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.0, group["weight_decay"]}
    assert type(optimizer).__name__.lower() == path.stem


def test_argument_that_the_optimizer_does_not_take_is_named() -> None:
    group: dict[str, Any] = {"_target_": "torch.optim.AdamW", "lr": 0.1, "momentum": 0.9}
    with pytest.raises(ValueError, match=r"optim\.momentum is no argument of torch\.optim\.AdamW; it takes .*betas"):
        build_optimizer(group, parameter_groups(build("test_vit"), group))


def test_weight_decay_for_an_optimizer_without_it_is_refused() -> None:
    group = {"_target_": "torch.optim.Rprop", "lr": 0.1, "weight_decay": 0.1}
    with pytest.raises(ValueError, match=r"optim\.weight_decay is no argument of torch\.optim\.Rprop"):
        build_optimizer(group, parameter_groups(build("test_vit"), group))
    group["weight_decay"] = 0.0
    build_optimizer(group, parameter_groups(build("test_vit"), group))


def test_value_that_the_optimizer_refuses_is_told() -> None:
    group = {"_target_": "torch.optim.AdamW", "lr": 0.1, "betas": [2.0, 0.9]}
    with pytest.raises(ValueError, match=r"torch\.optim\.AdamW does not accept optim=.*beta"):
        build_optimizer(group, parameter_groups(build("test_vit"), group))


@pytest.mark.parametrize(
    ("target", "given"),
    [("timm.optim.Lamb", {"betas": [0.9]}), ("torch.optim.AdamW", {"betas": [0.9]})],
)
def test_what_an_optimizer_refuses_only_when_it_steps_is_told_before(target: str, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(target)} (cannot step with|does not accept) optim=.*betas"):
        check_optimizer({"_target_": target, "lr": 0.1, **given})
    check_optimizer({"_target_": target, "lr": 0.1})


def test_arguments_that_exclude_each_other_are_told() -> None:
    group = {"_target_": "torch.optim.AdamW", "lr": 0.1, "fused": True, "foreach": True}
    with pytest.raises(
        ValueError, match=r"AdamW does not accept optim=.*`fused` and `foreach` cannot be `True` together"
    ):
        build_optimizer(group, parameter_groups(build("test_vit"), group))


def test_gains_that_are_no_vectors_by_shape_do_not_decay() -> None:
    net = timm.create_model("nf_resnet26", num_classes=3)
    groups = parameter_groups(net, ADAMW)
    still = {id(p) for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    gains = [p for n, p in net.named_parameters() if n.endswith("gain")]
    assert gains and all(p.ndim == 4 and id(p) in still for p in gains)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_every_parameter_is_in_one_group_and_norms_and_biases_do_not_decay(name: str) -> None:
    net = build(name)
    names = {id(p): n for n, p in net.named_parameters()}
    groups = parameter_groups(net, ADAMW)
    grouped = [names[id(p)] for g in groups for p in g["params"]]
    assert sorted(grouped) == sorted(names.values())
    norms = {f"{n}.weight" for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm)}
    still = {names[id(p)] for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    assert norms and norms <= still
    assert {n for n in names.values() if n.endswith("bias")} <= still
    tables = {"cls_token", "pos_embed"}  # a model's own no_weight_decay()
    decaying = {n for n, p in net.named_parameters() if p.ndim >= 2 and n not in tables}
    assert decaying == set(names.values()) - still
    assert {g["name"]: g["weight_decay"] for g in groups} == {
        "backbone_decay": 0.3, "backbone_no_decay": 0.0, "head_decay": 0.3, "head_no_decay": 0.0,
    }  # fmt: skip


def test_frozen_parameters_are_one_group_without_rate_and_decay_and_empty_groups_are_left_out() -> None:
    model = build("test_resnet")
    head = head_parameter_names(model)
    frozen = [name for name, _ in model.named_parameters() if name not in head]
    groups = {g["name"]: g for g in parameter_groups(model, ADAMW | {"layer_decay": 0.5}, frozen)}
    assert groups.keys() == {"frozen", "head_decay", "head_no_decay"}
    assert len(groups["frozen"]["params"]) == len(frozen)
    assert (groups["frozen"]["lr"], groups["frozen"]["weight_decay"], groups["frozen"]["lr_scale"]) == (0, 0, 0)


def test_backbone_learns_at_its_share_of_the_rate_of_the_head() -> None:
    groups = {g["name"]: g for g in parameter_groups(build("test_vit"), ADAMW | {"backbone_lr_scale": 0.25})}
    assert {name: (g["lr"], g["lr_scale"]) for name, g in groups.items()} == {
        "backbone_decay": (0.025, 0.25), "backbone_no_decay": (0.025, 0.25),
        "head_decay": (0.1, 1.0), "head_no_decay": (0.1, 1.0),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_layer_decay_multiplies_the_rate_once_per_step_away_from_the_head(name: str) -> None:
    model = build(name)
    distances = head_distances(model, head_parameter_names(model))
    groups = parameter_groups(model, ADAMW | {"layer_decay": 0.5, "backbone_lr_scale": 0.4})
    for parameter, rate in rates(model, groups).items():
        distance = distances[parameter]
        assert rate == pytest.approx(0.1 if distance == 0 else 0.1 * 0.4 * 0.5**distance, rel=1e-12)
    names = {g["name"].removesuffix("_decay").removesuffix("_no") for g in groups}
    assert names == {"head", *(f"backbone_{d:02}" for d in range(1, max(distances.values()) + 1))}


def test_groups_of_a_deep_model_have_names_that_sort_by_depth() -> None:
    with torch.device("meta"):
        model = timm.create_model("densenet201", num_classes=3)
    names = [g["name"] for g in parameter_groups(model, ADAMW | {"layer_decay": 0.9}) if "_no_" in g["name"]]
    backbone = [name for name in names if name.startswith("backbone")]
    assert len(backbone) == 99 and backbone == sorted(backbone, reverse=True)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(["test_resnet", "test_vit", "test_convnext", "test_efficientnet"]),
    st.floats(0.1, 1.0),
    st.floats(0.01, 2.0),
    st.data(),
)
def test_freezing_never_changes_the_rate_of_what_trains(name: str, decay: float, scale: float, data: Any) -> None:
    model = build(name)
    names = [n for n, _ in model.named_parameters()]
    frozen = data.draw(st.sets(st.sampled_from(names)))
    group = ADAMW | {"layer_decay": decay, "backbone_lr_scale": scale}
    free, held = rates(model, parameter_groups(model, group)), rates(model, parameter_groups(model, group, frozen))
    assert held == {n: 0.0 if n in frozen else rate for n, rate in free.items()}
    assert all(free[n] == 0.1 for n in head_parameter_names(model))


def test_a_schedule_of_torch_keeps_the_ratios_of_the_rates() -> None:
    group = ADAMW | {"layer_decay": 0.5}
    optimizer = build_optimizer(group, parameter_groups(build("test_vit"), group))
    before = [g["lr"] for g in optimizer.param_groups]
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    assert [g["lr"] for g in optimizer.param_groups] == [0.5 * lr for lr in before]
