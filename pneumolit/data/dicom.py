"""One film out of a DICOM file, as a viewer shows it: rescaled, windowed, MONOCHROME1 inverted.

pydicom (extra `dicom`) parses and decodes. Only single files are read, never a file set, and no name, number or date of
a patient is looked at.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import re
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from pneumolit.data.film import (
    MAX_PIXELS,
    Exam,
    Film,
    ImageError,
    MissingReaderError,
    PassingError,
    check_size,
    color_distance,
)

SUFFIXES = frozenset({".dcm", ".dicom"})
_PREFIX_AT, _PREFIX = 128, b"DICM"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_RLE = "1.2.840.10008.1.2.5"
_JPEG_12_BIT = "1.2.840.10008.1.2.4.51"  # JPEG Extended, of 8 or 12 bits
_DIRECTORY = "1.2.840.10008.1.3.10"
_PIXELS = 0x7FE00010
_MOST_ENTRIES = 20_000  # films have some hundred; hundreds of megabytes of empty ones would take minutes
_MOST_INFLATED = 3 * MAX_PIXELS + 10_000_000  # bytes: a color film, and what stands before it
_LEAST_SHARE = 0.5  # of the stored range that values fill where no window is given; below that they are stretched
_STRETCH = (0.1, 99.9)  # percentiles that become black and white then: a few hot pixels must not darken the film
_MAY_BE_BLANK = ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction")
_AGE = re.compile(r"(\d{3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def is_dicom(head: bytes) -> bool:
    """Whether the first 132 bytes are those of a DICOM file."""
    return head[_PREFIX_AT : _PREFIX_AT + len(_PREFIX)] == _PREFIX


def read_dicom_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels from the header alone.

    Args:
        data: of a whole file, or as much as lies before the pixels.

    Raises:
        ImageError: no single image, or too large.
        MissingReaderError: pydicom is not installed.
    """
    with as_image_errors():
        return _checked_size(_parse(data, with_pixels=False))


def read_dicom(data: bytes) -> Film:
    """Read a film.

    Args:
        data: all bytes of the file.

    Raises:
        ImageError: no image, several frames, larger than its own header, compressed in a way that no installed
            package reads, or damaged.
        MissingReaderError: pydicom is not installed.
    """
    with as_image_errors():
        dataset = _parse(data, with_pixels=True)
        width, height = _checked_size(dataset)
        _check_pixels(dataset, width * height)
        pixels = _pixels(dataset, data)
        if pixels.shape[:2] != (height, width):
            raise ImageError(f"its pixels are {pixels.shape}, its header says {height} x {width}")
        gray, colorfulness, is_windowed = _to_gray(dataset, pixels)
    return Film(gray, width, height, "DICOM", colorfulness, _exam(dataset, is_windowed))


@functools.cache
def _pydicom() -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise MissingReaderError(
            "DICOM files are read by pydicom, which is not installed; pip install 'pneumolit[dicom]'"
        ) from error
    # Odd values are told by our own words or not at all; its warnings would stand between the rows of a table.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    logging.getLogger("pydicom").propagate = False
    warnings.filterwarnings("ignore", module=r"pydicom(\..*)?")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    return pydicom


@contextlib.contextmanager
def as_image_errors() -> Iterator[None]:
    """Whatever goes wrong with a file is an ImageError."""
    try:
        yield
    except (ImageError, MissingReaderError):
        raise
    except MemoryError as error:
        raise PassingError("it needs more memory than there is") from error
    except Exception as error:  # a damaged file makes pydicom and its decoders raise nearly anything
        raise ImageError(_reason(error)) from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "all available plugins" in text:
        return "its compressed pixels are damaged, or not compressed as its header says"
    return f"damaged DICOM file: {text[:200] or type(error).__name__}"


