"""What the files of a data set are like: size and kind by their headers, color, and what is no image at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from pneumolit.cores import available_cores
from pneumolit.data.demo import MARKER as DEMO_MARKER
from pneumolit.data.dicom import is_dicom
from pneumolit.data.film import check_size
from pneumolit.data.pneumoniamnist import MARKER as MNIST_MARKER
from pneumolit.data.reader import FORMATS, SUFFIXES, colorfulness, exif_orientation, read_size
from pneumolit.data.store import Progress
from pneumolit.data.table import RecordTable

# Gray levels of 255. JPEG rounds the channels of a gray picture at most one level apart; what is visibly tinted has 3.
COLORED = 2.0
TINY = 112  # pixels of the shorter side: half of the 224 that most models take
NARROWEST, WIDEST = 0.5, 2.5  # width over height; of 200 original films of the Kaggle set 98 % lie between 1.0 and 2.4
_COLOR_SIDE = 64  # pixels at which color is looked at: a tint is large, and a JPEG is decoded small
_UPRIGHT = 1  # EXIF orientation of a picture that need not be turned
_TOLD_KINDS = {
    "CMYK": "CMYK, the colors of print",
    "1": "black and white only, one bit a pixel",
    "P": "a palette: its numbers are places in a list of colors",
    "PA": "a palette, and partly transparent",
    "LA": "partly transparent",
    "RGBA": "partly transparent",
}
_DICOM, _PREAMBLE = "DICOM", 132  # bytes that tell it
_SUFFIXES_OF = {"JPEG": (".jpeg", ".jpg"), "PNG": (".png",)}


@dataclass(frozen=True)
class FileFacts:
    """One file by its header.

    Attributes:
        width: pixels as they lie in the file; 0 where it cannot be read.
        height: likewise.
        num_bytes: size of the file; 0 where there is none.
        odd: (kind, what was found) of everything that is unusual for a film.
    """

    width: int = 0
    height: int = 0
    num_bytes: int = 0
    odd: tuple[tuple[str, str], ...] = field(default=())


def inspect_files(
    root: Path, paths: Sequence[str], unreadable: Iterable[int] = (), progress: Progress | None = None
) -> list[FileFacts]:
    """Look at every file; only what has color channels is decoded, and that small.

    Args:
        root: the data root.
        paths: files relative to root.
        unreadable: rows that are known to be broken; nothing is asked of them.
        progress: called now and then.
    """
    skipped = set(unreadable)
    found: list[FileFacts] = []
    with ThreadPoolExecutor(len(available_cores()) + 1) as pool:  # Pillow decodes without the interpreter's lock
        files = (None if row in skipped else root / path for row, path in enumerate(paths))
        try:
            for facts in pool.map(_inspect, files):
                found.append(facts)
                if progress is not None and (len(found) % 64 == 0 or len(found) == len(paths)):
                    progress("inspecting", len(found), len(paths))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def inspect_file(path: Path) -> FileFacts:
    """One file by its header, and the color of one that has color channels.

    Raises:
        OSError, ValueError, SyntaxError: it is no image.
    """
    size = path.stat().st_size
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_size(*image.size)
            (width, height), kind, mode = image.size, str(image.format), image.mode
            turn = exif_orientation(image)
            frames = getattr(image, "n_frames", 1)
            is_transparent = "transparency" in image.info
            distance = _color_distance(image)
    except Image.DecompressionBombError:
        return FileFacts(num_bytes=size)
    except (OSError, ValueError, SyntaxError):
        with path.open("rb") as file:
            if not is_dicom(file.read(_PREAMBLE)):
                raise
        width, height = read_size(path)
        return FileFacts(width, height, size, tuple(_suffix_oddities(path, _DICOM) + _shape_oddities(width, height)))
    # Of several pictures in one JPEG, as some cameras write, the first is read.
    odd = _suffix_oddities(path, "JPEG" if kind == "MPO" else kind)
    if mode.startswith(("I", "F")):
        odd.append(("depth", "more than 8 bits a pixel"))
    elif mode in _TOLD_KINDS or is_transparent:
        odd.append(("channels", _TOLD_KINDS.get(mode, "partly transparent")))
    if turn != _UPRIGHT:
        odd.append(("rotation", f"turned or mirrored by EXIF orientation {turn}"))
    if frames > 1:
        odd.append(("frames", f"{frames} pictures in one file; the first is read"))
    if distance > COLORED:
        odd.append(("color", f"not gray: channels {distance:.1f} levels apart"))
    return FileFacts(width, height, size, tuple(odd + _shape_oddities(width, height)))


def find_strays(root: Path, records: RecordTable) -> list[tuple[str, str]]:
    """What lies beside the images and is none of them: (path, why it is left out).

    Args:
        root: the data root.
        records: all images of it.
    """
    known = set(records.texts("path"))
    folders = {os.path.dirname(path) for path in known}  # noqa: PTH120  a Path per image would take seconds
    above = {part.as_posix() for folder in folders for part in Path(folder).parents}
    return sorted(
        (path, reason)
        for folder in folders | above
        for path, reason in _strays_in(root, folder, inside=folder in folders)
        if path not in known and path not in folders and path not in above
    )


def _inspect(path: Path | None) -> FileFacts:
    if path is None:
        return FileFacts()
    try:
        return inspect_file(path)
    except (OSError, ValueError, SyntaxError):  # taken away or broken since the store was built, which names it
        return FileFacts()


def _strays_in(root: Path, folder: str, *, inside: bool) -> Iterator[tuple[str, str]]:
    base = root / folder
    with os.scandir(base) as entries:
        for entry in entries:
            path = entry.name if folder in ("", ".") else f"{folder}/{entry.name}"
            is_folder, is_file = _kind(entry)
            if is_folder:
                if inside or (not entry.name.startswith(".") and not _is_split(entry.name)):
                    yield path, "a folder; its content is not read"
            elif entry.name.startswith("."):
                if entry.name not in (DEMO_MARKER, MNIST_MARKER):
                    yield path, "hidden, such as a Mac leaves behind"
            elif not is_file:  # before it is opened: a pipe would wait for ever
                yield path, "a link to nothing, a pipe or a device"
            elif not entry.name.lower().endswith(tuple(SUFFIXES)):
                yield path, "not named as an image" + (", though it is one" if _is_image(base / entry.name) else "")
            else:
                yield path, "an image outside of the class folders" if not inside else "an image that is not listed"


def _kind(entry: os.DirEntry[str]) -> tuple[bool, bool]:
    """Whether it is a folder, and whether it is a file; a link to itself is neither."""
    try:
        return entry.is_dir(), entry.is_file()
    except OSError:
        return False, False


def _is_split(name: str) -> bool:
    return name in ("train", "val", "test")


def _is_image(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.format is not None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _color_distance(image: Image.Image) -> float:
    image.draft("YCbCr", (_COLOR_SIDE, _COLOR_SIDE))  # a JPEG is decoded at an eighth of its size
    return colorfulness(image)


def _suffix_oddities(path: Path, kind: str) -> list[tuple[str, str]]:
    suffix = path.suffix.lower()
    own = _SUFFIXES_OF.get(kind, tuple(SUFFIXES - {".jpeg", ".jpg", ".png"}))
    return [] if suffix in own else [("suffix", f"named {suffix or 'without suffix'}, but {kind} inside")]


def _shape_oddities(width: int, height: int) -> list[tuple[str, str]]:
    odd = []
    if not NARROWEST <= width / max(1, height) <= WIDEST:
        odd.append(("shape", f"{width} x {height} pixels: an unusual shape for a chest"))
    if min(width, height) < TINY:
        odd.append(("tiny", f"tiny: {width} x {height} pixels"))
    return odd
