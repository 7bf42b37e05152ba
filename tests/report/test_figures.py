from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pneumolit.evaluation.calibration import Calibration
from pneumolit.evaluation.clustered import proportion_interval
from pneumolit.evaluation.summary import summarise
from pneumolit.labels import LabelSet
from pneumolit.predictions import Predictions
from pneumolit.report.curves import _LABEL_WIDTH, _stage_marks, _stage_starts
from pneumolit.report.evaluation import evaluation_report
from pneumolit.report.figures import _reliability, _scores, confusion_figure, draw_evaluation, draw_training_curves
from tests.processor_time import times_slower

TWO_CLASS_PICTURES = {"confusion.png", "reliability.png", "scores.png", "confusion_classes.png"}


def test_an_evaluation_leaves_all_pictures_and_says_which(
    predictions: Predictions, metrics: dict[str, Any], calibration: Calibration, tmp_path: Path
) -> None:
    start = time.process_time()
    written = draw_evaluation(predictions, metrics, calibration, tmp_path)
    assert time.process_time() - start < 6 * 0.5 * times_slower()
    assert {path.name for path in written} == TWO_CLASS_PICTURES | {"roc.png", "pr.png"}
    for path in written:
        with Image.open(path) as image:
            assert min(image.size) > 400
            assert len(set(image.convert("L").tobytes())) > 20  # drawn upon, not blank


def test_pictures_are_the_same_bytes_each_time(
    predictions: Predictions, metrics: dict[str, Any], calibration: Calibration, tmp_path: Path
) -> None:
    first = [p.read_bytes() for p in draw_evaluation(predictions, metrics, calibration, tmp_path)]
    assert first == [p.read_bytes() for p in draw_evaluation(predictions, metrics, calibration, tmp_path)]


def test_every_point_of_the_reliability_diagram_has_an_interval_over_patients(
    predictions: Predictions, metrics: dict[str, Any], calibration: Calibration
) -> None:
    probs = calibration.probs(predictions.scores)
    of_ten = np.argsort(np.argsort(probs)) // 10  # three patients in every bin
    axes = _reliability(replace(predictions, patient_ids=of_ten), metrics, calibration).axes[0]
    assert axes.collections[0].get_label() == "95 % interval over patients"
    alone = _reliability(replace(predictions, patient_ids=predictions.paths), metrics, calibration).axes[0]
    assert alone.collections[0].get_label() == "95 % interval over images"
    lines = {str(line.get_label()).partition(",")[0]: line.get_xydata() for line in axes.lines}
    assert list(lines) == ["perfect", "as trained", "calibrated"]
    points = np.asarray(lines["calibrated"])
    bars = np.array(axes.collections[0].get_segments())  # type: ignore[attr-defined]
    assert len(points) == len(bars) == 10
    for (prob, frequency), bar in zip(points, bars, strict=True):
        assert bar[:, 0].tolist() == [prob, prob]
        assert bar[0, 1] <= frequency <= bar[1, 1]
    last = np.argsort(probs)[-30:]
    assert bars[-1][:, 1].tolist() == proportion_interval(predictions.positives[last], of_ten[last])
    assert bars[-1][0, 1] < 0.6


def test_one_class_without_calibration_is_drawn_without_a_ranking(
    make_predictions: Callable[..., Predictions], tmp_path: Path
) -> None:
    normals = make_predictions(np.zeros(9, dtype=int))
    metrics = summarise(normals, None, [], num_resamples=5)
    written = draw_evaluation(normals, metrics, None, tmp_path)
    assert {path.name for path in written} == TWO_CLASS_PICTURES
    assert "| AUROC | n/a |" in evaluation_report(metrics, title="t", context={})


def test_without_a_two_class_view_only_the_class_matrix_is_drawn(
    make_predictions: Callable[..., Predictions], tmp_path: Path
) -> None:
    plain = make_predictions(np.arange(30) % 3, LabelSet(("A", "B$1$", "a very long name of a class")))
    metrics = summarise(plain, None, [], num_resamples=5)
    assert [p.name for p in draw_evaluation(plain, metrics, None, tmp_path)] == ["confusion_classes.png"]
    assert "no two-class view" in evaluation_report(metrics, title="t", context={})


def test_a_rule_that_never_calls_pneumonia_can_be_drawn(
    make_predictions: Callable[..., Predictions], tmp_path: Path
) -> None:
    shy = make_predictions(np.arange(30) % 3, shift=0.1)
    shy.logits[:, 0] += 50
    metrics = summarise(shy, None, [], num_resamples=5)
    assert metrics["rules"]["argmax"]["ppv"] is None
    assert len(draw_evaluation(shy, metrics, None, tmp_path)) == 6


