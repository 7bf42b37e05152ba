"""Where the heat lies, in shares that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pneumolit.explanation.lungs import box_mask
from pneumolit.explanation.places import check_places

PATIENTS = np.array([f"p{i}" for i in range(6)], dtype=object)
BOX = box_mask((0.25, 0.25, 0.75, 0.75), 40)[None]


def test_even_heat_is_once_what_chance_gives_everywhere() -> None:
    found = check_places(np.ones((6, 40, 40)), np.ones((2, 6, 40, 40)), BOX, PATIENTS, seed=0)
    for region in found["regions"].values():
        assert region["ratio"] == pytest.approx(1, abs=1e-9)
        assert region["against_random"] == pytest.approx(1, abs=1e-9)
        assert region["share"] == pytest.approx(region["area"])
    assert found["regions"]["border"]["area"] == pytest.approx(1 - 0.8**2)
    assert found["regions"]["corners"]["area"] == pytest.approx(4 * 0.2**2)


def test_heat_in_the_box_alone_is_as_dense_as_the_box_is_small() -> None:
    heat = np.where(BOX, 3.0, 0.0).repeat(6, 0)
    found = check_places(heat, np.ones((2, 6, 40, 40)), BOX, PATIENTS, seed=0)
    assert found["regions"]["lungs"]["ratio"] == pytest.approx(4)
    assert found["regions"]["lungs"]["against_random"] == pytest.approx(4)
    assert found["regions"]["border"]["ratio"] == 0


def test_heat_in_a_corner_is_found_there_and_at_the_border() -> None:
    heat = np.zeros((6, 40, 40))
    heat[:, 1, 38] = 1
    regions = check_places(heat, np.ones((0, 6, 40, 40)), BOX, PATIENTS, seed=0)["regions"]
    assert regions["corners"]["share"] == 1 and regions["border"]["share"] == 1 and regions["lungs"]["share"] == 0
    assert regions["corners"]["against_random"] is None


def test_every_image_counts_once_however_hot_it_is() -> None:
    heat = np.stack([np.where(BOX[0], 1.0, 0.0), np.full((40, 40), 1e6)])
    found = check_places(heat, np.ones((1, 2, 40, 40)), BOX, PATIENTS[:2], seed=0)
    assert found["regions"]["lungs"]["share"] == pytest.approx((1 + 0.25) / 2)


def test_images_without_heat_are_left_out_and_counted() -> None:
    heat = np.zeros((6, 40, 40))
    assert check_places(heat, heat[None], BOX, PATIENTS, seed=0) == {
        "num_images": 0, "num_without_heat": 6, "regions": {}
    }  # fmt: skip
    heat[0] = 1
    found = check_places(heat, np.zeros((1, 6, 40, 40)), np.repeat(BOX, 6, 0), PATIENTS, seed=0)
    assert (found["num_images"], found["num_without_heat"]) == (1, 5)
    assert found["regions"]["lungs"]["ratio_random"] is None
