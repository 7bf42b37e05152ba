"""Image files as they should not be, and odd ones that are sound: `python -m tests.malformed FOLDER` writes them all.

The same bytes every time, in less than a second: what is compressed to a fraction of its size is put together from one
compressed block, so that no gigabyte is ever made here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.malformed_dicom import changed_dicom, deflated_start, dicom, no_film_cases, packed_cases, value_cases
from tests.malformed_images import (
    HEIGHT,
    WIDTH,
    Case,
    Expected,
    encoded,
    film,
    flat_cases,
    foreign_cases,
    jpeg_cases,
    png_cases,
)


@dataclass(frozen=True)
class MalformedFile:
    """One file of the corpus.

    Attributes:
        path: where it lies.
        problem: what is wrong with it, or odd about it.
        expected: whether a reader should refuse it or read it; "either" where the library decides, and all that is
            asked for is a film or a refusal.
        size: width and height of the upright film, where it is to be read.
    """

    path: Path
    problem: str
    expected: Expected
    size: tuple[int, int] = (WIDTH, HEIGHT)

    @property
    def name(self) -> str:
        """Its file name; of some it holds bytes that are no text."""
        return self.path.name


def write_malformed(folder: Path, *, special: bool = False) -> list[MalformedFile]:
    """Write the corpus.

    Args:
        folder: made where it does not exist.
        special: whether to write what not every file system holds too: a folder, links and pipes with the names of
            images, and films, sound and not, with every kind of odd name.

    Returns:
        What was written, in the order of the names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cases = [*_damaged_cases(), *_misnamed_cases(), *foreign_cases(), *jpeg_cases(), *flat_cases(), *png_cases()]
    cases += [*no_film_cases(), *packed_cases(), *value_cases()]
    cases += _oddly_named_cases() if special else []
    written = [MalformedFile(folder / case.name, case.problem, case.expected, case.size) for case in cases]
    for file, case in zip(written, cases, strict=True):
        file.path.write_bytes(case.data)
    written += _special_files(folder) if special else []
    assert len({file.name for file in written}) == len(written), "two files of one name"
    return sorted(written, key=lambda file: os.fsencode(file.name))


