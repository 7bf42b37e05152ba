"""Where does the heat lie: in the lungs, or where no lung is?

The share of the heat in a region is divided by the share of the image that the region is, so that heat spread evenly
gives 1, and by what the same network gives before any training, whose heat comes from the shape of the network alone.
Heat at the border or in the corners points to markers, collimation and padding.

Source:
    Zech et al., PLoS Medicine 15, 2018 (a model that reads the corners of the film); Saporta et al., Nature Machine
    Intelligence 4, 2022 (heat against regions that radiologists have drawn).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pneumolit.explanation.resample import ratio_interval

BORDER = 0.1  # width of the border, as a share of the side
CORNER = 0.2  # side of a corner's square, likewise


def check_places(
    heat: np.ndarray, random_heat: np.ndarray, lungs: np.ndarray, patient_ids: np.ndarray, *, seed: int
) -> dict[str, Any]:
    """Share of the heat in the lungs, at the border and in the corners.

    Args:
        heat: `(N, H, W)` of the trained model.
        random_heat: `(D, N, H, W)` of the same images by D models whose weights are random; D may be 0.
        lungs: `(N, H, W)` or `(1, H, W)` bool.
        patient_ids: `(N,)` who was imaged.
        seed: of the intervals.

    Returns:
        Plain values for checks.json: for each region its share of the image (`area`), of the heat (`share`), `ratio` of
        the two with interval, `ratio_random` of the random models, and `against_random`, how many times as large the
        trained share is, with interval. Images without heat are left out (`num_without_heat`).
    """
    lit = heat.max((1, 2)) > 0
    result: dict[str, Any] = {"num_images": int(lit.sum()), "num_without_heat": int((~lit).sum())}
    if not lit.any():
        return {**result, "regions": {}}
    size = heat.shape[1]
    masks = {"lungs": lungs if len(lungs) == 1 else lungs[lit], "border": _border(size), "corners": _corners(size)}
    regions = {}
    for name, mask in masks.items():
        shares = _shares(heat[lit], mask)
        areas = np.broadcast_to(mask.mean((1, 2)), shares.shape)
        random = np.stack([_shares(one, mask) for one in random_heat[:, lit]]) if len(random_heat) else None
        regions[name] = _region(shares, areas, random, patient_ids[lit], seed)
    return {**result, "regions": regions}


def _region(
    shares: np.ndarray, areas: np.ndarray, random: np.ndarray | None, patient_ids: np.ndarray, seed: int
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "area": float(areas.mean()),
        "share": float(shares.mean()),
        "ratio": float(shares.sum() / areas.sum()),
        "interval": ratio_interval(shares, areas, patient_ids, seed=seed),
        "ratio_random": None,
        "against_random": None,
        "against_random_interval": None,
    }
    if random is None:
        return found
    known = np.isfinite(random)  # (D, N)
    both = known.any(0)
    means = np.where(known, random, 0.0).sum(0)[both] / known.sum(0)[both]
    if means.sum() > 0:
        found["ratio_random"] = float(means.sum() / areas[both].sum())
        found["against_random"] = float(shares[both].sum() / means.sum())
        found["against_random_interval"] = ratio_interval(shares[both], means, patient_ids[both], seed=seed)
    return found


def _shares(heat: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`(N,)` share of each image's heat inside a mask, NaN where there is no heat."""
    total = heat.sum((1, 2), dtype=np.float64)
    inside = np.where(mask, heat, 0.0).sum((1, 2), dtype=np.float64)
    return np.asarray(np.divide(inside, total, out=np.full(len(heat), np.nan), where=total > 0))


def _border(size: int) -> np.ndarray:
    """`(1, size, size)` bool."""
    width = max(round(BORDER * size), 1)
    mask = np.ones((1, size, size), dtype=bool)
    mask[:, width:-width, width:-width] = False
    return mask


def _corners(size: int) -> np.ndarray:
    """`(1, size, size)` bool."""
    side = max(round(CORNER * size), 1)
    end = np.zeros(size, dtype=bool)
    end[:side] = end[-side:] = True
    return (end[:, None] & end)[None]
