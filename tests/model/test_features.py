"""Stored features: of the right images and weights, computed once, whole or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pneumolit.data.augment import resize_batch
from pneumolit.data.datamodule import ImageRows, IndexBatch
from pneumolit.model import features as features_module
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.features import FeatureCache, FeatureRows, Features, bytes_per_image, inference
from pneumolit.model.freeze import plan_freeze

SETTINGS: dict[str, Any] = {
    "backbone": "test_resnet", "classes": ["A", "B"], "positive": [], "image_size": 32, "in_chans": 1,
    "drop_rate": 0.3, "mean": 0.5, "std": 0.25, "prior_log_odds": 0.0, "seed": 3, "loss": {"name": "cross_entropy"},
    "augment": {"rotate_degrees": 20.0, "noise_prob": 1.0, "noise_std": [0.1, 0.1]}, "mixup_alpha": 0.0, "optim": {},
    "scheduler": {},
}  # fmt: skip
PIXELS = np.random.default_rng(0).integers(256, size=(70, 40, 40), dtype=np.uint8)
IMAGES = ImageRows(PIXELS, np.arange(70) % 2)
ORIGIN = {"store": "phantoms", "rows": "all"}
Open = Callable[..., Features]


def classifier(**changes: Any) -> PneumoniaClassifier:
    torch.manual_seed(1)
    return PneumoniaClassifier({**SETTINGS, **changes}).use_channels_last()


class Desk:
    """A cache in a folder, and what it computed and said."""

    def __init__(self, folder: Path, model: PneumoniaClassifier | None = None, precision: str = "float32") -> None:
        self.computed: list[int] = []
        self.said: list[str] = []
        self.cache = FeatureCache(
            model or classifier(), folder, precision=precision, progress=self.note, tell=self.said.append
        )

    def note(self, what: str, done: int, total: int) -> None:
        self.computed.append(done)

    def open(self, view: int | None = None, rows: np.ndarray | None = None) -> Features:
        return self.cache.open(IMAGES, ORIGIN, what="phantom", rows=np.arange(70) if rows is None else rows, view=view)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_stored_features_are_what_the_head_sees_to_the_bit(tmp_path: Path, precision: str, dtype: torch.dtype) -> None:
    model = classifier()
    found = Desk(tmp_path, model, precision).open()
    pixels = torch.from_numpy(np.concatenate([PIXELS[64:], np.repeat(PIXELS[-1:], 58, axis=0)])).unsqueeze(1)
    with inference(torch.device("cpu"), precision):
        expected = model.eval().features(resize_batch(pixels, 32))[:6]
    taken = found.take(np.array([69, 64]))
    assert taken.dtype == expected.dtype == dtype
    assert torch.equal(taken, expected[[5, 0]])
    assert isinstance(found.array, np.memmap) and not found.array.flags.writeable


def behind_front(**freeze: Any) -> PneumoniaClassifier:
    """A classifier whose frozen front ends before its last group, or where `freeze` says."""
    built = classifier().backbone
    plan = plan_freeze(built, {"policy": "groups", "last": 1, **freeze}, image_shape=(1, 32, 32))
    return PneumoniaClassifier(SETTINGS, built, plan).use_channels_last()


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_stored_maps_are_what_the_rear_sees_to_the_bit_and_in_its_order_of_memory(
    tmp_path: Path, precision: str, dtype: torch.dtype
) -> None:
    model = behind_front()
    found = Desk(tmp_path, model, precision).open()
    pixels = torch.from_numpy(np.concatenate([PIXELS[64:], np.repeat(PIXELS[-1:], 58, axis=0)])).unsqueeze(1)
    with inference(torch.device("cpu"), precision):
        expected = model.eval().features(resize_batch(pixels, 32))[:6]
    taken = found.take(np.array([69, 64]))
    assert taken.dtype == expected.dtype == dtype and taken.shape == (2, 192, 2, 2)
    assert torch.equal(taken, expected[[5, 0]])
    assert taken.is_contiguous(memory_format=torch.channels_last) and found.array.shape == (70, 2, 2, 192)
    assert bytes_per_image(model.take_apart(), precision) == expected[0].nbytes == found.array[0].nbytes


def test_output_of_a_front_is_named_by_what_lies_before_it_alone(tmp_path: Path) -> None:
    plain = Desk(tmp_path, behind_front()).open().key
    for name in ("backbone.layer4.0.conv1.weight", "backbone.fc.weight"):
        assert Desk(tmp_path, moved(behind_front(), name)).open().key == plain
    others = [
        Desk(tmp_path).open(),
        Desk(tmp_path, behind_front(last=2)).open(),
        Desk(tmp_path, moved(behind_front(), "backbone.layer3.0.conv1.weight")).open(),
    ]
    assert len({plain, *(o.key for o in others)}) == 4


def test_features_that_the_disk_has_no_room_for_are_refused_before_the_first_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, behind_front())
    monkeypatch.setattr(features_module, "free_bytes", lambda folder: 70 * 192 * 4 * 4 - 1)
    with pytest.raises(ValueError, match=r"would take 0\.0 GB, and .* has room for .*trainer\.cache_features=false"):
        desk.open()
    assert desk.computed == [] and list(tmp_path.iterdir()) == []
    monkeypatch.setattr(features_module, "free_bytes", lambda folder: 70 * 192 * 4 * 4)
    key = desk.open().key
    monkeypatch.setattr(features_module, "free_bytes", lambda folder: 0)
    assert Desk(tmp_path, behind_front()).open().key == key  # what is there takes no more room


def test_features_are_computed_once_and_the_model_keeps_its_mode(tmp_path: Path) -> None:
    model = classifier()
    modes = [m.training for m in model.modules()]
    first, again = Desk(tmp_path, model), Desk(tmp_path)
    assert np.array_equal(first.open().array, again.open().array)
    assert (first.computed, again.computed, again.said) == ([64, 70], [], [])
    assert [m.training for m in model.modules()] == modes
    assert sorted(p.suffix for p in tmp_path.iterdir()) == ["", ".lock"]


def moved(model: PneumoniaClassifier, name: str) -> PneumoniaClassifier:
    with torch.no_grad():
        parameter = model.get_parameter(name)
        parameter[(0,) * parameter.ndim] += 1e-3
    return model


def with_body_of(source: PneumoniaClassifier, model: PneumoniaClassifier) -> PneumoniaClassifier:
    body = {k: v for k, v in source.backbone.state_dict().items() if not k.startswith("fc.")}
    missing, foreign = getattr(model.backbone, "body", model.backbone).load_state_dict(body, strict=False)
    assert not foreign and all(name.startswith("fc.") for name in missing)
    return model


def test_whatever_changes_features_changes_their_name_and_the_head_does_not(tmp_path: Path) -> None:
    plain = Desk(tmp_path).open().key
    others = [
        Desk(tmp_path, precision="bf16").open(),
        Desk(tmp_path, classifier(image_size=36)).open(),
        Desk(tmp_path, classifier(mean=0.4)).open(),
        Desk(tmp_path, moved(classifier(), "backbone.conv1.0.weight")).open(),
        Desk(tmp_path).open(view=0),
        Desk(tmp_path).open(view=1),
        Desk(tmp_path, classifier(seed=4)).open(view=0),
    ]
    assert len({plain, *(o.key for o in others)}) == 1 + len(others)
    with torch.no_grad():
        statistics = classifier()
        statistics.backbone.get_buffer("layer1.0.bn1.running_mean")[0] += 1
    assert Desk(tmp_path, statistics).open().key != plain
    assert Desk(tmp_path, moved(classifier(), "backbone.fc.weight")).open().key == plain
    for changes in ({"classes": ["A", "B", "C"], "drop_rate": 0.0, "seed": 4}, {"head": "mlp", "hidden": 8}):
        assert Desk(tmp_path, with_body_of(classifier(), classifier(**changes))).open().key == plain


def test_a_view_is_drawn_from_seed_view_and_the_row_of_the_image_alone(tmp_path: Path) -> None:
    model, rows = classifier(), np.arange(70) * 3
    found = Desk(tmp_path, model).open(view=5, rows=rows)
    images = torch.from_numpy(PIXELS[[8, 2]]).unsqueeze(1)
    pixels = model.augment(images, torch.tensor([24, 6]), epoch=5, size=32)
    with inference(torch.device("cpu"), "float32"):
        torch.testing.assert_close(found.take(np.array([8, 2])), model.eval().features(pixels), rtol=1e-4, atol=1e-5)


def damaged(folder: Path, how: str) -> None:
    array, index = folder / "features.npy", folder / "index.json"
    if how == "cut off":
        array.write_bytes(array.read_bytes()[:-100])
    elif how == "one bit":
        content = bytearray(array.read_bytes())
        content[-5] ^= 1
        array.write_bytes(content)
    elif how == "no index":
        index.unlink()
    else:
        index.write_text("{}")


@pytest.mark.parametrize("how", ["cut off", "one bit", "no index", "foreign index"])
def test_damaged_features_are_made_anew(tmp_path: Path, how: str) -> None:
    whole = Desk(tmp_path).open()
    expected = np.array(whole.array)
    damaged(tmp_path / whole.key, how)
    again = Desk(tmp_path)
    assert np.array_equal(again.open().array, expected)
    assert again.computed == [64, 70]


def test_a_stopped_computation_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, model = Desk(tmp_path), classifier()

    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(desk.cache, "progress", stop)
    with pytest.raises(KeyboardInterrupt):
        desk.open()
    assert [p.suffix for p in tmp_path.iterdir()] == [".lock"]
    again = Desk(tmp_path, model)
    again.open()
    assert again.computed == [64, 70]


def test_leftovers_of_a_killed_process_are_no_features(tmp_path: Path) -> None:
    key = Desk(tmp_path).open().key
    (tmp_path / key).rename(tmp_path / f"{key}.building")
    again = Desk(tmp_path)
    again.open()
    assert again.computed == [64, 70]
    assert sorted(p.name for p in tmp_path.iterdir()) == [key, f"{key}.lock"]


def test_a_second_process_waits_for_the_first_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Desk(tmp_path), Desk(tmp_path)
    is_at_work, is_waiting = threading.Event(), threading.Event()

    def work(what: str, done: int, total: int) -> None:
        is_at_work.set()
        assert is_waiting.wait(30)

    def tell(line: str) -> None:
        second.said.append(line)
        is_waiting.set()

    monkeypatch.setattr(first.cache, "progress", work)
    monkeypatch.setattr(second.cache, "tell", tell)
    worker = threading.Thread(target=first.open)
    worker.start()
    assert is_at_work.wait(30)
    found = second.open()
    worker.join()
    assert second.computed == [] and len(found.array) == 70
    assert second.said == ["  another process computes these features; waiting for it"]


def test_a_folder_that_cannot_be_written_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"features cannot be stored in .*file.*trainer\.cache_features=false"):
        Desk(tmp_path / "file" / "features").open()


def test_a_full_disk_ends_in_a_message_and_not_in_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(features_module, "_write_header", full)
    with pytest.raises(ValueError, match="No space left on device"):
        Desk(tmp_path).open()
    assert [p.suffix for p in tmp_path.iterdir()] == [".lock"]


def test_epochs_take_turns_with_the_views(tmp_path: Path) -> None:
    views = {0: Desk(tmp_path).open(view=0), 1: Desk(tmp_path).open(view=1)}
    places = np.array([5, 3, 9])
    rows = FeatureRows(views, places, ImageRows(PIXELS[places], np.array([1, 0, 1])), count=2)
    for epoch in range(4):
        batch = rows[IndexBatch(np.array([2, 0]), 0, epoch)]
        assert torch.equal(batch["features"], views[epoch % 2].take(np.array([9, 5])))
        assert batch["target"].tolist() == [1, 1]
