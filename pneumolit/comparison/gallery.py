"""The images on which methods disagree, as small pictures where the data can be reached."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pneumolit.comparison.facts import read_config
from pneumolit.comparison.rows import RowGroup
from pneumolit.data.dataset import find_root
from pneumolit.data.reader import ImageError, read_gray
from pneumolit.labels import NOT_PNEUMONIA, LabelSet, negative_word

MOST = 12
_SIDE = 176  # pixels
_QUALITY = 80
_FEW = 5  # numbers of methods that are named


@dataclass(frozen=True)
class Disagreement:
    """One image that some methods decide rightly and some do not.

    Attributes:
        path: of the image.
        caption: what it shows, and who is wrong.
    """

    path: str
    caption: str


def find_disagreements(group: RowGroup, numbers: Sequence[int]) -> tuple[list[Disagreement], int]:
    """Images on which the methods are most evenly divided, at most `MOST`, and how many are disputed at all.

    Args:
        group: of methods with the same images.
        numbers: that stand for the methods, in the order of the group.
    """
    wrong = ~group.correct
    count, size = wrong.sum(axis=1), wrong.shape[1]
    disputed = np.flatnonzero((count > 0) & (count < size))
    # Most evenly divided first, of these the ones that more methods get wrong, then by name.
    order = sorted(disputed.tolist(), key=lambda i: (-min(count[i], size - count[i]), -count[i], group.paths[i]))
    return [Disagreement(str(group.paths[i]), _caption(group, i, numbers)) for i in order[:MOST]], len(disputed)


def write_thumbnails(found: Sequence[Disagreement], roots: Sequence[Path], folder: Path) -> list[tuple[Path, str]]:
    """Write small JPEG files of those images that can be read below one of the folders.

    Returns:
        (file, caption) of each that could be read.
    """
    written = []
    for number, image in enumerate(found):
        film = _read(image.path, roots)
        if film is not None:
            file = folder / f"disputed{number}.jpg"
            Image.fromarray(film).save(file, quality=_QUALITY)
            written.append((file, image.caption))
    return written


def data_roots(group: RowGroup, root_now: str | None, cache_dir: Path) -> list[Path]:
    """Where the images of the methods may lie: the folder that is given, else those that the runs name.

    Args:
        group: of methods.
        root_now: `data.root`.
        cache_dir: where phantoms lie.
    """
    found: dict[Path, None] = {}
    for method in group.methods:
        data: dict[str, Any] = read_config(method.run).get("data", {}) if method.run is not None else {}
        if root_now is None and (not data or (data["source"] == "demo" and not (cache_dir / "demo").is_dir())):
            continue
        try:
            root = find_root({**data, "root": root_now or data["root"]}, cache_dir) if data else Path(str(root_now))
        except (OSError, ValueError):
            continue
        if root.expanduser().is_dir():
            found[root.expanduser().resolve()] = None
    return list(found)


def _caption(group: RowGroup, row: int, numbers: Sequence[int]) -> str:
    target = str(group.targets[row])
    causes = group.methods[0].causes
    cause = {"bacteria": ", bacterial", "virus": ", viral"}.get(str(causes[row]) if len(causes) else "", "")
    shown = {"1": "pneumonia" + cause, "0": _negative_word(group)}.get(target, target) if group.is_two_class else target
    wrong = [number for number, right in zip(numbers, group.correct[row], strict=True) if not right]
    right = [number for number in numbers if number not in wrong]
    named, word = (wrong, "wrong") if len(wrong) <= len(right) else (right, "right")
    listed = ", ".join(map(str, named)) if len(named) <= _FEW else f"{len(named)} of {len(numbers)}"
    return f"{Path(str(group.paths[row])).stem}: {shown}; {word}: {listed}"


def _negative_word(group: RowGroup) -> str:
    """Of films that no method's classes call pneumonia: "normal" only where each knows no other such class."""
    named = [LabelSet(tuple(m.metrics["classes"]), tuple(m.metrics["positive"])) for m in group.methods]
    words = {negative_word(labels) for labels in named}
    return words.pop() if len(words) == 1 else NOT_PNEUMONIA


def _read(path: str, roots: Sequence[Path]) -> np.ndarray | None:
    for root in roots:
        # By name alone, as training takes it: below the root, where a link may lead to another disk.
        file = Path(os.path.normpath(root / path))
        if root in file.parents and file.is_file():
            try:
                return read_gray(file, _SIDE)
            except ImageError:
                continue
    return None
