"""Small pictures of what an audit found, for its page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from pneumolit.auditing.showing import readable
from pneumolit.auditing.subject import Subject
from pneumolit.data.film import ImageError, check_size
from pneumolit.data.reader import FORMATS

Pictures = list[tuple[Path, str]]
MOST_PAIRS, MOST_ODD, MOST_LABELS = 12, 24, 24  # of pictures
_SIDE = 160  # pixels
_GAP = 4  # between two films of a pair
_QUALITY = 80


def draw_pictures(found: Mapping[str, Any], subject: Subject, folder: Path) -> dict[str, Pictures]:
    """Write JPEG files of copies, odd files and doubtful labels.

    Args:
        found: what `audit_data` found.
        subject: the images.
        folder: for the files; they are needed until the page is written.

    Returns:
        "copies", "odd" and "labels": (file, caption) each, the gravest first.
    """
    row_of = {path: row for row, path in enumerate(subject.paths)}
    writer = _Writer(subject, row_of, folder)
    copies = found["copies"]
    records = subject.records
    values = {"is_across_splits": records.texts("split"), "is_across_classes": records.texts("label")}

    def ends(copy: Mapping[str, Any]) -> list[str]:
        """Of many files the first, and the first that lies on another side, or else the last."""
        first, *others = copy["paths"]
        for key, of in values.items():
            if copy[key]:
                return [first, next(path for path in others if of[row_of[path]] != of[row_of[first]])]
        return [first, others[-1]]

    # Two equal files of one patient on one side are nothing to look at.
    pairs = [(ends(c), "same bytes", c) for c in copies["exact"] if _gravity(c)]
    pairs += [(ends(c), c["kind"], c) for c in copies["near"]]
    pairs.sort(key=lambda pair: -_gravity(pair[2]))
    return {
        "copies": [
            writer.pair(paths, f"{what}{_where(c)}: {' and '.join(paths)}") for paths, what, c in pairs[:MOST_PAIRS]
        ],
        "odd": [
            writer.file(odd["path"], f"{odd['what']}: {odd['path']}") for odd in _of_every_kind(found["files"]["odd"])
        ],
        "labels": [
            writer.film(
                one["path"],
                f"{PurePosixPath(one['path']).name}: labelled {one['label']} ({one['probability_of_label']:.2f}), "
                f"likelier {one['suggested']} ({one['probability_of_suggested']:.2f})",
            )
            for one in _labels(found)
            if one["path"] in row_of
        ],
    }


class _Writer:
    """Writes one picture after the other."""

    def __init__(self, subject: Subject, row_of: Mapping[str, int], folder: Path) -> None:
        self.subject, self.row_of, self.folder, self.count = subject, row_of, folder, 0

    def film(self, path: str, caption: str) -> tuple[Path, str]:
        """A film as it is stored."""
        return self._save(self._stored(path), caption)

    def pair(self, paths: Sequence[str], caption: str) -> tuple[Path, str]:
        """Two films side by side."""
        sheet = Image.new("L", (2 * _SIDE + _GAP, _SIDE), 255)
        for place, path in enumerate(paths):
            sheet.paste(self._stored(path), (place * (_SIDE + _GAP), 0))
        return self._save(sheet, caption)

    def file(self, path: str, caption: str) -> tuple[Path, str]:
        """A file with its own shape and colors, as a viewer would show it."""
        try:
            with Image.open(self.subject.root / path, formats=FORMATS) as image:
                check_size(*image.size)
                image.draft("RGB", (2 * _SIDE, 2 * _SIDE))
                if image.mode.startswith(("I", "F")):
                    raise ImageError("deeper than a viewer shows")
                small = image.convert("RGB")
                small.thumbnail((_SIDE, _SIDE))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return self.film(path, caption)
        sheet = Image.new("RGB", (_SIDE, _SIDE), "white")
        sheet.paste(small, ((_SIDE - small.width) // 2, (_SIDE - small.height) // 2))
        return self._save(sheet, caption)

    def _stored(self, path: str) -> Image.Image:
        film = np.asarray(self.subject.store.images[self.row_of[path]])
        return Image.fromarray(film).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)

    def _save(self, image: Image.Image, caption: str) -> tuple[Path, str]:
        self.count += 1
        file = self.folder / f"{self.count}.jpg"
        image.save(file, quality=_QUALITY)
        return file, readable(caption)


def _of_every_kind(odd: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A few of every kind rather than many of the first."""
    by_kind: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in odd:
        by_kind[one["kind"]].append(one)
    turns = [one[place] for place in range(MOST_ODD) for one in by_kind.values() if place < len(one)]
    return turns[:MOST_ODD]


def _labels(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    views = (found["label_errors"] or {"views": []})["views"]
    return list(views[0]["images"][:MOST_LABELS]) if views else []


def _gravity(copy: Mapping[str, Any]) -> int:
    keys = ("is_across_splits", "is_across_classes", "is_across_patients")
    return sum(2 ** (2 - place) for place, key in enumerate(keys) if copy[key])


def _where(copy: Mapping[str, Any]) -> str:
    words = {"is_across_splits": "two splits", "is_across_classes": "two classes", "is_across_patients": "two patients"}
    told = [word for key, word in words.items() if copy[key]]
    return f", {' and '.join(told)}" if told else ""
