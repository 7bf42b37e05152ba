"""Orders and batches: reproducible, balanced when asked, every row once in evaluation."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pneumolit.data.datamodule import ChestXrayDataModule, EvalSampler, ImageRows, IndexBatch, TrainSampler
from pneumolit.data.dataset import ChestXrayData, load_data
from pneumolit.data.stress import STRESS_FAMILIES, distort
from tests.conftest import Compose

targets_strategy = st.lists(st.integers(0, 2), min_size=6, max_size=80).filter(lambda t: len(set(t)) == 3).map(np.array)


def order_of(sampler: TrainSampler) -> list[int]:
    return [int(row) for batch in sampler for row in batch.rows]


@given(targets_strategy, st.integers(1, 9), st.integers(0, 1000), st.booleans())
def test_order_depends_on_seed_and_epoch_alone(targets: np.ndarray, size: int, seed: int, is_balanced: bool) -> None:
    make = lambda: TrainSampler(targets, batch_size=size, seed=seed, is_balanced=is_balanced)  # noqa: E731
    first, second = make(), make()
    assert order_of(first) == order_of(second)
    list(second)  # an iteration more changes nothing
    first.set_epoch(3)
    second.set_epoch(3)
    assert order_of(first) == order_of(second)


def test_another_epoch_has_another_order() -> None:
    sampler = TrainSampler(np.zeros(50, dtype=int), batch_size=5, seed=0, is_balanced=False)
    first = order_of(sampler)
    sampler.set_epoch(1)
    assert order_of(sampler) != first and sorted(order_of(sampler)) == sorted(first)


@given(targets_strategy, st.integers(0, 100))
def test_balanced_order_draws_classes_equally_and_repeats_no_image_early(targets: np.ndarray, seed: int) -> None:
    order = TrainSampler(targets, batch_size=1, seed=seed, is_balanced=True).order(0)
    assert len(order) == len(targets)
    counts = Counter(targets[order].tolist())
    assert max(counts.values()) - min(counts.values()) <= 3
    for value in range(3):
        rows = np.flatnonzero(targets == value)
        drawn = Counter(order[targets[order] == value].tolist())
        # At most as often as a full quota needs: each again only after all the others.
        assert max(drawn.values()) <= math.ceil(math.ceil(len(targets) / 3) / len(rows))


def test_only_the_last_partial_batch_of_an_epoch_is_left_out() -> None:
    sampler = TrainSampler(np.zeros(11, dtype=int), batch_size=4, seed=0, is_balanced=False)
    assert len(sampler) == 2 and len(set(order_of(sampler))) == 8
    assert [batch.start for batch in sampler] == [0, 4]


def test_a_batch_larger_than_the_set_takes_the_whole_set() -> None:
    sampler = TrainSampler(np.zeros(3, dtype=int), batch_size=32, seed=0, is_balanced=False)
    assert sorted(order_of(sampler)) == [0, 1, 2]


@given(st.integers(1, 200), st.integers(1, 64))
def test_evaluation_gives_every_row_once_in_order(length: int, size: int) -> None:
    sampler = EvalSampler(length, size)
    batches = list(sampler)
    assert [int(r) for b in batches for r in b.rows] == list(range(length)) and len(batches) == len(sampler)


def test_a_batch_carries_images_targets_and_positions() -> None:
    images = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
    rows = ImageRows(images, np.array([0, 1, 0, 1, 2]))
    batch = rows[IndexBatch(np.array([4, 1]), 10, 7)]
    assert batch["image"].shape == (2, 1, 4, 4) and batch["image"].dtype == torch.uint8
    assert torch.equal(batch["image"][0, 0], torch.from_numpy(images[4]))
    assert batch["target"].tolist() == [2, 1] and batch["position"].tolist() == [10, 11] and batch["epoch"] == 7


@pytest.fixture(scope="module")
def data(tiny_config: Compose, cache_dir: Any) -> ChestXrayData:
    return load_data(tiny_config()["data"], cache_dir)


def module(data: ChestXrayData, balance: str, is_stressed: bool = True) -> ChestXrayDataModule:
    return ChestXrayDataModule(data, batch_size=8, seed=0, balance=balance, is_stressed=is_stressed)


def test_the_recorded_prior_is_what_training_sees(data: ChestXrayData) -> None:
    normal, bacteria, virus = module(data, "none").class_counts
    assert module(data, "none").prior_log_odds == pytest.approx(np.log((bacteria + virus) / normal))
    assert module(data, "sampler").prior_log_odds == pytest.approx(np.log(2))
    order = next(iter(module(data, "sampler").train_dataloader().sampler.order(e) for e in range(1)))  # type: ignore[attr-defined]
    seen = data.targets(data.rows("train"))[order]
    assert np.bincount(seen) == pytest.approx(len(seen) / 3, abs=1.5)


def test_stressed_images_keep_their_targets_and_differ_from_the_plain_ones(data: ChestXrayData) -> None:
    datamodule = module(data, "none")
    assert datamodule.val_names == ["val", "stress"]
    plain, stressed = (loader.dataset for loader in datamodule.val_dataloader())
    count = len(plain)  # type: ignore[arg-type]
    assert len(stressed) == len(STRESS_FAMILIES) * count  # type: ignore[arg-type]
    everything = plain[IndexBatch(np.arange(count), 0, 0)]
    for k, family in enumerate(STRESS_FAMILIES):
        part = stressed[IndexBatch(np.arange(k * count, (k + 1) * count), 0, 0)]
        assert torch.equal(part["target"], everything["target"]) and set(part["family"].tolist()) == {k}
        expected = distort(everything["image"][:, 0].numpy(), family, indices=np.arange(count))
        assert np.array_equal(part["image"][:, 0].numpy(), expected)
        if family != "resample":  # 64 px and back, which the phantoms are already
            assert not np.array_equal(expected, everything["image"][:, 0].numpy())
    assert set(everything["family"].tolist()) == {-1}


def test_without_stress_there_is_one_validation_set(data: ChestXrayData) -> None:
    assert module(data, "none", is_stressed=False).val_names == ["val"]
