"""What `input=` names: files, folders, patterns and lists become the paths of image files, one by one."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pneumolit.data.dicom import is_dicom
from pneumolit.data.reader import SUFFIXES

STDIN = "-"
# Pictures that nobody reads here: a row that says so is better than a film that is missing from the table.
_OTHER_PICTURES = frozenset(
    (".gif", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".j2k", ".jfif", ".jpe", ".heic", ".avif")
)
_MAGIC = "*?["
PICTURES_MARKER = ".pneumolit_heatmaps"  # in a folder of pictures that are no films
_CHUNK = 1 << 16  # bytes of a list at a time


@dataclass
class Inputs:
    """The files that some texts name, in an order that is the same every time.

    Of a folder it is every file below it, by name, that is called an image or, without a suffix, begins as DICOM; links
    are followed, each folder once on the way to it. Of what a pattern matches, files and folders alike. `-` reads
    names from standard input: one per line, or with null bytes in between (`find -print0`). Nothing is held but the
    names of one folder, or what one pattern matches.

    Args:
        texts: files, folders, patterns (`*`, `?`, `[...]`, `**`; a file that is called so comes first) or `-`.
        stdin: that `-` reads; None takes the process's own.
    """

    texts: Sequence[str]
    stdin: BinaryIO | None = None
    num_aside: int = field(default=0, init=False)  # files in folders that are no images by their names

    def __post_init__(self) -> None:
        """Refuse what names nothing, before a model is loaded.

        Raises:
            FileNotFoundError: names the first text that is no file, folder or pattern that matches.
        """
        if not self.texts:
            raise FileNotFoundError("input is empty; give a file, a folder, a pattern such as 'films/*.dcm', or -")
        for text in self.texts:
            if text == STDIN or names_a_place(text):
                continue
            if not any(letter in text for letter in _MAGIC):
                raise FileNotFoundError(
                    f"input={text} does not exist; give a file, a folder, a pattern or - for a list"
                )
            if next(glob.iglob(_expanded(text), recursive=True), None) is None:
                raise FileNotFoundError(
                    f"input={text} matches no file; put a pattern in quotes, and mind the folder that you stand in"
                )

    def __iter__(self) -> Iterator[str]:
        self.num_aside = 0
        for text in self.texts:
            if text == STDIN:
                yield from read_names(self.stdin or sys.stdin.buffer)
            elif names_a_place(text):
                yield from self._files(_expanded(text))
            else:
                for match in sorted(glob.iglob(_expanded(text), recursive=True)):
                    # `**` lists folders beside what they hold.
                    if not (os.path.isdir(match) and "**" in text):
                        yield from self._files(match)

    def _files(self, path: str) -> Iterator[str]:
        if os.path.isdir(path):
            yield from self._below(path, ())
        else:
            yield path  # whoever names a file wants its row

    def _below(self, folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
        told = os.stat(folder)
        own = (told.st_dev, told.st_ino)
        if own in above:  # a link to a folder that holds it
            return
        try:
            names = sorted(os.listdir(folder))
        except OSError:  # no permission; its name as a row says so
            yield folder
            return
        if PICTURES_MARKER in names:
            return
        for name in names:
            path = os.path.join(folder, name)
            if name.startswith("."):
                continue
            if os.path.isdir(path):
                yield from self._below(path, (*above, own))
            elif _is_called_image(path):
                yield path
            else:
                self.num_aside += 1


def names_a_place(text: str) -> bool:
    """Whether a text of `input` is a file or a folder, and no list or pattern."""
    return text != STDIN and os.path.lexists(_expanded(text))


def read_names(stream: BinaryIO) -> Iterator[str]:
    """Names from a list, one per line or with null bytes in between; empty ones are passed over.

    >>> list(read_names(io.BytesIO(b"a.png\\nb c.png\\r\\n")))
    ['a.png', 'b c.png']
    >>> list(read_names(io.BytesIO(b"a\\nb.png\\0c.png\\0")))
    ['a\\nb.png', 'c.png']
    """
    rest, between = b"", b""
    while chunk := stream.read(_CHUNK):
        rest += chunk
        between = between or (b"\0" if b"\0" in rest else b"")
        # A list with null bytes shows one within its first chunk, unless a single name is longer than that.
        *whole, rest = rest.split(between or b"\n")
        yield from _decoded(whole, is_lines=not between)
    yield from _decoded([rest], is_lines=not between)


def _decoded(names: Iterable[bytes], *, is_lines: bool) -> Iterator[str]:
    for name in names:
        name = name.removesuffix(b"\r") if is_lines else name
        if name:
            yield os.fsdecode(name)


def _expanded(text: str) -> str:
    return os.path.expanduser(text)


def _is_called_image(path: str) -> bool:
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES or suffix in _OTHER_PICTURES:
        return True
    # Archives name DICOM files by numbers with dots, or by nothing.
    return (not suffix or suffix[1:].isdigit()) and _begins_as_dicom(path)


def _begins_as_dicom(path: str) -> bool:
    try:
        if not Path(path).is_file():  # a pipe would wait for ever
            return False
        with open(path, "rb", buffering=0) as file:
            return is_dicom(file.read(132))
    except OSError:
        return False
