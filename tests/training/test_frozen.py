"""Stages on stored features: when, of which images, with the same result, and a run that nobody can tell apart."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from pneumolit.data.datamodule import pool_of, rows_of
from pneumolit.data.dataset import load_data
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.features import FeatureCache
from pneumolit.rundir import RunDir, read_json
from pneumolit.scoring import predict_logits
from pneumolit.training import callbacks, frozen, worth
from pneumolit.training.background import BackgroundWriter
from pneumolit.training.build import build_datamodule, build_model, check_names
from pneumolit.training.checkpoints import AtomicCheckpointIO, EpochCheckpoints
from pneumolit.training.fit import fit

Configure = Callable[..., dict[str, Any]]
Train = Callable[..., RunDir]
HEAD = ("freeze=head", "augment=none", "model.drop_rate=0.3", "logger=none")
GROUP = (*HEAD, "freeze=groups", "freeze.last=1")


@pytest.fixture
def own_cache(tiny_config: Configure, cache_dir: Path, tmp_path: Path) -> Configure:
    """`own_cache(*overrides)`: a frozen run with the decoded images of all tests and no features yet."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache_dir / "store").mkdir(exist_ok=True)
    (cache / "store").symlink_to(cache_dir / "store")

    def composed(*overrides: str) -> dict[str, Any]:
        return {**tiny_config(*HEAD, f"output_dir={tmp_path}", *overrides), "cache_dir": str(cache)}

    return composed


def run(cfg: dict[str, Any], folder: Path, told: io.StringIO | None = None) -> RunDir:
    fit(cfg, folder, Console(file=told or io.StringIO(), width=300), resume=True)
    return RunDir(folder)


def weights(found: RunDir, which: str = "last") -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(found.checkpoint(which), weights_only=True)["state_dict"]
    return state


@pytest.fixture
def asked_of() -> Callable[[dict[str, Any]], str]:
    """`asked_of(cfg)`: why this run would train on images; empty where it stores features."""

    def asked(cfg: dict[str, Any]) -> str:
        data = load_data(cfg["data"], Path(cfg["cache_dir"]))
        model, _, plan = build_model(cfg, check_names(cfg), build_datamodule(cfg, data))
        folder = Path(cfg["cache_dir"])
        return frozen.why_images(cfg, plan, model, data, precision="float32", accelerator="cpu", cache_dir=folder)

    return asked


