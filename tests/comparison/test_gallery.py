"""Small pictures of disputed images: those below the data's folder, and nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from pneumolit.comparison.gallery import Disagreement, find_disagreements, write_thumbnails
from pneumolit.comparison.run import Settings, collect_methods, compare
from pneumolit.labels import LabelSet


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


def test_a_film_is_called_normal_only_where_no_other_class_may_be_meant(made_runs: ModuleType, tmp_path: Path) -> None:
    others = LabelSet(("NORMAL", "PNEUMONIA", "TUBERCULOSIS"), ("PNEUMONIA",))
    numbers = LabelSet(("0", "1", "2"))
    for name, labels, words in (
        ("two", made_runs.BINARY, {"normal", "pneumonia"}),
        ("more", others, {"no pneumonia", "pneumonia"}),
        ("numbers", numbers, {"0", "1", "2"}),
    ):
        runs = [
            made_runs.write_run(tmp_path / name / str(i), labels=labels, draw=i, noise=9.0, sets={"test": 60})
            for i in range(2)
        ]
        settings = Settings("t", num_resamples=20)
        found, _ = find_disagreements(compare(*collect_methods(runs, [], settings), settings).group, (1, 2))
        said = {one.caption.split(": ")[1].split(";")[0].split(",")[0] for one in found}
        assert said <= words and said - {"pneumonia"}
