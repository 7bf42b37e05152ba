"""Small pictures of disputed images: those below the data's folder, and nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pneumolit.comparison.gallery import Disagreement, write_thumbnails


def test_films_are_drawn_behind_a_link_and_not_above_the_root(tmp_path: Path) -> None:
    root, elsewhere, pictures = tmp_path / "data", tmp_path / "disk", tmp_path / "pictures"
    for folder in (root, elsewhere, pictures):
        folder.mkdir()
    film = Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64))
    for file in (root / "own.png", elsewhere / "linked.png", tmp_path / "above.png"):
        film.save(file)
    (root / "test").symlink_to(elsewhere)
    found = [Disagreement(p, p) for p in ("own.png", "test/linked.png", "../above.png", str(tmp_path / "above.png"))]
    assert [caption for _, caption in write_thumbnails(found, [root], pictures)] == ["own.png", "test/linked.png"]
