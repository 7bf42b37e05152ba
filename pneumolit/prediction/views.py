"""Test-time augmentation: a few fixed views of an image, whose logits are averaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor

_ZOOM = 0.92  # share of the side that a crop keeps; training's crops keep a comparable part


def _none(pixels: Tensor) -> Sequence[Tensor]:
    return (pixels,)


def _flip(pixels: Tensor) -> Sequence[Tensor]:
    return (pixels, pixels.flip(-1))


def _crops(pixels: Tensor) -> Sequence[Tensor]:
    """The image, and its middle and corners enlarged to the whole."""
    side = pixels.shape[-1]
    part = round(_ZOOM * side)
    rest = side - part
    corners = ((rest // 2, rest // 2), (0, 0), (0, rest), (rest, 0), (rest, rest))
    cut = [pixels[..., top : top + part, left : left + part] for top, left in corners]
    return (pixels, *(F.interpolate(c, (side, side), mode="bilinear", align_corners=False) for c in cut))


def _all(pixels: Tensor) -> Sequence[Tensor]:
    views = _crops(pixels)
    return (*views, *(view.flip(-1) for view in views))


VIEWS: Mapping[str, Callable[[Tensor], Sequence[Tensor]]] = {
    "none": _none,
    "flip": _flip,
    "crops": _crops,
    "all": _all,
}
"""Name -> from `(B, 1, S, S)` float to a list of such: `flip` is 2 views, `crops` 6, `all` 12."""
