from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumolit.data.stress import STRESS_FAMILIES, distort

_families = pytest.mark.parametrize("family", STRESS_FAMILIES)


def films(count: int, side: int = 96) -> np.ndarray:
    """Dark background, a bright body with ribs, `(count, side, side)` uint8."""
    y, x = np.mgrid[0:side, 0:side] / side
    rng = np.random.default_rng(0)
    out = []
    for _ in range(count):
        body = np.abs(x - 0.5) < rng.uniform(0.3, 0.4)
        out.append(body * (120 + 40 * np.sin(60 * y + 5 * x) + 30 * (np.abs(x - 0.5) < 0.1)))
    return np.asarray(np.clip(np.stack(out), 0, 255), dtype=np.uint8)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(STRESS_FAMILIES), st.permutations(range(5)), st.integers(1, 4))
def test_a_distortion_depends_on_image_and_index_alone(family: str, order: list[int], cut: int) -> None:
    images, indices = films(5), np.arange(5) + 100
    whole = distort(images, family, indices=indices)
    parts = [distort(images[rows], family, indices=indices[rows]) for rows in (order[:cut], order[cut:])]
    np.testing.assert_array_equal(np.concatenate(parts), whole[order])


@_families
def test_a_distortion_is_visible_and_leaves_the_film_recognisable(family: str) -> None:
    images = films(4)
    out = distort(images, family, indices=np.arange(4))
    assert out.dtype == np.uint8 and out.shape == images.shape
    assert np.abs(out.astype(float) - images).mean() > 1.5
    for before, after in zip(images, out, strict=True):
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.8


@_families
def test_the_given_images_are_left_as_they_are(family: str) -> None:
    images = films(2)
    before = images.copy()
    distort(images, family, indices=np.arange(2))
    np.testing.assert_array_equal(images, before)


@_families
def test_an_empty_batch_stays_empty(family: str) -> None:
    assert distort(films(1)[:0], family, indices=np.arange(0)).shape == (0, 96, 96)


@_families
def test_films_need_not_be_square(family: str) -> None:
    assert distort(films(2)[:, :60], family, indices=np.arange(2)).shape == (2, 60, 96)


def test_only_the_grain_depends_on_the_index() -> None:
    images = films(1)
    pairs = {f: [distort(images, f, indices=np.array([i])) for i in (0, 1)] for f in STRESS_FAMILIES}
    assert [family for family, (a, b) in pairs.items() if (a != b).any()] == ["film_noise"]


def test_grain_is_about_14_grey_levels_correlated_and_stronger_on_bright_film() -> None:
    grey = np.stack([np.full((128, 128), level, dtype=np.uint8) for level in (64, 128, 192)])
    grain = distort(grey, "film_noise", indices=np.arange(3)).astype(float) - grey
    deviation = grain.std(axis=(1, 2))
    assert deviation[0] < deviation[1] < deviation[2]
    assert deviation[1] == pytest.approx(14, abs=0.5)
    assert (grain[1, :, 1:] * grain[1, :, :-1]).mean() / deviation[1] ** 2 > 0.3
    assert np.abs(grain.mean(axis=(1, 2))).max() < 1


def test_resampling_removes_fine_detail_and_unsharp_mask_adds_edges() -> None:
    images = films(2)
    masked = distort(images, "unsharp", indices=np.arange(2))
    fine = np.tile(np.array([[0, 200], [200, 0]], dtype=np.uint8), (1, 64, 64))
    assert distort(fine, "resample", indices=np.arange(1)).std() < 10
    edges, before = (np.abs(np.diff(films.astype(float), axis=1)).mean() for films in (masked, images))
    assert edges > 1.2 * before


def test_local_contrast_raises_faint_detail_and_keeps_black_background_black() -> None:
    image = np.zeros((1, 128, 128), dtype=np.uint8)
    image[:, :, 48:] = (120 + 8 * np.sin(np.arange(80) / 3)).astype(np.uint8)
    out = distort(image, "local_contrast", indices=np.arange(1))
    assert out[0, :, 90:].std() > 1.5 * image[0, :, 90:].std()
    assert out[0, :, :10].max() <= 2


def test_an_unknown_family_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match=r"unknown stress family 'fog'; choose from resample, unsharp"):
        distort(films(1), "fog", indices=np.arange(1))


@pytest.mark.parametrize(
    ("images", "indices", "message"),
    [
        (films(2).astype(np.float32), np.arange(2), r"images must be \(N, H, W\) uint8, got .* float32"),
        (films(2)[0], np.arange(2), r"images must be \(N, H, W\) uint8"),
        (films(2), np.arange(3), r"indices must be \(2,\)"),
        (films(2), np.array([-1, 0]), r"indices must be \(2,\)"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(images: np.ndarray, indices: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distort(images, "jpeg", indices=indices)
