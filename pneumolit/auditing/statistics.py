"""Crude statistics of films: what can be told of them without knowing what a lung is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pneumolit.auditing.counts import split_order
from pneumolit.auditing.files import FileFacts
from pneumolit.data.sharpness import sharpness
from pneumolit.data.table import RecordTable

FEATURES: Mapping[str, str] = {
    "mean": "mean gray level",
    "spread": "standard deviation of the gray levels",
    "dark": "5th percentile",
    "middle": "median",
    "bright": "95th percentile",
    "border": "mean of the outer tenth on every side",
    "center": "mean of the middle half over that of the rest",
    "upper": "mean of the upper half over that of the lower",
    "asymmetry": "mean difference between the left half and the mirrored right half, over the spread",
    "entropy": "of 64 gray levels, in bits",
    "sharpness": "standard deviation of the Laplacian over that of the image",
    "black": "share of pixels below level 10",
    "width": "pixels of the file",
    "height": "pixels of the file",
    "aspect": "width over height",
    "bytes": "bytes per pixel of the file: how far it could be compressed",
}
"""What `crude_features` measures, in this order: of the stored square image, then of the file."""

_CHUNK = 64  # images at a time
_BLACK = 10  # gray level
_LEVELS = 64
_QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


def crude_features(images: np.ndarray, files: Sequence[FileFacts]) -> np.ndarray:
    """Measure `FEATURES` of every image.

    Args:
        images: `(N, S, S)` uint8, such as a store's.
        files: N of them.

    Returns:
        `(N, F)` float64.
    """
    rows = np.arange(len(images))
    parts = [_of_pixels(np.asarray(images[rows[i : i + _CHUNK]])) for i in range(0, len(rows), _CHUNK)]
    pixels = np.concatenate(parts) if parts else np.zeros((0, 11))
    size = np.array([(f.width, f.height, f.num_bytes) for f in files], dtype=np.float64).reshape(len(files), 3)
    width, height, num_bytes = size.T
    of_file = np.stack(
        [width, height, width / np.maximum(height, 1), num_bytes / np.maximum(width * height, 1)], axis=1
    )
    found = np.concatenate([pixels[:, :10], sharpness(images, rows)[:, None], pixels[:, 10:], of_file], axis=1)
    assert found.shape == (len(images), len(FEATURES))
    return found


def describe_by_group(records: RecordTable, values: Mapping[str, np.ndarray], rows: np.ndarray) -> list[dict[str, Any]]:
    """Smallest, quartiles and largest of some numbers, for every class of every split.

    Args:
        records: of all images.
        values: name -> `(N,)` numbers.
        rows: which images count.
    """
    kinds = records.kinds("split", "label")
    described = []
    for code in sorted(range(len(kinds.values)), key=lambda c: (split_order(kinds.values[c][0]), kinds.values[c])):
        split, label = kinds.values[code]
        chosen = rows[kinds.codes[rows] == code]
        if len(chosen):
            found = {name: np.quantile(v[chosen], _QUARTILES).tolist() for name, v in values.items()}
            described.append({"split": split, "class": label, "images": len(chosen), **found})
    return described


def _of_pixels(films: np.ndarray) -> np.ndarray:
    """The features of pixels without sharpness, `(n, 11)`."""
    count, side = films.shape[0], films.shape[1]
    histogram = _histogram(films)
    shares, levels = histogram / (side * side), np.arange(256)
    mean = shares @ levels
    spread = np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0))
    dark, middle, bright = (_quantile(shares, q) for q in (0.05, 0.5, 0.95))
    values = films.astype(np.float32)
    edge, quarter, half = max(1, side // 10), side // 4, side // 2
    whole = mean * side * side
    inner = values[:, edge : side - edge, edge : side - edge]
    border = (whole - inner.sum(axis=(1, 2))) / max(1, side * side - inner[0].size)
    core = values[:, quarter : side - quarter, quarter : side - quarter]
    rest = (whole - core.sum(axis=(1, 2))) / max(1, side * side - core[0].size)
    upper, lower = values[:, :half].mean(axis=(1, 2)), values[:, side - half :].mean(axis=(1, 2))
    apart = np.abs(values[:, :, :half] - values[:, :, ::-1][:, :, :half]).mean(axis=(1, 2))
    found = [
        mean,
        spread,
        dark,
        middle,
        bright,
        border,
        core.mean(axis=(1, 2)) / (rest + 1),  # a level more, so that black films divide by something
        upper / (lower + 1),
        apart / (spread + 1),
        _entropy(shares.reshape(count, _LEVELS, -1).sum(axis=2)),
        shares[:, :_BLACK].sum(axis=1),
    ]
    return np.stack(found, axis=1).astype(np.float64)


def _histogram(films: np.ndarray) -> np.ndarray:
    """Pixels by gray level, `(n, 256)`."""
    return np.stack([np.bincount(film.ravel(), minlength=256) for film in films])


def _quantile(shares: np.ndarray, q: float) -> np.ndarray:
    """The lowest level that this share of the pixels does not exceed."""
    return np.asarray((np.cumsum(shares, axis=1) >= q - 1e-9).argmax(axis=1))


def _entropy(shares: np.ndarray) -> np.ndarray:
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.asarray(-(shares * logs).sum(axis=1))
