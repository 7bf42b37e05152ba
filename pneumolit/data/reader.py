"""The one image reader, for training and prediction alike: a file becomes a square gray uint8 image."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

READER_VERSION = 1  # part of every store's key: raise it whenever the pixels of any file would change
FORMATS = ("JPEG", "PNG")  # Pillow registers over 40 more, EPS among them, which would start Ghostscript
SUFFIXES = frozenset({".jpeg", ".jpg", ".png"})
MAX_PIXELS = 50_000_000  # the largest film of the Kaggle set has 5.6 MP; a 1 MB flat JPEG can claim 88 MP
MAX_BYTES = 500_000_000  # more than these pixels take uncompressed with four channels of 16 bits
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation


class ImageError(ValueError):
    """An image file that cannot be used; the message says why, without the path."""


def read_file(path: Path) -> bytes:
    """All bytes of an image file.

    Raises:
        ImageError: it cannot be opened, or holds more than `MAX_BYTES`.
    """
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= MAX_BYTES:
                return file.read()
    except OSError as error:
        raise ImageError(_reason(error)) from error
    raise ImageError(f"{size / 1e6:.0f} MB, the limit is {MAX_BYTES / 1e6:.0f} MB")


def read_size(source: Path | bytes) -> tuple[int, int]:
    """Width and height in pixels from the header alone.

    Args:
        source: a file, or the bytes of one.

    Raises:
        ImageError: not a readable JPEG or PNG, or more than `MAX_PIXELS`.
    """
    with _open(source) as image:
        return image.size


def read_gray(source: Path | bytes, size: int | None = None) -> np.ndarray:
    """Read a film as 8-bit gray, squashed to a square.

    Args:
        source: a file, or the bytes of one: JPEG or PNG; color becomes luminance, 16-bit is scaled (not clipped),
            EXIF rotation is applied.
        size: side in pixels of the result; None keeps the image as it is.

    Returns:
        `(size, size)` uint8 (or `(height, width)` with `size=None`).

    Raises:
        ImageError: not an image, truncated, of another format, or more than `MAX_PIXELS` by its header.
    """
    with _open(source) as image:
        try:
            if size is not None and image.format == "JPEG":
                # Decodes at a reduced scale that never goes below 2 x size: 0.27 gray levels of 255 from a
                # full decode, 1.4 times faster on full-size films, no effect on small ones.
                image.draft("L", (2 * size, 2 * size))
                if isinstance(source, bytes):  # all at once: at the end of every 64 kB a row would be begun anew
                    image.decodermaxblock = len(source)
            gray = _to_gray(_turn_upright(image))
            if size is not None and gray.size != (size, size):
                # Pillow's bilinear filter widens with the scale, so shrinking does not alias.
                gray = gray.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(gray, dtype=np.uint8)
        except (OSError, ValueError, SyntaxError, MemoryError) as error:
            raise ImageError(_reason(error)) from error


def _open(source: Path | bytes) -> ImageFile.ImageFile:
    try:
        # Pillow warns from 89 MP on; silencing it would change the filters of the process from several threads.
        image = Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"larger than {MAX_PIXELS / 1e6:.0f} megapixels by its header") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise ImageError(_reason(error)) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise ImageError(f"{width} x {height} pixels by its header, the limit is {MAX_PIXELS / 1e6:.0f} megapixels")
    return image


def _turn_upright(image: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose also writes the tags anew and fails in many ways on tags with odd values.
    turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _to_gray(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # "I;16", "I;16B" and "I": Pillow's own convert("L") would clip at 255
        values = np.asarray(image, dtype=np.int64)
        return Image.fromarray((values.clip(0, 65535) // 257).astype(np.uint8))
    if image.mode in {"LA", "PA", "RGBA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        opaque = Image.new("RGBA", rgba.size, "black")  # films are black where there is nothing
        return Image.alpha_composite(opaque, rgba).convert("L")
    return image if image.mode == "L" else image.convert("L")  # which would copy


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a JPEG or PNG image"
    if isinstance(error, FileNotFoundError):
        return "file not found"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    return str(error) or type(error).__name__
