"""What a run's event files hold beyond its curves, read back and checked against the run's own files."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pytorch_lightning import Callback
from rich.console import Console

from pneumolit.data.parts import Part
from pneumolit.evaluation.metrics import decision_metrics
from pneumolit.rundir import INTERRUPTED, RunDir, read_json
from pneumolit.stage_plan import plan_stages
from pneumolit.training.board import LAYOUT, MOST_CURVES, NUM_CUTS, EpochBoard, _validated_model, count_by_share
from pneumolit.training.callbacks import AugmentedBatch, build_callbacks
from pneumolit.training.fit import fit

Configure = Callable[..., dict[str, Any]]
Train = Callable[..., Any]

CURVE = "val/precision_recall"
SETS, METRICS = ("val", "stress", "block"), ("loss", "accuracy", "balanced_accuracy", "auroc")


def events_of(run: Path) -> Any:
    """Event files as TensorBoard reads them; every point is a tensor."""
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    return EventAccumulator(str(run / "tensorboard"), size_guidance={"tensors": 0}).Reload()


def steps_of(run: Path) -> dict[str, list[int]]:
    """Tag -> its steps."""
    events = events_of(run)
    return {tag: [event.step for event in events.Tensors(tag)] for tag in events.Tags()["tensors"]}


def numbers_of(run: Path, tag: str) -> list[np.ndarray]:
    """A tag's values in order of steps."""
    from tensorboard.util.tensor_util import make_ndarray

    return [make_ndarray(event.tensor_proto) for event in events_of(run).Tensors(tag)]


def layout_of(run: Path) -> dict[str, dict[str, list[str]]]:
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    (event,) = events_of(run).Tensors("custom_scalars__config__")
    found = Layout.FromString(event.tensor_proto.string_val[0])
    return {c.title: {chart.title: list(chart.multiline.tag) for chart in c.chart} for c in found.category}


def train(cfg: Mapping[str, Any], folder: Path, **options: Any) -> tuple[Path, str]:
    told = io.StringIO()
    fit(cfg, folder, Console(file=told, width=200), **options)
    return folder, told.getvalue()


def test_every_run_has_the_same_layout_once(small_run: Path, other_run: Path) -> None:
    expected = {title: {name: tags for name, (_, tags) in charts.items()} for title, charts in LAYOUT.items()}
    assert layout_of(small_run) == layout_of(other_run) == expected


def test_charts_of_the_layout_overlay_the_curves_of_training_and_of_all_validation_sets(
    small_run: Path, other_run: Path
) -> None:
    for run, sets in ((small_run, {"val", "stress"}), (other_run, {"val", "block"})):
        (charts,) = layout_of(run).values()
        logged = steps_of(run)
        shown = {name: {t for t in logged if any(re.match(tag, t) for tag in tags)} for name, tags in charts.items()}
        assert shown == {
            "loss": {"train/loss", *(f"{name}/loss" for name in sets)},
            "AUROC": {f"{name}/auroc" for name in sets},
            "balanced accuracy": {f"{name}/balanced_accuracy" for name in sets},
            "learning rate": {"schedule/lr"},
        }


pairs = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2).filter(lambda p: len({y for y, _ in p}) == 2)


@given(pairs, st.integers(2, 9))
def test_counts_of_a_curve_are_those_of_the_decision_at_every_cut(pairs: list[tuple[bool, int]], num_cuts: int) -> None:
    positives, scores = (np.array(column) for column in zip(*pairs, strict=True))
    counts = count_by_share(positives, scores.astype(float), num_cuts)
    for cut, (tp, fp, tn, fn, precision, recall) in enumerate(counts.T):
        wanted = round(cut / (num_cuts - 1) * len(scores))
        threshold = np.sort(scores)[wanted] if wanted < len(scores) else np.inf
        found = decision_metrics(positives.astype(int), (scores >= threshold).astype(int))
        assert (tp, fp, tn, fn) == (
            (positives & (scores >= threshold)).sum(), (~positives & (scores >= threshold)).sum(),
            (~positives & (scores < threshold)).sum(), (positives & (scores < threshold)).sum(),
        )  # fmt: skip
        assert tn + fn <= wanted
        assert recall == pytest.approx(found["sensitivity"])
        assert precision == pytest.approx(found["ppv"] or 0.0)


