"""JPEG and PNG files as they should not be, odd ones that are sound, and other files under their names."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image, features

Expected = Literal["refused", "read", "either"]

WIDTH, HEIGHT = 96, 64  # of every film that does not say otherwise
GIGABYTE = 1024  # in the blocks of a megabyte that a bomb is made of
_UPRIGHT, _TURNED = (WIDTH, HEIGHT), (HEIGHT, WIDTH)
_ORIENTATION, _X_RESOLUTION = 0x0112, 0x011A
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class Case(NamedTuple):
    """A file before it is written; what the fields say stands at `tests.malformed.MalformedFile`."""

    name: str
    problem: str
    expected: Expected
    data: bytes
    size: tuple[int, int] = _UPRIGHT


# Films and the parts of files


def film() -> np.ndarray:
    """`(64, 96)` uint8: shades and grain, so that no two places are alike and nothing compresses to nothing."""
    shades = np.add.outer(np.arange(HEIGHT) * 2, np.arange(WIDTH))
    return np.asarray(shades + np.random.default_rng(0).integers(0, 24, (HEIGHT, WIDTH)), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()


def zeros(megabytes: int) -> bytes:
    """A deflate stream of zeros but for its last block: a block that needs no other, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)) * megabytes


def jpeg_claiming(width: int, height: int) -> bytes:
    """A film whose header names another size."""
    data = encoded(film(), "JPEG")
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + struct.pack(">HH", height, width) + data[start + 4 :]


def _jpeg_with(marker: int, content: bytes) -> bytes:
    """A film with one more segment right after its beginning."""
    data = encoded(film(), "JPEG")
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + data[2:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(stream: bytes | None, width: int = WIDTH, height: int = HEIGHT, **header: Any) -> bytes:
    """A PNG of a compressed stream; None: without any. `extra` are further chunks."""
    kinds = [header.get(name, usual) for name, usual in (("depth", 8), ("color", 0), ("interlace", 0))]
    start: bytes = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, kinds[0], kinds[1], 0, 0, kinds[2]))
    extra: bytes = header.get("extra", b"")
    body = b"" if stream is None else _chunk(b"IDAT", stream)
    return b"\x89PNG\r\n\x1a\n" + start + extra + body + _chunk(b"IEND", b"")


def _stream(pixels: np.ndarray) -> bytes:
    """Rows, each after its filter byte, as a PNG holds them."""
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))


# The cases


def foreign_cases() -> list[Case]:
    """What is no JPEG, PNG or DICOM file under the name of one."""
    gray = Image.fromarray(film())
    moving = [Image.fromarray(np.roll(film(), step)) for step in range(3)]
    texts = {
        "text": "this is no film\n",
        "html": "<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>nginx</body></html>\n",
        "json": '{"error": "quota exceeded"}\n',
        "svg": '<svg xmlns="http://www.w3.org/2000/svg" width="96" height="64"><rect width="9" height="9"/></svg>\n',
        "lfs_pointer": f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * '0'}\nsize 12345\n",
        "csv": "path,label\na.jpeg,NORMAL\n",
    }
    cases = [
        Case(f"{kind}.jpeg", f"{kind} under the name of an image", "refused", t.encode()) for kind, t in texts.items()
    ]
    for suffix in (".jpeg", ".png", ".dcm"):
        cases.append(Case(f"empty{suffix}", "no bytes", "refused", b""))
        cases.append(Case(f"zeros{suffix}", "zeros, as a disk leaves after a power cut", "refused", bytes(4096)))
    others = {
        "GIF": ".jpeg",
        "BMP": ".png",
        "TIFF": ".jpeg",
        "PPM": ".png",
        "ICO": ".png",
        "PCX": ".jpeg",
        "EPS": ".jpeg",
    }
    others |= {"JPEG2000": ".jpeg"} | ({"WEBP": ".jpeg"} if features.check("webp") else {})
    for kind, suffix in others.items():
        cases.append(Case(f"{kind.lower()}{suffix}", f"a {kind} file", "refused", encoded(gray, kind)))
    animated = encoded(gray, "GIF", save_all=True, append_images=moving)
    return [
        *cases,
        Case("text.dcm", "text under the name of a DICOM file", "refused", b"this is no film\n" * 20),
        Case("zip.jpeg", "an empty archive", "refused", b"PK\x05\x06" + bytes(18)),
        Case("pdf.png", "the beginning of a PDF", "refused", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"),
        Case("animated_gif.png", "three pictures in a GIF", "refused", animated),
        Case("float_tiff.png", "a TIFF file of fractions", "refused", encoded(film().astype(np.float32) / 255, "TIFF")),
    ]  # fmt: skip


def _turned(kind: str, orientation: int) -> Case:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    size = _TURNED if 5 <= orientation <= 8 else _UPRIGHT
    problem = "turned by its EXIF tag" if 2 <= orientation <= 8 else "an EXIF turn that there is not"
    return Case(f"exif_{orientation}.{kind.lower()}", problem, "read", encoded(film(), kind, exif=exif), size)


def _text_for_number() -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION], exif[_X_RESOLUTION] = 6, 3.5
    data = encoded(film(), "JPEG", exif=exif)
    for order in (">", "<"):  # a ratio is called a text
        kind, other = (struct.pack(f"{order}HH", _X_RESOLUTION, number) for number in (5, 2))
        data = data.replace(kind, other)
    return data