def _parse(data: bytes, *, with_pixels: bool) -> Any:
    pydicom = _pydicom()
    meta = pydicom.dcmread(io.BytesIO(data[: _header_end(data)])).file_meta
    if str(meta.get("TransferSyntaxUID", "")) == _DEFLATED:
        _check_inflated(data)
    if str(meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY:
        raise ImageError("a DICOMDIR, which lists files and holds no image")
    count, is_behind = 0, False

    def is_enough(tag: int, vr: str | None, length: int) -> bool:
        nonlocal count, is_behind
        count += 1
        if is_behind:
            return True
        is_behind = tag >= _PIXELS
        if count > _MOST_ENTRIES:
            raise ImageError(f"a DICOM file with more than {_MOST_ENTRIES} entries before its pixels")
        return tag > _PIXELS or (tag == _PIXELS and not with_pixels)

    return pydicom.filereader.read_partial(io.BytesIO(data), is_enough)


def _header_end(data: bytes) -> int:
    """Where the group ends that says how the rest is stored; it begins with its own length."""
    start = _PREFIX_AT + len(_PREFIX)
    if data[start : start + 4] != b"\x02\x00\x00\x00":
        raise ImageError("a DICOM file whose header is damaged")
    return start + 12 + int.from_bytes(data[start + 8 : start + 12], "little")


def _check_inflated(data: bytes) -> None:
    """A deflated file of a few kilobytes can hold gigabytes, which pydicom would inflate at once."""
    inflate, rest, size = zlib.decompressobj(-zlib.MAX_WBITS), data[_header_end(data) :], 0
    while rest and not inflate.eof:
        size += len(inflate.decompress(rest, 1 << 20))
        rest = inflate.unconsumed_tail
        if size > _MOST_INFLATED:
            raise ImageError(f"more than {_MOST_INFLATED / 1e6:.0f} MB when inflated")


def _checked_size(dataset: Any) -> tuple[int, int]:
    if "Rows" not in dataset or "Columns" not in dataset:
        raise ImageError("a DICOM file without an image")
    height, width = int(dataset.Rows or 0), int(dataset.Columns or 0)
    check_size(width, height)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageError(f"{frames} frames; a single film is expected, so export the frame that is meant")
    return width, height


def _check_pixels(dataset: Any, num_pixels: int) -> None:
    """What the header says must be what the pixels unpack to, or a small file could fill the memory."""
    if "PixelData" not in dataset:
        raise ImageError("a DICOM file without pixels (or with floating-point ones, which no film has)")
    if int(dataset.BitsAllocated) not in (8, 16):
        raise ImageError(f"{dataset.BitsAllocated} bits per pixel; 8 or 16 are expected")
    stored, highest = int(dataset.BitsStored), dataset.get("HighBit")
    if highest is not None and int(highest) != stored - 1:  # an empty element says what a missing one does
        raise ImageError(
            f"its {stored} bits per pixel end at bit {highest} where {stored - 1} is expected: its grays would be "
            "read wrong; export it anew"
        )
    if int(dataset.SamplesPerPixel) not in (1, 3):
        raise ImageError(f"{dataset.SamplesPerPixel} values per pixel; 1 or 3 are expected")
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax == _DEFLATED:
        return
    expected = num_pixels * int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) // 8
    encaps = _pydicom().encaps
    frame = next(encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    if len(frame) > 2 * expected + 65536:
        raise ImageError("its compressed pixels are larger than its header allows")
    if syntax == _RLE:
        _check_runs(frame, expected)
    elif frame.startswith((b"\xff\xd8", b"\xff\x4f\xff\x51")) or frame[4:8] == b"jP  ":
        _check_packed(frame, num_pixels)


def _pixels(dataset: Any, data: bytes) -> np.ndarray:
    """`(H, W)` or `(H, W, 3)` as they are stored, unpacked; not by GDCM in this process, which a file could crash."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax == _DEFLATED:
        return np.asarray(_pydicom().pixels.pixel_array(dataset))
    if syntax == _JPEG_12_BIT and int(dataset.BitsStored) > 8:
        raise ImageError(
            "its pixels are a 12-bit JPEG, which no installed package reads; unpack it first, for example with dcmdjpeg"
        )
    known = _pydicom().pixels.get_decoder(syntax).available_plugins
    for plugin in ("pydicom", "pillow"):
        if plugin in known:
            return np.asarray(_pydicom().pixels.pixel_array(dataset, decoding_plugin=plugin))
    if "gdcm" not in known:
        raise PassingError(
            f"its pixels are compressed ({syntax.name}) in a way that no installed package reads; "
            "pip install 'pneumolit[dicom]' has one for the usual ways"
        )
    from pneumolit.data.gdcm_process import decode

    return decode(data)


def unpack(data: bytes) -> np.ndarray:
    """Pixels of a file that GDCM has to unpack."""
    return np.asarray(_pydicom().pixels.pixel_array(_parse(data, with_pixels=True), decoding_plugin="gdcm"))


def _check_packed(frame: bytes, num_pixels: int) -> None:
    """A JPEG inside has a header of its own, which need not say the same."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as image:
            found = image.size
    except (OSError, ValueError, SyntaxError):  # of a kind that Pillow does not know, such as lossless JPEG
        return
    if found[0] * found[1] > min(2 * num_pixels, MAX_PIXELS):
        raise ImageError(f"{found[0]} x {found[1]} pixels are packed into it, its header says otherwise")


def _check_runs(frame: bytes, expected: int) -> None:
    """Two bytes of run-length code can stand for 128."""
    if len(frame) * 64 <= 2 * expected:
        return
    place, size, end = 64, 0, len(frame)  # after the table of segments
    while place < end and size <= 2 * expected + 65536:
        code = frame[place]
        if code < 128:
            size, place = size + code + 1, place + code + 2
        elif code > 128:
            size, place = size + 257 - code, place + 2
        else:
            place += 1
    if size > 2 * expected + 65536:
        raise ImageError("its compressed pixels are larger than its header allows")


def _to_gray(dataset: Any, pixels: np.ndarray) -> tuple[np.ndarray, float, bool]:
    """`(H, W)` uint8, how colorful it was, and whether the file said what is black and what white."""
    from PIL import Image

    if str(dataset.PhotometricInterpretation) == "PALETTE COLOR":
        pixels = _pydicom().pixels.apply_color_lut(pixels, dataset)
        if pixels.dtype != np.uint8:
            pixels = (pixels.astype(np.int64) // 257).astype(np.uint8)
    if pixels.ndim == 3:  # pydicom has made RGB of the other color spaces
        if pixels.dtype != np.uint8:
            raise ImageError("a color image of more than 8 bits")
        rgb = pixels[..., :3]
        return np.asarray(Image.fromarray(rgb).convert("L")), color_distance(rgb), True
    if not str(dataset.PhotometricInterpretation).startswith("MONOCHROME"):
        raise ImageError(f"{dataset.PhotometricInterpretation} pixels; MONOCHROME1, MONOCHROME2 or RGB are expected")
    gray, is_windowed = _windowed(dataset, pixels)
    return gray, 0.0, is_windowed


def _windowed(dataset: Any, pixels: np.ndarray) -> tuple[np.ndarray, bool]:
    """Every value that can be stored is windowed once; pixels look theirs up."""
    bits, is_signed = int(dataset.BitsStored), bool(int(dataset.PixelRepresentation))
    if not 1 <= bits <= 16:
        raise ImageError(f"{bits} bits stored per pixel; 1 to 16 are expected")
    low = -(2 ** (bits - 1)) if is_signed else 0
    places = np.clip(pixels.astype(np.int32) - low, 0, 2**bits - 1)
    is_padding = _padding(dataset, pixels)
    shades, is_windowed = _shades(dataset, np.arange(low, low + 2**bits))
    if not np.isfinite(shades).all():
        raise ImageError("its window or slope is no number")
    if bits <= 8:
        is_windowed = True  # as a picture has them
    if not is_windowed:
        shades = _stretched(shades, places if is_padding is None else places[~is_padding])
    levels = np.round(255 * np.clip(shades, 0, 1)).astype(np.uint8)
    if str(dataset.PhotometricInterpretation) == "MONOCHROME1":
        levels = 255 - levels
    gray = levels[places]
    if is_padding is not None:
        gray[is_padding] = 0  # films are black where there is nothing
    return gray, is_windowed


def _shades(dataset: Any, values: np.ndarray) -> tuple[np.ndarray, bool]:
    """`(2^bits,)` in [0, 1] of all stored values, and whether a window or table of the file made them."""
    for name in _MAY_BE_BLANK:  # an empty element says what a missing one does; pydicom takes it for a value
        if name in dataset and (dataset[name].value is None or not str(dataset[name].value).strip("[] ")):
            del dataset[name]
    processing = _pydicom().pixels
    if dataset.get("ModalityLUTSequence"):
        physical, _ = _looked_up(values, dataset.ModalityLUTSequence[0], dataset)
    else:
        physical = np.asarray(processing.apply_modality_lut(values, dataset), dtype=np.float64)
    if dataset.get("VOILUTSequence"):
        shown, depth = _looked_up(physical, dataset.VOILUTSequence[0], dataset)
        return shown / (2.0**depth - 1), True
    if dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        ends = 1e6 * (abs(float(_first(dataset.WindowWidth))) + abs(float(_first(dataset.WindowCenter))) + 1)
        with np.errstate(over="ignore"):  # of the exponential of a sigmoid window
            shown = processing.apply_windowing(np.append(physical, [-ends, ends]), dataset)
        black, white = shown[-2:]
        if white == black:
            raise ImageError("its window shows nothing")
        return np.asarray((shown[:-2] - black) / (white - black)), True
    span = physical[-1] - physical[0]
    return (physical - min(physical[0], physical[-1])) / (abs(span) or 1.0), False


def _looked_up(values: np.ndarray, table: Any, dataset: Any) -> tuple[np.ndarray, int]:
    """What a table of the file has for some values, as floats, and its bits per entry; its ends go on for ever.

    Not by pydicom, which takes places modulo 256 in VOI tables of 8 bits and expects two bytes for each such entry.
    """
    count, first, depth = (int(part) for part in table.LUTDescriptor)
    count = count or 2**16
    if not 8 <= depth <= 16:
        raise ImageError(f"its table of gray values has {depth} bits per entry; 8 to 16 are expected")
    data = table.LUTData
    if isinstance(data, bytes):
        width = 1 if depth == 8 and len(data) < 2 * count else 2
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        data = np.frombuffer(data[: len(data) // width * width], f"{order}u{width}")
    entries = np.atleast_1d(np.asarray(data, dtype=np.float64))[:count]
    if len(entries) < count:
        raise ImageError(f"its table of gray values has {len(entries)} entries of {count}")
    return entries[np.clip(values.astype(np.int64) - first, 0, count - 1)], depth


def _stretched(shades: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Without a window a 12-bit film that uses 300 of its 4,096 values would be black."""
    if not places.size:
        return shades
    black, white = np.percentile(shades[places], _STRETCH)
    if white - black >= _LEAST_SHARE or white == black:
        return shades
    return np.asarray((shades - black) / (white - black))


def _padding(dataset: Any, pixels: np.ndarray) -> np.ndarray | None:
    """`(H, W)` bool, where the file says that no film is."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    end = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((value, end if isinstance(end, int) else value))
    found = (pixels >= low) & (pixels <= high)
    return found if found.any() else None


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) or hasattr(value, "append") else value


def _exam(dataset: Any, is_windowed: bool) -> Exam:
    def text(key: str) -> str:
        return str(dataset.get(key) or "").strip().upper()

    age = _AGE.fullmatch(text("PatientAge"))
    years = int(age[1]) * _YEARS[age[2]] if age else None
    return Exam(text("Modality"), text("BodyPartExamined"), text("ViewPosition"), years, is_windowed)
