"""The one image reader, for training and prediction alike: a file becomes a square gray uint8 image."""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from pneumolit.data import dicom
from pneumolit.data.dicom import is_dicom, read_dicom, read_dicom_size
from pneumolit.data.film import MAX_BYTES as MAX_BYTES
from pneumolit.data.film import MAX_PIXELS as MAX_PIXELS
from pneumolit.data.film import Film, check_size, color_distance
from pneumolit.data.film import ImageError as ImageError
from pneumolit.data.film import PassingError as PassingError

READER_VERSION = 3  # part of every store's key: raise it whenever the pixels of any file would change
UNRECORDED_READER = 2  # of runs and bundles that do not name theirs
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH_AT, _PNG_GRAY = 24, 0  # in its header, before the color type, which is this for gray without more
FORMATS = ("JPEG", "PNG")  # Pillow registers over 40 more, EPS among them, which would start Ghostscript
SUFFIXES = frozenset({".jpeg", ".jpg", ".png", *dicom.SUFFIXES})
_OTHERS = (
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"BM", "BMP"), (b"GIF8", "GIF"), (b"%PDF", "PDF"),
    (b"\0\0\0\x0cjP", "JPEG 2000"), (b"\xff\x4f\xff\x51", "JPEG 2000"),
)  # fmt: skip
# Of values in 16-bit PNGs: detectors give 10 to 16, and often they are stored as they come. Read as 16 bits, a film of
# 12 would be 16 shades of black.
_DEPTHS = (10, 12, 14, 16)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation
_QUARTER_TURNS = (5, 6, 7, 8)


def read_file(path: Path | str) -> bytes:
    """All bytes of an image file.

    Raises:
        ImageError: it cannot be opened, is no regular file, or holds more than `MAX_BYTES`.
    """
    return _read_bytes(path, None)