class Seen:
    """Images that pass through the backbone, by what for; rows of the store whose features are computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.features = self.images = 0
        self.written: list[tuple[str, list[int]]] = []
        through, whole, write = PneumoniaClassifier.features, PneumoniaClassifier.forward, FeatureCache._write

        def features(model: PneumoniaClassifier, images: torch.Tensor) -> torch.Tensor:
            self.features += len(images)
            return through(model, images)

        def forward(model: PneumoniaClassifier, images: torch.Tensor) -> torch.Tensor:
            self.images += len(images)
            return whole(model, images)

        def written(cache: FeatureCache, *arguments: Any, what: str, rows: np.ndarray, **keywords: Any) -> Any:
            self.written.append((what, rows.tolist()))
            return write(cache, *arguments, what=what, rows=rows, **keywords)

        monkeypatch.setattr(PneumoniaClassifier, "features", features)
        monkeypatch.setattr(PneumoniaClassifier, "forward", forward)
        monkeypatch.setattr(FeatureCache, "_write", written)


@pytest.mark.slow
def test_run_on_stored_features_ends_as_one_on_images_dropout_and_average_included(
    own_cache: Configure, tmp_path: Path
) -> None:
    choices = ("trainer.max_epochs=3", "optim.lr=0.05", "data.holdout_fraction=0.2")
    stored = run(own_cache(*choices), tmp_path / "stored")
    live = run(own_cache(*choices, "trainer.cache_features=false"), tmp_path / "live")
    assert "features" in read_json(stored.environment_file) and "features" not in read_json(live.environment_file)
    for which in ("best", "last"):
        found, expected = weights(stored, which), weights(live, which)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
    assert not torch.equal(weights(stored)["backbone.fc.weight"], weights(stored, "best")["backbone.fc.weight"])
    for found_row, row in zip(stored.read_metrics(), live.read_metrics(), strict=True):
        assert found_row.keys() == row.keys()
        assert {k: v for k, v in found_row.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in row.items() if k != "seconds"}, abs=2e-4
        )
    for name in ("val", "block"):
        np.testing.assert_allclose(
            stored.read_predictions(name).logits, live.read_predictions(name).logits, rtol=1e-3, atol=1e-4
        )


def test_run_on_the_stored_output_of_a_frozen_front_ends_as_one_on_images(own_cache: Configure, tmp_path: Path) -> None:
    choices = (*GROUP, "trainer.max_epochs=3", "optim.lr=0.01", "data.holdout_fraction=0.2")
    told = io.StringIO()
    stored = run(own_cache(*choices, "trainer.cache_features=true"), tmp_path / "stored", told)
    live = run(own_cache(*choices, "trainer.cache_features=false"), tmp_path / "live")
    assert "frozen   its output is computed of every image once, and stored" in told.getvalue()
    assert read_json(stored.environment_file)["features"]["1"]["before"] == "layer4.0"
    for which in ("best", "last"):
        found, expected = weights(stored, which), weights(live, which)
        assert list(found) == list(expected)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
    for found_row, row in zip(stored.read_metrics(), live.read_metrics(), strict=True):
        assert {k: v for k, v in found_row.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in row.items() if k != "seconds"}, abs=2e-4
        )
    for name in ("val", "block"):
        np.testing.assert_allclose(
            stored.read_predictions(name).logits, live.read_predictions(name).logits, rtol=1e-3, atol=1e-4
        )


def test_front_sees_every_image_once_and_the_run_is_scored_on_images_in_full_precision(
    own_cache: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(monkeypatch)
    cfg = own_cache(*GROUP, "precision=bf16", "data.stress=false", "trainer.cache_features=true")
    run(cfg, tmp_path / "run")
    data = load_data(cfg["data"], Path(cfg["cache_dir"]))
    pool = pool_of(data).tolist()
    assert seen.written == [("training", pool)]
    assert seen.features == 64 * -(-len(pool) // 64) and seen.images == 64 * -(-len(data.rows("val")) // 64)
    index = next((Path(cfg["cache_dir"]) / "features").glob("*/index.json"))
    assert {"dtype": "bfloat16", "order": "channels_last", "before": "layer4.0"}.items() <= read_json(index).items()


def test_stage_goes_on_with_its_stored_front_to_the_same_bits_though_it_would_not_be_stored_any_more(
    own_cache: Configure,
    train_run: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cut_off_in: Callable[..., None],
) -> None:
    cfg = own_cache(*GROUP, "trainer.max_epochs=3", "optim.lr=0.01")
    monkeypatch.setattr(worth, "LEAST_GAIN", 0.0)
    straight = train_run(cfg, tmp_path / "straight")
    assert "features" in read_json(straight.environment_file)
    cut_off_in(1, batch=1)
    with pytest.raises(RuntimeError, match="cut off"):
        train_run(cfg, tmp_path / "cut")
    monkeypatch.setattr(worth, "LEAST_GAIN", 99.0)
    seen = Seen(monkeypatch)
    cut = train_run(cfg, tmp_path / "cut")
    assert seen.images == 0
    found, expected = weights(cut), weights(straight)
    assert [k for k, v in expected.items() if not torch.equal(found[k], v)] == []


def test_stage_that_began_on_images_goes_on_with_them_though_its_front_would_be_stored_now(
    own_cache: Configure,
    train_run: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cut_off_in: Callable[..., None],
) -> None:
    cfg = own_cache(*GROUP, "trainer.max_epochs=3", "optim.lr=0.01")
    cut_off_in(1, batch=1)
    monkeypatch.setattr(worth, "LEAST_GAIN", 99.0)
    with pytest.raises(RuntimeError, match="cut off"):
        train_run(cfg, tmp_path / "cut")
    monkeypatch.setattr(worth, "LEAST_GAIN", 0.0)
    assert "features" not in read_json(train_run(cfg, tmp_path / "cut").environment_file)


def test_auto_stores_a_front_for_many_epochs_and_not_for_few(
    tiny_config: Configure, asked_of: Callable[[dict[str, Any]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked_of(tiny_config(*GROUP, "trainer.max_epochs=40")) == ""
    assert "too little for its size" in asked_of(tiny_config(*GROUP, "trainer.max_epochs=1"))
    assert "a few batches" in asked_of(tiny_config(*GROUP, "trainer.limit_train_batches=1", "trainer.max_epochs=40"))
    # Between what the whole forward pass would win in so many epochs and what this front wins.
    monkeypatch.setattr(worth, "LEAST_GAIN", 20.0)
    assert "too little for its size" in asked_of(tiny_config(*GROUP, "trainer.max_epochs=40"))


@pytest.mark.parametrize("precision", ["auto", *(pytest.param(p, marks=pytest.mark.slow) for p in ("float32", "bf16"))])
def test_predictions_are_those_that_the_saved_checkpoint_makes_of_the_images(
    own_cache: Configure, tmp_path: Path, precision: str
) -> None:
    cfg = own_cache(f"precision={precision}", "test=true", "model.head=mlp", "model.hidden=8", "optim.lr=0.05")
    found = run(cfg, tmp_path / "run")
    data = load_data(cfg["data"], Path(cfg["cache_dir"]))
    model = PneumoniaClassifier.from_checkpoint(found.checkpoint("last"))
    scoring = read_json(found.environment_file)["precision"]["scoring"]
    for name in ("val", "test"):
        logits = predict_logits(model, rows_of(data, name), precision=scoring)
        np.testing.assert_allclose(found.read_predictions(name).logits, logits, rtol=1e-5, atol=1e-5)


def test_backbone_sees_every_image_once_and_never_again_in_runs_with_other_seeds_folds_and_heads(
    own_cache: Configure, train_run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Weights that depend on no seed, as pretrained ones do not.
    folds = ("data.folds=3", "data.val_fraction=0.1", "data.stress=false")
    first = train_run(own_cache(*folds), tmp_path / "first")
    source = weights(first)
    build = frozen.store_features

    def store(stage: Any, model: PneumoniaClassifier, place: Any, **keywords: Any) -> None:
        body = {k.removeprefix("backbone."): v for k, v in source.items() if ".fc." not in k}
        getattr(model.backbone, "body", model.backbone).load_state_dict(body, strict=False)
        build(stage, model, place, **keywords)

    monkeypatch.setattr("pneumolit.training.stages.store_features", store)
    seen = Seen(monkeypatch)
    changes = ("seed=4", "optim.lr=0.01", "model.drop_rate=0.1", "model.head=mlp", "data.batch_size=8")
    for fold in range(3):
        train_run(own_cache(*folds, f"data.fold={fold}", *changes), tmp_path / f"fold{fold}")
    assert (seen.features, seen.images, seen.written) == (0, 0, [])


def test_only_a_scored_test_split_is_computed_and_record_and_console_name_what_is_stored(
    own_cache: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, told = Seen(monkeypatch), io.StringIO()
    cfg = own_cache("precision=bf16", "data.stress=false", "test=true")
    found = run(cfg, tmp_path / "run", told)
    data = load_data(cfg["data"], Path(cfg["cache_dir"]))
    pool, test = pool_of(data).tolist(), data.rows("test").tolist()
    assert test and not set(pool) & set(test)
    assert seen.written == [("training", pool), ("test", test)]
    assert seen.images == 0 and seen.features == 64 * (-(-len(pool) // 64) - (-len(test) // 64))
    assert (tmp_path / "test_looks.jsonl").read_text().count("\n") == 1
    (stage,) = read_json(found.environment_file)["features"].values()
    assert stage["views"] == 0 and set(stage["keys"]) == {"train", "val"}
    assert all((Path(cfg["cache_dir"]) / "features" / key).is_dir() for key in stage["keys"].values())
    assert "frozen   its features are computed of every image once, and stored" in told.getvalue()
    assert f"features of {len(pool)} training images computed in" in told.getvalue()


REASONS = [
    ("", "", ""),
    ("freeze=groups freeze.last=5", "freeze=groups leaves nothing frozen here; set freeze=head", "cache_features=true"),
    ("augment=light", "augmentation gives new images in every epoch; .*feature_views=4", "cache_features=true"),
    ("augment.mixup_alpha=0.2", r"augment\.mixup_alpha=0\.2 mixes images, not features", "cache_features=true"),
    ("augment=light augment.cutmix_alpha=1", r"augment\.cutmix_alpha=1 mixes images", "feature_views=2"),
    ("model.train_size=24", r"model\.train_size=24 gives training images another size", "cache_features=true"),
    ("augment.hflip=0", "without augmentation all views are the same", "feature_views=2"),
]


@pytest.mark.parametrize(("choices", "reason", "wish"), REASONS, ids=[c or "plain" for c, *_ in REASONS])
def test_auto_stores_features_where_that_is_exact_and_asking_elsewhere_is_refused_with_the_reason(
    tiny_config: Configure, asked_of: Callable[[dict[str, Any]], str], choices: str, reason: str, wish: str
) -> None:
    cfg = tiny_config(*HEAD, *choices.split())
    if "views" not in reason:
        assert bool(re.search(reason, asked_of(cfg))) and bool(asked_of(cfg)) == bool(reason)
    if reason:
        with pytest.raises(ValueError, match=rf"^trainer\.{wish}, but .*{reason}"):
            asked_of(tiny_config(*HEAD, *choices.split(), f"trainer.{wish}"))


def test_auto_stores_nothing_for_a_quick_look_or_on_a_disk_that_it_would_fill(
    tiny_config: Configure, asked_of: Callable[[dict[str, Any]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "a few batches" in asked_of(tiny_config(*HEAD, "trainer.limit_train_batches=1"))
    monkeypatch.setattr(frozen, "LARGEST", 1000)
    assert "they would take" in asked_of(tiny_config(*HEAD))
    assert not asked_of(tiny_config(*HEAD, "trainer.limit_train_batches=1", "trainer.cache_features=true"))
    assert asked_of(tiny_config(*HEAD, "trainer.cache_features=false")) == "trainer.cache_features=false"


def test_backbone_that_cannot_be_taken_apart_trains_on_images_and_says_so(
    tiny_config: Configure, asked_of: Callable[[dict[str, Any]], str]
) -> None:
    choices = ("backbone=levit_128s", "model.image_size=224", "data.store_size=224", "model.drop_rate=0")
    assert "levit_128s" in asked_of(tiny_config(*HEAD, *choices))
    with pytest.raises(ValueError, match=r"cannot be taken apart before its head: it has 4 classifiers"):
        asked_of(tiny_config(*HEAD, *choices, "trainer.cache_features=true"))


def test_a_head_on_stored_features_says_which_settings_have_nothing_to_do(own_cache: Configure, tmp_path: Path) -> None:
    told = io.StringIO()
    settings = ("trainer.compile=true", "trainer.auto_batch_size=true", "trainer.max_epochs=1", "data.stress=false")
    fit(own_cache(*HEAD, *settings), tmp_path / "run", Console(file=told, width=200))
    words = "trainer.compile and trainer.auto_batch_size: nothing to do in this stage, a head trains on stored features"
    assert words in told.getvalue()


def test_refused_stage_is_named_before_anything_is_written(tiny_config: Configure, tmp_path: Path) -> None:
    cfg = tiny_config(*HEAD, "stages=[{epochs: 1}, {epochs: 1, augment: light, trainer.cache_features: true}]")
    with pytest.raises(ValueError, match=r"^stage 2: trainer\.cache_features=true, but augmentation"):
        run(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_epoch_trains_on_its_view_and_each_view_is_computed_once(
    own_cache: Configure, train_run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, batches = Seen(monkeypatch), []
    whole = PneumoniaClassifier.training_step

    def step(model: PneumoniaClassifier, batch: Any, batch_idx: int) -> Any:
        batches.append((batch["epoch"], batch["index"].clone(), batch["features"].clone()))
        return whole(model, batch, batch_idx)

    monkeypatch.setattr(PneumoniaClassifier, "training_step", step)
    views = ("augment=light", "trainer.feature_views=2", "data.stress=false", "seed=5")
    cfg = own_cache(*views, "trainer.max_epochs=3", "logger=tensorboard")
    found = train_run(cfg, tmp_path / "run")
    assert [what for what, _ in seen.written] == ["view 1 of the training", "view 2 of the training", "validation"]
    data = load_data(cfg["data"], Path(cfg["cache_dir"]))
    model = PneumoniaClassifier.from_checkpoint(found.checkpoint("last"))
    model.take_apart()
    rows = data.rows("train")
    for epoch, index, features in batches:
        images = torch.from_numpy(data.store.images[rows[index]]).unsqueeze(1)
        pixels = model.augment(images, torch.from_numpy(rows[index]), epoch=epoch % 2, size=32)
        with torch.inference_mode():
            torch.testing.assert_close(features, model.features(pixels), rtol=1e-4, atol=1e-5)
    assert {epoch for epoch, *_ in batches} == {0, 1, 2}
    seen.written.clear()  # one more view needs that one alone
    train_run(own_cache(*views[:1], "trainer.feature_views=3", *views[2:], "trainer.max_epochs=3"), tmp_path / "more")
    assert [what for what, _ in seen.written] == ["view 3 of the training"]


def test_only_the_stage_that_trains_its_head_alone_runs_on_features_and_the_next_one_has_its_weights(
    own_cache: Configure, train_run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[tuple[int, bool]] = []
    whole = PneumoniaClassifier.training_step

    def step(model: PneumoniaClassifier, batch: Any, batch_idx: int) -> Any:
        kinds.append((int(batch["epoch"]), "features" in batch))
        return whole(model, batch, batch_idx)

    monkeypatch.setattr(PneumoniaClassifier, "training_step", step)
    stages = (
        "stages=[{epochs: 2, lr: 0.05}, {freeze: none, optim: sgd, lr: 1e-30, scheduler: constant, epochs: 1, "
        "start: last}, {freeze: none, augment: light, epochs: 1}, {freeze: head, epochs: 1}]"
    )
    found = train_run(own_cache(stages, "callbacks.ema.decay=null"), tmp_path / "run")
    assert dict(kinds) == {0: True, 1: True, 2: False, 3: False, 4: True}
    first, second, third, last = (weights(found, f"{n}last") for n in ("stage1_", "stage2_", "stage3_", ""))
    parameters = [k for k in first if not k.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    for name in parameters:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-20)
    best = weights(found, "stage3_best")
    assert {k for k in last if not torch.equal(last[k], best[k])} <= {"backbone.fc.weight", "backbone.fc.bias"}
    assert not torch.equal(third["backbone.conv1.0.weight"], first["backbone.conv1.0.weight"])
    keys = read_json(found.environment_file)["features"]
    assert set(keys) == {"1", "4"} and keys["1"]["keys"]["train"] != keys["4"]["keys"]["train"]


@pytest.mark.slow
def test_size_of_training_images_is_asked_of_the_stage_itself(own_cache: Configure, tmp_path: Path) -> None:
    small, plain = "{freeze: none, epochs: 1, augment: light, model.train_size: 24}", "{freeze: head, epochs: 1"
    wish = "trainer.cache_features: true"
    found = run(own_cache(f"stages=[{small}, {plain}, {wish}}}]"), tmp_path / "run")
    assert set(read_json(found.environment_file)["features"]) == {"2"}
    refused = own_cache(f"stages=[{plain}}}, {plain}, {wish}, model.train_size: 24}}]")
    with pytest.raises(ValueError, match=r"^stage 2: .*model\.train_size=24 gives training images another size"):
        run(refused, tmp_path / "refused")
    assert not (tmp_path / "refused" / "checkpoints").exists()


def test_batches_are_not_searched_for_where_only_a_head_is_trained(
    own_cache: Configure, train_run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(monkeypatch)
    found = train_run(own_cache("trainer.auto_batch_size=true", "data.stress=false"), tmp_path / "run")
    assert seen.images == 0
    assert "batch_sizes" not in read_json(found.environment_file)


def test_quick_epochs_are_written_at_the_end_of_the_stage_alone(
    own_cache: Configure,
    train_run: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tensors_of: Callable[..., dict[str, torch.Tensor]],
) -> None:
    sizes: list[int] = []
    save = AtomicCheckpointIO.save_checkpoint

    def counted(self: AtomicCheckpointIO, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        save(self, checkpoint, path, storage_options)
        if storage_options is None:
            sizes.append(Path(path).stat().st_size)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", counted)
    # So that the epoch of each is another one, whatever the numbers are.
    best_epochs = {"val/auroc": 2, "val/loss": 4}
    monkeypatch.setattr(
        EpochCheckpoints,
        "_is_better",
        lambda self, monitor, value: self.progress.get("epochs", 0) < best_epochs[monitor],
    )
    cfg = own_cache("trainer.max_epochs=6", "optim.lr=0.5", "callbacks.checkpoint.also=[val/loss]")
    found = train_run(cfg, tmp_path / "run")
    assert len(sizes) == 3
    monkeypatch.setattr(callbacks, "SECONDS_BETWEEN", 0.0)
    # At once, or one that waits would be replaced.
    monkeypatch.setattr(BackgroundWriter, "put", lambda self, contents: self._write(contents))
    written = train_run(cfg, tmp_path / "written")
    assert len(sizes) == 3 + 6
    for name, epoch in {"best": 2, "best_val_loss": 4, "last": 6}.items():
        held, expected = (torch.load(r.checkpoint(name), weights_only=True) for r in (found, written))
        assert held["stage"]["epochs"] == epoch
        held, expected = tensors_of(held), tensors_of(expected)
        assert held.keys() == expected.keys()
        assert [k for k in expected if not torch.equal(held[k], expected[k])] == []
    # Average and moving weights share what is frozen: the file holds it once.
    frozen_bytes = sum(v.numel() * v.element_size() for k, v in weights(found).items() if ".fc." not in k)
    assert max(sizes) < 1.7 * frozen_bytes


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_epochs_in_memory_are_kept_when_the_run_is_stopped_and_it_goes_on_from_them(
    own_cache: Configure, train_run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    cfg = own_cache("trainer.max_epochs=5", "optim.lr=0.05")
    straight = train_run(cfg, tmp_path / "straight")
    whole, steps = PneumoniaClassifier.training_step, []

    def step(model: PneumoniaClassifier, batch: Any, batch_idx: int) -> Any:
        steps.append(batch["epoch"])
        if batch["epoch"] == 3 and batch_idx == 1 and len(set(steps)) == 4:
            raise error("stopped")
        return whole(model, batch, batch_idx)

    monkeypatch.setattr(PneumoniaClassifier, "training_step", step)
    with pytest.raises((KeyboardInterrupt, SystemExit, RuntimeError)):
        train_run(cfg, tmp_path / "run")
    assert torch.load(RunDir(tmp_path / "run").checkpoint("last"), weights_only=True)["stage"]["epochs"] == 3
    monkeypatch.setattr(PneumoniaClassifier, "training_step", whole)
    again = train_run(cfg, tmp_path / "run")
    for which in ("best", "last"):
        found, expected = weights(again, which), weights(straight, which)
        assert all(torch.equal(found[k], v) for k, v in expected.items())
