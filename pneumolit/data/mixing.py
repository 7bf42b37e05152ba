"""Mixing the images of a batch in pairs: mixup (everywhere a little) and CutMix (a box of the other image)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pneumolit.data.sending import send

_STREAM = 0x6D69  # keeps these draws apart from others of the same seed, epoch and batch


@dataclass(frozen=True)
class Mix:
    """How a batch is mixed: every image with the one that `order` names.

    The loss is `share * L(targets) + (1 - share) * L(targets[order])`.

    Attributes:
        share: of an image's own pixels in the result, 0 to 1.
        order: `(B,)` int64, partner of each image, a permutation (of a whole batch; a part has a part of it).
        box: (top, left, height, width) of what CutMix takes from the partner, in fractions of the side; None mixes
            all pixels.
    """

    share: float
    order: Tensor
    box: tuple[float, float, float, float] | None = None


def draw_mix(count: int, *, mixup_alpha: float, cutmix_alpha: float, seed: int, epoch: int, batch: int) -> Mix | None:
    """The mix of a batch, from (seed, epoch, batch) alone; with both alphas above 0 a coin chooses one of the two.

    Args:
        count: images B in the batch.
        mixup_alpha: the share comes from Beta(alpha, alpha); 0 is no mixup.
        cutmix_alpha: the same for CutMix, before the box is cut off at the border.
        seed: the run's seed, 0 or more.
        epoch: counts from 0.
        batch: place of the batch in the epoch.

    Returns:
        None where both alphas are 0.

    Source:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018; Yun et al., CutMix, ICCV 2019.
    """
    if mixup_alpha <= 0 and cutmix_alpha <= 0:
        return None
    rng = np.random.default_rng([seed, epoch, batch, _STREAM])
    is_cutmix = cutmix_alpha > 0 and (mixup_alpha <= 0 or rng.random() < 0.5)
    alpha = cutmix_alpha if is_cutmix else mixup_alpha
    share, order = float(rng.beta(alpha, alpha)), torch.from_numpy(rng.permutation(count))
    if not is_cutmix:
        return Mix(share, order)
    box = _clipped_box(math.sqrt(1 - share), *rng.random(2))
    return Mix(1 - box[2] * box[3], order, box)


@torch.no_grad()
def apply_mix(images: Tensor, mix: Mix, pool: Tensor | None = None) -> Tensor:
    """Mix `(B, 1, S, S)` float images; they are left as they are.

    `pool` holds the images that the mix's order names, where they are not these themselves but a batch that these are a
    part of.

    A box ends anywhere within a pixel, and a pixel that it covers in part is mixed in part: so the share is exact
    at every image size.
    """
    partners = (images if pool is None else pool)[send(mix.order, images.device)]
    if mix.box is None:
        return images.mul(mix.share).add_(partners, alpha=1 - mix.share)
    top, left, height, width = mix.box
    rows = _coverage(top, height, images.shape[-2]).to(images.dtype)
    columns = _coverage(left, width, images.shape[-1]).to(images.dtype)
    return images.lerp(partners, send(rows[:, None] * columns, images.device))


def _clipped_box(side: float, y: float, x: float) -> tuple[float, float, float, float]:
    """(top, left, height, width) of the part inside the image of a square around (y, x), all in fractions."""
    (top, bottom), (left, right) = ((max(c - side / 2, 0.0), min(c + side / 2, 1.0)) for c in (y, x))
    return top, left, bottom - top, right - left


def _coverage(start: float, length: float, size: int) -> Tensor:
    """`(size,)` float64: how much of each pixel lies between `start` and `start + length` (fractions of the side)."""
    edges = torch.arange(size + 1, dtype=torch.float64).clamp(start * size, (start + length) * size)
    return edges.diff()
