"""From a model and images to predictions, numbers and calibration."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from pneumolit.data.datamodule import EVAL_BATCH, EvalSampler, ImageRows, IndexBatch
from pneumolit.evaluation.calibration import fit_calibration
from pneumolit.labels import LabelSet
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.predictions import Predictions
from pneumolit.rundir import EvaluationDir, RunDir, read_json
from pneumolit.scoring import (
    calibrate,
    headline,
    predict_logits,
    read_calibration,
    read_metrics,
    redraw_evaluation,
    report_foreign,
    write_evaluation,
)

IMAGES = np.random.default_rng(0).integers(256, size=(80, 40, 40), dtype=np.uint8)


def rows(images: np.ndarray) -> ImageRows:
    return ImageRows(images, np.zeros(len(images), dtype=np.int64))


@pytest.fixture(scope="module")
def model(small_run: Path) -> PneumoniaClassifier:
    return PneumoniaClassifier.from_checkpoint(small_run / "checkpoints" / "last.ckpt")


@given(count=st.integers(1, 80))
@settings(max_examples=15, deadline=None)
def test_logits_of_a_row_do_not_depend_on_how_many_rows_stand_beside_it(model: PneumoniaClassifier, count: int) -> None:
    everything = predict_logits(model, rows(IMAGES))
    assert np.array_equal(predict_logits(model, rows(IMAGES[:count])), everything[:count])
    assert np.array_equal(predict_logits(model, rows(IMAGES[-1:])), everything[-1:])


def test_a_model_that_wants_a_drawn_order_scores_each_row_beside_those_drawn_with_it_and_gives_them_back_in_order(
    small_run: Path,
) -> None:
    model = PneumoniaClassifier.from_checkpoint(small_run / "checkpoints" / "last.ckpt")
    norms = [name for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    model.settings["batch_statistics"] = [name.removeprefix("backbone.") for name in norms]
    in_order = predict_logits(model, rows(IMAGES))
    model.settings["drawn_batch"] = 32
    found = predict_logits(model, rows(IMAGES))
    batches = [batch.rows for batch in EvalSampler(len(IMAGES), drawn_batch=32)]
    assert norms and [len(batch) for batch in batches] == [40, 40]
    for batch in batches:
        with torch.inference_mode():
            alone = model.logits_of({"image": torch.from_numpy(IMAGES[batch]).unsqueeze(1)}).double().numpy()
        np.testing.assert_allclose(found[batch], alone, atol=1e-5)
    assert np.abs(found - in_order).max() > 1e-3
    assert np.array_equal(found, predict_logits(model, rows(IMAGES)))  # the same order every time


def test_scoring_puts_the_model_into_eval_mode_and_changes_nothing_in_it(model: PneumoniaClassifier) -> None:
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    first = predict_logits(model, rows(IMAGES[:5]))
    assert not any(m.training for m in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert np.array_equal(first, predict_logits(model, rows(IMAGES[:5])))


def test_nothing_of_a_batch_is_kept_but_its_logits(model: PneumoniaClassifier) -> None:
    # A small block kept between large ones that are freed: of 12,000 images of 64 px the heap grew by 180 MB.
    read: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    class Watched(ImageRows):
        def content(self, batch: IndexBatch) -> dict[str, torch.Tensor]:
            alive.append(sum(rows() is not None for rows in read))
            read.append(weakref.ref(batch.rows))
            return super().content(batch)

    many = np.zeros((4 * EVAL_BATCH, 8, 8), dtype=np.uint8)
    assert len(predict_logits(model, Watched(many, np.zeros(len(many), dtype=np.int64)))) == len(many)
    assert alive == [0, 1, 1, 1]  # the one before, until the next is there


def test_half_precision_is_used_where_it_is_asked_for_and_only_there(model: PneumoniaClassifier) -> None:
    full, half = (predict_logits(model, rows(IMAGES[:8]), precision=p) for p in ("float32", "bf16"))
    assert not np.array_equal(full, half)
    assert np.allclose(full, half, atol=0.1)


def test_predictions_of_a_run_name_every_image_of_the_split_once(small_run: Path) -> None:
    run = RunDir(small_run)
    for split in ("val", "test"):
        listed = [row["path"] for row in run.read_split() if row["split"] == split]
        assert run.read_predictions(split).paths.tolist() == listed


def test_reported_numbers_equal_those_of_scikit_learn_on_the_written_predictions(small_run: Path) -> None:
    run = RunDir(small_run)
    for split in ("val", "test"):
        predictions = run.read_predictions(split)
        metrics = read_metrics(run.evaluation_metrics_file(split))
        sick = predictions.positives
        assert metrics["ranking"]["auroc"] == pytest.approx(roc_auc_score(sick, predictions.scores))
        calibration, _ = read_calibration(run)
        assert calibration is not None
        called = calibration.probs(predictions.scores, 0.5) >= 0.5
        assert metrics["rules"]["primary"]["accuracy"] == pytest.approx(accuracy_score(sick, called))
        expected = balanced_accuracy_score(sick, called)
        assert metrics["rules"]["primary"]["balanced_accuracy"] == pytest.approx(expected)
        argmax = balanced_accuracy_score(sick, predictions.positive_preds)
        assert metrics["rules"]["argmax"]["balanced_accuracy"] == pytest.approx(argmax)


def test_calibration_comes_from_validation_alone(small_run: Path) -> None:
    run = RunDir(small_run)
    val, test = run.read_predictions("val"), run.read_predictions("test")
    stored, _ = read_calibration(run)
    assert stored is not None
    fitted = fit_calibration(val.scores, val.positives)
    assert (stored.slope, stored.intercept) == pytest.approx((fitted.slope, fitted.intercept), rel=1e-4)
    content = read_json(run.calibration_file)
    assert content["fitted_on"] == "val" and content["num_images"] == len(val) != len(test)


def test_set_without_a_two_class_view_has_no_calibration_and_still_a_headline(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(3, size=30)
    names = np.array([f"{i}.png" for i in range(30)], dtype=object)
    labels = LabelSet(("A", "B", "C"))
    predictions = Predictions(labels, names, names, targets, rng.normal(size=(30, 3)) + 2 * np.eye(3)[targets])
    run = RunDir(tmp_path)
    calibrate(run, predictions)
    assert read_calibration(run) == (None, [])
    metrics = write_evaluation(run, "val", predictions, title="Validation", context={})
    assert [label for label, _ in headline(metrics)] == ["accuracy"]
    assert run.evaluation_report_file("val").is_file()


@pytest.mark.parametrize("seed", range(4))
def test_a_rule_keeps_on_the_written_validation_what_it_promised_there(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.integers(2, size=200)
    names = np.array([f"{i}.png" for i in range(200)], dtype=object)
    logits = (rng.normal(size=(200, 2)) + 1.5 * np.eye(2)[targets]).astype(np.float32).astype(np.float64)
    labels = LabelSet(("NORMAL", "PNEUMONIA"), ("PNEUMONIA",))
    run = RunDir(tmp_path)
    predictions = Predictions(labels, names, names, targets, logits, 0.7)
    calibrate(run, predictions)
    found = write_evaluation(run, "val", predictions, title="Validation", context={})["rules"]
    promised = {name: rule for name, rule in found.items() if rule["promised"] and rule["promised"]["sensitivity"]}
    assert len(promised) > 2
    for rule in promised.values():  # the threshold is an image's probability, and is above it if one of both is rounded
        assert rule["promised"] == {key: rule[key] for key in ("sensitivity", "specificity")}


def foreign(num_normal: int, num_ill: int) -> Predictions:
    """Scores of another program: no series, no sharpness, no calibration."""
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1], [num_normal, num_ill])
    names = np.array([f"{i}.png" for i in range(len(targets))], dtype=object)
    logits = np.stack([np.zeros(len(targets)), rng.normal(size=len(targets)) + 2 * targets - 1], axis=1)
    return Predictions(LabelSet(("NORMAL", "PNEUMONIA"), ("PNEUMONIA",)), names, names, targets, logits)


def test_predictions_of_another_program_get_the_same_report_decided_at_one_half(tmp_path: Path) -> None:
    place, theirs = EvaluationDir(tmp_path / "theirs"), foreign(40, 60)
    metrics = report_foreign(place, theirs, title="Theirs", context={"predictions": "theirs.csv"})
    assert metrics == read_json(place.metrics_file)
    assert list(metrics["rules"]) == ["argmax", "half"] and metrics["name"] == "theirs"
    assert metrics["rules"]["half"]["accuracy"] == pytest.approx(accuracy_score(theirs.positives, theirs.scores >= 0))
    assert [label for label, _ in headline(metrics)][:2] == ["AUROC", "accuracy"]
    again = Predictions.from_csv(place.predictions_file.read_text(encoding="utf-8"), ("PNEUMONIA",), 0.0)
    assert np.allclose(again.scores, theirs.scores)
    assert (tmp_path / "theirs" / "reliability.png").is_file()
    text = place.report_file.read_text(encoding="utf-8")
    assert text.startswith("# Theirs\n") and "- predictions: theirs.csv" in text


def test_a_prevalence_without_a_class_that_means_pneumonia_is_refused(tmp_path: Path) -> None:
    names = np.array(["a.png", "b.png", "c.png"], dtype=object)
    plain = Predictions(LabelSet(("A", "B", "C")), names, names, np.arange(3), np.eye(3))
    with pytest.raises(ValueError, match=r"prevalence=0\.1: this run has no class that means pneumonia"):
        redraw_evaluation(RunDir(tmp_path), "val", plain, None, [], title="t", context={}, prevalence=0.1)


def test_what_is_known_of_every_image_reaches_its_row_of_predictions(small_run: Path) -> None:
    test = RunDir(small_run).read_predictions("test")
    assert np.isfinite(test.sharpness).all() and len(np.unique(test.sharpness)) > len(test) // 2
    normal, listed = test.positives == 0, {row["path"]: row for row in RunDir(small_run).read_split()}
    assert set(test.series[normal]) == {"IM", "NORMAL2-IM"}
    assert test.series.tolist() == [listed[path]["series"] for path in test.paths]
    parts = read_metrics(RunDir(small_run).evaluation_metrics_file("test"))["subgroups"]
    assert {part["kind"] for part in parts} == {"cause", "series", "sharpness"}
