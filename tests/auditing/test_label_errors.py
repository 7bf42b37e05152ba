"""Labels to review: planted errors are found and ranked, hard films are not all called wrong, sweeps are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumolit.auditing.label_errors import find_suspects, read_out_of_fold, review_list
from pneumolit.labels import LabelSet
from pneumolit.predictions import Predictions
from tests.comparison.made_runs import BINARY, write_run

PATIENTS = 12


def fold_run(folder: Path, fold: int, *, wrong: str = "", shift: float = 0.0, **data: Any) -> None:
    """A run whose validation images are its own; `wrong` is labelled as the other class than it looks."""
    run = write_run(folder, labels=BINARY, data={"folds": 2, "fold": fold, "seed": 0, **data}, sets={"val": 4})
    paths = np.array([f"train/x/{fold}-{i}.jpeg" for i in range(PATIENTS)], dtype=object)
    looks = np.arange(PATIENTS) % 2
    targets = np.where(paths == wrong, 1 - looks, looks)
    logits = np.stack([-2.0 * looks + 1, 2.0 * looks - 1], axis=1) + shift
    run.write_predictions("val", Predictions(BINARY, paths, paths, targets, logits))


def test_confident_learning_counts_an_image_by_the_class_that_it_reaches_the_mean_of() -> None:
    # By hand: thresholds are the means of own probabilities, (.9 + .8 + .1) / 3 = .6 and (.7 + .9 + .2) / 3 = .6.
    probs = np.array([0.9, 0.8, 0.1, 0.3, 0.1, 0.8])
    suspects = find_suspects(np.stack([probs, 1 - probs], axis=1), np.array([0, 0, 0, 1, 1, 1]))
    assert suspects.thresholds == pytest.approx([0.6, 0.6])
    assert suspects.confident.tolist() == [[2, 1], [1, 2]]
    assert suspects.rows.tolist() == [2, 5] and suspects.suggested.tolist() == [1, 0]  # the least likely label first
    assert suspects.expected == pytest.approx(2.0)


def test_a_film_on_which_the_models_are_unsure_is_no_suspect() -> None:
    probs = np.array([0.9, 0.9, 0.45, 0.1, 0.1, 0.55])
    assert len(find_suspects(np.stack([probs, 1 - probs], axis=1), np.array([0, 0, 0, 1, 1, 1])).rows) == 0


def test_a_class_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match="no image is labelled with class 1"):
        find_suspects(np.full((2, 2), 0.5), np.array([0, 0]))


def test_a_wrong_label_in_a_sweep_of_folds_is_found(tmp_path: Path) -> None:
    for fold in range(2):
        fold_run(tmp_path / f"job{fold}", fold, wrong="train/x/1-4.jpeg")
    found = read_out_of_fold(tmp_path)
    assert (found.runs, found.folds, found.missing, len(found.paths)) == (2, 2, (), 2 * PATIENTS)
    listed = review_list(found)
    (view,) = listed["views"]
    assert view["classes"] == ["no pneumonia", "pneumonia"]
    assert [(i["path"], i["label"], i["suggested"]) for i in view["images"]] == [
        ("train/x/1-4.jpeg", "pneumonia", "no pneumonia")
    ]
    assert view["images"][0]["probability_of_label"] == pytest.approx(1 / (1 + np.exp(2)))
    assert listed["auroc"] < 1


def test_runs_of_one_fold_are_averaged_and_a_fold_without_a_run_is_named(tmp_path: Path) -> None:
    fold_run(tmp_path / "a", 1)
    fold_run(tmp_path / "b", 1, shift=np.array([0.0, 4.0]))  # type: ignore[arg-type]
    found = read_out_of_fold(tmp_path)
    assert (found.runs, found.missing, len(found.paths)) == (2, (0,), PATIENTS)
    one, other = 1 / (1 + np.exp(2)), 1 / (1 + np.exp(-2))
    assert found.probs[found.paths == "train/x/1-0.jpeg", 1] == pytest.approx((one + other) / 2)


def test_three_classes_are_reviewed_as_pneumonia_or_not_and_by_class() -> None:
    from pneumolit.auditing.label_errors import OutOfFold

    labels = LabelSet(("NORMAL", "BACTERIA", "VIRUS"), ("BACTERIA", "VIRUS"))
    targets = np.arange(30) % 3
    probs = np.full((30, 3), 0.1)
    probs[np.arange(30), targets] = 0.8
    probs[4] = [0.05, 0.1, 0.85]  # labelled bacteria, looks like virus
    listed = review_list(OutOfFold(labels, np.arange(30).astype(str), targets, probs, 2, 2, ()))
    assert [len(view["images"]) for view in listed["views"]] == [0, 1]
    assert listed["views"][1]["images"][0]["suggested"] == "VIRUS"


def test_folders_without_folds_and_sweeps_of_other_folds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder; give that of a sweep"):
        read_out_of_fold(tmp_path / "absent")
    write_run(tmp_path / "plain", labels=BINARY)
    with pytest.raises(FileNotFoundError, match=r"holds no finished run with data.folds set \(1 other"):
        read_out_of_fold(tmp_path)
    fold_run(tmp_path / "a", 0)
    fold_run(tmp_path / "b", 1, seed=7)
    with pytest.raises(ValueError, match=r"data\.seed=0 and 7"):
        read_out_of_fold(tmp_path)