def test_the_confusion_picture_shows_counts_and_row_percent() -> None:
    figure = confusion_figure(np.array([[3, 1], [0, 0]]), ("Normal", "Pneumonia"), title="t")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["3\n75.0 %", "1\n25.0 %", "0\nno image", "0\nno image"]
    with pytest.raises(ValueError, match=r"3 names need a \(3, 3\) matrix"):
        confusion_figure(np.eye(2), "abc", title="t")


def test_films_without_pneumonia_are_called_normal_only_where_they_are(
    make_predictions: Callable[..., Predictions], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    named: list[Sequence[str]] = []
    drawn = confusion_figure

    def watched(counts: np.ndarray, names: Sequence[str], *, title: str) -> Figure:
        named.append(names)
        return drawn(counts, names, title=title)

    monkeypatch.setattr("pneumolit.report.figures.confusion_figure", watched)
    for others, word in (((), "Normal"), (("TUBERCULOSIS",), "No pneumonia")):
        labels = LabelSet(("NORMAL", "PNEUMONIA", *others), ("PNEUMONIA",))
        predictions = make_predictions(np.repeat([0, 1], 15), labels)
        draw_evaluation(predictions, summarise(predictions, None, [], num_resamples=5), None, tmp_path)
        assert named[0] == (word, "Pneumonia")
        named.clear()
    for classes, word in ((("NORMAL", "PNEUMONIA"), "normal"), (("EFFUSION", "PNEUMONIA"), "no pneumonia")):
        predictions = make_predictions(np.repeat([0, 1], 15), LabelSet(classes, ("PNEUMONIA",)))
        legend = _scores(predictions).axes[0].get_legend()
        assert legend is not None and legend.get_texts()[0].get_text().startswith(f"{word} (")


def test_training_curves_skip_gaps_and_foreign_columns(tmp_path: Path) -> None:
    rows = [
        {"epoch": 0.0, "seconds": 3.0, "train/loss": float("nan"), "val/auroc": 0.9, "lr": 1e-3},
        {"epoch": 1.0, "seconds": 3.0, "train/loss": 0.5, "lr": 0.0},
    ]
    assert draw_training_curves(rows, tmp_path / "curves.png").stat().st_size > 5000
    draw_training_curves(rows[:1], tmp_path / "one_epoch.png")
    with pytest.raises(ValueError, match="no column such as train/loss"):
        draw_training_curves([{"epoch": 0.0, "train/loss": float("nan")}], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_no_label_leaves_its_picture() -> None:
    names = [f"A long name of class {i}" for i in range(6)]
    figure = confusion_figure(np.eye(6, dtype=int), names, title="t")
    figure.draw_without_rendering()
    for label in [*figure.axes[0].get_xticklabels(), *figure.axes[0].get_yticklabels()]:
        box = label.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1


def test_every_stage_but_the_first_is_marked_at_its_first_epoch() -> None:
    rows = [{"epoch": float(e), "stage": float(s), "val/loss": 1.0} for e, s in ((1, 1), (2, 1), (3, 2), (4, 3))]
    assert _stage_starts(rows) == [(3.0, 2), (4.0, 3)]
    assert _stage_starts([{"epoch": 1.0, "val/loss": 1.0}, {"epoch": 2.0, "val/loss": 1.0}]) == []


@pytest.mark.parametrize(
    ("epochs", "labels"),
    [
        ((7, 8), ["stage 2"]),
        ((2, 2, 2), ["stage 2", "stage 3"]),
        ((1, 1, 28), ["", "stage 3"]),  # 1 of 30 epochs is narrower than its label
        ((14, 14, 1, 1), ["stage 2", "", "stage 4"]),
        ((1,) * 12, ["stage 2", "", "stage 4", "", "stage 6", "", "stage 8", "", "stage 10", "", "stage 12"]),
    ],
)
def test_label_of_a_stage_too_short_for_it_gives_way_to_a_later_one(epochs: tuple[int, ...], labels: list[str]) -> None:
    stages = [float(i + 1) for i, count in enumerate(epochs) for _ in range(count)]
    rows = [{"epoch": float(i + 1), "stage": stage} for i, stage in enumerate(stages)]
    marks = _stage_marks(rows)
    assert len(marks) == len(epochs) - 1  # each has its line
    assert [label for _, label in marks] == labels
    labelled = [start for start, label in marks if label]
    assert all(b - a >= _LABEL_WIDTH * (len(rows) - 1) for a, b in itertools.pairwise(labelled))
