"""Where the head of a model begins: a model in two halves, images to features and features to logits."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pneumolit.model.freeze import FreezePlan, classifiers, hold_still

_TOLERANCE = 1e-4  # of the largest value; the halves do what the whole does, but not in the same memory order


class NoCutError(ValueError):
    """A model cannot be taken apart before its head."""


@dataclass(frozen=True)
class Cut:
    """A place in a model that all of an image passes through, just before the head.

    Attributes:
        classifier: path of the module behind it.
        shape: of the features of one image, as that module takes them.
        drop_rate: dropout between the features and the module.
    """

    classifier: str
    shape: tuple[int, ...]
    drop_rate: float

    @property
    def behind(self) -> tuple[str, ...]:
        """Paths of the modules behind it."""
        return (self.classifier,)


def find_cut(
    backbone: nn.Module, image_shape: tuple[int, int, int], *, drop_rate: float, plan: FreezePlan | None = None
) -> Cut:
    """Find the cut of a model and make sure, on a copy, that the halves do what the whole does.

    Args:
        backbone: from `build_backbone`; left as it is.
        image_shape: (channels, height, width) of its input.
        drop_rate: that the model was built with.
        plan: what trains. With it the model in training mode is looked at too: what lies before the cut must not
            draw random numbers there.

    Raises:
        NoCutError: the model has several classifiers or calls its one in another way, or is random before it.
    """
    heads = classifiers(backbone)
    if len(heads) != 1:
        raise NoCutError(f"it has {len(heads)} classifiers")
    path = next(name for name, module in backbone.named_modules() if module is heads[0])
    probe = copy.deepcopy(backbone)
    images = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0))
    images = images.to(next(probe.parameters()).device)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        logits, features = _look(probe.eval(), path, images)
        cut = Cut(path, tuple(features.shape[1:]), drop_rate)
        if not is_close(head_logits(probe, cut, features), logits):
            raise NoCutError("its logits are not those of its classifier alone")
        if plan is None:
            return cut
        probe.train()
        hold_still(probe, plan)
        torch.manual_seed(0)
        _, seen = _look(probe, path, images)
        for rate in dict.fromkeys((drop_rate, 0.0)):  # a head of ours has its dropout inside
            torch.manual_seed(0)
            if is_close(nn.functional.dropout(features, rate), seen):
                return Cut(path, cut.shape, rate)
    raise NoCutError("what its head sees of an image is random in training")


def features_of(backbone: nn.Module, cut: Cut, images: Tensor) -> Tensor:
    """`(B, C, S, S)` normalised images -> features `(B, *cut.shape)`; for a model in eval mode."""
    return _look(backbone, cut.classifier, images)[1]


def head_logits(backbone: nn.Module, cut: Cut, features: Tensor) -> Tensor:
    """Features `(B, *cut.shape)` -> logits `(B, K)`, with the head's dropout where the model is in training mode."""
    features = nn.functional.dropout(features, cut.drop_rate, training=backbone.training)
    logits: Tensor = backbone.get_submodule(cut.classifier)(features)
    return logits.flatten(1)


def _look(model: nn.Module, path: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """What a model says, and what its classifier was given."""
    seen: list[Tensor] = []
    handle = model.get_submodule(path).register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    try:
        logits = model(images)
    finally:
        handle.remove()
    if len(seen) != 1 or not isinstance(logits, Tensor) or len(seen[0]) != len(images):
        raise NoCutError(f"its classifier is called {len(seen)} times, or not with one row for each image")
    return logits, seen[0]


def is_close(found: Tensor, expected: Tensor) -> bool:
    """Whether two ways through a model come to the same, up to the order of memory."""
    scale = float(expected.detach().abs().max())
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=0, atol=_TOLERANCE * scale)
