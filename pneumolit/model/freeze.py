"""A policy and a model become a plan: which parameters train, which batch norms stand still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class FreezePlan:
    """What a policy means for one model.

    Attributes:
        policy: its name.
        trainable: names of the parameters that train.
        frozen: names of those that do not.
        still_norms: names of the batch norms that keep their running statistics.
        moving_norms: names of those that go on collecting them.
        trainable_count: number of trainable values.
        frozen_count: number of frozen values.
    """

    policy: str
    trainable: tuple[str, ...]
    frozen: tuple[str, ...]
    still_norms: tuple[str, ...]
    moving_norms: tuple[str, ...]
    trainable_count: int
    frozen_count: int

    def to_dict(self) -> dict[str, Any]:
        """Plain form for freeze_plan.json."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def describe(self) -> str:
        """One line for people."""
        total = self.trainable_count + self.frozen_count
        norms = len(self.still_norms) + len(self.moving_norms)
        return (
            f"{self.trainable_count:,} of {total:,} parameters train ({self.policy}); "
            f"{len(self.still_norms)} of {norms} batch norms stand still"
        )


def head_parameter_names(model: nn.Module) -> set[str]:
    """Names of the classifier's parameters in a timm model.

    Raises:
        ValueError: the model has no classifier.
    """
    heads = model.get_classifier()  # type: ignore[operator]
    heads = heads if isinstance(heads, tuple | list) else (heads,)
    ids = {id(p) for head in heads if isinstance(head, nn.Module) for p in head.parameters()}
    if not ids:
        raise ValueError(f"{type(model).__name__} has no classifier with parameters, so freeze=head trains nothing")
    return {name for name, p in model.named_parameters() if id(p) in ids}


def _train_all(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters()}


# A new policy is one function here (model -> names that train) and one YAML file in conf/freeze/.
POLICIES: dict[str, Callable[[nn.Module], set[str]]] = {"none": _train_all, "head": head_parameter_names}


def plan_freeze(model: nn.Module, policy: str) -> FreezePlan:
    """Work out what a policy means for this model; nothing is changed.

    Raises:
        ValueError: unknown policy.
    """
    if policy not in POLICIES:
        raise ValueError(f"freeze.policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    trainable = POLICIES[policy](model)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    still: list[str] = []
    moving: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            own = {f"{name}.{p}" for p, _ in module.named_parameters()}
            trains = bool(own & trainable) if own else policy == "none"
            (moving if trains else still).append(name)
    return FreezePlan(
        policy=policy,
        trainable=tuple(n for n in sizes if n in trainable),
        frozen=tuple(n for n in sizes if n not in trainable),
        still_norms=tuple(still),
        moving_norms=tuple(moving),
        trainable_count=sum(sizes[n] for n in sizes if n in trainable),
        frozen_count=sum(sizes[n] for n in sizes if n not in trainable),
    )


def apply_freeze(model: nn.Module, plan: FreezePlan) -> None:
    """Set `requires_grad` by the plan; parameter groups of an optimizer never change."""
    frozen = set(plan.frozen)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)


def hold_still(model: nn.Module, plan: FreezePlan) -> None:
    """Put frozen batch norms into eval mode; needed after every `train()`.

    requires_grad=False alone leaves their running statistics moving.
    """
    for name in plan.still_norms:
        model.get_submodule(name).eval()
