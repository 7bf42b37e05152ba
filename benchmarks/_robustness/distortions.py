"""Graded distortions of films: how far a picture may go bad before a model's numbers do."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from pneumolit.data.stress import STRESS_FAMILIES, distort

Films = np.ndarray  # (N, H, W) uint8
STRESS = "stress"
_NOISE_KEY = 0x6E6F6973  # "nois" in ASCII


def _blur(films: Films, sigma: float) -> Films:
    return _to_uint8(gaussian_filter(films.astype(np.float32), (0, sigma, sigma)))


def _noise(films: Films, sd: float) -> Films:
    drawn = [
        np.random.Generator(np.random.Philox(key=[_NOISE_KEY, i])).standard_normal(f.shape) for i, f in enumerate(films)
    ]
    return _to_uint8(films + sd * np.stack(drawn))


def _contrast(films: Films, factor: float) -> Films:
    means = films.mean(axis=(1, 2), keepdims=True)
    return _to_uint8(means + factor * (films - means))


def _jpeg(films: Films, quality: float) -> Films:
    found = []
    for film in films:
        buffer = io.BytesIO()
        Image.fromarray(film).save(buffer, "JPEG", quality=int(quality))
        with Image.open(buffer) as image:
            found.append(np.asarray(image))
    return np.stack(found)


def _to_uint8(films: np.ndarray) -> Films:
    return np.asarray(np.clip(np.rint(films), 0, 255), dtype=np.uint8)


@dataclass(frozen=True)
class Curve:
    """One distortion and the levels at which it is tried.

    Attributes:
        distort: `(films, level)` to films.
        levels: what is tried, from the mildest on; a distortion with two sides from its low end to its high one.
        unit: of a level, as an axis says it.
        neutral: level at which films stay as they are.
        title: as a panel says it.
        falls: whether a lower level is the worse one.
        neutral_name: of the neutral level, where no number says it.
    """

    distort: Callable[[Films, float], Films]
    levels: tuple[float, ...]
    unit: str
    neutral: float
    title: str
    falls: bool = False
    neutral_name: str = ""

    @property
    def steps(self) -> list[float]:
        """Levels and the neutral one, in the order of an axis."""
        return sorted([self.neutral, *self.levels], reverse=self.falls)

    def name_of(self, level: float) -> str:
        """As a tick of an axis."""
        return self.neutral_name if self.neutral_name and level == self.neutral else f"{level:g}"


CURVES: dict[str, Curve] = {
    "blur": Curve(_blur, (0.5, 1.0, 1.5, 2.0, 3.0), "deviation in pixels", 0.0, "blur"),  # of the stored film
    "noise": Curve(_noise, (4.0, 8.0, 14.0, 20.0, 30.0), "deviation in grey levels", 0.0, "noise"),
    "contrast": Curve(_contrast, (0.25, 0.5, 0.75, 1.5, 2.0), "factor on the contrast", 1.0, "contrast"),
    # Stored films are JPEG already, of a quality that is not known.
    "jpeg": Curve(_jpeg, (50.0, 30.0, 20.0, 12.0, 5.0), "quality", 100.0, "JPEG", falls=True, neutral_name="as is"),
}


def names_of(kind: str) -> list[str]:
    """What is tried: `plain`, and the stress families or every level of every curve, as `blur 0.5`.

    Raises:
        ValueError: neither `stress` nor `curves`.
    """
    if kind == STRESS:
        return ["plain", *STRESS_FAMILIES]
    if kind == "curves":
        return ["plain", *(f"{name} {level:g}" for name, curve in CURVES.items() for level in curve.levels)]
    raise ValueError(f"kind must be stress or curves, got {kind}")


def distorted(films: Films, name: str, rows: np.ndarray) -> Films:
    """Films under one of `names_of`.

    Args:
        films: `(N, H, W)` uint8.
        name: of the distortion.
        rows: `(N,)` places in the data set, which choose a stress family's grain.
    """
    if name == "plain":
        return films
    if name in STRESS_FAMILIES:
        return distort(films, name, indices=rows)
    kind, _, level = name.partition(" ")
    return CURVES[kind].distort(films, float(level))
