"""Deletion and insertion: a map that points at what the score depends on beats random ones, another does not."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import auc

from pneumolit.data.datamodule import ImageRows, IndexBatch
from pneumolit.explanation.removal import blurred, check_removal, hottest_first, num_images

SIZE = 32
RNG = np.random.default_rng(0)
PATIENTS = np.arange(8).astype(str)


def films() -> tuple[np.ndarray, np.ndarray]:
    """Eight noisy films, each with its own checkered square, and where it lies."""
    images = np.full((8, SIZE, SIZE), 120, dtype=np.uint8)
    truth = np.zeros((8, SIZE, SIZE), dtype=np.float32)
    for i, image in enumerate(images):
        top, left = divmod(i * 8 % 56, 24)
        truth[i, top : top + 8, left : left + 8] = 1
        image[truth[i] > 0] = np.tile([0, 255], 32)
    return images, truth


def contrast(rows: ImageRows) -> np.ndarray:
    """A probability that depends on how much sharp contrast is left of the film."""
    pixels = rows[IndexBatch(np.arange(len(rows.images)), 0, 0)]["image"].numpy()[:, 0].astype(float)
    return np.asarray(np.clip(np.abs(np.diff(pixels, axis=2)).sum((1, 2)) / (8 * 7 * 255), 0, 1))


def test_a_map_of_what_counts_beats_random_maps_and_the_map_of_another_film() -> None:
    images, truth = films()
    found = check_removal(images, truth, np.full(8, "pneumonia"), PATIENTS, contrast, grid=(4, 4), seed=0)
    for name, sign in (("deletion", -1), ("insertion", 1)):
        part = found[name]
        assert sign * (part["area_own"] - part["area_random"]) > 0.1
        assert sign * (part["area_own"] - part["area_other"]) > 0.1
        better = part["better_than_random"]
        assert better["mean"] == pytest.approx(sign * (part["area_own"] - part["area_random"]), abs=1e-9)
        assert better["interval"][0] > 0 and better["p"] < 0.05
        for kind, curve in found["curves"][name].items():
            assert part[f"area_{kind}"] == pytest.approx(auc(found["fractions"], curve), abs=1e-9)


def test_a_map_of_what_does_not_count_is_worse_than_random_maps() -> None:
    images, truth = films()
    found = check_removal(images, 1 - truth, np.full(8, "pneumonia"), PATIENTS, contrast, grid=(4, 4), seed=0)
    assert found["deletion"]["better_than_random"]["mean"] < 0


def test_the_probability_is_that_of_the_explained_side() -> None:
    images, truth = films()
    sides = np.full(8, "normal")
    of_normal = check_removal(images, truth, sides, PATIENTS, contrast, grid=(4, 4), seed=0)
    curve = of_normal["curves"]["deletion"]["own"]
    assert curve[0] < 0.1 and curve[-1] > 0.8  # contrast speaks for pneumonia: blurring it away speaks for normal


def test_both_curves_run_between_the_film_and_the_film_blurred() -> None:
    images, truth = films()
    seen: list[np.ndarray] = []

    def score(rows: ImageRows) -> np.ndarray:
        seen.append(rows[IndexBatch(np.arange(len(rows.images)), 0, 0)]["image"].numpy()[:, 0])
        return np.full(len(seen[-1]), 0.5)

    told: list[int] = []
    check_removal(images, truth, np.full(8, "pneumonia"), PATIENTS, score, grid=(4, 4), seed=0, advance=told.append)
    made = seen[0].reshape(8, 4, 2, 11, SIZE, SIZE)
    smooth = np.stack([blurred(image) for image in images])
    assert sum(told) == num_images(8) == made[..., 0, 0].size
    for which in range(4):
        assert (made[:, which, 0, 0] == images).all() and (made[:, which, 0, -1] == smooth).all()
        assert (made[:, which, 1, 0] == smooth).all() and (made[:, which, 1, -1] == images).all()
    hottest = truth > 0  # 64 of 1024 pixels: within the first tenth
    assert (made[:, 0, 0, 1][hottest] == smooth[hottest]).all()


def test_equally_hot_pixels_come_in_random_order() -> None:
    order = hottest_first(np.zeros((16, 16)), np.random.default_rng(0))
    assert sorted(order) == list(range(256)) and abs(order[:128].mean() - 127.5) < 20
    heat = RNG.random((16, 16))
    assert (np.diff(heat.ravel()[hottest_first(heat, np.random.default_rng(0))]) <= 0).all()
