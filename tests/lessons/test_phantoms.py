"""Phantoms for lessons: several films of a patient, one stance, faint lesions; the usual ones stay as they are."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumolit.data.demo import make_demo
from pneumolit.data.phantom import draw_patient

SMALL = {"num_train_patients": 12, "num_test_patients": 8, "size": 64}


def films_of_patients(root: Path) -> dict[str, list[Path]]:
    """Films of train by patient, in the order of their names."""
    found: dict[str, list[Path]] = {}
    for path in sorted((root / "train" / "PNEUMONIA").iterdir()):
        found.setdefault("_".join(path.name.split("_")[:2]), []).append(path)
    return found


def mean_correlation(root: Path) -> float:
    """Of the first two films of every patient."""
    pairs = [
        [np.asarray(Image.open(p), float).ravel() for p in films[:2]] for films in films_of_patients(root).values()
    ]
    return float(np.mean([np.corrcoef(first, second)[0, 1] for first, second in pairs]))


def test_usual_phantoms_carry_the_mark_of_earlier_versions(tmp_path: Path) -> None:
    root = make_demo(tmp_path / "usual", **SMALL)  # type: ignore[arg-type]
    marker = json.loads((root / ".pneumolit_demo.json").read_text())
    assert marker == {"version": 1, "seed": 0, **SMALL}


def test_patient_has_as_many_films_as_asked_for(tmp_path: Path) -> None:
    root = make_demo(tmp_path / "six", films_per_patient=(6,), **SMALL)  # type: ignore[arg-type]
    assert Counter(map(len, films_of_patients(root).values())) == {6: 9}


def test_films_of_one_stance_are_more_alike(tmp_path: Path) -> None:
    still, moved = (
        make_demo(tmp_path / str(same), films_per_patient=(2,), same_stance=same, **SMALL) for same in (True, False)
    )
    assert mean_correlation(still) > mean_correlation(moved) + 0.05
    films = films_of_patients(still)
    assert all(first.read_bytes() != second.read_bytes() for first, second in films.values())


def test_faint_lesion_changes_less_of_the_chest() -> None:
    def body(series: str, density: float = 1.0) -> np.ndarray:
        return draw_patient(np.random.default_rng(3), series, 80, density=density)

    full, faint = body("bacteria"), body("bacteria", 0.3)
    nothing = body("bacteria", 1e-6)
    assert np.abs(faint - nothing).max() < 0.6 * np.abs(full - nothing).max()


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"films_per_patient": ()}, r"films_per_patient must be .*got \[\]"),
        ({"films_per_patient": (2, 0)}, r"films_per_patient must be .*got \[2, 0\]"),
        ({"lesion_density": 0.0}, r"lesion_density must lie above 0 and at most at 1, got 0\.0"),
        ({"lesion_density": 1.5}, r"lesion_density must lie .*got 1\.5"),
    ],
)
def test_phantoms_that_cannot_be_are_refused(tmp_path: Path, wish: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_demo(tmp_path / "none", **SMALL, **wish)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
