"""Which films are shown as the worst, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pneumolit.data.datamodule import IndexBatch
from pneumolit.evaluation.calibration import Calibration
from pneumolit.labels import LabelSet
from pneumolit.predictions import Predictions
from pneumolit.rundir import RunDir, read_json
from pneumolit.scoring import read_calibration
from pneumolit.training.board_images import _in_words, confusion_picture, error_picture, worst_films

LABELS = LabelSet(("NORMAL", "BACTERIA", "VIRUS"), ("BACTERIA", "VIRUS"))


def predictions_of(targets: list[int], scores: list[float], labels: LabelSet = LABELS) -> Predictions:
    """Predictions whose two-class logit is the given one, re-based by 1."""
    logits = np.zeros((len(scores), labels.num_classes))
    logits[:, 0] = -np.array(scores) - 1
    logits[:, 1:] = -np.log(labels.num_classes - 1)
    paths = np.array([f"train/X/film{i}.jpeg" for i in range(len(scores))], dtype=object)
    return Predictions(labels, paths, paths, np.array(targets), logits, prior_log_odds=1.0)


def test_wrong_films_come_first_the_surest_at_the_head_then_the_nearest_to_an_error() -> None:
    found = predictions_of([0, 1, 2, 0, 1, 0], [3.0, -1.0, 0.5, -0.2, 4.0, 0.1])
    np.testing.assert_allclose(found.scores, [3.0, -1.0, 0.5, -0.2, 4.0, 0.1])
    rows, num_wrong, notes, is_positive = worst_films(found, count=5)
    assert rows.tolist() == [0, 1, 5, 3, 2]
    assert num_wrong == 3
    assert is_positive.tolist() == [True, False, True, False, True]
    assert notes[:2] == [
        ("film0.jpeg", "NORMAL, called pneumonia, p 0.953"),
        ("film1.jpeg", "BACTERIA, called normal, p 0.269"),
    ]


def test_with_calibration_the_wrong_films_are_those_of_the_primary_rule(small_run: Path, other_run: Path) -> None:
    for folder in (small_run, other_run):
        run = RunDir(folder)
        predictions = run.read_predictions("val")
        _, num_wrong, *_ = worst_films(predictions, read_calibration(run)[0])
        confusion = np.array(read_json(run.evaluation_metrics_file("val"))["rules"]["primary"]["confusion"])
        assert num_wrong == confusion.sum() - np.trace(confusion)


def test_heat_speaks_for_the_call_by_the_calibrated_threshold_not_for_the_side_of_score_0(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scores of 0.1 and 3 are called normal and pneumonia where calibration lays the threshold at 1."""
    asked: dict[str, list[int]] = {}

    def heatmaps(model: object, images: torch.Tensor, *, side: str) -> np.ndarray:
        asked[side] = images[:, 0, 0, 0].tolist()
        return np.ones((len(images), 8, 8), np.float32)

    class Rows:
        def __getitem__(self, batch: IndexBatch) -> dict[str, torch.Tensor]:
            rows = torch.as_tensor(np.asarray(batch.rows), dtype=torch.uint8)
            return {"image": rows[:, None, None, None].expand(-1, 1, 8, 8)}

    monkeypatch.setattr("pneumolit.model.heatmap.heatmaps", heatmaps)
    found = predictions_of([0, 1], [0.1, 3.0])
    alone, beside = (SimpleNamespace(needs_batch=needs) for needs in (False, True))
    calibration = Calibration(1.0, -1.0, 0.5)
    _, why_not = error_picture(found, Rows(), alone, when="", calibration=calibration)  # type: ignore[arg-type]
    assert why_not == ""
    assert asked == {"pneumonia": [1], "normal": [0]}
    _, why_not = error_picture(found, Rows(), beside, when="", calibration=calibration)  # type: ignore[arg-type]
    assert why_not == "what speaks for a film depends on the films beside it"


def test_what_is_not_called_pneumonia_is_called_normal_only_where_no_other_class_is_left() -> None:
    other = LabelSet(("NORMAL", "COVID", "PNEUMONIA"), ("PNEUMONIA",))
    for labels, word in ((LABELS, "normal"), (other, "no pneumonia")):
        _, _, notes, _ = worst_films(predictions_of([2], [-1.0], labels))
        assert f"called {word}, p" in notes[0][1]


def test_without_a_two_class_view_the_truth_with_the_least_probability_comes_first() -> None:
    labels = LabelSet(("A", "B", "C"))
    logits = np.log([[0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.4, 0.3, 0.3]])
    paths = np.array(["a", "b", "c", "d"], dtype=object)
    rows, num_wrong, notes, _ = worst_films(Predictions(labels, paths, paths, np.array([0, 1, 0, 0]), logits), count=3)
    assert sorted(rows.tolist()[:2]) == [0, 1] and rows[2] == 3
    assert num_wrong == 2
    assert ("b", "B, called C, p 0.200") in notes


@pytest.mark.parametrize(
    ("num_wrong", "shown", "words"),
    [
        (20, 12, "20 errors in 90 films, the 12 worst"),
        (12, 12, "12 errors in 90 films"),
        (1, 12, "1 error in 90 films, and the 11 films nearest to an error"),
        (11, 12, "11 errors in 90 films, and the 1 film nearest to an error"),
        (0, 12, "no error in 90 films; the 12 films nearest to an error"),
    ],
)
def test_title_says_how_many_are_wrong_and_what_the_others_are(num_wrong: int, shown: int, words: str) -> None:
    assert _in_words(num_wrong, 90, shown) == words


def test_matrix_of_an_epoch_counts_the_largest_logit() -> None:
    found = predictions_of([0, 0, 1, 2], [-9.0, 9.0, 9.0, -9.0])
    texts = [text.get_text() for text in confusion_picture(found, when="after epoch 3").axes[0].texts]
    assert [text.split("\n")[0] for text in texts] == ["1", "1", "0", "0", "1", "0", "1", "0", "0"]
