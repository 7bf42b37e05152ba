"""The backbone of a timm model from front to back: its groups, and its layers in the order in which they run."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

# Names of the calls that Keras has a layer for (Add, Multiply, Concatenate); `x + y` and `x += y` come as add and add_.
_JOINS = frozenset({"add", "mul", "multiply", "cat", "concat", "concatenate"})


@dataclass(frozen=True)
class Layer:
    """One call of a layer.

    Attributes:
        name: path of the module, or of the module around an operation.
        kind: class of the module, or name of the operation.
        parameters: names of the parameters that it holds itself.
    """

    name: str
    kind: str
    parameters: tuple[str, ...]


_LAYERS = (nn.Linear, _ConvNd)


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalisation layer; timm has a dozen classes without a common base."""
    return "norm" in type(module).__name__.lower()


def timm_groups(model: nn.Module, *, is_coarse: bool) -> list[list[str]]:
    """Parameter names in timm's own groups from front to back, the head's last; every parameter is in one.

    A model without usable groups gives its top-level children in order; what hangs on the root comes first.
    """
    from timm.models import group_parameters

    names = [name for name, _ in model.named_parameters()]
    try:
        by_depth = group_parameters(model, model.group_matcher(coarse=is_coarse))  # type: ignore[operator]
    except (AttributeError, AssertionError, NotImplementedError):  # no matcher, or none of this grain
        by_depth = {}
    if sorted(chain.from_iterable(by_depth.values())) == sorted(names):
        return [by_depth[depth] for depth in sorted(by_depth)]
    children: dict[str, list[str]] = {}
    for name in names:
        children.setdefault(_child(model, name), []).append(name)
    return list(children.values())


def _child(model: nn.Module, name: str) -> str:
    """The top-level child that a parameter lies in, or its item where that child is a list of blocks or stages."""
    first, _, rest = name.partition(".")
    if not rest:
        return ""
    is_list = isinstance(model.get_submodule(first), nn.ModuleList | nn.Sequential)
    return f"{first}.{rest.partition('.')[0]}" if is_list else first


def coarse_groups(model: nn.Module, head: Collection[str]) -> list[list[str]]:
    """timm's coarse groups below the head, from front to back.

    A norm that timm puts into a group of its own or beside the head belongs to the layers that it follows (VGG's
    batch norms, DenseNet's norm5); other layers beside the head (the two wide ones of VGG) are a group of their own.
    Tables that hold no layer and act in every block (shared rotary or relative positions) belong to the front.
    """
    groups: list[list[str]] = []
    for names in timm_groups(model, is_coarse=True):
        rest = [name for name in names if name not in head]
        is_norm_only = all(is_norm(model.get_submodule(name.rpartition(".")[0])) for name in rest)
        is_shared = not any(isinstance(model.get_submodule(n.rpartition(".")[0]), _LAYERS) for n in rest)
        if groups and rest and is_norm_only:
            groups[-1] += rest
        elif groups and rest and is_shared:
            groups[0] += rest
        elif rest:
            groups.append(rest)
    return groups


def head_distances(model: nn.Module, head: Collection[str]) -> dict[str, int]:
    """How many of timm's fine groups each parameter lies below the head (0 is the head).

    All groups count, whatever is frozen, so a distance is a property of the model alone.
    """
    groups = timm_groups(model, is_coarse=False)
    top = len(groups) - 1
    return {name: 0 if name in head else max(top - i, 1) for i, names in enumerate(groups) for name in names}


def covering_paths(names: Collection[str], all_names: Collection[str]) -> list[str]:
    """The fewest module paths that hold these parameters and no others, in order."""
    wanted, paths = set(names), []
    strangers = {path for name in all_names if name not in wanted for path in _paths(name)}
    for name in all_names:
        if name in wanted:
            path = next((p for p in _paths(name) if p not in strangers), name)
            if path not in paths:
                paths.append(path)
    return paths


