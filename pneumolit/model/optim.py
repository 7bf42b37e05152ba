"""Optimizers by target path from an allow list, fixed parameter groups, learning-rate schedules."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

# A target outside these packages is refused: configuration from strangers must not start anything else.
ALLOWED_TARGETS = ("torch.optim.", "timm.optim.")
SCHEDULES = ("constant", "cosine")
_UNSUITED = {torch.optim.LBFGS: "one parameter group and a closure", torch.optim.SparseAdam: "sparse gradients"}


def parameter_groups(model: nn.Module, head_names: set[str], weight_decay: float) -> list[dict[str, Any]]:
    """All parameters in four fixed, named groups, frozen ones included.

    Norm gains and biases do not decay: shrinking them changes the function, not its complexity. Groups never
    change during a run; freezing only toggles `requires_grad`.
    """
    groups: dict[str, list[nn.Parameter]] = {
        f"{part}_{decay}": [] for part in ("backbone", "head") for decay in ("decay", "no_decay")
    }
    for name, parameter in model.named_parameters():
        part = "head" if name in head_names else "backbone"
        groups[f"{part}_{'no_decay' if parameter.ndim <= 1 else 'decay'}"].append(parameter)
    return [
        {"name": name, "params": params, "weight_decay": 0.0 if name.endswith("no_decay") else weight_decay}
        for name, params in groups.items()
        if params
    ]


def build_optimizer(settings: Mapping[str, Any], groups: list[dict[str, Any]]) -> Optimizer:
    """Instantiate the optimizer that `optim._target_` names.

    Args:
        settings: `_target_` (torch.optim.* or timm.optim.*), `lr`, and further arguments of that class.
        groups: from `parameter_groups`.

    Raises:
        ValueError: a target outside the allow list, unknown, or an argument that it does not take.
    """
    target = str(settings["_target_"])
    kind = find_optimizer(target)
    if kind in _UNSUITED:
        raise ValueError(f"optim._target_={target} does not fit: it needs {_UNSUITED[kind]}; use another optimizer")
    arguments = {k: _plain(v) for k, v in settings.items() if k not in {"_target_", "weight_decay"}}
    known = inspect.signature(kind.__init__).parameters
    unknown = [k for k in arguments if k not in known]
    if settings.get("weight_decay") and "weight_decay" not in known:
        unknown.append("weight_decay")
    if unknown and not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
        raise ValueError(f"optim.{unknown[0]} is no argument of {target}; it takes {', '.join(list(known)[2:])}")
    try:
        return kind(groups, **arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{target} does not accept optim={arguments}: {error}") from error


def find_optimizer(target: str) -> type[Optimizer]:
    """The optimizer class of a target path, which must lie in an allowed package."""
    if not target.startswith(ALLOWED_TARGETS):
        raise ValueError(
            f"optim._target_={target} is refused: only classes of {' and '.join(p[:-1] for p in ALLOWED_TARGETS)} "
            "are instantiated from configuration"
        )
    module_name, _, class_name = target.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"optim._target_={target} does not exist; see torch.optim and timm.optim") from error
    if not (inspect.isclass(kind) and issubclass(kind, Optimizer)):
        raise ValueError(f"optim._target_={target} is no optimizer")
    return kind


def learning_rate_factor(
    name: str, total_steps: int, *, warmup_fraction: float = 0.0, final_fraction: float = 0.0
) -> Callable[[int], float]:
    """Factor on the learning rate by optimizer step.

    Args:
        name: `constant` or `cosine` (half a cosine after the warm-up).
        total_steps: steps of the whole run.
        warmup_fraction: share of the steps with a linear rise from near zero.
        final_fraction: factor that the cosine ends at.
    """
    if name not in SCHEDULES:
        raise ValueError(f"scheduler.name must be one of {', '.join(SCHEDULES)}, got {name!r}")
    warmup_steps = round(warmup_fraction * total_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        if name == "constant":
            return 1.0
        progress = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
        return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
