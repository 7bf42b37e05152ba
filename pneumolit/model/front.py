"""A model with a frozen front in two parts: images to the front's output, and that output to logits.

The parts are found by running a copy of the model once and noting which module is called when; no architecture is
known here. What comes of it is then proved on that copy: the rear alone gives the logits and the gradients of the
whole, while everything that the front would have handed it by another way is NaN.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pneumolit.model.cut import Cut, NoCutError, find_cut, is_close
from pneumolit.model.freeze import FreezePlan, apply_freeze, hold_still, trains_head_alone
from pneumolit.model.heads import BUILD_ERRORS

_IMAGES = 3  # that the copy is run with; batch norms that train need more than one


@dataclass(frozen=True)
class _Blank:
    """A tensor of NaN that takes no memory, in place of one that nobody may need.

    Attributes:
        shape: without the batch where it begins with that.
        is_per_image: whether it does.
        dtype: of the numbers.
    """

    shape: tuple[int, ...]
    is_per_image: bool
    dtype: torch.dtype

    def fill(self, count: int, device: torch.device) -> Tensor:
        """The tensor for so many images."""
        value = math.nan if self.dtype.is_floating_point else 0
        return torch.full((), value, dtype=self.dtype, device=device).expand(
            *((count,) if self.is_per_image else ()), *self.shape
        )


@dataclass(frozen=True)
class FrontCut:
    """A place in a model that all of an image passes as one tensor, with nothing that trains before it.

    Attributes:
        entrance: path of the module behind it: the first that trains, or one around it.
        shape: of what that module is given for one image.
        image_shape: (channels, height, width) of the model's input.
        skipped: path and result (with blanks for tensors) of every module that runs before it.
        behind: paths of the modules that run behind it.
        share: of the multiply-adds of a forward pass that lie before it.
        keeps_float32: whether its tensor is float32 in bf16 and fp16 training too.
    """

    entrance: str
    shape: tuple[int, ...]
    image_shape: tuple[int, ...]
    skipped: dict[str, Any]
    behind: tuple[str, ...]
    share: float = 0.0
    keeps_float32: bool = False


def cut_for(
    backbone: nn.Module, image_shape: tuple[int, int, int], *, drop_rate: float, plan: FreezePlan | None = None
) -> Cut | FrontCut:
    """Find where what a plan trains begins: the head of a model, or the first module behind a frozen front.

    Args:
        backbone: from `build_backbone`; left as it is.
        image_shape: (channels, height, width) of its input.
        drop_rate: that the model was built with.
        plan: what trains; None for the head.

    Raises:
        NoCutError: the model cannot be taken apart there.
    """
    if plan is None or trains_head_alone(backbone, plan):
        return find_cut(backbone, image_shape, drop_rate=drop_rate, plan=plan)
    return find_front(backbone, image_shape, plan)


def find_front(backbone: nn.Module, image_shape: tuple[int, int, int], plan: FreezePlan) -> FrontCut:
    """Find the end of a model's frozen front and make sure, on a copy, that the rear alone does what the whole does.

    Args:
        backbone: a timm model; left as it is, and so are the random numbers.
        image_shape: (channels, height, width) of its input.
        plan: what trains.

    Raises:
        NoCutError: there is no such place, or the front is random in training.
    """
    probe = copy.deepcopy(backbone).eval()
    apply_freeze(probe, plan)
    with torch.random.fork_rng(devices=[]):
        images = torch.randn(_IMAGES, *image_shape, generator=torch.Generator().manual_seed(0))
        images = images.to(next(probe.parameters()).device)
        with _calls_of(probe) as calls, torch.no_grad():
            probe(images)
        reason = "a parameter that belongs to the model as a whole trains"
        for path in _candidates(probe, plan, calls):
            try:
                cut = _cut_at(probe.eval(), path, images, calls)  # the last one may have been refused in training mode
                _prove(probe, cut, images, plan)
                return cut
            except NoCutError as error:
                reason = str(error)
            except BUILD_ERRORS:  # a blank was looked at too closely, or came to where nobody expects one
                reason = f"{path} needs more than the output of what is before it"
    raise NoCutError(reason)


def front_output(backbone: nn.Module, cut: FrontCut, images: Tensor) -> Tensor:
    """`(B, C, S, S)` normalised images -> output of the front `(B, *cut.shape)`; what lies behind it is not run."""
    return _until(backbone, cut.entrance, images)


class Rear:
    """What lies behind the cut of a model, as a function: output of the front `(B, *cut.shape)` -> logits.

    Modules around the cut are copied without what they hold, so that parameters, buffers and the modules behind it
    are the model's own, and its names, its modes and what is saved of it stay as they are.

    Args:
        backbone: the model; it may train, move and change its modules' kinds afterwards, but not its structure.
        cut: from `find_front`.
    """

    def __init__(self, backbone: nn.Module, cut: FrontCut) -> None:
        self.cut = cut
        self._passage = _Passage()
        self._copies: list[tuple[nn.Module, nn.Module]] = []
        self.module = self._rebuilt(backbone, "")

    def __call__(self, output: Tensor) -> Tensor:
        """Logits `(B, K)`, in the mode that the model is in."""
        for copied, original in self._copies:
            copied.training = original.training
        images = _Blank(self.cut.image_shape, is_per_image=True, dtype=torch.float32)
        self._passage.output = output
        try:
            logits: Tensor = self.module(images.fill(len(output), output.device))
        finally:
            self._passage.output = None
        return logits

    def _rebuilt(self, module: nn.Module, path: str) -> nn.Module:
        if path in self.cut.skipped:
            return _Skipped(module, self._passage, self.cut.skipped[path])
        if path == self.cut.entrance:
            return _Entrance(module, self._passage)
        inner = f"{path}." if path else ""
        if not any(p.startswith(inner) for p in (self.cut.entrance, *self.cut.skipped)):
            return module
        copied = copy.copy(module)
        children = {name: child and self._rebuilt(child, inner + name) for name, child in module._modules.items()}
        copied.__dict__["_modules"] = children
        self._copies.append((copied, module))
        return copied


class _Passage:
    """Where the modules of a rear find what they are called with."""

    output: Tensor | None = None


class _Stand(nn.Module):
    """Stands where a module stood, and has its attributes."""

    def __init__(self, original: nn.Module, passage: _Passage) -> None:
        super().__init__()
        self.original = (original,)  # in a tuple, so that it is no part of this module
        self.passage = passage

    def __getattr__(self, name: str) -> Any:
        if name == "original":  # not yet, while a copy is made
            raise AttributeError(name)
        return getattr(self.original[0], name)


class _Skipped(_Stand):
    def __init__(self, original: nn.Module, passage: _Passage, result: Any) -> None:
        super().__init__(original, passage)
        self.result = result

    def forward(self, *given: Any, **named: Any) -> Any:
        output = self.passage.output
        assert output is not None
        return _mapped(self.result, _Blank, lambda blank: blank.fill(len(output), output.device))


class _Entrance(_Stand):
    def forward(self, first: Any, *given: Any, **named: Any) -> Any:
        return self.original[0](self.passage.output, *given, **named)


@dataclass
class _Calls:
    """When a module was called in one run of a model, counted in calls, and what it gave the first time."""

    starts: list[int]
    end: int = 0
    result: Any = None


@contextmanager
def _calls_of(model: nn.Module) -> Iterator[dict[str, _Calls]]:
    """The calls of every module by path; one that has several paths stands under each."""
    seen: dict[str, _Calls] = {}
    paths: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(id(module), []).append(path)
    count = 0

    def began(module: nn.Module, given: Any) -> None:
        nonlocal count
        count += 1
        for path in paths.get(id(module), ()):  # copies made by a rear share their hooks
            seen.setdefault(path, _Calls([])).starts.append(count)

    def ended(module: nn.Module, given: Any, result: Any) -> None:
        nonlocal count
        count += 1
        for path in paths.get(id(module), ()):  # copies made by a rear share their hooks
            calls = seen[path]
            calls.end = count
            if len(calls.starts) == 1:
                calls.result = _mapped(result, Tensor, _blank)

    modules = {id(module): module for module in model.modules()}.values()
    handles = [
        handle for m in modules for handle in (m.register_forward_pre_hook(began), m.register_forward_hook(ended))
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _candidates(probe: nn.Module, plan: FreezePlan, calls: dict[str, _Calls]) -> Iterator[str]:
    """The first module that trains, and those around it from the inside out."""
    owners = {name.rpartition(".")[0] for name in plan.trainable} | set(plan.moving_norms)
    called = [next(path for path in (*_upward(owner), "") if path in calls) for owner in sorted(owners)]
    first = min(called, key=lambda path: calls[path].starts[0])
    return (path for path in _upward(first) if path in calls)


def _upward(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition(".")[0]


def _cut_at(probe: nn.Module, entrance: str, images: Tensor, calls: dict[str, _Calls]) -> FrontCut:
    if len(calls[entrance].starts) != 1:
        raise NoCutError(f"{entrance} is called {len(calls[entrance].starts)} times")
    with torch.no_grad():
        output = _until(probe, entrance, images)
        with torch.autocast(images.device.type, torch.bfloat16):
            keeps_float32 = _until(probe, entrance, images).dtype == torch.float32
    skipped: dict[str, Any] = {}
    behind: list[str] = []

    def sort(module: nn.Module, inside: str) -> None:
        for name, child in module._modules.items():
            path = inside + name
            if child is None or path == entrance:
                continue
            is_around = entrance.startswith(f"{path}.")
            if not is_around and path in calls:
                if calls[path].end < calls[entrance].starts[0]:
                    skipped[path] = calls[path].result
                else:
                    behind.append(path)
            else:  # lists of modules are not called themselves
                sort(child, f"{path}.")

    sort(probe, "")
    if not any(True for path in skipped for _ in probe.get_submodule(path).parameters()):
        raise NoCutError(f"nothing that is frozen lies before {entrance}")
    cut = FrontCut(
        entrance=entrance,
        shape=tuple(output.shape[1:]),
        image_shape=tuple(images.shape[1:]),
        skipped=skipped,
        behind=(entrance, *behind),
        keeps_float32=keeps_float32,
    )
    with torch.no_grad(), FlopCounterMode(display=False) as whole:
        probe(images)
    with torch.no_grad(), FlopCounterMode(display=False) as rear:
        Rear(probe, cut)(output)
    return replace(cut, share=1 - rear.get_total_flops() / whole.get_total_flops())


def _prove(probe: nn.Module, cut: FrontCut, images: Tensor, plan: FreezePlan) -> None:
    """Make sure that the rear does what the model does, in both modes and backward, and runs nothing of the front."""
    rear = Rear(probe, cut)
    failed = NoCutError(f"{cut.entrance} needs more than the output of what is before it")
    with torch.no_grad():
        output = _until(probe, cut.entrance, images)
    trained = [p for p in probe.parameters() if p.requires_grad]
    expected = probe(images)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).to(expected.device)
    with _calls_of(probe) as calls:
        found = rear(output)
    if any(f"{path}.".startswith(tuple(f"{p}." for p in cut.skipped)) for path in calls):
        raise NoCutError(f"what lies before {cut.entrance} is run again behind it")
    if not is_close(found, expected) or not is_close(rear(output[:2]), expected[:2]):
        raise failed
    pairs = zip(
        *(torch.autograd.grad((out * weights).sum(), trained, allow_unused=True) for out in (found, expected)),
        strict=True,
    )
    if not all(is_close(own, whole) if own is not None and whole is not None else own is whole for own, whole in pairs):
        raise NoCutError(f"what trains is not all behind the input of {cut.entrance}")
    probe.train()
    hold_still(probe, plan)
    with torch.no_grad():
        if not is_close(_until(probe, cut.entrance, images), output):
            raise NoCutError("its frozen part is random in training")
        torch.manual_seed(0)
        expected = probe(images)
        torch.manual_seed(0)
        found = rear(output)
    probe.eval()
    if not is_close(found, expected):
        raise failed


class _ReachedError(Exception):
    """A module was about to be called."""


def _until(model: nn.Module, path: str, images: Tensor) -> Tensor:
    """Run a model up to a module, and no further: what that would be given."""
    found: list[Any] = []

    def stop(module: nn.Module, given: tuple[Any, ...]) -> None:
        found.extend(given[:1])
        raise _ReachedError

    handle = model.get_submodule(path).register_forward_pre_hook(stop)
    try:
        model(images)
    except _ReachedError:
        pass
    finally:
        handle.remove()
    if not found or not isinstance(found[0], Tensor) or len(found[0]) != len(images):
        raise NoCutError(f"{path} is not given one tensor with a part for each image")
    output: Tensor = found[0]
    return output


def _blank(tensor: Tensor) -> _Blank:
    is_per_image = tensor.ndim > 0 and len(tensor) == _IMAGES
    return _Blank(tuple(tensor.shape[is_per_image:]), is_per_image, tensor.dtype)


def _mapped(content: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """The same lists, tuples and dictionaries with every value of a kind changed."""
    if isinstance(content, kind):
        return change(content)
    if isinstance(content, dict):
        return {key: _mapped(value, kind, change) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)([_mapped(value, kind, change) for value in content])
    return content
