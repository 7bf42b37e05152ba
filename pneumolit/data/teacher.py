"""What a teacher says of training films: predictions that others made, learned beside the labels."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from pneumolit.config import files_of
from pneumolit.data.table import RecordTable


def find_predictions(pattern: str) -> list[Path]:
    """Files of predictions that a pattern names, in order.

    Raises:
        FileNotFoundError: there is none.
    """
    files = files_of(pattern)
    if not files:
        raise FileNotFoundError(
            f"distill.teacher={pattern} names no file; give the predictions.csv of a run, or a pattern in quotes such "
            "as 'outputs/sweeps/folds/*/evaluation/val/predictions.csv', whose folds hold every film once"
        )
    return files


def teacher_log_odds(records: RecordTable, pattern: str) -> np.ndarray:
    """Log odds of pneumonia that a teacher gives to films, at prevalence one half; several are averaged.

    Args:
        records: the films.
        pattern: of files with the columns `path` and `score`, such as `evaluation/val/predictions.csv` of every fold of
            a cross-validation, by which no film is taught by a model that was trained on it.

    Returns:
        `(N,)` float32.

    Raises:
        FileNotFoundError, ValueError: no such file, a file without these columns, a score that is no number, or films
            that no file names.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for path in find_predictions(pattern):
        for name, score in _read(path):
            scores[name].append(score)
    names = list(records.texts("path"))
    unknown = [name for name in names if name not in scores]
    if unknown:
        raise ValueError(
            f"distill.teacher={pattern} says nothing of {len(unknown)} of {len(names)} training films, the first "
            f"{unknown[:3]}; give predictions of all of them, such as those of every fold of a cross-validation"
        )
    return np.array([np.mean(scores[name]) for name in names], dtype=np.float32)


def _read(path: Path) -> list[tuple[str, float]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
        found = [(row["path"], float(row["score"])) for row in rows]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"distill.teacher: {path} cannot be read as predictions ({error}); it needs the columns path and score "
            "(log odds of pneumonia)"
        ) from error
    if not np.isfinite([score for _, score in found]).all():
        raise ValueError(f"distill.teacher: {path} holds a score that is no number")
    return found
