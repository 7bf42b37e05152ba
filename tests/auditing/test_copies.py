"""Copies: the same bytes, and the same film in other bytes; different films are not taken for one."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from pneumolit.auditing.copies import NearPair, exact_groups, near_groups, near_pairs
from pneumolit.data.reader import read_gray

NONE = np.array([], dtype=np.int64)
Films = np.ndarray


@pytest.fixture(scope="module")
def films(demo_root: Path) -> Films:
    """Phantoms of different patients, `(N, 64, 64)`."""
    first_of: dict[str, Path] = {}
    for path in sorted(demo_root.glob("train/*/*.jpeg")):
        first_of.setdefault(path.stem.rpartition("_" if path.stem.startswith("person") else "-0001")[0], path)
    return np.stack([read_gray(path, 64) for path in first_of.values()])


def resaved(film: Image.Image) -> Image.Image:
    memory = io.BytesIO()
    film.save(memory, "JPEG", quality=40)
    return Image.open(memory).convert("L")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (resaved, "the same picture"),
        (lambda film: film.resize((48, 48)).resize((64, 64)), "the same picture"),
        (lambda film: film.point([round(255 * (level / 255) ** 0.5) for level in range(256)]), "the same picture"),
        (lambda film: ImageEnhance.Contrast(film).enhance(1.4), "the same picture"),
        (lambda film: film.filter(ImageFilter.UnsharpMask(1, 80)), "the same picture"),
        (lambda film: film.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "mirrored"),
        (lambda film: film.point([255 - level for level in range(256)]), "as a negative"),
    ],
)
def test_a_film_in_other_bytes_is_found_and_no_other_is_taken_for_it(
    films: Films, change: Callable[[Image.Image], Image.Image], kind: str
) -> None:
    changed = np.asarray(change(Image.fromarray(films[4])))
    images = np.concatenate([films, changed[None]])
    (pair,) = near_pairs(images, np.arange(len(images)), NONE)
    assert (pair.first, pair.second, pair.kind) == (4, len(films), kind)
    assert 0.8 <= pair.detail <= 1


def test_equal_bytes_and_broken_files_and_flat_films_make_no_near_pairs(films: Films) -> None:
    flat = np.full_like(films[:2], 77)
    images = np.concatenate([films[:3], films[:1], films[1:2], flat])
    contents = np.array([0, 1, 2, 0, 3, 4, 5])
    assert near_pairs(images, contents, np.array([4])) == []


def test_files_with_the_same_bytes_are_grouped_without_those_that_cannot_be_read() -> None:
    groups = exact_groups(np.array([5, 2, 7, 2, 9, 5, 9, 5]), np.array([4, 6]))
    assert [group.tolist() for group in groups] == [[0, 5, 7], [1, 3]]


def test_pairs_that_share_a_film_are_one_group() -> None:
    pairs = [
        NearPair(0, 4, "mirrored", 0.9),
        NearPair(2, 3, "the same picture", 0.95),
        NearPair(1, 4, "mirrored", 0.85),
    ]
    groups = near_groups(pairs)
    assert [(group.rows.tolist(), group.kinds, group.detail) for group in groups] == [
        ([2, 3], ("the same picture",), 0.95),
        ([0, 1, 4], ("mirrored",), 0.85),
    ]
    assert near_groups([]) == []