def jpeg_cases() -> list[Case]:
    """JPEG files."""
    gray = film()
    jpeg = encoded(gray, "JPEG", quality=95)
    tiff = b"Exif\0\0II*\0\x08\0\0\0"
    beyond = tiff + b"\xff\xff" + struct.pack("<HHII", _ORIENTATION, 3, 99_999_999, 0xFFFFFF00)
    loop = tiff + b"\0\0" + struct.pack("<I", 8)
    pair = encoded(gray, "MPO", save_all=True, append_images=[Image.fromarray(gray[::-1])])
    no_scan = jpeg[: jpeg.index(b"\xff\xda")] + b"\xff\xd9"
    early = encoded(gray, "JPEG", quality=95)[: len(jpeg) * 2 // 3] + b"\xff\xd9"
    return [
        *(_turned("JPEG", orientation) for orientation in (0, 2, 3, 4, 5, 6, 7, 8, 9, 65535)),
        Case("exif_text_for_number.jpeg", "an EXIF ratio that is a text", "read", _text_for_number(), _TURNED),
        Case("exif_garbage.jpeg", "EXIF of noise", "read", _jpeg_with(0xE1, b"Exif\0\0" + bytes(range(256)))),
        Case("exif_beyond_its_end.jpeg", "EXIF tags that point behind the file", "read", _jpeg_with(0xE1, beyond)),
        Case("exif_loop.jpeg", "EXIF tables of which the next is the first", "read", _jpeg_with(0xE1, loop)),
        Case("profile_garbage.jpeg", "a noisy profile", "read", _jpeg_with(0xE2, b"ICC_PROFILE\0\1\1" + bytes(99))),
        Case("cmyk.jpeg", "four inks", "read", encoded(Image.fromarray(gray).convert("CMYK"), "JPEG")),
        Case("comment.jpeg", "a long comment before its header", "read", _jpeg_with(0xFE, b"x" * 60_000)),
        Case("more_behind.jpeg", "something else behind its end", "read", jpeg + b"\0" * 500 + jpeg),
        Case("two_pictures.jpeg", "two pictures in one file, as some cameras write", "read", pair),
        Case("line_before.jpeg", "a line break before its beginning", "refused", b"\r\n" + jpeg),
        Case("bytes_as_utf8.jpeg", "every byte written as a letter", "refused", jpeg.decode("latin-1").encode()),
        Case("no_codes.jpeg", "without its Huffman tables", "either", jpeg.replace(b"\xff\xc4", b"\xff\xe9")),
        Case("no_quantization.jpeg", "without its other tables", "refused", jpeg.replace(b"\xff\xdb", b"\xff\xe9")),
        Case("no_scan.jpeg", "ends where its pixels would begin", "refused", no_scan),
        Case("early_end.jpeg", "an end mark after two thirds of its pixels", "either", early),
        Case("huge.jpeg", "65,500 x 65,500 pixels by its header", "refused", jpeg_claiming(65_500, 65_500)),
        Case("tall.jpeg", "65,000 rows by its header, of which 64 are there", "either", jpeg_claiming(WIDTH, 65_000)),
        Case("no_width.jpeg", "no columns by its header", "refused", jpeg_claiming(0, HEIGHT)),
        Case("no_height.jpeg", "no rows by its header", "refused", jpeg_claiming(WIDTH, 0)),
    ]  # fmt: skip


def flat_cases() -> list[Case]:
    """Films without contrast, or hardly any pixels."""
    cases = []
    for kind, suffix in (("JPEG", ".jpg"), ("PNG", ".PNG")):
        for size in ((1, 1), (1, 5000), (5000, 1)):
            name = f"{size[0]}x{size[1]}"
            cases.append(
                Case(f"{name}{suffix}", f"{name} pixels", "read", encoded(Image.new("L", size, 99), kind), size)
            )
        for name, level in (("black", 0), ("white", 255)):
            data = encoded(Image.new("L", _UPRIGHT, level), kind)
            cases.append(Case(f"{name}{suffix}", f"nothing but {name}", "read", data))
    return cases


def png_cases() -> list[Case]:
    """PNG files."""
    gray = film()
    image, stream, png = Image.fromarray(gray), _stream(gray), encoded(gray, "PNG")
    palette, wide = image.convert("P"), gray.astype(np.uint16)
    color = _stream(np.stack([wide.astype(">u2") * 257] * 3, axis=2))
    moving = encoded(image, "PNG", save_all=True, append_images=[Image.fromarray(gray[::-1])])
    passes = (np.ascontiguousarray(gray[y::dy, x::dx]) for x, y, dx, dy in _ADAM7)
    woven = _png(zlib.compress(b"".join(b"\0" + row.tobytes() for part in passes for row in part)), interlace=1)
    end = len(png) - 16  # where the checksum of the pixels is
    return [
        *(Case(f"mode_{mode}.png", f"pixels of kind {mode}", "read", encoded(image.convert(mode), "PNG"))
          for mode in ("1", "LA", "RGBA", "P")),
        _turned("PNG", 6),
        Case("palette_transparent.png", "a transparent color", "read", encoded(palette, "PNG", transparency=3)),
        Case("palette_alpha.png", "all opacities", "read", encoded(palette, "PNG", transparency=bytes(range(256)))),
        Case("palette_absent.png", "indices without their palette", "either", _png(stream, color=3)),
        Case("16_bit.png", "65,536 shades", "read", encoded(wide * 257, "PNG")),
        Case("16_bit_dark.png", "65,536 shades, of which 256 are used", "read", encoded(wide, "PNG")),
        Case("16_bit_color.png", "48 bits, of which 24 would be read", "refused", _png(color, depth=16, color=2)),
        Case("1_bit.png", "eight pixels in a byte", "read", _png(_stream(np.packbits(gray > 99, axis=1)), depth=1)),
        Case("animated.png", "an animated PNG", "read", moving),
        Case("interlaced.png", "an interlaced PNG", "read", woven),
        Case("interlaced_cut.png", "an interlaced PNG without its last passes", "refused", woven[: len(woven) // 3]),
        Case("as_text.png", "line ends changed by a transfer as text", "refused", png.replace(b"\r\n", b"\n")),
        Case("header_checksum.png", "a wrong checksum of its header", "refused", png[:29] + bytes(4) + png[33:]),
        Case("pixels_checksum.png", "a wrong checksum of its pixels", "refused", png[:end] + bytes(4) + png[end + 4 :]),
        Case("inner_checksum.png", "a wrong checksum within its pixels", "refused", _png(stream[:-4] + bytes(4))),
        Case("no_pixels.png", "no chunk of pixels", "refused", _png(None)),
        Case("empty_pixels.png", "an empty chunk of pixels", "refused", _png(b"")),
        Case("few_rows.png", "half of its rows in a whole stream", "either", _png(_stream(gray[:32]))),
        Case("not_compressed.png", "pixels that are not compressed", "refused", _png(gray.tobytes())),
        Case("filter_9.png", "a filter that there is not", "refused", _png(zlib.compress((b"\x09" + bytes(96)) * 64))),
        Case("depth_3.png", "3 bits per pixel", "refused", _png(stream, depth=3)),
        Case("color_5.png", "a kind of color that there is not", "refused", _png(stream, color=5)),
        Case("no_width.png", "no columns", "refused", _png(stream, 0)),
        Case("huge.png", "60,000 x 60,000 pixels by its header", "refused", _png(stream, 60_000, 60_000)),
        Case("endless.png", "2^31 - 1 pixels square by its header", "refused", _png(stream, 2**31 - 1, 2**31 - 1)),
        Case("large.png", "7,000 x 7,000 pixels by its header", "either", _png(stream, 7000, 7000)),
        Case("chunk_length.png", "a chunk of 2 GB by its length", "refused", png[:33] + b"\x7f\xff\xff\xff" + png[37:]),
        *_png_bombs(stream),
    ]  # fmt: skip


def _zlib_zeros(megabytes: int) -> bytes:
    # The end of the stream is a checksum, which of n zeros is (n, 1).
    return b"\x78\xda" + zeros(megabytes) + b"\x03\x00" + struct.pack(">HH", (megabytes << 20) % 65521, 1)


def _png_bombs(stream: bytes) -> list[Case]:
    bomb = _zlib_zeros(GIGABYTE)
    text, profile = _chunk(b"zTXt", b"Comment\0\0" + bomb), _chunk(b"iCCP", b"sRGB\0\0" + bomb)
    return [
        Case("text_bomb.png", "a comment of a gigabyte, compressed", "either", _png(stream, extra=text)),
        Case("profile_bomb.png", "a color profile of a gigabyte, compressed", "either", _png(stream, extra=profile)),
        Case("flat_bomb.png", "144 megapixels, all there and black", "refused", _png(_zlib_zeros(138), 12_000, 12_000)),
        Case("pixel_bomb.png", "pixels of a gigabyte for a film of 6 kB", "either", _png(bomb)),
    ]
