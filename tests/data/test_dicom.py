"""DICOM: a film out of an archive is the film that a viewer shows; anything else is an ImageError."""

from __future__ import annotations

import builtins
import io
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless

from pneumolit.data import dicom
from pneumolit.data.film import ImageError, MissingReaderError
from pneumolit.data.reader import read_film, read_gray, read_size
from tests.data.dicom_files import DeflatedExplicitVRLittleEndian, RLELossless, dicom_bytes

GRAY = np.add.outer(np.arange(30) * 5, np.arange(20) * 5).astype(np.uint8)  # (30, 20), from 0 to 240
WIDE = GRAY.astype(np.uint16) * 257  # the same in 16 bits


def packed(kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(GRAY).save(out, kind, **options)
    return out.getvalue()


def test_a_12_bit_jpeg_is_not_called_damaged() -> None:
    twelve = dicom_bytes(WIDE // 16, bits=12, syntax=JPEGExtended12Bit, PixelData=packed("JPEG"))
    with pytest.raises(ImageError, match=r"12-bit JPEG, which no installed package reads; unpack it first"):
        read_gray(twelve)
    eight = dicom_bytes(GRAY, syntax=JPEGExtended12Bit, PixelData=packed("JPEG", quality=100))
    assert np.abs(read_gray(eight).astype(int) - GRAY).mean() < 1


# One film, as many files


@pytest.mark.parametrize(
    "data",
    [
        dicom_bytes(GRAY),
        dicom_bytes(255 - GRAY, photometric="MONOCHROME1"),
        dicom_bytes(WIDE),
        dicom_bytes(65535 - WIDE, photometric="MONOCHROME1"),
        dicom_bytes(GRAY, syntax=RLELossless),
        dicom_bytes(WIDE, syntax=RLELossless),
        dicom_bytes(GRAY, syntax=DeflatedExplicitVRLittleEndian),
        dicom_bytes(GRAY, syntax=JPEG2000Lossless, PixelData=packed("JPEG2000", irreversible=False)),
        dicom_bytes((WIDE.astype(np.int32) - 32768).astype(np.int16)),
    ],
    ids=["8", "8 inverted", "16", "16 inverted", "RLE", "RLE 16", "deflated", "JPEG 2000", "signed"],
)
def test_every_way_to_store_a_film_gives_the_same_film(data: bytes) -> None:
    np.testing.assert_array_equal(read_gray(data), GRAY)
    assert read_size(data) == (20, 30)


def test_a_jpeg_inside_is_decoded() -> None:
    found = read_gray(dicom_bytes(GRAY, syntax=JPEGBaseline8Bit, PixelData=packed("JPEG", quality=100)))
    assert np.abs(found.astype(int) - GRAY).mean() < 1


def test_color_becomes_luminance_and_is_told() -> None:
    rgb = np.stack([GRAY, GRAY // 2, GRAY // 4], axis=2)
    film = read_film(dicom_bytes(rgb, photometric="RGB"))
    assert np.abs(film.gray - rgb @ [0.299, 0.587, 0.114]).max() <= 1.5
    assert film.colorfulness > 20
    assert read_film(dicom_bytes(GRAY)).colorfulness == 0


def test_a_window_says_what_is_black_and_what_is_white() -> None:
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    film = read_film(dicom_bytes(values, bits=12, WindowCenter=2048, WindowWidth=1024))
    gray = film.gray.reshape(-1)
    assert gray[: 2048 - 512].max() == 0 and gray[2048 + 512 :].min() == 255
    assert abs(int(gray[2047]) - 127) <= 1
    assert film.exam is not None and film.exam.is_windowed


def test_a_sigmoid_window_bends_and_does_not_clip() -> None:
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    gray = read_gray(
        dicom_bytes(values, bits=12, WindowCenter=2048, WindowWidth=1024, VOILUTFunction="SIGMOID")
    ).reshape(-1)
    assert 0 < gray[1000] < 40 and abs(int(gray[2048]) - 127) <= 1 and 215 < gray[3096] <= 255


def test_rescaling_comes_before_the_window() -> None:
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    tags: dict[str, Any] = {
        "RescaleSlope": "2",
        "RescaleIntercept": "-1000",
        "WindowCenter": 2048 * 2 - 1000,
        "WindowWidth": 2048,
    }
    gray = read_gray(dicom_bytes(values, bits=12, **tags)).reshape(-1)
    assert gray[2048 - 520] == 0 and gray[2048 + 520] == 255 and abs(int(gray[2048]) - 127) <= 1


def test_a_negative_slope_turns_black_and_white() -> None:
    np.testing.assert_array_equal(read_gray(dicom_bytes(WIDE, RescaleSlope="-1", RescaleIntercept="65535")), 255 - GRAY)


def table(entries: np.ndarray, first: int, depth: int, *, packed: bool = False) -> Dataset:
    """A table of gray values; with `packed` one byte for each entry, as the standard stores those of 8 bits."""
    made = Dataset()
    made.LUTDescriptor = [len(entries) % 2**16, first, depth]
    made.LUTData = entries.astype(np.uint8 if packed else np.uint16).tobytes()
    made["LUTData"].VR = "OW"
    return made


def test_a_table_of_the_file_is_applied() -> None:
    turned = table(np.arange(256)[::-1] * 257, 0, 16)
    np.testing.assert_array_equal(read_gray(dicom_bytes(GRAY, VOILUTSequence=[turned])), 255 - GRAY)


@pytest.mark.parametrize(("depth", "packed"), [(8, False), (8, True), (12, False), (16, False)])
def test_a_table_of_any_depth_shows_a_12_bit_film(depth: int, packed: bool) -> None:
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    shades = np.round(np.linspace(0, 2**depth - 1, 2048))
    # Values below the first of the table have its first entry, those behind it the last.
    film = read_film(dicom_bytes(values, bits=12, VOILUTSequence=[table(shades, 1024, depth, packed=packed)]))
    expected = np.round(255 * np.clip((values - 1024.0) / 2047, 0, 1))
    assert np.abs(film.gray - expected).max() <= 1 and film.exam is not None and film.exam.is_windowed


@pytest.mark.parametrize("packed", [False, True])
def test_a_modality_table_comes_before_the_window(packed: bool) -> None:
    sequence: dict[str, Any] = {"ModalityLUTSequence": [table(np.arange(256)[::-1], 0, 8, packed=packed)]}
    film = read_gray(dicom_bytes(GRAY, **sequence, WindowCenter=128, WindowWidth=256))
    assert np.abs(film.astype(int) - (255 - GRAY.astype(int))).max() <= 1


@pytest.mark.parametrize(("count", "depth", "told"), [(300, 16, "256 entries of 300"), (256, 4, "4 bits per entry")])
def test_a_table_that_is_none_is_told(count: int, depth: int, told: str) -> None:
    wrong = table(np.arange(256), 0, depth)
    wrong.LUTDescriptor = [count, 0, depth]
    with pytest.raises(ImageError, match=f"^its table of gray values has {told}"):
        read_gray(dicom_bytes(GRAY, VOILUTSequence=[wrong]))


@pytest.mark.parametrize("blank", ["", None])
def test_elements_left_blank_say_what_missing_ones_do(blank: str | None) -> None:
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    window: dict[str, Any] = {"WindowCenter": 1024, "WindowWidth": 512}
    expected = read_gray(dicom_bytes(values, bits=12, **window))
    found = read_gray(
        dicom_bytes(values, bits=12, **window, VOILUTFunction=blank, RescaleSlope=blank, RescaleIntercept=blank)
    )
    np.testing.assert_array_equal(found, expected)
    plain = read_gray(dicom_bytes(values, bits=12))
    np.testing.assert_array_equal(read_gray(dicom_bytes(values, bits=12, WindowCenter=blank, WindowWidth=blank)), plain)


def test_a_12_bit_film_without_a_window_that_uses_few_values_is_stretched_and_a_full_one_is_not() -> None:
    dim = 200 + GRAY.astype(np.uint16)  # 240 of 4,096 values
    film = read_film(dicom_bytes(dim, bits=12))
    assert np.abs(film.gray.astype(float) - GRAY * (255 / 240)).max() < 4
    assert film.exam is not None and not film.exam.is_windowed
    small = read_film(dicom_bytes(GRAY // 4))  # of 8 bits, as a picture has them
    assert small.exam is not None and small.exam.is_windowed and small.gray.max() == GRAY.max() // 4
    full = GRAY.astype(np.uint16) * 16
    assert np.abs(read_gray(dicom_bytes(full, bits=12)).astype(int) - GRAY).max() <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_whatever_its_value_means(photometric: str) -> None:
    pixels = WIDE.copy()
    pixels[:5] = 12345
    gray = read_gray(dicom_bytes(pixels, photometric=photometric, PixelPaddingValue=12345))
    assert gray[:5].max() == 0 and gray[5:].max() > 200


def test_what_the_file_says_of_the_examination_is_known_and_its_patient_is_not() -> None:
    film = read_film(dicom_bytes(GRAY, PatientAge="030M", ViewPosition="ll", BodyPartExamined="CHEST", Modality="DX"))
    assert film.exam is not None
    assert film.exam[:3] == ("DX", "CHEST", "LL") and film.exam.age_years == pytest.approx(2.5)
    assert "SECRET" not in repr(film).upper()


# Refused


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (dicom_bytes(GRAY, NumberOfFrames=2), "2 frames; a single film"),
        (dicom_bytes(GRAY, Rows=0), "20 x 0 pixels"),
        (dicom_bytes(GRAY, Rows=60000, Columns=60000), "60000 x 60000 pixels by its header, the limit is 50"),
        (dicom_bytes(GRAY, Rows=300), "damaged"),
        (dicom_bytes(GRAY, BitsAllocated=12), "12 bits per pixel"),
        (dicom_bytes(GRAY, syntax=JPEGLSLossless, PixelData=b"\xff\xd8" + bytes(100)), "compressed"),
        (dicom_bytes(GRAY, syntax=RLELossless, PixelData=b"\x01" + bytes(100)), "its compressed pixels are damaged"),
        (dicom_bytes(GRAY)[:400], "a DICOM file without an image"),
        (dicom_bytes(GRAY)[:-100], "damaged"),
        (dicom_bytes(GRAY, PhotometricInterpretation="HSV"), "HSV pixels; MONOCHROME1"),
        (dicom_bytes(GRAY, WindowCenter="100", WindowWidth="nan"), "its window or slope is no number"),
    ],
    ids=[
        "frames",
        "no rows",
        "huge",
        "too few pixels",
        "12 bits",
        "JPEG-LS",
        "RLE",
        "header only",
        "cut off",
        "colors",
        "window",
    ],
)
def test_what_is_no_single_whole_film_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with warnings.catch_warnings(), pytest.raises(ImageError, match=reason) as refused:
        warnings.simplefilter("error")
        read_gray(data)
    assert "\n" not in str(refused.value)


def test_a_file_without_pixels_is_refused() -> None:
    from pydicom import dcmread

    dataset = dcmread(io.BytesIO(dicom_bytes(GRAY)))
    del dataset.PixelData
    out = io.BytesIO()
    dataset.save_as(out)
    with pytest.raises(ImageError, match="without pixels"):
        read_gray(out.getvalue())


def test_a_jpeg_inside_that_is_larger_than_the_header_says_is_refused() -> None:
    big = io.BytesIO()
    Image.new("L", (600, 600)).save(big, "JPEG")
    with pytest.raises(ImageError, match="600 x 600 pixels are packed into it"):
        read_gray(dicom_bytes(GRAY, syntax=JPEGBaseline8Bit, PixelData=big.getvalue()))


def test_run_length_code_that_swells_beyond_the_header_is_refused_before_it_is_unpacked() -> None:
    header = b"\x01\0\0\0\x40\0\0\0" + bytes(56)
    with pytest.raises(ImageError, match="larger than its header allows"):
        read_gray(dicom_bytes(GRAY, syntax=RLELossless, PixelData=header + b"\x81\x00" * 600))
    with pytest.raises(ImageError, match="larger than its header allows"):
        read_gray(dicom_bytes(GRAY, syntax=RLELossless, PixelData=header + bytes(100_000)))


def test_a_deflated_file_that_holds_gigabytes_is_refused_without_inflating_it(tmp_path: Path) -> None:
    whole = dicom_bytes(GRAY, syntax=DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + int.from_bytes(whole[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(1 << 20)
    body = b"".join(packer.compress(zeros) for _ in range(600)) + packer.flush()
    (tmp_path / "bomb.dcm").write_bytes(whole[:start] + body)
    code = (
        "import sys; from pathlib import Path\n"
        "from pneumolit.data.reader import read_gray\n"
        "try: read_gray(Path(sys.argv[1]))\n"
        "except ValueError as error: print(error)\n"
        # Of this program alone; what getrusage tells begins with what its parent had.
        "told = Path('/proc/self/status').read_text().split()\n"
        "print(int(told[told.index('VmHWM:') + 1]) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bomb.dcm")], capture_output=True, text=True, check=True
    )
    reason, megabytes = done.stdout.splitlines()
    assert reason == "more than 160 MB when inflated" and int(megabytes) < 250, done.stderr


def test_without_pydicom_a_dicom_file_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pydicom"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    dicom._pydicom.cache_clear()
    with pytest.raises(MissingReaderError, match=r"pip install 'pneumolit\[dicom\]'"):
        read_gray(dicom_bytes_made_before)
    monkeypatch.undo()
    dicom._pydicom.cache_clear()


dicom_bytes_made_before = dicom_bytes(GRAY)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGBaseline8Bit, JPEG2000Lossless, JPEGLosslessSV1])
def test_flipped_bits_never_raise_anything_else(syntax: Any) -> None:
    frames = {JPEGBaseline8Bit: packed("JPEG"), JPEG2000Lossless: packed("JPEG2000", irreversible=False)}
    tags: dict[str, Any] = {"PixelData": frames[syntax]} if syntax in frames else {}
    if syntax == JPEGLosslessSV1:
        tags = {"PixelData": packed("JPEG")}  # not what it says, and its decoder is another package
    whole = dicom_bytes(GRAY, syntax=syntax, WindowCenter=100, WindowWidth=200, **tags)
    rng = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(132, len(data), rng.integers(1, 6)):
            data[place] ^= 1 << int(rng.integers(8))
        try:
            film = read_film(bytes(data), 16, with_color=True)
            assert film.gray.shape == (16, 16) and film.gray.dtype == np.uint8
        except ImageError as refused:
            assert str(refused) and "\n" not in str(refused)


def test_bits_that_do_not_lie_at_the_low_end_are_refused_and_not_read_as_other_grays() -> None:
    values = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    with pytest.raises(ImageError, match="its 12 bits per pixel end at bit 15 where 11 is expected"):
        read_gray(dicom_bytes(values << 4, bits=12, HighBit=15))
    for highest in (11, None):  # an empty element is none
        assert read_gray(dicom_bytes(values, bits=12, HighBit=highest)).max() == 255


def test_a_codestream_larger_than_its_header_says_is_refused_before_it_is_unpacked() -> None:
    out = io.BytesIO()
    Image.fromarray(np.zeros((400, 400), np.uint8)).save(out, "JPEG2000", no_jp2=True)
    assert out.getvalue().startswith(b"\xff\x4f\xff\x51")  # as DICOM embeds it, without the box of a file
    film = dicom_bytes(np.zeros((20, 20), np.uint8), syntax=JPEG2000Lossless, PixelData=out.getvalue())
    with pytest.raises(ImageError, match="400 x 400 pixels are packed into it, its header says otherwise"):
        read_gray(film)
