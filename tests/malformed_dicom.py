"""DICOM files as they should not be, and odd ones that are sound."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tests.malformed_images import GIGABYTE, HEIGHT, WIDTH, Case, Expected, encoded, film, jpeg_claiming, zeros

_NEEDED = ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation")


def dicom(pixels: np.ndarray | None = None, **options: Any) -> bytes:
    """A DICOM file of the film."""
    from tests.data.dicom_files import dicom_bytes  # pydicom, which not everybody has

    return dicom_bytes(film() if pixels is None else pixels, **options)


def deflated_start(data: bytes) -> int:
    """Where the header of a DICOM file ends, which tells how the rest is stored."""
    return 132 + 12 + int.from_bytes(data[140:144], "little")


def changed_dicom(change: Callable[[Any], None]) -> bytes:
    """The film after a change to its data set."""
    import pydicom

    dataset = pydicom.dcmread(io.BytesIO(dicom()))
    change(dataset)
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _without(*names: str, **tags: Any) -> bytes:
    """The film without some of its elements, and with others."""

    def change(dataset: Any) -> None:
        for name in names:
            delattr(dataset, name)
        for name, value in tags.items():
            setattr(dataset, name, value)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID

    return changed_dicom(change)


def no_film_cases() -> list[Case]:
    """DICOM files without an image in them, or with a broken beginning."""
    from pydicom.dataset import Dataset
    from pydicom.uid import BasicTextSRStorage, EncapsulatedPDFStorage, MediaStorageDirectoryStorage

    image = ("PixelData", "Rows", "Columns")
    letter = _without(*image, SOPClassUID=EncapsulatedPDFStorage, EncapsulatedDocument=b"%PDF-1.7\n")
    item = Dataset()
    item.ValueType, item.TextValue = "TEXT", "no finding"
    report = _without(*image, SOPClassUID=BasicTextSRStorage, ContentSequence=[item])
    directory = _without(*image, SOPClassUID=MediaStorageDirectoryStorage, DirectoryRecordSequence=[])
    whole = dicom()
    long = whole[:140] + b"\xf0\xff\xff\xff" + whole[144:]
    return [
        *(Case(f"no_{name}.dcm", f"{name} is not told", "refused", _without(name)) for name in _NEEDED),
        Case("no_pixels.dcm", "no pixels", "refused", _without("PixelData")),
        Case("empty_pixels.dcm", "pixels of no bytes", "refused", _without(PixelData=b"")),
        Case("letter.dcm", "a PDF and no film", "refused", letter),
        Case("report.dcm", "a structured report and no film", "refused", report),
        Case("DICOMDIR.dcm", "the list of the files of a disk", "refused", directory),
        Case("no_preamble.dcm", "a DICOM file without its first 132 bytes", "refused", whole[132:]),
        Case("preamble_only.dcm", "132 bytes that tell a DICOM file", "refused", whole[:132]),
        Case("no_header_length.dcm", "a header without its length", "refused", whole[:132] + whole[144:]),
        Case("header_length.dcm", "a header of 4 GB by its length", "either", long),
        Case("nested.dcm", "lists in lists, 20,000 deep", "refused", _nested(20_000)),
        Case("pixel_length.dcm", "pixels of 4 GB by their length", "either", _pixel_length(b"\xf0\xff\xff\xff")),
        Case("pixel_length_open.dcm", "plain pixels of no length", "refused", _pixel_length(b"\xff\xff\xff\xff")),
    ]  # fmt: skip


def packed_cases() -> list[Case]:
    """Compressed DICOM files: by what no installed package reads, wrongly, or to more than they say."""
    from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless

    noise = np.random.default_rng(1).integers(0, 256, 4000, dtype=np.uint8).tobytes()
    unknown = {
        "jpeg_ls": JPEGLSLossless,
        "jpeg_lossless": JPEGLosslessSV1,
        "htj2k": "1.2.840.10008.1.2.4.201",
        "jpip": "1.2.840.10008.1.2.4.94",
        "mpeg2": "1.2.840.10008.1.2.4.100",
        "hevc": "1.2.840.10008.1.2.4.107",
    }
    one = b"\x01\0\0\0\x40\0\0\0" + bytes(56)  # the table of one segment that begins right behind it
    runs = {
        "none": bytes(64) + noise,
        "15": b"\x0f\0\0\0" + b"\x40\0\0\0" * 15 + noise,
        "beyond the end": b"\x01\0\0\0\xff\xff\xff\x7f" + bytes(56) + noise,
        "too short": one + b"\x81\x00" * 4,
        "too long": one + b"\x81\x00" * 100_000,
        "cut off": b"\x01\0\0\0",
    }
    baseline = {
        "larger": ("4,000 x 4,000 pixels in the JPEG within", encoded(Image.new("L", (4000, 4000), 9), "JPEG")),
        "huge": ("65,500 x 65,500 pixels by the JPEG within", jpeg_claiming(65_500, 65_500)),
        "png": ("a PNG within that is called a JPEG", encoded(film(), "PNG")),
    }
    private = dicom().replace(b"1.2.840.10008.1.2.1\0", b"1.2.3.4.5.6.7.8.9.10", 1)
    plain = dicom(syntax=JPEG2000Lossless, PixelData=film().tobytes())
    return [
        *(Case(f"{kind}.dcm", f"noise called {kind}", "refused", dicom(syntax=uid, PixelData=noise))
          for kind, uid in unknown.items()),
        *(Case(f"runs_{kind.replace(' ', '_')}.dcm", f"run-length segments: {kind}", "refused",
               dicom(syntax=RLELossless, PixelData=data)) for kind, data in runs.items()),
        *(Case(f"jpeg_within_{kind}.dcm", problem, "refused", dicom(syntax=JPEGBaseline8Bit, PixelData=data))
          for kind, (problem, data) in baseline.items()),
        Case("private_syntax.dcm", "stored in a way of its maker's own", "refused", private),
        Case("not_packed.dcm", "plain pixels that are called JPEG 2000", "refused", plain),
        *_deflated_cases(),
    ]  # fmt: skip


def _deflated_cases() -> list[Case]:
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    whole = dicom(syntax=DeflatedExplicitVRLittleEndian)
    start = deflated_start(whole)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    begin = packer.compress(zlib.decompress(whole[start:], -zlib.MAX_WBITS)) + packer.flush(zlib.Z_FULL_FLUSH)
    head, end = whole[:start], b"\x03\x00"
    return [
        Case("deflated_bomb.dcm", "a gigabyte behind its pixels", "refused", head + begin + zeros(GIGABYTE) + end),
        Case("deflated_half_bomb.dcm", "450 MB behind its pixels", "refused", head + begin + zeros(450) + end),
        Case("deflated_small_bomb.dcm", "100 MB behind its pixels", "either", head + begin + zeros(100) + end),
        Case("deflated_noise.dcm", "noise that is called deflated", "refused", head + bytes(range(7, 256)) * 9),
    ]  # fmt: skip


def value_cases() -> list[Case]:
    """DICOM films with odd or impossible values."""
    from pydicom.dataset import Dataset
    from pydicom.uid import ImplicitVRLittleEndian

    gray = film()
    impossible: dict[str, dict[str, Any]] = {
        "no rows": {"Rows": 0},
        "no columns": {"Columns": 0},
        "more rows than pixels": {"Rows": 300},
        "65,535 x 65,535 pixels": {"Rows": 65535, "Columns": 65535},
        "three frames by its header": {"NumberOfFrames": 3},
        "2 billion frames": {"NumberOfFrames": 2_000_000_000},
        "-1 frames": {"NumberOfFrames": -1},
        "12 bits allocated": {"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11},
        "no bits allocated": {"BitsAllocated": 0},
        "32 bits allocated": {"BitsAllocated": 32},
        "one bit allocated": {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0},
        "no bits stored": {"BitsStored": 0},
        "99 bits stored": {"BitsStored": 99},
        "two values per pixel": {"SamplesPerPixel": 2},
        "four values per pixel": {"SamplesPerPixel": 4},
        "colors that there are not": {"PhotometricInterpretation": "PURPLE"},
        "a palette that is not there": {"PhotometricInterpretation": "PALETTE COLOR"},
        "a window of no width": {"WindowCenter": 100, "WindowWidth": 0},
    }
    sound = {
        "12 bits in 16": dicom(gray.astype(np.uint16) * 16, bits=12),
        "black and white exchanged": dicom(255 - gray, photometric="MONOCHROME1"),
        "values without their kinds": dicom(syntax=ImplicitVRLittleEndian),
        "a name in no known letters": dicom().replace(b"Secret^Name", b"Secret\xff\xfe\x80\x1b\xff"),
        "an empty list of tables": dicom(VOILUTSequence=[]),
        "zeros behind its end": dicom() + bytes(1 << 20),
        "a row too many": changed_dicom(lambda dataset: setattr(dataset, "PixelData", gray.tobytes() + bytes(WIDTH))),
    }
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 16], b"\0\0"
    table["LUTData"].VR = "OW"
    three = _without(NumberOfFrames=3, PixelData=np.stack([gray] * 3).tobytes())
    return [
        *(Case(f"{_as_name(problem)}.dcm", problem, "refused", dicom(**tags)) for problem, tags in impossible.items()),
        *(Case(f"{_as_name(problem)}.dcm", problem, "read", data) for problem, data in sound.items()),
        *(case for text in ("abcdef", "nan", "inf", r"1\-9\0") for case in _no_number_cases(text)),
        Case("three_frames.dcm", "three whole frames", "refused", three),
        Case("table_short.dcm", "a table of shades without its values", "either", dicom(VOILUTSequence=[table])),
    ]  # fmt: skip


def _no_number_cases(text: str) -> list[Case]:
    """A text where a number belongs; pydicom would not write it, so it replaces one of the same length."""
    places: dict[str, dict[str, Any]] = {
        "window": {"WindowCenter": "777777", "WindowWidth": "100"},
        "window_width": {"WindowCenter": "100", "WindowWidth": "777777"},
        "slope": {"RescaleSlope": "777777", "RescaleIntercept": "0"},
        "frames": {"NumberOfFrames": "777777"},
    }
    # Two values are one too many for a slope and usual for a window.
    expected: Expected = "either" if "\\" in text else "refused"
    cases = []
    for place, tags in places.items():
        data = dicom(**tags)
        assert data.count(b"777777") == 1
        name, data = f"{place}_{_as_name(text)}.dcm", data.replace(b"777777", text.ljust(6).encode())
        cases.append(Case(name, f"{text!r} where the number of its {place} belongs", expected, data))
    return cases


def _as_name(text: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in text)


def _nested(depth: int) -> bytes:
    """A film with lists in lists of unstated length before all else."""
    begin = b"\x08\x00\x10\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    whole = dicom()
    start = deflated_start(whole)
    return whole[:start] + begin * depth + end * depth + whole[start:]


def _pixel_length(length: bytes) -> bytes:
    whole = dicom()
    place = len(whole) - WIDTH * HEIGHT - 4
    return whole[:place] + length + whole[place + 4 :]
