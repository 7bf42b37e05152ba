"""When a frozen front's output is stored unasked: where it saves enough time, and where there is room for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumolit.data.dataset import ChestXrayData, load_data
from pneumolit.model.front import FrontCut
from pneumolit.training import worth
from pneumolit.training.worth import gain_of_storing, why_few, why_large

Configure = Callable[..., dict[str, Any]]
CUT = FrontCut("layer4", (1024, 2, 2), (1, 32, 32), {}, ("layer4",), share=0.8)


@pytest.fixture
def data(tiny_config: Configure) -> ChestXrayData:
    cfg = tiny_config()
    return load_data(cfg["data"], Path(cfg["cache_dir"]))


def test_gain_is_that_of_a_stage_counted_by_hand() -> None:
    # 4 epochs: 100 images trained on (0.8 forward + 3 x 0.2), 50 scored (1.0); stored once for 200: 0.8 each.
    expected = 4 * (100 * 1.4 + 50) / (200 * 0.8 + 4 * (100 * 0.6 + 50 * 0.2))
    assert gain_of_storing(0.8, epochs=4, trained=100, scored=50, stored=200) == pytest.approx(expected)


@given(st.floats(0.01, 0.99), st.integers(1, 50), st.integers(1, 5000), st.integers(0, 5000), st.integers(0, 3000))
def test_more_epochs_win_more_and_one_epoch_nothing(
    share: float, epochs: int, trained: int, scored: int, rest: int
) -> None:
    counts = {"trained": trained, "scored": scored, "stored": trained + scored + rest}
    assert gain_of_storing(share, epochs=1, **counts) <= 1
    assert gain_of_storing(share, epochs=epochs + 1, **counts) > gain_of_storing(share, epochs=epochs, **counts)


def test_few_epochs_a_small_front_and_a_gpu_are_reasons_and_the_most_that_is_possible_is_asked_first(
    tiny_config: Configure, data: ChestXrayData
) -> None:
    many = tiny_config("trainer.max_epochs=30")
    assert why_few(many, data, "cpu", 0.8) == why_few(many, data, "cpu") == ""
    assert "0% faster, too little for its size; trainer.cache_features=true" in why_few(
        tiny_config("trainer.max_epochs=1"), data, "cpu"
    )
    assert "too little" in why_few(many, data, "cpu", 0.1)
    assert "on a CPU only" in why_few(many, data, "gpu", 0.8)


def test_a_share_of_the_patients_counts_as_many_images_as_an_epoch_draws(
    tiny_config: Configure, data: ChestXrayData
) -> None:
    cfg = tiny_config("trainer.max_epochs=4", "data.stress=false")
    few = data.records.with_split("dropped", data.rows("train")[4:])  # four of them, drawn again and again
    assert "too little" in why_few(cfg, replace(data, records=few), "cpu", 0.9)
    assert why_few(cfg, replace(data, records=few, epoch_length=20 * len(data.rows("train"))), "cpu", 0.9) == ""


def test_output_is_stored_unasked_only_where_memory_and_disk_have_ample_room(
    tiny_config: Configure, data: ChestXrayData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cfg = tiny_config()
    images = sum(r.split in {"train", "val"} for r in data.records) + 5 * len(
        data.rows("val")
    )  # with the stressed ones
    size = images * 4096 * 4
    limits = {"LARGEST": size, "memory_bytes": 4 * size, "free_bytes": 2 * size}

    def reason(**changes: int) -> str:
        found = {**limits, **changes}
        monkeypatch.setattr(worth, "LARGEST", found["LARGEST"])
        monkeypatch.setattr(worth, "memory_bytes", lambda: found["memory_bytes"])
        monkeypatch.setattr(worth, "free_bytes", lambda folder: found["free_bytes"])
        return why_large(cfg, data, CUT, "float32", tmp_path)

    assert reason() == ""
    assert "a quarter of the memory" in reason(memory_bytes=4 * size - 4)
    assert f"half of what {tmp_path} has room for" in reason(free_bytes=2 * size - 2)
    assert "more than" in reason(LARGEST=size - 1)
    assert why_large(cfg, data, CUT, "bf16", tmp_path) == ""  # half as large
    cfg["model"]["image_size"] = 48
    assert "more than" in reason(memory_bytes=8 * size)
