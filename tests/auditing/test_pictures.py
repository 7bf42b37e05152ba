"""Small pictures of what an audit found."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from pneumolit.auditing.pictures import draw_pictures
from pneumolit.data.table import ImageRecord, RecordTable


def test_of_many_copies_the_pair_that_is_shown_lies_on_the_two_sides_that_are_named(tmp_path: Path) -> None:
    sides = {"a": ("train", "NORMAL"), "b": ("test", "NORMAL"), "c": ("train", "PNEUMONIA"), "d": ("train", "NORMAL")}
    paths = [f"{name}.jpeg" for name in sides]
    records = RecordTable.of(
        ImageRecord(Path(f"{n}.jpeg"), label, n, split=split) for n, (split, label) in sides.items()
    )
    images = np.zeros((4, 8, 8), dtype=np.uint8)
    subject: Any = SimpleNamespace(paths=paths, records=records, store=SimpleNamespace(images=images), root=tmp_path)
    none = {"is_across_splits": False, "is_across_classes": False, "is_across_patients": False}
    exact = [
        {"paths": paths, **none, "is_across_splits": True, "is_across_classes": True},
        {"paths": [paths[0], paths[3], paths[2], paths[3]], **none, "is_across_classes": True},
        {"paths": [paths[0], paths[2], paths[3]], **none, "is_across_patients": True},
    ]
    found = {"copies": {"exact": exact, "near": []}, "files": {"odd": []}, "label_errors": None}
    captions = [caption for _, caption in draw_pictures(found, subject, tmp_path)["copies"]]
    assert [caption.rpartition(": ")[2] for caption in captions] == [
        "a.jpeg and b.jpeg", "a.jpeg and c.jpeg", "a.jpeg and d.jpeg",
    ]  # fmt: skip