def test_curve_of_the_last_epoch_is_that_of_the_scores_of_its_checkpoint(small_run: Path) -> None:
    predictions = RunDir(small_run).read_predictions("val")
    curves = numbers_of(small_run, CURVE)
    assert [curve.shape for curve in curves] == [(6, NUM_CUTS)] * 2
    np.testing.assert_allclose(curves[-1], count_by_share(predictions.positives == 1, predictions.scores), rtol=1e-6)
    assert len(set(curves[-1][0])) > 5  # all scores of this run lie within a hundredth, which no probability resolves
    # Every distinct point is there, so that the area under it is that of the report.
    tp, fp, precision, recall = curves[-1][[0, 1, 4, 5]][:, ::-1]
    kept = tp + fp > 0
    area = np.sum(np.diff(np.r_[0, recall[kept]]) * precision[kept])
    metrics = read_json(small_run / "evaluation" / "val" / "metrics.json")
    assert area == pytest.approx(metrics["ranking"]["average_precision"], abs=1e-6)


def test_every_epoch_has_its_curve_and_pictures_come_only_at_the_end(small_run: Path, other_run: Path) -> None:
    expected = {
        CURVE: [1, 2], "images/augmented_batch": [1], "final/val_errors": [2], "final/val_confusion": [2],
        "final/val_confusion_classes": [2],
    }  # fmt: skip
    for run in (small_run, other_run):
        scalars = {tag for tag in steps_of(run) if tag.startswith(("train/", "schedule/", "Result/", "_hparams_/"))}
        scalars |= {f"{name}/{metric}" for name in SETS for metric in METRICS} | {"custom_scalars__config__"}
        assert {tag: steps for tag, steps in steps_of(run).items() if tag not in scalars} == expected


def test_matrices_are_those_of_the_report(small_run: Path) -> None:
    for name in ("confusion", "confusion_classes"):
        ((_, _, png),) = numbers_of(small_run, f"final/val_{name}")
        drawn = Image.open(small_run / "evaluation" / "val" / f"{name}.png").convert("RGB")
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), np.asarray(drawn))


@pytest.mark.slow
def test_a_long_run_has_a_bounded_number_of_curves_the_last_epoch_s_among_them(
    tiny_config: Configure, train_run: Train, tmp_path: Path
) -> None:
    epochs = 2 * MOST_CURVES + 1
    cfg = tiny_config(
        f"trainer.max_epochs={epochs}", "trainer.limit_train_batches=1", "freeze=head", "augment=none",
        "trainer.cache_features=true", "data.stress=false",
    )  # fmt: skip
    steps = steps_of(train_run(cfg, tmp_path / "run").path)[CURVE]
    assert steps == [*range(3, epochs, 3), epochs]
    assert len(steps) <= MOST_CURVES


@pytest.mark.slow
def test_pictures_of_every_second_epoch_come_from_stored_features_too(tiny_config: Configure, tmp_path: Path) -> None:
    run, _ = train(
        tiny_config("freeze=head", "augment=none", "trainer.cache_features=true", "trainer.max_epochs=3",
                    "logger.images_every=2", "data.stress=false"),
        tmp_path / "run",
    )  # fmt: skip
    steps = steps_of(run)
    assert steps["epochs/val_errors"] == steps["epochs/val_confusion"] == [2]
    assert steps["final/val_errors"] == [3]
    assert "features" in read_json(run / "environment.json")


@pytest.mark.slow
def test_classes_of_which_none_means_pneumonia_have_matrices_and_films_and_no_curve(
    tiny_config: Configure, tmp_path: Path
) -> None:
    run, told = train(
        tiny_config("data.positive=[]", "trainer.max_epochs=1", "logger.images_every=1", "data.stress=false"),
        tmp_path / "run",
    )
    steps = steps_of(run)
    assert CURVE not in steps
    assert {"epochs/val_confusion", "epochs/val_errors", "final/val_confusion_classes", "final/val_errors"} <= set(
        steps
    )
    assert "heat" not in told


def test_model_without_places_gives_films_without_heat_and_says_so_once(tiny_config: Configure, tmp_path: Path) -> None:
    run, told = train(
        tiny_config("backbone=logistic", "trainer.max_epochs=2", "logger.images_every=1", "data.stress=false"),
        tmp_path / "run",
    )
    assert told.count("no heat maps of the worst films: backbone=logistic") == 1
    assert steps_of(run)["epochs/val_errors"] == [1, 2]
    assert read_json(run / "status.json")["state"] == "done"


class SeenModel(Callback):
    """The weights that the pictures of each epoch are made with, and the moving ones."""

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []
        self.moving: list[dict[str, torch.Tensor]] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.moving.append({k: v.clone() for k, v in pl_module.state_dict().items()})
        copy = _validated_model(trainer, pl_module)
        assert not copy.training and copy is not pl_module
        self.seen.append(copy.state_dict())


