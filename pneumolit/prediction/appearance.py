"""What a film looks like, in a few numbers: thumbnail, sharpness, contrast, and what the model's head sees of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from pneumolit.data.sharpness import sharpness

THUMBNAIL = 16  # pixels: lungs, heart, spine, arms and the side of the stomach are there, ribs are not
_MOST_FEATURES = 4096  # longer ones, of nets that flatten their maps, are projected
_PROJECTED = 512  # random directions keep the angles of some hundred points to a few percent
_PROJECTION_KEY = 0x6E656172


@dataclass(frozen=True)
class Appearance:
    """Of N films.

    Attributes:
        thumbnails: `(N, THUMBNAIL^2)` float32, each of mean 0 and standard deviation 1 (0 where it is of one gray).
        sharpness: `(N,)` from `data.sharpness`.
        contrast: `(N,)` standard deviation in gray levels.
        features: `(N, D)` float32 of length 1; None where the model cannot be taken apart before its head.
    """

    thumbnails: np.ndarray
    sharpness: np.ndarray
    contrast: np.ndarray
    features: np.ndarray | None

    def __len__(self) -> int:
        return len(self.sharpness)


def describe(images: np.ndarray, features: np.ndarray | None) -> Appearance:
    """Numbers of some films.

    Args:
        images: `(N, S, S)` uint8, at the model's stored side.
        features: `(N, D)` float, what the model's head sees of them; None where there are none.
    """
    return Appearance(
        thumbnails=thumbnails(images),
        sharpness=sharpness(images, np.arange(len(images))),
        contrast=images.reshape(len(images), -1).std(axis=1, dtype=np.float32),
        features=None if features is None else _of_length_one(features),
    )


def thumbnails(images: np.ndarray) -> np.ndarray:
    """`(N, S, S)` uint8 -> `(N, THUMBNAIL^2)` float32, brightness and contrast taken out."""
    pixels = torch.from_numpy(np.ascontiguousarray(images))[:, None].float()
    small = F.adaptive_avg_pool2d(pixels, THUMBNAIL).flatten(1).numpy()
    spread = small.std(axis=1, keepdims=True)
    return np.asarray((small - small.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1), dtype=np.float32)


def _of_length_one(features: np.ndarray) -> np.ndarray:
    if features.shape[1] > _MOST_FEATURES:
        rng = np.random.default_rng(_PROJECTION_KEY)
        features = features @ rng.standard_normal((features.shape[1], _PROJECTED), dtype=np.float32)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(length > 0, length, 1), dtype=np.float32)
