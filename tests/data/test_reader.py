"""The reader: every kind of film becomes the gray image a viewer shows; anything else is an ImageError."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pneumolit.data.reader import MAX_PIXELS, ImageError, read_film, read_gray, read_size

GRAY = np.add.outer(np.arange(30) * 5, np.arange(20) * 4).astype(np.uint8)  # (30, 20), no two sides alike
ORIENTATION, X_RESOLUTION = 0x0112, 0x011A

rewrites_one_file = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends after its header."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + bytes(4) + b"IDAT"
    )


def jpeg_claiming(width: int, height: int) -> bytes:
    """A small JPEG whose header names another size."""
    data = encoded(Image.fromarray(GRAY), "JPEG")
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + struct.pack(">HH", height, width) + data[start + 4 :]


# Depth and color


@pytest.mark.parametrize("has_mark", [True, False])
@pytest.mark.parametrize("size", [None, 8])
def test_a_jpeg_that_stores_red_green_and_blue_is_read_alike_with_and_without_its_colors(
    has_mark: bool, size: int | None
) -> None:
    pink = np.stack([GRAY, GRAY // 2, GRAY // 2], axis=-1)
    for picture, is_colorful in ((pink, True), (np.stack([GRAY] * 3, axis=-1), False)):
        data = encoded(Image.fromarray(picture), "JPEG", keep_rgb=True, quality=95)
        if not has_mark:  # without Adobe's segment the names of the components tell it
            start = data.index(b"\xff\xee")
            data = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
        film = read_film(data, size, with_color=True)
        np.testing.assert_array_equal(film.gray, read_gray(data, size))
        assert (film.colorfulness > 10) == is_colorful
        if size is None:
            expected = np.asarray(Image.fromarray(picture).convert("L"), dtype=int)
            assert np.abs(film.gray - expected).max() < 12


def test_16_bit_films_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(levels * 257).save(tmp_path / "full.png")
    np.testing.assert_array_equal(read_gray(tmp_path / "full.png"), levels)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_a_16_bit_png_of_values_as_a_detector_gives_them_is_no_black_film(tmp_path: Path, bits: int) -> None:
    values = np.linspace(0, 2**bits - 1, 4096).astype(np.uint16).reshape(64, 64)
    Image.fromarray(values).save(tmp_path / "film.png")
    expected = values.astype(int) * 255 // (2**bits - 1)
    np.testing.assert_array_equal(read_gray(tmp_path / "film.png"), expected)


@pytest.mark.parametrize(("color", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_a_png_of_16_bits_per_channel_that_is_read_as_8_is_refused(tmp_path: Path, color: int, channels: int) -> None:
    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    line = b"\0" + np.linspace(0, 4095, 8 * channels).astype(">u2").tobytes()
    header = struct.pack(">IIBBBBB", 8, 8, 16, color, 0, 0, 0)
    parts = [part(b"IHDR", header), part(b"IDAT", zlib.compress(line * 8)), part(b"IEND", b"")]
    (tmp_path / "film.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(ImageError, match="16 bits for every channel, which is read as 8; convert it to plain gray"):
        read_gray(tmp_path / "film.png")


def test_damaged_exif_tags_turn_nothing(tmp_path: Path) -> None:
    Image.fromarray(GRAY).save(tmp_path / "film.png", exif=b"Exif\0\0II*\0")
    np.testing.assert_array_equal(read_gray(tmp_path / "film.png"), GRAY)


def test_a_16_bit_film_shrinks_like_its_8_bit_twin(tmp_path: Path) -> None:
    Image.fromarray(GRAY.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(GRAY).save(tmp_path / "8.png")
    np.testing.assert_array_equal(read_gray(tmp_path / "16.png", 8), read_gray(tmp_path / "8.png", 8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_color_becomes_luminance(tmp_path: Path, kind: str) -> None:
    rgb = np.zeros((16, 16, 3), dtype=np.uint8)
    rgb[..., 0], rgb[..., 1], rgb[..., 2] = 200, 100, 50
    (tmp_path / "film").write_bytes(encoded(Image.fromarray(rgb), kind))
    wanted = 0.299 * 200 + 0.587 * 100 + 0.114 * 50  # ITU-R 601
    np.testing.assert_allclose(read_gray(tmp_path / "film").astype(float), wanted, atol=1.5)


def test_a_cmyk_jpeg_looks_as_in_a_viewer(tmp_path: Path) -> None:
    film = Image.fromarray(GRAY).convert("RGB").convert("CMYK")
    film.save(tmp_path / "film.jpeg", quality=100)
    for size in (None, 8):  # the draft for a small size must not take the four inks for gray
        wanted = (
            Image.fromarray(GRAY) if size is None else Image.fromarray(GRAY).resize((8, 8), Image.Resampling.BILINEAR)
        )
        assert np.abs(read_gray(tmp_path / "film.jpeg", size).astype(float) - np.asarray(wanted)).mean() < 2


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1"])
def test_an_opaque_film_is_the_same_in_every_mode(tmp_path: Path, mode: str) -> None:
    gray = np.where(GRAY > 100, 255, 0).astype(np.uint8) if mode == "1" else GRAY
    Image.fromarray(gray).convert(mode).save(tmp_path / "film.png")
    with Image.open(tmp_path / "film.png") as image:
        assert image.mode == mode
    np.testing.assert_array_equal(read_gray(tmp_path / "film.png"), gray)


def test_a_palette_gives_its_colors_and_not_its_indices(tmp_path: Path) -> None:
    film = Image.fromarray(np.array([[0, 1], [2, 0]], dtype=np.uint8)).convert("P")
    film.putpalette([250, 250, 250, 9, 9, 9, 100, 100, 100])
    film.save(tmp_path / "film.png")
    np.testing.assert_array_equal(read_gray(tmp_path / "film.png"), [[250, 9], [100, 250]])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L with a transparent gray"])
def test_what_is_transparent_is_black(tmp_path: Path, mode: str) -> None:
    gray = np.full((4, 4), 200, dtype=np.uint8)
    gray[:2] = 90
    path = tmp_path / "film.png"
    if mode in {"RGBA", "LA"}:
        film = Image.fromarray(gray).convert(mode)
        film.putalpha(Image.fromarray(np.where(gray == 90, 0, 255).astype(np.uint8)))
        film.save(path)
    elif mode == "P":
        film = Image.fromarray((gray == 200).astype(np.uint8)).convert("P")
        film.putpalette([90, 90, 90, 200, 200, 200])
        film.save(path, transparency=0)
    else:
        Image.fromarray(gray).save(path, transparency=90)
    np.testing.assert_array_equal(read_gray(path), np.where(gray == 90, 0, 200))


# Orientation and other tags


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "16-bit PNG"])
def test_exif_orientation_is_applied_as_pillow_does(tmp_path: Path, kind: str, orientation: int) -> None:
    film = Image.fromarray(GRAY.astype(np.uint16) * 257 if kind.startswith("16") else GRAY)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    (tmp_path / "film").write_bytes(encoded(film, kind.split()[-1], exif=exif))
    with Image.open(tmp_path / "film") as image:
        wanted = np.asarray(ImageOps.exif_transpose(image))
    wanted = wanted // 257 if wanted.dtype == np.uint16 else wanted
    assert wanted.shape == ((30, 20) if orientation < 5 else (20, 30))
    np.testing.assert_array_equal(read_gray(tmp_path / "film"), wanted)


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_has_no_meaning_turns_nothing(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(GRAY).save(tmp_path / "film.png", exif=exif)
    np.testing.assert_array_equal(read_gray(tmp_path / "film.png"), GRAY)


def film_with_odd_tag(kind: str) -> bytes:
    """Orientation 6 and a resolution that is a text: Pillow's `exif_transpose` breaks on it with a TypeError."""
    exif = Image.Exif()
    exif[ORIENTATION], exif[X_RESOLUTION] = 6, 3.5
    data = encoded(Image.fromarray(GRAY), kind, exif=exif)
    big, little = struct.pack(">HH", X_RESOLUTION, 5), struct.pack("<HH", X_RESOLUTION, 5)
    data = data.replace(big, struct.pack(">HH", X_RESOLUTION, 2)).replace(little, struct.pack("<HH", X_RESOLUTION, 2))
    if kind == "PNG":  # the chunk's checksum must fit again
        start = data.index(b"eXIf")
        end = start + 4 + int.from_bytes(data[start - 4 : start], "big")
        data = data[:end] + struct.pack(">I", zlib.crc32(data[start:end])) + data[end + 4 :]
    return data


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_odd_tag_beside_the_orientation_does_no_harm(tmp_path: Path, kind: str) -> None:
    (tmp_path / "film").write_bytes(film_with_odd_tag(kind))
    with Image.open(tmp_path / "film") as image, pytest.raises(TypeError):
        ImageOps.exif_transpose(image)  # else this film is no test of anything
    wanted = np.rot90(GRAY, -1).astype(float)
    assert np.abs(read_gray(tmp_path / "film") - wanted).mean() < 2


