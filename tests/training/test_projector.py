"""What the projector is given: features of validation films that are still what the head sees, and who they are."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from pneumolit.data.dataset import load_data
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.rundir import RunDir
from pneumolit.scoring import predict_logits
from pneumolit.training.build import build_datamodule
from pneumolit.training.fit import fit
from pneumolit.training.projector import (
    MOST_AXES,
    MOST_POINTS,
    THUMBNAIL,
    _features,
    _metadata,
    chosen_rows,
    strongest_axes,
    write_projector,
)

Configure = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def written(small_run: Path, tiny_config: Configure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a finished run's features were written to."""
    run, cfg, folder = RunDir(small_run), tiny_config(), tmp_path_factory.mktemp("events")
    images = build_datamodule(cfg, load_data(cfg["data"], Path(cfg["cache_dir"]))).rows_of("val")
    model = PneumoniaClassifier.from_checkpoint(run.checkpoint("last"))
    write_projector(folder, model, images, run.read_predictions("val"))
    return folder


def embedding_of(folder: Path) -> Any:
    from google.protobuf import text_format  # type: ignore[import-untyped]  # ships no types
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    return embedding


def test_head_of_the_checkpoint_makes_the_run_s_logits_of_the_written_features(written: Path, small_run: Path) -> None:
    run = RunDir(small_run)
    points = torch.from_numpy(np.loadtxt(written / embedding_of(written).tensor_path)).float()
    model = PneumoniaClassifier.from_checkpoint(run.checkpoint("last"))
    cut = model.take_apart()
    assert points.shape[1] == cut.shape[0] <= MOST_AXES  # so that they are as the head takes them
    with torch.no_grad():
        logits = model.logits_of({"features": points}).double().numpy()
    np.testing.assert_allclose(logits, run.read_predictions("val").logits, atol=1e-3)  # five digits are written


@pytest.mark.parametrize("drawn_batch", [0, 6])
def test_features_of_a_model_that_normalises_by_the_batch_are_those_it_is_scored_by(
    small_run: Path, tiny_config: Configure, drawn_batch: int
) -> None:
    cfg = tiny_config()
    images = build_datamodule(cfg, load_data(cfg["data"], Path(cfg["cache_dir"]))).rows_of("val")
    model = PneumoniaClassifier.from_checkpoint(RunDir(small_run).checkpoint("last"))
    norms = [name for name, module in model.backbone.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    model.settings |= {"batch_statistics": norms, "drawn_batch": drawn_batch}
    scored = predict_logits(model, images)
    features = torch.from_numpy(_features(model, images, np.arange(len(images)))).float()
    with torch.no_grad():
        logits = model.logits_of({"features": features}).double().numpy()
    assert norms
    np.testing.assert_allclose(logits, scored, atol=1e-5)


def test_every_point_has_its_labels_and_its_thumbnail(written: Path, small_run: Path) -> None:
    predictions, embedding = RunDir(small_run).read_predictions("val"), embedding_of(written)
    rows = list(csv.DictReader(io.StringIO((written / embedding.metadata_path).read_text()), delimiter="\t"))
    classes = np.array(predictions.labels.classes)
    assert [row["true"] for row in rows] == classes[predictions.targets].tolist()
    assert [row["largest logit"] for row in rows] == classes[predictions.preds].tolist()
    assert [row["file"] for row in rows] == predictions.paths.tolist()
    assert [float(row["score"]) for row in rows] == pytest.approx(predictions.scores.tolist(), abs=5e-4)
    assert list(embedding.sprite.single_image_dim) == [THUMBNAIL, THUMBNAIL]
    sprite = Image.open(written / embedding.sprite.image_path)
    columns = sprite.width // THUMBNAIL
    assert sprite.width == sprite.height == columns * THUMBNAIL
    assert (columns - 1) ** 2 < len(rows) <= columns**2
    tiles = np.asarray(sprite).reshape(columns, THUMBNAIL, columns, THUMBNAIL).swapaxes(1, 2)
    is_drawn = tiles.reshape(columns**2, -1).max(1) > 0
    assert is_drawn.tolist() == [i < len(rows) for i in range(columns**2)]


def test_a_tab_or_a_line_end_in_a_file_name_moves_no_column(small_run: Path) -> None:
    predictions = RunDir(small_run).read_predictions("val")
    predictions.paths[0] = "a\tb\nc.jpeg"
    rows = list(csv.DictReader(io.StringIO(_metadata(predictions, np.arange(3))), delimiter="\t"))
    assert [row["file"] for row in rows] == ["a b c.jpeg", *predictions.paths[1:3]]


def test_few_strongest_axes_keep_angles_and_distances_of_features_that_lie_on_few() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 20)) @ rng.normal(size=(20, 1000)) + 3.0
    points, kept = strongest_axes(features, most=21)
    assert points.shape == (300, 21)
    assert kept == pytest.approx(1.0)
    np.testing.assert_allclose(points @ points.T, features @ features.T, rtol=1e-8)
    assert strongest_axes(features, most=2)[1] < 0.99
    assert strongest_axes(np.zeros((3, 200)))[1] == 1.0


def test_large_sets_are_drawn_from_at_random_alike_in_every_run() -> None:
    np.testing.assert_array_equal(chosen_rows(7), np.arange(7))
    rows = chosen_rows(5000)
    assert len(rows) == len(set(rows.tolist())) == MOST_POINTS
    assert 2000 < rows.mean() < 3000 and (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, chosen_rows(5000))


@pytest.mark.slow
def test_run_that_is_asked_for_writes_it_beside_its_event_files(tiny_config: Configure, tmp_path: Path) -> None:
    cfg = tiny_config("logger.projector=true", "trainer.max_epochs=1", "data.stress=false")
    fit(cfg, tmp_path / "run", Console(file=io.StringIO()))
    assert embedding_of(tmp_path / "run" / "tensorboard").tensor_path == "projector/tensors.tsv"


def test_run_that_is_not_asked_writes_none(small_run: Path) -> None:
    assert not list((small_run / "tensorboard").glob("*projector*"))