@pytest.mark.parametrize(
    "average",
    [["callbacks.ema.decay=0.9"], ["callbacks=swa"], ["callbacks.ema.decay=null"]],
    ids=["ema", "swa", "plain"],
)
def test_heat_maps_of_an_epoch_explain_the_weights_that_were_validated(
    tiny_config: Configure, train_only: Train, tmp_path: Path, average: list[str]
) -> None:
    recorder = SeenModel()
    cfg = tiny_config(*average, "trainer.max_epochs=2", "optim.lr=0.01", "data.stress=false")
    trained = train_only(cfg, tmp_path / "run", [recorder])
    saved = torch.load(trained.run.checkpoint("last"), weights_only=True)["state_dict"]
    assert all(torch.equal(recorder.seen[-1][k], v) for k, v in saved.items())
    is_moving = all(torch.equal(recorder.moving[-1][k], v) for k, v in saved.items())
    assert is_moving is (average == ["callbacks.ema.decay=null"])


@pytest.mark.slow
def test_pictures_change_no_bit_of_what_is_learned(
    tiny_config: Configure, train_run: Train, tmp_path: Path, tensors_of: Callable[..., dict[str, torch.Tensor]]
) -> None:
    recipe = ("model.drop_rate=0.3", "augment.mixup_alpha=0.2", "callbacks.ema.decay=null", "trainer.max_epochs=3")
    runs = [
        train_run(tiny_config(*recipe, *logger), tmp_path / name)
        for name, logger in (("drawn", ["logger.images_every=1"]), ("plain", ["logger=none"]))
    ]
    drawn, plain = (tensors_of(torch.load(run.checkpoint("last"), weights_only=True)) for run in runs)
    assert all(torch.equal(drawn[k], v) for k, v in plain.items())


def test_without_tensorboard_nothing_is_computed_or_written(
    tiny_config: Configure, train_run: Train, tmp_path: Path
) -> None:
    cfg = tiny_config("logger=none", "trainer.max_epochs=1", "data.stress=false")
    kinds = callbacks_of(cfg, tmp_path)
    assert not kinds & {EpochBoard, AugmentedBatch}
    assert {EpochBoard, AugmentedBatch} <= callbacks_of(tiny_config(), tmp_path)
    assert not train_run(cfg, tmp_path / "run").tensorboard_folder.exists()


def test_of_several_processes_only_the_first_one_writes(tiny_config: Configure, tmp_path: Path) -> None:
    kinds = callbacks_of(tiny_config("trainer.devices=2"), tmp_path, Part(1, 2))
    assert not kinds & {EpochBoard, AugmentedBatch}
    assert {EpochBoard, AugmentedBatch} <= callbacks_of(tiny_config("trainer.devices=2"), tmp_path, Part(0, 2))


def callbacks_of(cfg: Mapping[str, Any], folder: Path, part: Part | None = None) -> set[type]:
    stage = plan_stages(cfg)[0]
    found = build_callbacks(
        cfg["callbacks"], RunDir(folder), Console(file=io.StringIO()), stage,
        epochs_before=0, steps_before=0, epochs=stage.epochs, is_live=False, part=part or Part(),
    )  # fmt: skip
    return {type(callback) for callback in found}


@pytest.mark.slow
def test_run_that_was_cut_off_goes_on_without_a_gap_and_without_a_point_twice(
    tiny_config: Configure, tmp_path: Path
) -> None:
    cfg = tiny_config(
        "stages=[{freeze: head, epochs: 2}, {freeze: none, epochs: 2}]", "logger.images_every=1", "data.stress=false",
    )  # fmt: skip

    def stop(row: Mapping[str, float]) -> None:
        if row["epoch"] == 3:  # written and flushed, but no checkpoint follows
            raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        train(cfg, tmp_path / "run", watch=stop)
    assert steps_of(tmp_path / "run")[CURVE] == [1, 2, 3]
    run, _ = train(cfg, tmp_path / "run", resume=True)
    steps = steps_of(run)
    assert steps["val/auroc"] == steps[CURVE] == [1, 2, 3, 4]
    assert steps["epochs/val_errors"] == steps["epochs/val_confusion"] == [1, 2, 3, 4]
    assert steps["custom_scalars__config__"] == [0]


def test_results_that_are_written_again_after_a_kill_are_there_once(
    copied_run: Path, tiny_config: Configure, tmp_path: Path
) -> None:
    run = RunDir(copied_run)
    run.write_status(INTERRUPTED, reason="killed while the page was drawn")
    shutil.rmtree(copied_run / "evaluation" / "val")
    train(tiny_config("test=true", f"output_dir={tmp_path / 'out'}"), copied_run, resume=True)
    assert len(list(run.tensorboard_folder.glob("*.final"))) == 1
    steps = steps_of(copied_run)
    assert steps["Result/AUROC_val"] == [2]
    assert all(steps[tag] == [2] for tag in steps if tag.startswith("final/"))
