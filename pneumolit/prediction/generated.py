"""Films that are not as they should be, and pictures that are no films: cases to count how many are noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, zoom

NOISE_SD = 40.0  # gray levels: grain that a person sees at once
BLUR_SIGMA = 1 / 45  # of the side; 5 pixels of 224, where vessels are gone and the heart is not
_KEY = 0x6F757421


def changed_films(films: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Each case with films changed in its way.

    Args:
        films: `(N, S, S)` uint8, N >= 1.

    Yields:
        (name, `(N, S, S)` uint8).
    """
    rng = np.random.default_rng(_KEY)
    side = films.shape[1]
    yield "inverted", 255 - films
    for quarter in (1, 2, 3):
        yield f"rotated_{90 * quarter}", np.ascontiguousarray(np.rot90(films, quarter, axes=(1, 2)))
    noise = rng.normal(0, NOISE_SD, films.shape)
    yield "noisy", np.clip(films + noise, 0, 255).astype(np.uint8)
    yield "blurred", gaussian_filter(films, (0, BLUR_SIGMA * side, BLUR_SIGMA * side)).astype(np.uint8)
    yield "flat", (films // 16 + 120).astype(np.uint8)
    part = max(side // 3, 1)
    corner = films[:, :part, :part].astype(np.float32)
    grown = zoom(corner, (1, side / part, side / part), order=1)[:, :side, :side]
    yield "corner_of_a_film", np.clip(np.round(grown), 0, 255).astype(np.uint8)


def no_films(count: int, side: int) -> Iterator[tuple[str, np.ndarray]]:
    """Each case with `(count, side, side)` uint8 pictures that show no chest."""
    for name, draw in _PICTURES.items():
        rng = np.random.default_rng([_KEY, len(name)])
        yield name, np.stack([draw(rng, side) for _ in range(count)])


def _clouds(rng: np.random.Generator, side: int) -> np.ndarray:
    """Noise of all scales, as landscapes have it."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(rng.normal(size=(side, side))) / frequency**1.2
    return _stretched(np.fft.ifft2(spectrum).real)


def _page(rng: np.random.Generator, side: int) -> np.ndarray:
    """Lines of words on white paper."""
    image = Image.new("L", (side, side), 245)
    draw = ImageDraw.Draw(image)
    height = max(side // 40, 2)
    for top in range(side // 12, side - side // 12, 2 * height):
        left = side // 10
        while left < side - side // 8:
            width = int(rng.integers(side // 40, side // 8))
            if rng.random() < 0.9:
                draw.rectangle((left, top, left + width, top + height), fill=int(rng.integers(20, 80)))
            left += width + side // 50 + 1
    return np.asarray(image)


def _shapes(rng: np.random.Generator, side: int) -> np.ndarray:
    """Discs and boxes of different grays."""
    image = Image.new("L", (side, side), int(rng.integers(256)))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 12))):
        left, top = (int(v) for v in rng.integers(-side // 4, side, 2))
        width, height = (int(v) for v in rng.integers(side // 8, side // 2, 2))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((left, top, left + width, top + height), fill=int(rng.integers(256)))
    return np.asarray(image)


def _stripes(rng: np.random.Generator, side: int) -> np.ndarray:
    """Waves of one direction."""
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    angle, cycles = rng.uniform(0, np.pi), rng.uniform(2, 12)
    return _stretched(np.sin(2 * np.pi * cycles * (x * np.cos(angle) + y * np.sin(angle)) / side))


def _ramp(rng: np.random.Generator, side: int) -> np.ndarray:
    """From dark to bright."""
    x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    angle = rng.uniform(0, 2 * np.pi)
    return _stretched(x * np.cos(angle) + y * np.sin(angle))


def _snow(rng: np.random.Generator, side: int) -> np.ndarray:
    """Noise alone."""
    return rng.integers(0, 256, (side, side)).astype(np.uint8)


def _stretched(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return np.asarray(np.round(255 * (values - low) / (high - low or 1)), dtype=np.uint8)


_PICTURES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "clouds": _clouds,
    "page_of_text": _page,
    "shapes": _shapes,
    "stripes": _stripes,
    "ramp": _ramp,
    "snow": _snow,
}
