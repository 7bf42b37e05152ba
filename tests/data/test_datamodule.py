"""Loaders: every row where it belongs, in an order that (seed, epoch) alone decide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pneumolit.data.datamodule import (
    ChestXrayDataModule,
    EvalSampler,
    IndexBatch,
    TrainSampler,
    padded_batches,
    pool_of,
    stress_origin,
)
from pneumolit.data.dataset import ChestXrayData, load_data
from pneumolit.data.parts import Part
from pneumolit.data.reader import read_gray
from pneumolit.data.stress import STRESS_FAMILIES, distort
from pneumolit.data.table import Coded
from pneumolit.labels import prior_log_odds

targets_of_an_epoch = st.lists(st.integers(0, 2), min_size=1, max_size=60).map(np.array)
batch_sizes = st.integers(1, 70)
seeds = st.integers(0, 2**32)
epochs = st.integers(0, 100)


@pytest.fixture(scope="module")
def open_demo(tiny_config: Callable[..., dict[str, Any]], cache_dir: Path) -> Callable[..., ChestXrayData]:
    def opened(*overrides: str) -> ChestXrayData:
        return load_data(tiny_config(*overrides)["data"], cache_dir)

    return opened


@pytest.fixture(scope="module")
def data(open_demo: Callable[..., ChestXrayData]) -> ChestXrayData:
    return open_demo("data.holdout_fraction=0.2")


def module(data: ChestXrayData, **changes: Any) -> ChestXrayDataModule:
    return ChestXrayDataModule(data, **{"batch_size": 8, "seed": 0, **changes})


def whole(loader: Any, key: str) -> np.ndarray:
    return np.asarray(torch.cat([batch[key] for batch in loader]).numpy())


# The order of training


@given(targets_of_an_epoch, batch_sizes, seeds, epochs, st.booleans())
def test_the_order_depends_on_seed_and_epoch_alone(
    targets: np.ndarray, batch_size: int, seed: int, epoch: int, is_balanced: bool
) -> None:
    started = TrainSampler(targets, batch_size=batch_size, seed=seed, is_balanced=is_balanced, start_epoch=epoch)
    arrived = TrainSampler(targets, batch_size=batch_size, seed=seed, is_balanced=is_balanced)
    list(arrived)
    arrived.set_epoch(epoch)
    for one, other in zip(started, arrived, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        assert (one.start, one.epoch) == (other.start, other.epoch) == (one.start, epoch)


@pytest.mark.parametrize("is_balanced", [False, True])
def test_another_epoch_or_seed_has_another_order(is_balanced: bool) -> None:
    targets = np.arange(60) % 3
    orders = {
        tuple(TrainSampler(targets, batch_size=4, seed=seed, is_balanced=is_balanced).order(epoch))
        for seed in (0, 1)
        for epoch in (0, 1, 2)
    }
    assert len(orders) == 6


@given(targets_of_an_epoch, batch_sizes, seeds)
def test_unbalanced_every_row_comes_once_but_those_of_the_last_partial_batch(
    targets: np.ndarray, batch_size: int, seed: int
) -> None:
    sampler = TrainSampler(targets, batch_size=batch_size, seed=seed, is_balanced=False)
    batches = list(sampler)
    size = min(batch_size, len(targets))
    assert len(batches) == len(sampler) == len(targets) // size > 0
    assert [len(b.rows) for b in batches] == [size] * len(batches)
    assert [b.start for b in batches] == [i * size for i in range(len(batches))]
    rows = np.concatenate([b.rows for b in batches])
    assert len(np.unique(rows)) == len(rows) > len(targets) - size
    assert sorted(sampler.order(0)) == list(range(len(targets)))


@given(targets_of_an_epoch, seeds, epochs)
def test_balanced_the_classes_are_equally_frequent_and_an_image_comes_again_after_all_others(
    targets: np.ndarray, seed: int, epoch: int
) -> None:
    order = TrainSampler(targets, batch_size=4, seed=seed, is_balanced=True).order(epoch)
    assert len(order) == len(targets)
    per_class = Counter(targets[order].tolist())
    assert per_class.keys() == set(targets.tolist())
    assert max(per_class.values()) - min(per_class.values()) <= 1
    for value in per_class:
        # Cut to length after mixing, an epoch once lost an image that another of its class was seen twice for.
        times = np.bincount(order, minlength=len(targets))[targets == value]
        assert times.max() - times.min() <= 1


@given(targets_of_an_epoch, seeds, epochs, st.randoms(use_true_random=False))
def test_balanced_by_series_every_series_of_a_class_is_as_frequent_as_the_others(
    targets: np.ndarray, seed: int, epoch: int, random: Any
) -> None:
    series = np.array([random.randint(0, 2) for _ in targets])
    order = TrainSampler(targets, batch_size=4, seed=seed, is_balanced=True, series=series).order(epoch)
    assert len(order) == len(targets)
    per_class = Counter(targets[order].tolist())
    assert max(per_class.values()) - min(per_class.values()) <= 1
    for value, count in per_class.items():
        present = set(series[targets == value].tolist())
        found = Counter(series[order][targets[order] == value].tolist())
        times = [found[one] for one in present]
        assert sum(times) == count and max(times) - min(times) <= 1


@given(targets_of_an_epoch, seeds, st.booleans(), st.integers(1, 300))
def test_an_epoch_may_be_longer_than_the_films_are_many_and_none_comes_again_before_all_others(
    targets: np.ndarray, seed: int, is_balanced: bool, length: int
) -> None:
    sampler = TrainSampler(targets, batch_size=4, seed=seed, is_balanced=is_balanced, length=length)
    order = sampler.order(0)
    assert len(order) == length and len(sampler) == length // min(4, length)
    times = np.bincount(order, minlength=len(targets))
    groups = [targets == value for value in np.unique(targets)] if is_balanced else [targets == targets]
    for group in groups:
        assert times[group].max() - times[group].min() <= 1


@given(st.integers(0, 300), st.integers(1, 70))
def test_evaluation_has_every_row_once_and_in_order(length: int, batch_size: int) -> None:
    sampler = EvalSampler(length, batch_size)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert [i for b in batches for i in b.rows.tolist()] == list(range(length))
    assert all(len(b.rows) == batch_size for b in batches[:-1])


@given(st.integers(0, 300), st.integers(1, 70), st.integers(1, 4))
def test_a_drawn_order_has_every_row_once_in_batches_that_are_never_small(
    length: int, drawn_batch: int, count: int
) -> None:
    batches = list(EvalSampler(length, drawn_batch=drawn_batch))
    assert sorted(i for b in batches for i in b.rows.tolist()) == list(range(length))
    assert all(min(drawn_batch, length) <= len(b.rows) < 2 * drawn_batch for b in batches)
    assert [b.start for b in batches] == np.cumsum([0, *(len(b.rows) for b in batches[:-1])]).tolist()
    parts = [list(EvalSampler(length, drawn_batch=drawn_batch, part=Part(i, count))) for i in range(count)]
    assert [len(EvalSampler(length, drawn_batch=drawn_batch, part=Part(i, count))) for i in range(count)] == [
        len(part) for part in parts
    ]
    shared = sorted(tuple(b.rows) for part in parts for b in part if len(b.rows))
    assert shared == sorted(tuple(b.rows) for b in batches if len(b.rows))


def test_a_drawn_order_mixes_classes_that_follow_one_another_in_a_list() -> None:
    targets = np.repeat([0, 1, 2], 320)
    for batch in EvalSampler(len(targets), drawn_batch=32):
        assert set(targets[batch.rows]) == {0, 1, 2}
        assert np.bincount(targets[batch.rows]).max() < 24


# Loaders


def test_a_loaded_image_is_the_film_of_its_record(data: ChestXrayData, demo_root: Path) -> None:
    side = data.store.images.shape[1]
    loader = module(data).eval_loader("test")
    images, targets = whole(loader, "image"), whole(loader, "target")
    assert images.shape == (len(data.rows("test")), 1, side, side) and images.dtype == np.uint8
    for image, target, row in zip(images, targets, data.rows("test"), strict=True):
        record = data.records[row]
        np.testing.assert_array_equal(image[0], read_gray(demo_root / record.path, side))
        assert data.labels.classes[target] == record.label


def test_a_training_batch_names_its_rows_its_places_and_its_epoch(data: ChestXrayData) -> None:
    loaders = module(data, seed=3)
    rows = loaders.rows_of("train")
    loader = loaders.train_dataloader()
    loader.sampler.set_epoch(2)  # type: ignore[union-attr]
    batches = list(loader)
    assert {batch["epoch"] for batch in batches} == {2}
    np.testing.assert_array_equal(whole(batches, "position"), np.arange(len(batches) * 8))
    index = whole(batches, "index")
    expected = TrainSampler(rows.targets, batch_size=8, seed=3, is_balanced=False).order(2)
    np.testing.assert_array_equal(index, expected[: len(index)])
    np.testing.assert_array_equal(whole(batches, "target"), rows.targets[index])
    np.testing.assert_array_equal(whole(batches, "image")[:, 0], data.store.images[data.rows("train")[index]])
    assert set(whole(batches, "family")) == {-1}


def test_the_loaders_of_validation_stand_in_the_order_of_their_names(data: ChestXrayData) -> None:
    loaders = module(data)
    assert loaders.val_names == ["val", "stress", "block"]
    sizes = [len(whole(loader, "target")) for loader in loaders.val_dataloader()]
    val, block = len(data.rows("val")), len(data.rows("block"))
    assert sizes == [val, val * len(STRESS_FAMILIES), block] and val and block
    assert module(data, is_stressed=False).val_names == ["val", "block"]


def test_stressed_images_keep_their_labels_and_know_their_family(data: ChestXrayData) -> None:
    loaders = module(data)
    plain, stressed = loaders.eval_loader("val"), loaders.eval_loader("stress")
    images, targets = whole(plain, "image")[:, 0], whole(plain, "target")
    families = whole(stressed, "family")
    for number, family in enumerate(STRESS_FAMILIES):
        chosen = families == number
        np.testing.assert_array_equal(whole(stressed, "target")[chosen], targets)
        wanted = distort(images, family, indices=np.arange(len(images)))
        np.testing.assert_array_equal(whole(stressed, "image")[chosen, 0], wanted)
    assert set(families) == set(range(len(STRESS_FAMILIES)))


def test_of_a_large_validation_the_same_part_is_stressed_every_time(
    data: ChestXrayData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumolit.data.datamodule.STRESS_IMAGES", 5)
    first, again = (module(data, seed=seed).eval_loader("stress") for seed in (0, 1))
    assert Counter(whole(first, "family").tolist()) == dict.fromkeys(range(len(STRESS_FAMILIES)), 5)
    np.testing.assert_array_equal(whole(first, "image"), whole(again, "image"))
    family_zero = whole(first, "image")[:5, 0]
    plain, targets = (whole(module(data).eval_loader("val"), key) for key in ("image", "target"))
    candidates = distort(plain[:, 0], STRESS_FAMILIES[0], indices=np.arange(len(plain)))
    found = [int(np.flatnonzero((candidates == image).all(axis=(1, 2)))[0]) for image in family_zero]
    np.testing.assert_array_equal(whole(first, "target")[:5], targets[found])


def test_distorted_copies_are_not_made_before_they_are_read(
    data: ChestXrayData, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def watched(images: np.ndarray, family: str, indices: np.ndarray) -> np.ndarray:
        made.append(family)
        return images

    monkeypatch.setattr("pneumolit.data.datamodule.distort", watched)
    rows = module(data).images_of("stress")
    assert len(rows) == len(rows.targets) > 0 and made == []
    for _ in range(2):
        rows[IndexBatch(np.array([0]), 0, 0)]
    assert made == list(STRESS_FAMILIES)


# What stored features are made from


def test_the_pool_holds_every_readable_image_but_test_however_the_rest_is_carved(
    data: ChestXrayData, open_demo: Callable[..., ChestXrayData]
) -> None:
    pool = pool_of(data).tolist()
    expected = set(range(len(data.records))) - set(data.rows("test").tolist()) - set(data.rows("unreadable").tolist())
    assert set(pool) == expected and pool == sorted(pool)
    others = [("data.seed=3",), ("data.balance=undersample", "data.target=binary"), ("data.carve=blocks",)]
    assert all(pool_of(open_demo(*choices)).tolist() == pool for choices in others)


def test_what_the_stressed_validation_follows_from_changes_with_images_places_and_code(
    open_demo: Callable[..., ChestXrayData], data: ChestXrayData, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = stress_origin(data)
    assert origin == stress_origin(data) != stress_origin(open_demo("data.holdout_fraction=0.2", "data.seed=3"))
    assert origin["rows"] == data.rows("val").tolist()
    monkeypatch.setattr("pneumolit.data.datamodule.inspect.getsource", lambda module: "other code")
    assert stress_origin(data) != origin


def test_padded_batches_hold_every_row_once_in_one_shape(data: ChestXrayData) -> None:
    rows = module(data).rows_of("train")
    assert len(rows) % 64
    parts = [(batch["index"].tolist(), count) for batch, count in padded_batches(rows)]
    assert {len(index) for index, _ in parts} == {64}
    assert [i for index, count in parts for i in index[:count]] == list(range(len(rows)))
    assert set(parts[-1][0][parts[-1][1] :]) == {len(rows) - 1}


def test_pictures_of_a_batch_are_drawn_as_its_fixed_views_are(data: ChestXrayData) -> None:
    loaders = module(data)
    usual = loaders.first_train_batch(5)
    loaders.views = 2
    viewed = loaders.first_train_batch(5)
    assert torch.equal(usual["image"], viewed["image"])
    assert usual["position"].tolist() == list(range(8)) and usual["epoch"] == 5
    assert viewed["position"].tolist() == data.rows("train")[viewed["index"]].tolist() and viewed["epoch"] == 1


# The prior that training sees


def test_without_balance_the_prior_is_that_of_the_training_images(data: ChestXrayData) -> None:
    loaders = module(data)
    counts = [sum(r.split == "train" and r.label == name for r in data.records) for name in data.labels.classes]
    assert loaders.class_counts == counts
    assert loaders.sampled_prior == pytest.approx(np.array(counts) / sum(counts))


def test_with_the_balancing_sampler_training_sees_two_of_pneumonia_for_one_normal(data: ChestXrayData) -> None:
    loaders = module(data, balance="sampler")
    odds = prior_log_odds(loaders.sampled_prior, data.labels.positive_mask)
    assert odds == pytest.approx(np.log(2))
    assert prior_log_odds(module(data).sampled_prior, data.labels.positive_mask) > odds + 0.1
    seen = Counter(whole(loaders.train_dataloader(), "target").tolist())
    assert len(seen) == 3 and max(seen.values()) - min(seen.values()) <= 8  # a partial batch is left out


def test_balanced_by_series_normal_films_of_both_series_come_equally_often(data: ChestXrayData) -> None:
    loaders = module(data, balance="series")
    assert loaders.sampled_prior == module(data, balance="sampler").sampled_prior
    rows = data.rows("train")[loaders.train_sampler().order(0)]
    normal = [r for r in (data.records[int(row)] for row in rows) if r.label == "NORMAL"]
    seen = Counter(r.series for r in normal)
    assert len(seen) == 2 and max(seen.values()) - min(seen.values()) <= 1


def test_balance_by_series_is_refused_where_no_class_has_two(open_demo: Callable[..., ChestXrayData]) -> None:
    opened = open_demo("data.target=binary", "data.holdout_fraction=0")
    records = opened.records.changed(series=Coded([""], np.zeros(len(opened.records), dtype=np.int64)))
    with pytest.raises(ValueError, match=r"data\.balance=series .* set data\.balance=sampler"):
        module(replace(opened, records=records), balance="series").train_sampler()


def test_with_undersampling_the_prior_is_that_of_what_is_left(open_demo: Callable[..., ChestXrayData]) -> None:
    loaders = module(open_demo("data.balance=undersample", "data.target=binary"), balance="undersample")
    assert loaders.sampled_prior == pytest.approx([0.5, 0.5])


def test_worker_processes_hand_out_the_very_same_batches(data: ChestXrayData) -> None:
    batches = [list(module(data, num_workers=n).train_dataloader()) for n in (0, 2)]
    assert len(batches[0]) == len(batches[1]) == module(data).num_train_batches()
    for one, other in zip(*batches, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in ("image", "target", "position"))


def test_number_of_batches_follows_lightnings_limit(data: ChestXrayData) -> None:
    loaders = module(data)
    whole_epoch = len(loaders.train_dataloader())
    assert [loaders.num_train_batches(limit) for limit in (1.0, 0.5, 2, 10**6)] == [
        whole_epoch, whole_epoch // 2, 2, whole_epoch,
    ]  # fmt: skip
