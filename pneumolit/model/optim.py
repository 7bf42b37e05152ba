"""Optimizers by target path from an allow list, over fixed parameter groups."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from pneumolit.model.freeze import head_parameter_names
from pneumolit.model.layers import head_distances

# A target outside these packages is refused: configuration from strangers must not start anything else.
ALLOWED_TARGETS = ("torch.optim.", "timm.optim.")
# Keys of the optim group that are ours: they shape the groups and never reach the class.
# LookupError for betas of one number; classes refuse pairs of arguments by errors of other kinds, too.
_REFUSALS = (TypeError, ValueError, LookupError, RuntimeError, AssertionError)
_OWN_KEYS = {"backbone_lr_scale", "layer_decay"}
_UNSUITED = {
    "torch.optim.LBFGS": "needs all parameters in one group and several passes per step",
    "torch.optim.Muon": "takes matrices only, no biases and no convolutions (timm.optim.Muon takes all)",
    "torch.optim.SparseAdam": "needs sparse gradients",
    "timm.optim.Adahessian": "needs second derivatives",
    "timm.optim.Lookahead": "wraps another optimizer",
}


def parameter_groups(
    model: nn.Module, settings: Mapping[str, Any], frozen: Collection[str] = ()
) -> list[dict[str, Any]]:
    """All parameters in fixed, named groups, each with its own learning rate.

    What trains is split by part (backbone, head) and decay: gains, biases and what the model itself names (position
    tables, tokens) do not decay, since shrinking them changes the function, not its complexity. `layer_decay` splits
    the backbone by distance from the head as well: `backbone_01_decay` is nearest. Groups never change during a run.

    Args:
        model: a timm model.
        settings: the optim group: `lr` is the head's, `weight_decay`, `backbone_lr_scale` (default 1) a factor on
            the rate of all else, `layer_decay` (None, or above 0 to 1) a factor on it for every step from the head.
        frozen: names of the parameters that do not train: one group, with rate and decay 0.

    Returns:
        Groups of name, params, lr, lr_scale, weight_decay; none is empty. `lr` is scaled already, since only timm's
        schedules read `lr_scale`; that is there for the record.

    Source:
        Howard and Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018; for layer_decay
        Clark et al., ELECTRA, ICLR 2020.
    """
    lr, weight_decay = float(settings["lr"]), float(settings.get("weight_decay") or 0.0)
    scales = _rate_scales(model, settings)
    exempt = _named_exempt(model)
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if name in frozen:
            label, scale, decay = "frozen", 0.0, 0.0
        else:
            part, scale = scales[name]
            is_exempt = _is_vector(parameter) or _matches(name, exempt)
            label, decay = (f"{part}_no_decay", 0.0) if is_exempt else (f"{part}_decay", weight_decay)
        group = {"name": label, "params": [], "lr": lr * scale, "lr_scale": scale, "weight_decay": decay}
        groups.setdefault(label, group)["params"].append(parameter)
    return list(groups.values())


def _is_vector(parameter: nn.Parameter) -> bool:
    """Whether a tensor has one long axis at most: gains of some norms and layer scales are (C, 1, 1)."""
    return parameter.ndim <= 1 or parameter.numel() == max(parameter.shape)


def _named_exempt(model: nn.Module) -> set[str]:
    """Names, or ends of names, that a timm model wants without decay."""
    body = getattr(model, "body", model)
    named = getattr(body, "no_weight_decay", None)
    return {str(name) for name in named()} if callable(named) else set()


def _matches(name: str, exempt: Collection[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") or f".{end}." in f".{name}." for end in exempt)


def _rate_scales(model: nn.Module, settings: Mapping[str, Any]) -> dict[str, tuple[str, float]]:
    """Name of the part and factor on the learning rate by parameter, of all parameters whether they train or not."""
    head = head_parameter_names(model)
    backbone_scale, layer_decay = float(settings.get("backbone_lr_scale", 1.0)), settings.get("layer_decay")
    scales = {name: ("backbone", backbone_scale) for name, _ in model.named_parameters()}
    if layer_decay is not None:
        distances = head_distances(model, head)
        digits = max(2, len(str(max(distances.values()))))
        for name, distance in distances.items():
            scales[name] = (f"backbone_{distance:0{digits}}", backbone_scale * float(layer_decay) ** distance)
    return scales | dict.fromkeys(head, ("head", 1.0))


def build_optimizer(settings: Mapping[str, Any], groups: list[dict[str, Any]], *, is_fused: bool = False) -> Optimizer:
    """Instantiate the optimizer that `optim._target_` names.

    Args:
        settings: `_target_` (torch.optim.* or timm.optim.*), `lr`, and further arguments of that class;
            `weight_decay` and our own keys are in the groups already.
        groups: from `parameter_groups`.
        is_fused: whether all of a step may be one kernel, where the class has one; `optim.fused` and `optim.foreach`
            in the settings decide before it.

    Raises:
        ValueError: a target outside the allow list, unknown, unsuited, or an argument that it does not take.
    """
    target = str(settings["_target_"])
    kind = find_optimizer(target)
    arguments = {k: _plain(v) for k, v in settings.items() if k not in {"_target_", "weight_decay"} | _OWN_KEYS}
    known = inspect.signature(kind.__init__).parameters
    unknown = [k for k in arguments if k not in known]
    if settings.get("weight_decay") and "weight_decay" not in known:
        unknown.append("weight_decay")
    if unknown and not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
        raise ValueError(f"optim.{unknown[0]} is no argument of {target}; it takes {', '.join(list(known)[2:])}")
    if is_fused and "fused" in known and not {"fused", "foreach", "capturable", "differentiable"} & set(arguments):
        arguments["fused"] = True
    try:
        return kind(groups, **arguments)
    except _REFUSALS as error:
        raise ValueError(f"{target} does not accept optim={arguments}: {error}") from error


def check_optimizer(settings: Mapping[str, Any]) -> None:
    """Refuse a group `optim` that cannot be built or cannot step, before there is a model.

    Raises:
        ValueError: as `build_optimizer`.
    """
    stand_in = nn.Parameter(torch.zeros(2, 2))
    optimizer = build_optimizer(settings, [{"params": [stand_in]}])
    stand_in.grad = torch.ones(2, 2)
    try:
        optimizer.step()
    except _REFUSALS as error:
        given = {key: _plain(value) for key, value in settings.items() if key not in {"_target_"} | _OWN_KEYS}
        raise ValueError(f"{settings['_target_']} cannot step with optim={given}: {error}") from error


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
    for unsuited, why in _UNSUITED.items():
        package, _, name = unsuited.rpartition(".")
        if kind.__name__ == name and kind.__module__.startswith(package):
            raise ValueError(f"optim._target_={target} does not fit: it {why}; use another optimizer")
    return kind


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
