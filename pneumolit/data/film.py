"""What a reader gives back of an image file, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MAX_PIXELS = 50_000_000  # the largest film of the Kaggle set has 5.6 MP; a 1 MB flat JPEG can claim 88 MP
MAX_BYTES = 500_000_000  # more than these pixels take uncompressed with four channels of 16 bits


class ImageError(ValueError):
    """An image file that cannot be used; the message says why, without the path."""


class PassingError(ImageError):
    """A file that cannot be read here and now, for want of memory or of a decoder: another day it may be."""


class MissingReaderError(ValueError):
    """A package is missing without which no file of a format can be read; unlike the file, that can be mended."""


class Exam(NamedTuple):
    """What a DICOM file says about the examination; used for warnings and written nowhere.

    Attributes:
        modality: such as "DX", "CR"; "" where it is not told, as everywhere here.
        body_part: such as "CHEST".
        view: such as "PA", "AP", "LL".
        age_years: None where it is not told.
        is_windowed: whether the file says which of its values are black and white.
    """

    modality: str
    body_part: str
    view: str
    age_years: float | None
    is_windowed: bool


@dataclass(frozen=True)
class Film:
    """An image as the model takes it, and what its file says.

    Attributes:
        gray: `(H, W)` uint8, upright, black where there is nothing.
        width: pixels of the file, before it was resized or turned upright.
        height: likewise.
        kind: "JPEG", "PNG" or "DICOM".
        colorfulness: mean distance of the color channels from each other or from gray, in gray levels of 255; 0 for
            a gray file, NaN where nobody asked.
        exam: of a DICOM file.
        is_turned: whether `width` runs from top to bottom of the upright film.
    """

    gray: np.ndarray
    width: int
    height: int
    kind: str
    colorfulness: float = 0.0
    exam: Exam | None = None
    is_turned: bool = False

    @property
    def aspect(self) -> float:
        """Width over height, upright."""
        return self.height / self.width if self.is_turned else self.width / self.height


def check_size(width: int, height: int) -> None:
    """Refuse what would take too much memory, before it is decoded.

    Raises:
        ImageError: more than `MAX_PIXELS`, or none.
    """
    if width < 1 or height < 1:
        raise ImageError(f"{width} x {height} pixels by its header; there is no image in it")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width} x {height} pixels by its header, the limit is {MAX_PIXELS / 1e6:.0f} megapixels")


def color_distance(rgb: np.ndarray) -> float:
    """How far an `(H, W, 3)` uint8 image is from gray: mean of the largest channel minus the smallest, in levels."""
    thin = rgb[:: max(1, rgb.shape[0] // 256), :: max(1, rgb.shape[1] // 256)].astype(np.int16)
    return float((thin.max(axis=2) - thin.min(axis=2)).mean())
