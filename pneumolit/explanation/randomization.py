"""Do heat maps change when the model forgets what it has learned?

A method whose maps stay the same when the weights are drawn anew shows edges of the film or the shape of the network,
not reasons of this model. Weights are replaced from the head down (cascading) by those of the same network as it is
before any training, and the heat maps of the same images are compared by rank.

Source:
    Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018 (cascading randomisation, rank correlation).
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import nn

from pneumolit.explanation.methods import Advance, heat_of
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.layers import timm_groups

NUM_DRAWS = 3  # of random weights: the maps of a single draw can be empty, or look like anything by chance
_MOST_STEPS = 5  # of the cascade, before the one in which all weights are random
_GRID = 32  # correlations are taken between means over so many by so many squares


def check_randomization(
    model: PneumoniaClassifier,
    images: np.ndarray,
    sides: np.ndarray,
    heat: np.ndarray,
    method: str,
    *,
    seed: int,
    advance: Advance | None = None,
) -> tuple[dict[str, Any], np.ndarray]:
    """Compare heat maps before and after weights are drawn anew.

    Args:
        model: trained; left as it was.
        images: `(N, H, W)` uint8.
        sides: `(N,)`, what is explained of each.
        heat: `(N, H, W)`, the trained model's heat maps of them.
        method: that made them.
        seed: of the weights.
        advance: told of every image, `num_maps` times as many as there are.

    Returns:
        Plain values for checks.json, and `(NUM_DRAWS, N, H, W)` heat of the models whose weights are all random.
        `cascade` has one entry per step: share of the parameters that are random, median and quartiles of the
        correlations. `median` is over images, of each image's mean over draws. An image whose heat is all zero before
        or after has no correlation; `num_images` counts those that have one in some draw, and `num_empty_after` the
        maps without heat among the `num_maps` of random weights.
    """
    num_groups = len(timm_groups(model.backbone, is_coarse=True))
    total = sum(p.numel() for p in model.backbone.parameters())
    steps, correlations = [], []
    draws = np.empty((NUM_DRAWS, *heat.shape), dtype=np.float32)
    for draw in range(NUM_DRAWS):
        start = untrained(model, seed=seed + draw)
        if draw == 0:
            for groups, names in cascade(model.backbone):
                mixed = replaced(model, start, names)
                found = correlate(heat, heat_of(mixed, images, sides, method, advance))
                share = sum(p.numel() for n, p in model.backbone.named_parameters() if n in names) / total
                steps.append({"groups": groups, **_step(share, found)})
        draws[draw] = heat_of(start, images, sides, method, advance)
        correlations.append(correlate(heat, draws[draw]))
    by_draw = np.stack(correlations)  # (draws, N)
    known = np.isfinite(by_draw)
    has_any = known.any(0)
    means = np.where(known, by_draw, 0.0).sum(0)[has_any] / known.sum(0)[has_any]
    result = {
        **_step(1.0, means),
        "num_images": int(has_any.sum()),
        "num_draws": NUM_DRAWS,
        "num_maps": NUM_DRAWS * len(images),
        "num_empty_before": int((heat.max((1, 2)) <= 0).sum()),
        "num_empty_after": int((draws.max((2, 3)) <= 0).sum()),
        "num_groups": num_groups,
        "cascade": [*steps, {"groups": num_groups, **_step(1.0, by_draw[0])}],
    }
    return result, draws


def num_maps(backbone: nn.Module) -> int:
    """How many heat maps the check makes of every image."""
    return len(cascade(backbone)) + NUM_DRAWS


def untrained(model: PneumoniaClassifier, *, seed: int) -> PneumoniaClassifier:
    """The same network with random weights, as before any training, in eval mode on the same device."""
    # Not the seed itself: a run of the same seed began with just these weights, and its maps would resemble them.
    drawn = int(np.random.default_rng([seed, 5]).integers(2**62))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(drawn)
        fresh = PneumoniaClassifier(model.settings)
    if model.is_channels_last:
        fresh.use_channels_last()
    return fresh.to(model.device).eval()


def replaced(model: PneumoniaClassifier, start: PneumoniaClassifier, names: set[str]) -> PneumoniaClassifier:
    """A copy of a model in which these parameters, and the buffers beside them, are those of another."""
    mixed = copy.deepcopy(model)
    modules = {name.rpartition(".")[0] for name in names}
    parameters = dict(model.backbone.named_parameters())
    other = start.backbone.state_dict()
    for name, value in mixed.backbone.state_dict().items():
        is_buffer_beside = name not in parameters and name.rpartition(".")[0] in modules
        if name in names or is_buffer_beside:
            value.copy_(other[name])
    return mixed.eval()  # which also has attention layers forget the tables that they have made of earlier weights


def cascade(backbone: nn.Module) -> list[tuple[int, set[str]]]:
    """What is random in each step, from the head alone to all but the first group of layers.

    The groups are timm's own, in the order of depth.

    Returns:
        How many groups, counted from the head, and the names of their parameters.
    """
    groups = timm_groups(backbone, is_coarse=True)
    counts = np.linspace(1, len(groups) - 1, min(_MOST_STEPS, len(groups) - 1)).round().astype(int)
    return [(int(count), set().union(*groups[-count:])) for count in np.unique(counts)]


def correlate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman correlation of the heat maps of the same images, NaN where one of them is the same everywhere.

    Args:
        first: `(N, H, W)`.
        second: `(N, H, W)`.

    Returns:
        `(N,)` float64 in [-1, 1].
    """
    ranks = [_ranks(values) for values in (first, second)]
    above = (ranks[0] * ranks[1]).sum(1)
    below = np.sqrt((ranks[0] ** 2).sum(1) * (ranks[1] ** 2).sum(1))
    return np.asarray(np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0))


def _ranks(heat: np.ndarray) -> np.ndarray:
    """`(N, G * G)` ranks less their mean."""
    pooled = nn.functional.adaptive_avg_pool2d(torch.from_numpy(heat).unsqueeze(1), min(_GRID, *heat.shape[1:]))
    ranks = rankdata(pooled.flatten(1).numpy(), axis=1)
    centred: np.ndarray = ranks - ranks.mean(1, keepdims=True)
    return centred


def _step(share: float, correlations: np.ndarray) -> dict[str, Any]:
    known = correlations[np.isfinite(correlations)]
    quartiles = [float(q) for q in np.quantile(known, [0.25, 0.75])] if len(known) else None
    median = float(np.median(known)) if len(known) else None
    return {"share_random": share, "median": median, "quartiles": quartiles, "num_known": len(known)}