FILMS = (
    film_with_odd_tag("JPEG"),
    film_with_odd_tag("PNG"),
    encoded(Image.fromarray(GRAY.astype(np.uint16) * 257), "PNG"),
    encoded(Image.fromarray(GRAY).convert("P"), "PNG", transparency=3),
    encoded(Image.fromarray(GRAY), "JPEG", progressive=True),
)


@given(
    st.sampled_from(FILMS),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    st.none() | st.integers(0, 600),
)
@rewrites_one_file
def test_damage_of_any_kind_gives_an_image_or_an_image_error(
    tmp_path: Path, film: bytes, changes: list[tuple[int, int]], end: int | None
) -> None:
    damaged = bytearray(film)
    for place, value in changes:
        damaged[place % len(film)] = value
    path = tmp_path / "film"
    path.write_bytes(damaged[:end])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks about broken tags
        for size in (None, 8):
            try:
                assert read_gray(path, size).dtype == np.uint8
            except ImageError as error:
                assert str(error)


# What is no film


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_film_is_refused_though_its_header_is_whole(tmp_path: Path, kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    (tmp_path / "film").write_bytes(data[: int(share * len(data))])
    assert read_size(tmp_path / "film") == (200, 200)
    for size in (None, 16):
        with pytest.raises(ImageError, match="truncated"):
            read_gray(tmp_path / "film", size)


def test_what_is_no_image_is_refused_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpeg").write_text("<html>404 Not Found</html>")
    (tmp_path / "folder.png").mkdir()
    reasons = {
        "empty.png": "not a JPEG, PNG or DICOM image: the file is empty",
        "text.jpeg": "not a JPEG, PNG or DICOM",
        "folder.png": "a folder",
        "gone.png": "file not found",
    }
    for name, reason in reasons.items():
        for read in (read_gray, read_size):
            with pytest.raises(ImageError, match=reason):
                read(tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("GIF", " but GIF"), ("TIFF", " but TIFF"), ("BMP", " but BMP"), ("WEBP", " but WebP; convert"), ("PPM", "")],
)
def test_another_format_under_the_name_of_a_png_is_refused(tmp_path: Path, kind: str, said: str) -> None:
    (tmp_path / "film.png").write_bytes(encoded(Image.fromarray(GRAY), kind))
    for read in (read_gray, read_size):
        with pytest.raises(ImageError, match=f"not a JPEG, PNG or DICOM image{said}"):
            read(tmp_path / "film.png")