def trace_layers(model: nn.Module, image_shape: tuple[int, int, int], head: Collection[str]) -> list[Layer]:
    """The layers of the backbone in the order in which one forward pass calls them, as Keras counts them.

    A module without children counts once per call, identities never. A module with children and parameters of its
    own counts as well, after its children; a norm that holds its activation counts before it. Adding, multiplying
    and joining two tensors that come from the image counts. Behind `forward_features` (pooling, dropout) only what
    holds parameters counts, and the head never.

    Args:
        model: a timm model; nothing about it is changed.
        image_shape: (channels, height, width) of its input.
        head: names of the head's parameters.

    Returns:
        Layers front to back. Parameters of a module that is read without being called are those of the nearest
        module around it; parameters on the root, such as a class token, are in no layer.
    """
    recorder = _Recorder(model)
    parameter = next(model.parameters())
    # Functions keep the subclass, so an operand that comes from weights alone (a gain, a position) is told apart.
    image = torch.zeros(1, *image_shape, device=parameter.device, dtype=parameter.dtype).as_subclass(_FromImage)
    with evaluating(model), recorder.attached(), torch.no_grad(), recorder:
        features = model.forward_features(image)  # type: ignore[operator]
        recorder.is_behind_features = True
        model.forward_head(features)  # type: ignore[operator]
    held = _held_parameters(model, {e.name for e in recorder.events if e.is_module}, head)
    layers = []
    for event in recorder.events:
        own = held.get(event.name, ()) if event.is_module else ()
        is_plain = not event.is_container and not event.is_behind_features and event.kind != "Identity"
        if own or is_plain:
            layers.append(Layer(event.name, event.kind, own))
    return layers


class _FromImage(Tensor):
    """A tensor computed from the image."""


@dataclass(frozen=True)
class _Event:
    name: str
    kind: str
    is_module: bool
    is_container: bool
    is_behind_features: bool


class _Recorder(TorchFunctionMode):
    """Notes calls of modules and joining operations outside of layers while it is entered."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.events: list[_Event] = []
        self.is_behind_features = False
        self._open: list[tuple[str, bool]] = []  # modules being called: name, whether it is one layer inside

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks on every module, taken off at the end."""
        handles = []
        for name, module in self.model.named_modules():
            handles += [
                module.register_forward_pre_hook(lambda m, _, name=name: self._enter(name, m)),
                module.register_forward_hook(lambda m, *_, name=name: self._leave(name, m)),
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = getattr(func, "__name__", "").strip("_")
        if kind in _JOINS and not any(is_layer for _, is_layer in self._open[-1:]):
            given = (*args, *(kwargs or {}).values())
            operands = chain.from_iterable(value if isinstance(value, list | tuple) else (value,) for value in given)
            if sum(isinstance(operand, _FromImage) for operand in operands) >= 2:
                self._note(self._open[-1][0] if self._open else "", kind, is_module=False)
        return func(*args, **(kwargs or {}))

    def _enter(self, name: str, module: nn.Module) -> None:
        is_leaf = next(module.children(), None) is None
        self._open.append((name, is_leaf or is_norm(module)))
        if is_norm(module) and not is_leaf:
            self._note(name, type(module).__name__, is_container=True)

    def _leave(self, name: str, module: nn.Module) -> None:
        self._open.pop()
        is_leaf = next(module.children(), None) is None
        if is_leaf or not is_norm(module):
            self._note(name, type(module).__name__, is_container=not is_leaf)

    def _note(self, name: str, kind: str, *, is_module: bool = True, is_container: bool = False) -> None:
        self.events.append(_Event(name, kind, is_module, is_container, self.is_behind_features))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode, then the mode that each module was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _held_parameters(model: nn.Module, called: set[str], head: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Names of the parameters by the called module that holds them; those of the head and of the root are left out."""
    names = {id(p): name for name, p in model.named_parameters()}
    held: dict[str, tuple[str, ...]] = {}
    for path, module in model.named_modules():
        own = tuple(names[id(p)] for p in module.parameters(recurse=False) if names[id(p)] not in head)
        while path and path not in called:
            path = path.rpartition(".")[0]
        if own and path:
            held[path] = held.get(path, ()) + own
    return held


def _paths(name: str) -> list[str]:
    """The modules around a parameter, outermost first."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]
