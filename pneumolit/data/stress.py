"""Stress distortions: fixed, of families that training does not use; they make a second validation set.

A model that reads scanner, sharpness or compression instead of lungs keeps its plain score and loses here.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter

_RESAMPLE_SIDE = 64  # finer than this only ribs and vessel edges remain; lobar opacities stay readable
_UNSHARP_RADIUS = 2  # pixels; the width of vessel and rib edges at 224 to 256 px
_UNSHARP_PERCENT = 175  # between 150 (Pillow's default) and 200: bright rims appear along ribs and heart
_JPEG_QUALITY = 12  # 8 x 8 blocks become visible on soft tissue
_LOCAL_SIGMA = 1 / 12  # of the side, about one intercostal space
_LOCAL_GAIN = 3.0  # at most; more turns the faint texture of empty background into noise
_LOCAL_FLOOR = 10.0  # grey levels added to the local deviation, about what quantisation and JPEG leave
_GRAIN_SD = 14.0  # grey levels at mid grey; the level of the reference runs
_GRAIN_SIGMA = 0.6  # pixels; neighbours correlate by about .45: clumps, not single pixels
_GRAIN_DARK = 32.0  # grey levels; black still has .45 of the noise of mid grey (base fog)
_GRAIN_KEY = 0x66696C6D  # "film" in ASCII, keeps this stream apart from every other use of an index


def distort(images: np.ndarray, family: str, *, indices: np.ndarray) -> np.ndarray:
    """Distort every image in the fixed way of a family.

    Args:
        images: `(N, H, W)` uint8.
        family: one of `STRESS_FAMILIES`.
        indices: `(N,)` int >= 0, each image's index in its data set; chooses its grain, so that an
            image looks the same in every epoch, batch split and run.

    Returns:
        `(N, H, W)` uint8, a new array.

    Raises:
        ValueError: unknown family, or arguments that do not fit.
    """
    if family not in _FAMILIES:
        raise ValueError(f"unknown stress family {family!r}; choose from {', '.join(STRESS_FAMILIES)}")
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(f"images must be (N, H, W) uint8, got {images.shape} {images.dtype}")
    if indices.shape != images.shape[:1] or (indices < 0).any():
        raise ValueError(f"indices must be ({len(images)},), one >= 0 per image, got {indices.shape}")
    out = np.empty_like(images)
    for row, image, index in zip(out, images, indices.tolist(), strict=True):
        row[...] = _FAMILIES[family](image, index)
    return out


def _resample(image: np.ndarray, index: int) -> np.ndarray:
    film = Image.fromarray(image)
    small = film.resize((_RESAMPLE_SIDE, _RESAMPLE_SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small.resize(film.size, Image.Resampling.BILINEAR))


def _unsharp(image: np.ndarray, index: int) -> np.ndarray:
    mask = ImageFilter.UnsharpMask(_UNSHARP_RADIUS, _UNSHARP_PERCENT, threshold=0)
    return np.asarray(Image.fromarray(image).filter(mask))


def _jpeg(image: np.ndarray, index: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    with Image.open(buffer) as film:
        return np.asarray(film)


def _local_contrast(image: np.ndarray, index: int) -> np.ndarray:
    """Raise the local deviation to that of the whole film and keep the local mean, as DR display does."""
    film = image.astype(np.float32)
    sigma = _LOCAL_SIGMA * np.array(film.shape)
    mean = gaussian_filter(film, sigma)
    deviation = np.sqrt(np.maximum(gaussian_filter(film**2, sigma) - mean**2, 0))
    gain = np.clip(film.std() / (deviation + _LOCAL_FLOOR), 1.0, _LOCAL_GAIN)
    return _to_uint8(mean + (film - mean) * gain)


def _film_noise(image: np.ndarray, index: int) -> np.ndarray:
    """Correlated grain whose variance grows with the grey level: dense tissue lets few photons through."""
    white = np.random.Generator(np.random.Philox(key=[_GRAIN_KEY, index])).standard_normal(image.shape)
    grain = gaussian_filter(white, _GRAIN_SIGMA, mode="wrap")  # wrap: the same variance up to the edge
    film = image.astype(np.float64)
    sd = _GRAIN_SD * np.sqrt((film + _GRAIN_DARK) / (128 + _GRAIN_DARK))
    return _to_uint8(film + sd * grain / grain.std())


def _to_uint8(film: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(np.rint(film), 0, 255), dtype=np.uint8)


_FAMILIES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "resample": _resample,
    "unsharp": _unsharp,
    "jpeg": _jpeg,
    "local_contrast": _local_contrast,
    "film_noise": _film_noise,
}

STRESS_FAMILIES: tuple[str, ...] = tuple(_FAMILIES)
"""Names of the distortions, in the order of reports."""