def _sound() -> Iterator[tuple[str, bytes, int]]:
    """Name, bytes, and where the pixels begin, of one film in every format."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

    gray = film()
    color = np.stack([gray, gray // 2, 255 - gray], axis=2)
    baseline = encoded(gray, "JPEG", quality=90)
    for name, data in (("plain.jpeg", baseline), ("progressive.jpeg", encoded(color, "JPEG", progressive=True))):
        yield name, data, data.index(b"\xff\xda") + 14
    palette = Image.fromarray(color).quantize(64)
    for name, image in (("plain.png", gray), ("16_bits.png", gray.astype(np.uint16) * 257), ("palette.png", palette)):
        data = encoded(image, "PNG")
        yield name, data, data.index(b"IDAT") + 4
    jpeg_2000 = encoded(gray, "JPEG2000", irreversible=False)
    yield "plain.dcm", dicom(), len(dicom()) - gray.size
    runs = changed_dicom(lambda dataset: dataset.compress(RLELossless, generate_instance_uid=False))
    yield "runs.dcm", runs, runs.rindex(b"\xfe\xff\x00\xe0") + 8 + 64  # after the table of its segments
    for name, syntax, frame, header in (
        ("jpeg.dcm", JPEGBaseline8Bit, baseline, baseline.index(b"\xff\xda") + 14),
        ("jpeg_2000.dcm", JPEG2000Lossless, jpeg_2000, jpeg_2000.index(b"\xff\x93") + 2),
    ):
        data = dicom(syntax=syntax, PixelData=frame)
        yield name, data, data.rindex(b"\xfe\xff\x00\xe0") + 8 + header
    deflated = dicom(syntax=DeflatedExplicitVRLittleEndian)
    yield "deflated.dcm", deflated, deflated_start(deflated) + 100


def _damaged_cases() -> Iterator[Case]:
    """Every format, damaged in every way."""
    for name, data, pixels in _sound():
        is_dicom, is_plain = name.endswith(".dcm"), name == "plain.dcm"
        tells = 128 if is_dicom else 0  # what tells the format
        short = 200 if is_dicom else 30
        middle = (pixels + len(data)) // 2
        first = data[:tells] + bytes([data[tells] ^ 1]) + data[tells + 1 :]
        flips = _flipped(data, pixels, len(data), 20)
        zeros: Expected = "read" if is_plain else "either" if is_dicom else "refused"
        yield Case(f"header_only_{name}", "ends within its header", "refused", data[:short])
        yield Case(f"half_{name}", "ends in the middle of its pixels", "refused", data[:middle])
        yield Case(f"end_lost_{name}", "the last 40 bytes are lost", "refused", data[:-40])
        yield Case(f"zeros_{name}", "half of its pixels are zeros", zeros, data[:middle] + bytes(len(data) - middle))
        yield Case(f"flips_{name}", "20 bits of its pixels are turned", "read" if is_plain else "either", flips)
        yield Case(f"first_flip_{name}", "a bit of what tells its format is turned", "refused", first)
        header = _flipped(data, tells + 8, pixels, 8)
        yield Case(f"header_flips_{name}", "8 bits of its header are turned", "either", header)


def _flipped(data: bytes, start: int, end: int, count: int) -> bytes:
    """Some bits between two places turned, always the same ones."""
    damaged, rng = bytearray(data), np.random.default_rng(len(data))
    for place in rng.choice(np.arange(start, end), count, replace=False):
        damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _misnamed_cases() -> Iterator[Case]:
    sound = {"jpeg": encoded(film(), "JPEG"), "png": encoded(film(), "PNG"), "dicom": dicom()}
    for kind, wrong in (("jpeg", ".png"), ("png", ".jpeg"), ("jpeg", ".dcm"), ("dicom", ".png"), ("dicom", ".jpeg")):
        yield Case(f"{kind}_named{wrong}", "the suffix of another format", "read", sound[kind])
        yield Case(f"half_{kind}_named{wrong}", "that, and cut off", "refused", sound[kind][: len(sound[kind]) // 2])


def _oddly_named_cases() -> Iterator[Case]:
    names = {
        "255 bytes": "n" * 250 + ".jpeg",
        "83 letters of three bytes each": "폐" * 83 + ".jpeg",
        "bytes that are no UTF-8": os.fsdecode(b"caf\xe9 \xff\xfe.jpeg"),
        "a line break": "two\nlines.jpeg",
        "a carriage return": "two\rlines.jpeg",
        "a tab": "a\ttab.jpeg",
        "an escape sequence": "\x1b[31mred\x1b[0m.jpeg",
        "a letter that turns the direction": "film\u202egepj.jpeg",
        "quotes": "'single' \"double\" `back`.jpeg",
        "signs of the command line": "run_dir=a,b=[c,{d:e}],${oc.env:HOME}.jpeg",
        "signs of a table": '"=1+1",;|.jpeg',
        "marks of a text": "[bold]a[red] *b* <b>c&amp; %s {0}.jpeg",
        "backslashes": "a\\nb\\.jpeg",
        "spaces": "  a  film .jpeg",
        "a dash in front": "--help.jpeg",
        "Korean letters": "흉부 사진.jpeg",
        "a picture": "🫁.jpeg",
        "two suffixes": "film.dcm.jpeg",
    }
    sound = encoded(film(), "JPEG")
    for what, name in names.items():
        yield Case(name, f"a sound film; its name: {what}", "read", sound)
        if len(os.fsencode(name)) < 250:
            yield Case(f"_{name}", f"no film; its name: {what}", "refused", b"no film")


def _special_files(folder: Path) -> list[MalformedFile]:
    """What only looks like a file; what is there already is left."""

    def made(name: str, problem: str, make: Callable[[Path], None], expected: Expected = "refused") -> MalformedFile:
        path = folder / name
        if not os.path.lexists(path):
            make(path)
        return MalformedFile(path, problem, expected)

    def link(name: str, target: str, problem: str, expected: Expected = "refused") -> MalformedFile:
        return made(name, problem, lambda path: path.symlink_to(target), expected)

    return [
        made("folder.jpeg", "a folder", Path.mkdir),
        made("pipe.jpeg", "a pipe that nobody writes to", os.mkfifo),
        made("pipe.dcm", "a pipe that nobody writes to", os.mkfifo),
        link("link.jpeg", "black.jpg", "a link to a film", "read"),
        link("link_to_nothing.jpeg", "gone.jpeg", "a link to what is not there"),
        link("link_to_itself.jpeg", "link_to_itself.jpeg", "a link to itself"),
        link("link_to_here", ".", "a link to the folder that it lies in"),
        link("link_to_pipe.jpeg", "pipe.jpeg", "a link to a pipe"),
        link("link_to_device.jpeg", "/dev/zero", "a link to a device without an end"),
    ]


def main() -> None:
    """Write the corpus into a folder and list it."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m tests.malformed FOLDER")
    written = write_malformed(Path(sys.argv[1]), special=True)
    for file in written:
        print(f"{file.expected:8} {file.name!a:50} {file.problem}")
    print(f"{len(written)} files")


if __name__ == "__main__":
    main()