def _read_bytes(path: Path | str, count: int | None) -> bytes:
    """The first bytes of a file, or all of them."""
    try:
        # Without waiting: to open a pipe that nobody writes to would take for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb", buffering=0) as file:
            told = os.fstat(file.fileno())
            if not stat.S_ISREG(told.st_mode):
                raise ImageError("no file but a folder, a pipe or a device")
            if told.st_size <= MAX_BYTES:
                return file.read(count if count is not None else -1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        if isinstance(error, ImageError):
            raise
        raise ImageError(_reason(error)) from error
    raise ImageError(f"{told.st_size / 1e6:.0f} MB, the limit is {MAX_BYTES / 1e6:.0f} MB")


def read_size(source: Path | bytes) -> tuple[int, int]:
    """Width and height in pixels from the header alone.

    Args:
        source: a file, or the bytes of one.

    Raises:
        ImageError: not a readable JPEG, PNG or DICOM file, or more than `MAX_PIXELS`.
        MissingReaderError: a DICOM file, and pydicom is not installed.
    """
    if is_dicom(source if isinstance(source, bytes) else _read_bytes(source, 132)):
        return read_dicom_size(source if isinstance(source, bytes) else read_file(source))
    with _open(source) as image:
        return image.size


def read_gray(source: Path | bytes, size: int | None = None) -> np.ndarray:
    """Read a film as 8-bit gray, squashed to a square; as `read_film`, which says more about the file.

    Args:
        source: a file, or the bytes of one.
        size: side in pixels of the result; None keeps the image as it is.

    Returns:
        `(size, size)` uint8 (or `(height, width)` with `size=None`).

    Raises:
        ImageError, MissingReaderError: as `read_film`.
    """
    return read_film(source, size).gray


def read_film(source: Path | bytes, size: int | None = None, *, with_color: bool = False) -> Film:
    """Read a film as 8-bit gray, squashed to a square, and what its file says.

    Args:
        source: a file, or the bytes of one: JPEG, PNG or DICOM; color becomes luminance, 16-bit is scaled (not
            clipped) by the bits that its values take (10, 12, 14 or 16), EXIF rotation is applied, DICOM is windowed
            and MONOCHROME1 inverted.
        size: side in pixels of the result; None keeps the image as it is.
        with_color: whether to tell how colorful it was; the gray image is the same.

    Raises:
        ImageError: not an image, truncated, of another format, a PNG with 16 bits per channel that is not plain gray,
            or more than `MAX_PIXELS` by its header.
        MissingReaderError: a DICOM file, and pydicom is not installed.
    """
    data = source if isinstance(source, bytes) else read_file(source)
    if is_dicom(data):
        film = read_dicom(data)
        return film if size is None else replace(film, gray=np.asarray(_squash(Image.fromarray(film.gray), size)))
    with _open(data) as image:
        try:
            width, height = image.size
            # Of several pictures in one file, as some cameras write, the first is taken.
            kind = "JPEG" if image.format == "MPO" else str(image.format)
            is_stored_as_rgb = False
            if kind == "PNG":
                _check_png(data)
                _check_depth(data)
            if kind == "JPEG" and (size is not None or with_color):
                # Decodes at a reduced scale that never goes below 2 x size: 0.27 gray levels of 255 from a
                # full decode, 1.4 times faster on full-size films, no effect on small ones.
                scale = (2 * size, 2 * size) if size is not None else image.size
                is_stored_as_rgb = with_color and _is_stored_as_rgb(image)
                image.draft("YCbCr" if with_color and not is_stored_as_rgb else "L", scale)
                image.decodermaxblock = len(data)  # all at once: at the end of every 64 kB a row would be begun anew
            distance = math.nan
            if is_stored_as_rgb:  # libjpeg makes gray of it, but no YCbCr: once more for the colors
                with _open(data) as colored:
                    colored.draft(None, scale)
                    distance = colorfulness(colored)
            elif with_color:
                distance = colorfulness(image)
            turn = exif_orientation(image)
            gray = _to_gray(_turn_upright(image, turn))
            if size is not None:
                gray = _squash(gray, size)
            is_turned = turn in _QUARTER_TURNS
            return Film(np.asarray(gray, dtype=np.uint8), width, height, kind, distance, is_turned=is_turned)
        except MemoryError as error:
            raise PassingError("it needs more memory than there is") from error
        except (OSError, ValueError, SyntaxError) as error:
            if isinstance(error, ImageError):
                raise
            raise ImageError(_reason(error)) from error


def _is_stored_as_rgb(image: Image.Image) -> bool:
    """Whether a JPEG's own components are red, green and blue, by Adobe's mark or else by their names."""
    if image.mode != "RGB":
        return False
    if "adobe_transform" in image.info:
        return bool(image.info["adobe_transform"] == 0)
    names = [component[0] for component in getattr(image, "layer", ())]
    return "jfif" not in image.info and names == [ord(letter) for letter in "RGB"]


def _check_png(data: bytes) -> None:
    """The checksums of the parts that make the image, which Pillow passes over: turned bits would be pixels.

    Raises:
        ImageError: one is wrong, or a part is cut off.
    """
    view, place, kind = memoryview(data), len(_PNG_MAGIC), b""
    while kind != b"IEND" and place < len(data):
        length = int.from_bytes(view[place : place + 4], "big")
        kind, end = bytes(view[place + 4 : place + 8]), place + 8 + length
        if end + 4 > len(data):
            raise ImageError("image file is truncated")
        is_needed = not kind[:1].islower()  # of other parts, such as comments, nothing is used
        if is_needed and zlib.crc32(view[place + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise ImageError(f"wrong checksum of its part {kind.decode('latin-1')!r}; the file is damaged")
        place = end + 4


def _check_depth(data: bytes) -> None:
    """Of 16 bits per channel Pillow keeps 16 where there is one channel, else the upper 8: a film of 12 would be black.

    Raises:
        ImageError: it has more channels.
    """
    depth, color = data[_PNG_DEPTH_AT], data[_PNG_DEPTH_AT + 1]
    if depth == 16 and color != _PNG_GRAY:
        raise ImageError(
            "a PNG with 16 bits for every channel, which is read as 8; convert it to plain gray, 16 or 8 bits"
        )


def _squash(gray: Image.Image, size: int) -> Image.Image:
    # Pillow's bilinear filter widens with the scale, so shrinking does not alias.
    return gray if gray.size == (size, size) else gray.resize((size, size), Image.Resampling.BILINEAR)


def _open(source: Path | bytes) -> ImageFile.ImageFile:
    try:
        # Pillow warns from 89 MP on; silencing it would change the filters of the process from several threads.
        image = Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"larger than {MAX_PIXELS / 1e6:.0f} megapixels by its header") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise ImageError(_reason(error, source)) from error
    try:
        check_size(*image.size)
    except ImageError:
        image.close()
        raise
    return image


def colorfulness(image: Image.Image) -> float:
    """How far the channels of an opened picture lie apart, in gray levels; 0 where it has no color channels."""
    if image.mode in ("L", "LA", "1") or image.mode.startswith(("I", "F")):
        return 0.0
    if image.mode == "YCbCr":
        chroma = np.asarray(image)[..., 1:].astype(np.int16) - 128
        return float(2 * np.abs(chroma).max(axis=2).mean())
    return color_distance(np.asarray(image.convert("RGB")))


def exif_orientation(image: Image.Image) -> int:
    """How an opened picture is turned, 2 to 8 by EXIF; 1, upright, where it says nothing or what has no meaning.

    Raises:
        OSError, ValueError, SyntaxError: its pixels are damaged: of a PNG they are decoded before its tags are read.
    """
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation)
        return int(turn) if turn in _UPRIGHT else 1
    except (struct.error, KeyError, TypeError):  # tags that are cut off
        return 1


def _turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    # ImageOps.exif_transpose also writes the tags anew and fails in many ways on tags with odd values.
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_gray(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # "I;16", "I;16B" and "I": Pillow's own convert("L") would clip at 255
        values = np.asarray(image, dtype=np.int64).clip(0, 65535)
        taken = int(values.max()).bit_length()
        white = 2 ** next(bits for bits in _DEPTHS if bits >= taken) - 1
        return Image.fromarray((values * 255 // white).astype(np.uint8))
    if image.mode in {"LA", "PA", "RGBA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        opaque = Image.new("RGBA", rgba.size, "black")  # films are black where there is nothing
        return Image.alpha_composite(opaque, rgba).convert("L")
    if image.mode == "YCbCr":
        return image.getchannel("Y")  # which `convert` would take a way round through RGB to
    return image if image.mode == "L" else image.convert("L")  # which would copy


def _what_instead(source: Path | bytes) -> str:
    """What a file is that is no image of ours, as far as its first bytes tell."""
    head = source[:12] if isinstance(source, bytes) else _read_bytes(source, 12)
    if not head:
        return ": the file is empty"
    name = next((name for begin, name in _OTHERS if head.startswith(begin)), "WebP" if head[8:] == b"WEBP" else "")
    return f" but {name}; convert it to PNG" if name else ""


def _reason(error: BaseException, source: Path | bytes = b"") -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not a JPEG, PNG or DICOM image{_what_instead(source)}"
    if isinstance(error, FileNotFoundError):
        return "file not found"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    if isinstance(error, OSError) and error.strerror:  # else the system's words name the path once more
        return error.strerror[:1].lower() + error.strerror[1:]
    return str(error) or type(error).__name__
