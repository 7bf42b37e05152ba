"""The crude-feature floor: what its features measure, and that it finds what they tell and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from pneumolit.auditing.files import FileFacts
from pneumolit.auditing.floor import FloorModel, Side, refuse_one_class, single_aurocs
from pneumolit.auditing.statistics import FEATURES, crude_features, describe_by_group
from pneumolit.data.sharpness import sharpness
from tests.auditing.test_patients import SET

COLUMN = {name: place for place, name in enumerate(FEATURES)}


def test_features_are_what_they_are_called() -> None:
    left_bright = np.zeros((20, 20), dtype=np.uint8)
    left_bright[:, :10] = 200
    framed = np.full((20, 20), 50, dtype=np.uint8)
    framed[2:-2, 2:-2] = 100
    noisy = np.random.default_rng(0).integers(0, 256, (20, 20)).astype(np.uint8)
    images = np.stack([left_bright, framed, noisy, np.full_like(noisy, 8)])
    files = [FileFacts(200, 100, 5000), *[FileFacts(20, 20, 100)] * 3]
    found = crude_features(images, files)

    def of(name: str) -> list[float]:
        return [float(value) for value in found[:, COLUMN[name]]]

    assert of("mean") == pytest.approx([100, 82, noisy.mean(), 8])
    assert of("border")[1] == pytest.approx(50) and of("center")[1] > 1.2
    assert of("asymmetry")[0] == pytest.approx(200 / 101) and of("asymmetry")[1] == 0
    assert of("entropy")[0] == pytest.approx(1) and of("entropy")[3] == 0 and of("entropy")[2] > 5
    assert of("black") == pytest.approx([0.5, 0, (noisy < 10).mean(), 1])
    assert (of("dark")[0], of("bright")[0]) == (0, 200)
    assert of("sharpness") == pytest.approx(sharpness(images, np.arange(4)))
    assert [of(name)[0] for name in ("width", "height", "aspect", "bytes")] == [200, 100, 2, 0.25]
    assert np.isfinite(found).all()


def test_more_images_than_are_measured_at_a_time_keep_their_order() -> None:
    images = np.repeat(np.arange(150, dtype=np.uint8), 64).reshape(150, 8, 8)
    assert crude_features(images, [FileFacts()] * 150)[:, COLUMN["mean"]].tolist() == list(range(150))


def side(count: int, effect: float, seed: int) -> Side:
    rng = np.random.default_rng(seed)
    positives = (np.arange(count) % 4 > 0).astype(np.int64)
    features = rng.normal(size=(count, len(FEATURES))) * 50 + 100
    features[:, COLUMN["height"]] = 224  # the same everywhere
    features[:, COLUMN["border"]] += 50 * effect * positives
    return Side(features, positives, np.arange(count) // 2)


def test_the_floor_finds_a_feature_that_tells_the_classes_apart_and_names_it() -> None:
    model = FloorModel(side(400, 3, 0))
    told = model.score(side(200, 3, 1))
    assert told["auroc"] > 0.95 and min(told["sensitivity"], told["specificity"]) > 0.8
    for name, (low, high) in told["intervals"].items():
        assert low < told[name] < high
    assert (told["num_images"], told["num_patients"], told["num_positive"]) == (200, 100, 150)
    assert next(iter(model.weights)) == "border" and model.weights["border"] > 1 and model.weights["height"] == 0
    assert single_aurocs(side(200, 3, 1))["border"] > 0.95 and single_aurocs(side(200, 3, 1))["height"] == 0.5


def test_the_floor_is_chance_where_nothing_tells_the_classes_apart_though_they_are_unequal() -> None:
    told = FloorModel(side(2000, 0, 0)).score(side(1000, 0, 1))
    assert abs(told["auroc"] - 0.5) < 0.06 and abs(told["balanced_accuracy"] - 0.5) < 0.06
    assert 0.3 < told["sensitivity"] < 0.7  # three of four have pneumonia; without balance all would be called so


def test_images_of_one_kind_give_no_floor() -> None:
    both, one = side(8, 0, 0), Side(np.zeros((2, len(FEATURES))), np.ones(2), np.arange(2))
    assert refuse_one_class([("training", both), ("validation", one)]) == "the validation images are all of one kind"
    assert refuse_one_class([("training", both)]) == ""


def test_numbers_are_described_by_split_and_class_without_broken_files() -> None:
    values = {"width": np.arange(7.0)}
    described = describe_by_group(SET, values, np.array([1, 2, 3, 5, 6]))
    assert [(d["split"], d["class"], d["images"]) for d in described] == [
        ("train", "PNEUMONIA", 3), ("test", "NORMAL", 1), ("test", "PNEUMONIA", 1),
    ]  # fmt: skip
    assert described[0]["width"] == [1, 1.5, 2, 2.5, 3]
