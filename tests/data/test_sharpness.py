"""Sharpness of films: what it measures, and that it depends on nothing but the film."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, laplace

from pneumolit.data.sharpness import sharpness


def films(count: int, side: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def test_it_is_the_spread_of_scipys_laplacian_over_that_of_the_film() -> None:
    images = films(5)
    found = sharpness(images, np.arange(5))
    for film, value in zip(images.astype(float), found, strict=True):
        inside = laplace(film)[1:-1, 1:-1]  # without the border, where there are no four neighbours
        assert value == pytest.approx(inside.std() / film.std(), rel=1e-5)


def test_a_step_by_hand() -> None:
    # Half 0, half 100: the Laplacian is 100 left of the edge, -100 right of it, 0 elsewhere; 2 of 6 columns inside.
    film = np.zeros((8, 8), dtype=np.uint8)
    film[:, 4:] = 100
    assert sharpness(film[None], np.array([0])) == pytest.approx([100 * (2 / 6) ** 0.5 / 50], rel=1e-6)


def test_the_more_a_film_is_blurred_the_less_sharp_it_is() -> None:
    film = films(1, 64)[0].astype(float)
    blurred = [gaussian_filter(film, sigma) for sigma in (0, 0.5, 1, 2)]
    stretched = [(b - b.min()) / (b.max() - b.min()) * 255 for b in blurred]  # blur takes contrast, too
    found = sharpness(np.stack(stretched).astype(np.uint8), np.arange(4))
    assert all(later < 0.8 * earlier for earlier, later in itertools.pairwise(found))


def test_contrast_brightness_and_negative_cancel() -> None:
    film = films(1)[0] // 4 * 2  # even numbers up to 126
    changed = np.stack([film, film // 2, film + 100, 255 - film, film.T, film[::-1]])
    assert sharpness(changed, np.arange(6)) == pytest.approx(sharpness(film[None], np.array([0]))[0], rel=1e-4)


def test_a_film_of_one_grey_has_no_sharpness() -> None:
    images = np.stack([np.full((16, 16), grey, dtype=np.uint8) for grey in (0, 128, 255)])
    assert sharpness(images, np.arange(3)).tolist() == [0, 0, 0]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 149), max_size=150), st.integers(0, 9))
def test_a_film_has_the_same_sharpness_whatever_stands_beside_it(rows: list[int], seed: int) -> None:
    images = films(150, 8, seed)
    chosen = np.array(rows, dtype=np.int64)
    found = sharpness(images, chosen)
    assert found.shape == chosen.shape and found.dtype == np.float64
    alone = [sharpness(images[row : row + 1], np.array([0]))[0] for row in rows]
    assert found == pytest.approx(alone, rel=1e-6)


def test_many_films_on_disk_take_the_memory_of_a_few(tmp_path: Path) -> None:
    images = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, (800, 64, 64))
    images[:] = films(1, 64)
    tracemalloc.start()
    sharpness(images, np.arange(800))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 800 * 64 * 64 * 4  # all films at once, as float32
