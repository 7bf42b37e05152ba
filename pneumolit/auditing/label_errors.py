"""Labels that may be wrong: images whose label models that never saw them find unlikely, as a list to review."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pneumolit.comparison.facts import read_config
from pneumolit.evaluation.metrics import auroc
from pneumolit.labels import LabelSet, two_class_logit
from pneumolit.rundir import DONE, RunDir, read_json

_SAME_FOLDS = ("folds", "seed", "carve", "target", "patient_key", "duplicates", "holdout_fraction")  # keys of data
_ROUNDING = 1e-9  # the mean of equal numbers can be larger than each of them
TWO_CLASSES = ("no pneumonia", "pneumonia")


@dataclass(frozen=True)
class OutOfFold:
    """What models said about images that they were not trained on.

    Attributes:
        labels: the classes.
        paths: `(N,)` relative to the data root.
        targets: `(N,)` class index.
        probs: `(N, K)` mean over the runs that hold the image out.
        runs: how many runs there were.
        folds: how many folds they make together.
        missing: numbers of folds without a finished run.
    """

    labels: LabelSet
    paths: np.ndarray
    targets: np.ndarray
    probs: np.ndarray
    runs: int
    folds: int
    missing: tuple[int, ...]


@dataclass(frozen=True)
class Suspects:
    """Images whose label is doubtful.

    Attributes:
        rows: `(C,)` of them, the most doubtful first.
        suggested: `(C,)` class that is likely instead.
        confident: `(K, K)` images by label and by the class that they confidently belong to.
        expected: how many wrong labels the confident counts speak for, in all images.
        thresholds: `(K,)` mean probability of a class over the images that are labelled so; from there on an image
            belongs to it with confidence.
    """

    rows: np.ndarray
    suggested: np.ndarray
    confident: np.ndarray
    expected: float
    thresholds: np.ndarray


def find_suspects(probs: np.ndarray, targets: np.ndarray) -> Suspects:
    """Confident learning: an image is doubtful if it belongs to another class than its label with confidence.

    Args:
        probs: `(N, K)` of models that did not see the image.
        targets: `(N,)` class index; every class must occur.

    Raises:
        ValueError: a class has no image.

    Source:
        Northcutt, Jiang and Chuang, Confident Learning, Journal of Artificial Intelligence Research 70, 2021:
        thresholds by class, the confident joint, ranking by self-confidence.
    """
    count, num_classes = probs.shape
    sizes = np.bincount(targets, minlength=num_classes)
    if (sizes == 0).any():
        raise ValueError(f"no image is labelled with class {int(np.argmin(sizes))}; labels cannot be checked")
    own = probs[np.arange(count), targets]
    thresholds = np.bincount(targets, own, num_classes) / sizes
    above = probs >= thresholds - _ROUNDING
    likely = np.where(above, probs, -1.0).argmax(axis=1)
    is_confident = above.any(axis=1)
    confident = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confident, (targets[is_confident], likely[is_confident]), 1)
    of_class = confident / np.maximum(confident.sum(axis=1, keepdims=True), 1)
    expected = float((of_class * (1 - np.eye(num_classes)) * sizes[:, None]).sum())
    rows = np.flatnonzero(is_confident & (likely != targets))
    rows = rows[np.argsort(own[rows], kind="stable")]
    return Suspects(rows, likely[rows], confident, expected, thresholds)


def read_out_of_fold(folder: Path) -> OutOfFold:
    """Predictions of the runs of a fold sweep, each on the fold that it holds out.

    Runs of the same fold, such as several seeds, are averaged.

    Raises:
        FileNotFoundError: no such folder, or no finished run with folds in it.
        ValueError: the runs do not belong to one division into folds.
    """
    runs = _fold_runs(folder)
    settings = [cfg["data"] for _, cfg in runs]
    for key in _SAME_FOLDS:
        values = list(dict.fromkeys(str(data.get(key)) for data in settings))
        if len(values) > 1:
            raise ValueError(
                f"folds={folder} has runs with data.{key}={' and '.join(values[:3])}, so that their folds differ; give "
                "the folder of one sweep"
            )
    total: dict[str, np.ndarray] = {}
    seen: dict[str, int] = {}
    target: dict[str, int] = {}
    labels = None
    for run, _ in runs:
        found = run.read_predictions("val")
        if labels is not None and found.labels != labels:
            raise ValueError(f"folds={folder} has runs with the classes {labels.classes} and {found.labels.classes}")
        labels = found.labels
        for path, probs, index in zip(found.paths.tolist(), found.probs, found.targets.tolist(), strict=True):
            total[path] = total.get(path, 0.0) + probs
            seen[path], target[path] = seen.get(path, 0) + 1, index
    assert labels is not None
    paths = sorted(total)
    count = int(settings[0]["folds"])
    return OutOfFold(
        labels=labels,
        paths=np.array(paths, dtype=object),
        targets=np.array([target[path] for path in paths]),
        probs=np.array([total[path] / seen[path] for path in paths]),
        runs=len(runs),
        folds=count,
        missing=tuple(sorted(set(range(count)) - {int(data["fold"]) for data in settings})),
    )


def review_list(found: OutOfFold) -> dict[str, Any]:
    """Doubtful labels in plain values: pneumonia or not, and where there are more classes, which of them."""
    views = []
    is_two_class = found.labels.is_two_class_view
    result: dict[str, Any] = {
        "runs": found.runs,
        "folds": found.folds,
        "missing_folds": list(found.missing),
        "num_images": len(found.paths),
        "auroc": None,
    }
    if is_two_class:
        positives = found.labels.positive_mask[found.targets].astype(np.int64)
        logits = two_class_logit(np.log(np.maximum(found.probs, 1e-12)), found.labels.positive_mask)
        prob = 1 / (1 + np.exp(-logits))
        result["auroc"] = auroc(positives, logits)
        views.append(_view(found.paths, np.stack([1 - prob, prob], axis=1), positives, TWO_CLASSES))
    if found.labels.num_classes > 2 or not is_two_class:
        views.append(_view(found.paths, found.probs, found.targets, found.labels.classes))
    return {**result, "views": views}


def _view(paths: np.ndarray, probs: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    suspects = find_suspects(probs, targets)
    return {
        "classes": list(classes),
        "thresholds": suspects.thresholds.tolist(),
        "confident": suspects.confident.tolist(),
        "expected": suspects.expected,
        "images": [
            {
                "path": str(paths[row]),
                "label": classes[targets[row]],
                "suggested": classes[other],
                "probability_of_label": float(probs[row, targets[row]]),
                "probability_of_suggested": float(probs[row, other]),
            }
            for row, other in zip(suspects.rows, suspects.suggested, strict=True)
        ],
    }


def _fold_runs(folder: Path) -> list[tuple[RunDir, dict[str, Any]]]:
    """Finished runs with folds, and their configurations."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"folds={folder} is not a folder; give that of a sweep over data.fold, outputs/sweeps/NAME"
        )
    runs, others = [], 0
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        run = RunDir(path)
        is_done = run.status_file.is_file() and read_json(run.status_file).get("state") == DONE
        if not (is_done and run.config_file.is_file() and run.predictions_file("val").is_file()):
            others += 1
            continue
        cfg = read_config(run)
        if cfg.get("data", {}).get("folds") is None:
            others += 1
            continue
        runs.append((run, cfg))
    if not runs:
        raise FileNotFoundError(
            f"folds={folder} holds no finished run with data.folds set ({others} other folders); make them by "
            "python -m pneumolit.train --multirun sweep=folds"
        )
    return runs