def test_the_content_and_not_the_suffix_tells_jpeg_from_png(tmp_path: Path) -> None:
    (tmp_path / "film.jpeg").write_bytes(encoded(Image.fromarray(GRAY), "PNG"))
    np.testing.assert_array_equal(read_gray(tmp_path / "film.jpeg"), GRAY)


@pytest.mark.parametrize(("width", "height"), [(8000, 6251), (10_000, 10_000), (60_000, 60_000)])
@pytest.mark.parametrize("forge", [png_header, jpeg_claiming])
@pytest.mark.parametrize("action", ["ignore", "error"])  # between 89 and 179 MP Pillow warns
def test_a_header_of_more_than_50_megapixels_is_refused_before_decoding(
    tmp_path: Path, forge: object, width: int, height: int, action: str
) -> None:
    assert callable(forge)
    (tmp_path / "film").write_bytes(forge(width, height))
    with warnings.catch_warnings():
        warnings.simplefilter(action)  # type: ignore[arg-type]
        for read in (read_gray, read_size):
            with pytest.raises(ImageError, match="50 megapixels"):  # decoding would say "truncated"
                read(tmp_path / "film")


def test_a_header_of_exactly_50_megapixels_is_not_too_large(tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(png_header(8000, 6250))
    width, height = read_size(tmp_path / "film")
    assert width * height == MAX_PIXELS


# Size


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.sampled_from(["JPEG", "PNG"]))
@rewrites_one_file
def test_the_result_is_a_square_of_the_wanted_side(
    tmp_path: Path, width: int, height: int, size: int, kind: str
) -> None:
    (tmp_path / "film").write_bytes(encoded(Image.new("L", (width, height), 128), kind))
    assert read_size(tmp_path / "film") == (width, height)
    out = read_gray(tmp_path / "film", size)
    assert out.shape == (size, size) and (out == 128).all()


def test_without_a_size_the_image_keeps_its_own(tmp_path: Path) -> None:
    Image.fromarray(GRAY).save(tmp_path / "film.png")
    np.testing.assert_array_equal(read_gray(tmp_path / "film.png"), GRAY)


@pytest.mark.parametrize("size", [224, 256])
def test_the_quick_decode_of_originals_is_within_half_a_gray_level_of_a_full_one(shared: Path, size: int) -> None:
    paths = sorted((shared / "data" / "chest_xray_originals").glob("*/*.jpeg"))
    assert len(paths) == 200
    errors = []
    for path in paths[::20]:
        with Image.open(path) as image:
            full = image.convert("L").resize((size, size), Image.Resampling.BILINEAR)
        errors.append(np.abs(read_gray(path, size).astype(float) - np.asarray(full)).mean())
    assert np.mean(errors) < 0.5 and max(errors) < 1.0
    assert max(errors) > 0  # else no film was large enough to be decoded quickly
