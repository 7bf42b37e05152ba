"""A policy and a model become a plan: which parameters train, which batch norms stand still."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, get_type_hints

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pneumolit.config import Rule
from pneumolit.model.layers import Layer, coarse_groups, covering_paths, trace_layers

ImageShape = tuple[int, int, int]  # (channels, height, width)
# What a key of a policy takes: its type, and the rule that its value is held to.
Count = Annotated[int, Rule(lambda v: type(v) is int and v >= 1, "a whole number of at least 1")]
Share = Annotated[float, Rule(lambda v: type(v) in (int, float) and 0 < v <= 1, "a number above 0, at most 1")]


@dataclass(frozen=True)
class GroupRow:
    """What a plan means for one group of a model.

    Attributes:
        name: paths of the modules in it.
        parameters: number of values.
        trainable: number of values that train.
        batch_norms: number of batch norms.
        still_norms: number of those that keep their running statistics.
    """

    name: str
    parameters: int
    trainable: int
    batch_norms: int
    still_norms: int


@dataclass(frozen=True)
class FreezePlan:
    """What a policy means for one model.

    Attributes:
        policy: its name.
        settings: the policy with its keys.
        trainable: names of the parameters that train.
        frozen: names of those that do not.
        still_norms: names of the batch norms that keep their running statistics.
        moving_norms: names of those that go on collecting them.
        still_modules: names of the largest modules that hold frozen parameters only; their dropout is off.
        trainable_count: number of trainable values.
        frozen_count: number of frozen values.
        groups: the same by coarse group, front to back, the head last.
    """

    policy: str
    settings: dict[str, Any]
    trainable: tuple[str, ...]
    frozen: tuple[str, ...]
    still_norms: tuple[str, ...]
    moving_norms: tuple[str, ...]
    still_modules: tuple[str, ...]
    trainable_count: int
    frozen_count: int
    groups: tuple[GroupRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain form for freeze_plan.json."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def rows(self) -> list[dict[str, Any]]:
        """A table by group, front to back: name, parameters, trainable, batch_norms, still_norms."""
        return [asdict(row) for row in self.groups]

    def describe(self) -> str:
        """One line for people."""
        total = self.trainable_count + self.frozen_count
        norms = len(self.still_norms) + len(self.moving_norms)
        keys = ", ".join(f"{k}={v}" for k, v in self.settings.items() if k != "policy")
        return (
            f"{self.trainable_count:,} of {total:,} parameters train (freeze={self.policy}{keys and ', ' + keys}); "
            f"{len(self.still_norms)} of {norms} batch norms stand still"
        )


def classifiers(model: nn.Module) -> list[nn.Module]:
    """The modules that give the logits of a timm model; a few have more than one."""
    heads = model.get_classifier()  # type: ignore[operator]
    found = [head for head in (heads if isinstance(heads, tuple | list) else (heads,)) if isinstance(head, nn.Module)]
    cfg = getattr(model, "pretrained_cfg", None) or {}
    names = cfg.get("classifier") or ()  # VOLO's second one is named there only
    for name in (names,) if isinstance(names, str) else names:
        module = dict(model.named_modules()).get(name)
        if module is not None and not any(module is head for head in found):
            found.append(module)
    return found


def head_parameter_names(model: nn.Module) -> set[str]:
    """Names of the classifier's parameters in a timm model.

    Raises:
        ValueError: the model has no classifier.
    """
    ids = {id(p) for head in classifiers(model) for p in head.parameters()}
    if not ids:
        raise ValueError(f"{type(model).__name__} has no classifier with parameters, so freeze=head trains nothing")
    return {name for name, p in model.named_parameters() if id(p) in ids}


def trains_head_alone(model: nn.Module, plan: FreezePlan) -> bool:
    """Whether something is frozen and nothing but the head trains."""
    return bool(plan.frozen) and set(plan.trainable) <= head_parameter_names(model)


def _train_all(model: nn.Module, image_shape: ImageShape) -> set[str]:
    return {name for name, _ in model.named_parameters()}


def _train_head(model: nn.Module, image_shape: ImageShape) -> set[str]:
    return head_parameter_names(model)


def _train_last_groups(model: nn.Module, image_shape: ImageShape, *, last: Count) -> set[str]:
    head = head_parameter_names(model)
    groups = coarse_groups(model, head)
    if last > len(groups):
        raise ValueError(
            f"freeze.last={last}, but {type(model).__name__} has {len(groups)} groups below its head; "
            "choose fewer, or train everything with freeze=none"
        )
    return head.union(*groups[-last:])


def _train_last_layers(model: nn.Module, image_shape: ImageShape, *, last: Count) -> set[str]:
    head = head_parameter_names(model)
    layers = trace_layers(model, image_shape, head)
    if last > len(layers):
        raise ValueError(
            f"freeze.last={last}, but {type(model).__name__} has {len(layers)} layers below its head; "
            "choose fewer, or train everything with freeze=none"
        )
    return _last_of(model, layers, last) | head


def _train_last_fraction(model: nn.Module, image_shape: ImageShape, *, last: Share) -> set[str]:
    head = head_parameter_names(model)
    layers = [layer for layer in trace_layers(model, image_shape, head) if layer.parameters]
    # Less a little, so that 0.1 of 30 layers is 3 although the product is a bit more.
    return _last_of(model, layers, math.ceil(last * len(layers) - 1e-9)) | head


def _last_of(model: nn.Module, layers: list[Layer], count: int) -> set[str]:
    # What no layer holds (class token, positions) stands at the very front.
    if count == len(layers):
        return {name for name, _ in model.named_parameters()}
    return {name for layer in layers[-count:] for name in layer.parameters}


# A new policy is one function here (model, shape of its input, its own keys by keyword -> names that train, the head
# among them) and one YAML file in conf/freeze/. The annotation of a key says which values it takes.
POLICIES: dict[str, Callable[..., set[str]]] = {
    "none": _train_all,
    "head": _train_head,
    "groups": _train_last_groups,
    "layers": _train_last_layers,
    "fraction": _train_last_fraction,
}


def check_freeze(settings: Mapping[str, Any]) -> None:
    """Refuse a freeze group whose policy, keys or values are unknown, before there is a model.

    Raises:
        ValueError: names every problem at once.
    """
    policy = settings.get("policy")
    if not isinstance(policy, str) or policy not in POLICIES:
        raise ValueError(f"freeze.policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    known = [p.name for p in inspect.signature(POLICIES[policy]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    rules = get_type_hints(POLICIES[policy], include_extras=True)
    takes = f"freeze.policy={policy} takes {' and '.join(known) or 'no further key'}"
    problems = [f"freeze.{key} does nothing: {takes}" for key in settings if key not in {"policy", *known}]
    for key in known:
        rule = rules[key].__metadata__[0]
        if key not in settings:
            problems.append(f"freeze.{key} is missing: {takes}; freeze.{key} is {rule.words}")
        elif not rule.holds(settings[key]):
            problems.append(f"freeze.{key} must be {rule.words} with freeze.policy={policy}, got {settings[key]!r}")
    if problems:
        raise ValueError("\n".join(problems))


def plan_freeze(model: nn.Module, settings: Mapping[str, Any], *, image_shape: ImageShape) -> FreezePlan:
    """Work out what a policy means for this model; nothing is changed.

    Args:
        model: a timm model.
        settings: the freeze group: `policy` and the keys of that policy.
        image_shape: (channels, height, width) of the model's input.

    Raises:
        ValueError: unknown policy, key or value, or more groups or layers than the model has.
    """
    check_freeze(settings)
    keys = {key: value for key, value in settings.items() if key != "policy"}
    trainable = POLICIES[settings["policy"]](model, image_shape, **keys)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    norms = {name: _is_still(model, name, trainable) for name in _batch_norms(model)}
    return FreezePlan(
        policy=settings["policy"],
        settings=dict(settings),
        trainable=tuple(n for n in sizes if n in trainable),
        frozen=tuple(n for n in sizes if n not in trainable),
        still_norms=tuple(n for n, is_still in norms.items() if is_still),
        moving_norms=tuple(n for n, is_still in norms.items() if not is_still),
        still_modules=_frozen_modules(model, sizes, trainable),
        trainable_count=sum(sizes[n] for n in sizes if n in trainable),
        frozen_count=sum(sizes[n] for n in sizes if n not in trainable),
        groups=_group_rows(model, sizes, trainable, norms),
    )


def apply_freeze(model: nn.Module, plan: FreezePlan) -> None:
    """Set `requires_grad` by the plan; parameter groups of an optimizer never change."""
    frozen = set(plan.frozen)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)


def hold_still(model: nn.Module, plan: FreezePlan) -> None:
    """Put frozen batch norms and frozen parts into eval mode; needed after every `train()`.

    requires_grad=False alone leaves running statistics moving, and stochastic depth, which many transformers have by
    default, would make the features of a frozen part another at every step.
    """
    for name in (*plan.still_modules, *plan.still_norms):
        model.get_submodule(name).eval()


def _batch_norms(model: nn.Module) -> list[str]:
    # timm's EvoNorm keeps running statistics without being torch's batch norm.
    return [name for name, m in model.named_modules() if isinstance(m, _BatchNorm) or hasattr(m, "running_var")]


def _frozen_modules(model: nn.Module, sizes: Mapping[str, int], trainable: set[str]) -> tuple[str, ...]:
    frozen = [name for name in sizes if name not in trainable]
    modules = dict(model.named_modules())
    return tuple(path for path in covering_paths(frozen, list(sizes)) if path and path in modules)


def _is_still(model: nn.Module, norm: str, trainable: set[str]) -> bool:
    own = {f"{norm}.{p}" for p, _ in model.get_submodule(norm).named_parameters()}
    if own:
        return not own & trainable
    # A norm without parameters shows no sign of its own: it stands still as soon as anything does.
    return any(name not in trainable for name, _ in model.named_parameters())


def _group_rows(
    model: nn.Module, sizes: Mapping[str, int], trainable: set[str], norms: Mapping[str, bool]
) -> tuple[GroupRow, ...]:
    head = head_parameter_names(model)
    rows = []
    for names in (*coarse_groups(model, head), sorted(head)):
        paths = covering_paths(names, sizes)
        within = [is_still for norm, is_still in norms.items() if f"{norm}.".startswith(tuple(f"{p}." for p in paths))]
        rows.append(
            GroupRow(
                name=", ".join(paths),
                parameters=sum(sizes[n] for n in names),
                trainable=sum(sizes[n] for n in names if n in trainable),
                batch_norms=len(within),
                still_norms=sum(within),
            )
        )
    return tuple(rows)
