"""What training films look like, so that a film of another kind can be told: made once for a run, kept beside it.

Thresholds come from validation films, false alarms are counted on others (a block of patients where the run has set one
aside), detection on cases that are generated. The test split has no part in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from pneumolit.prediction.appearance import Appearance, describe
from pneumolit.prediction.generated import changed_films, no_films
from pneumolit.prediction.scorer import ScoringModel
from pneumolit.run_checks import REFERENCE, check_record
from pneumolit.rundir import read_json, write_bytes, write_json

FORMAT_VERSION = 1
MOST_FILMS = 800  # of training; more would cost time and move no threshold
MOST_CHECKED = 400  # of the films that thresholds are set on, and of those that false alarms are counted on
NUM_CASES = 64  # films that every generated case is made from
NEIGHBOURS = 10
ORIENTATIONS = tuple(
    f"{'inverted ' if is_inverted else ''}{'upright' if not quarter else f'rotated_{90 * quarter}'}"
    for is_inverted in (False, True)
    for quarter in range(4)
)
_RIDGE = 30.0  # per film; below 1 the weights follow single films, above 1,000 all orientations look alike
_TAIL = 0.004  # share of validation films beyond each threshold: five checks, together about 2 %


@dataclass(frozen=True)
class Reference:
    """What ordinary films look like.

    Attributes:
        orientation: `(THUMBNAIL^2 + 1, 8)` float32, thumbnail and a one -> evidence for each of `ORIENTATIONS`.
        features: `(R, D)` float32 of length 1, of training films; None where the model gives none.
        limits: check -> threshold.
        rates: `false_alarms` and `detected`, each a table of shares, and what they were counted on.
    """

    orientation: np.ndarray
    features: np.ndarray | None
    limits: Mapping[str, float]
    rates: Mapping[str, Any]

    def distances(self, features: np.ndarray) -> np.ndarray:
        """`(N,)` mean cosine distance to the nearest training films.

        Source:
            Sun, Ming, Zhu and Li, Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022.
        """
        assert self.features is not None
        near = np.sort(features @ self.features.T, axis=1)[:, -NEIGHBOURS:]
        return np.asarray(1 - near.mean(axis=1))

    def turned(self, thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest orientation, `(N,)` index into `ORIENTATIONS`, and by how much it beats upright, `(N,)`."""
        evidence = np.column_stack([thumbnails, np.ones(len(thumbnails))]) @ self.orientation
        return evidence.argmax(axis=1), evidence.max(axis=1) - evidence[:, 0]


def build_reference(
    model: ScoringModel,
    train: np.ndarray,
    val: np.ndarray,
    other: np.ndarray,
    *,
    counted_on: str,
    ages: Sequence[float] | None = None,
) -> Reference:
    """Learn what films look like.

    Args:
        model: whose features are used.
        train: `(N, S, S)` uint8, films that it was trained on.
        val: `(M, S, S)` uint8, which set the thresholds.
        other: `(L, S, S)` uint8, which neither set thresholds nor trained: false alarms are counted on them.
        counted_on: what these are, in words.
        ages: (youngest, oldest) in years of the patients, where that is known.
    """
    from pneumolit.prediction.out_of_range import IMAGE_CHECKS, image_checks

    trained, checked = _described(model, train), _described(model, val)
    draft = Reference(_fit_orientation(train), trained.features, {}, {})
    limits = _limits(draft, checked) | ({} if ages is None else {"age_low": ages[0], "age_high": ages[1]})
    reference = Reference(draft.orientation, draft.features, limits, {})
    found = image_checks(_described(model, other), reference)
    false_alarms = {name: float(np.mean([name in one for one in found])) for name in IMAGE_CHECKS}
    false_alarms["any"] = float(np.mean([bool(one) for one in found]))
    detected = {}
    chosen = other[np.linspace(0, len(other) - 1, min(NUM_CASES, len(other))).astype(int)]
    for cases in (changed_films(chosen), no_films(NUM_CASES // 2, other.shape[1])):
        for name, images in cases:
            warned = image_checks(_described(model, images), reference)
            detected[name] = {
                "any": float(np.mean([bool(one) for one in warned])),
                "named": float(np.mean([name in one for one in warned])) if name in IMAGE_CHECKS else None,
            }
    rates = {
        "counted_on": counted_on,
        "num_films": len(other),
        "false_alarms": false_alarms,
        "detected": detected,
        "num_cases": len(chosen),
    }
    return Reference(reference.orientation, reference.features, limits, rates)


def _described(model: ScoringModel, films: np.ndarray) -> Appearance:
    return describe(films, model.look(films)[1])


def _fit_orientation(films: np.ndarray) -> np.ndarray:
    """Ridge regression from thumbnails to the way they were turned: linear, exact, in a moment."""
    from pneumolit.prediction.appearance import THUMBNAIL, thumbnails

    small = thumbnails(films).reshape(-1, THUMBNAIL, THUMBNAIL)
    rows: list[np.ndarray] = []
    answers: list[np.ndarray] = []
    for is_inverted in (False, True):
        for quarter in range(4):
            turned = np.rot90(-small if is_inverted else small, quarter, axes=(1, 2)).reshape(len(small), -1)
            rows.append(turned)
            answers.append(np.full(len(small), len(answers)))
    inputs = np.column_stack([np.concatenate(rows), np.ones(sum(map(len, rows)))])
    targets = np.eye(len(ORIENTATIONS))[np.concatenate(answers)]
    penalty = _RIDGE * np.eye(inputs.shape[1]) * len(small) / 100
    return np.asarray(np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ targets), dtype=np.float32)


def _limits(reference: Reference, films: Appearance) -> dict[str, float]:
    """Thresholds that few validation films lie beyond; a quarter of the spread more, since they are few themselves."""
    limits = {}
    sharp = np.log(np.maximum(films.sharpness, 1e-6))
    limits["sharpness_low"], limits["sharpness_high"] = _both_tails(sharp)
    limits["contrast_low"] = _both_tails(np.log(np.maximum(films.contrast, 1e-3)))[0]
    limits["turned"] = _upper_tail(reference.turned(films.thumbnails)[1])
    if reference.features is not None and films.features is not None:
        limits["distance"] = _upper_tail(reference.distances(films.features))
    return limits


def _both_tails(values: np.ndarray) -> tuple[float, float]:
    return -_upper_tail(-values), _upper_tail(values)


def _upper_tail(values: np.ndarray) -> float:
    spread = float(np.quantile(values, 0.75) - np.quantile(values, 0.25))
    return float(np.quantile(values, 1 - _TAIL)) + 0.25 * spread


def save_reference(reference: Reference, arrays_file: Path, json_file: Path, *, made_for: str) -> None:
    """Write a reference: arrays first, so that the JSON file says that both are whole.

    Args:
        reference: to write.
        arrays_file: safetensors.
        json_file: thresholds and rates.
        made_for: identity of the weights whose features it holds.
    """
    arrays = {"orientation": reference.orientation}
    if reference.features is not None:
        arrays["features"] = reference.features.astype(np.float16)
    write_bytes(arrays_file, save_arrays(arrays))
    content = {"format_version": FORMAT_VERSION, "made_for": made_for, "limits": dict(reference.limits)}
    write_json(json_file, {**content, "rates": dict(reference.rates)})


def load_reference(arrays_file: Path, json_file: Path, *, made_for: str | None = None) -> Reference | None:
    """Read a reference; None where there is none, or one of other weights or another version.

    Raises:
        ValueError: the files are damaged.
    """
    if not (arrays_file.is_file() and json_file.is_file()):
        return None
    try:
        told = read_json(json_file)
        if told.get("format_version") != FORMAT_VERSION or made_for not in (None, told.get("made_for")):
            return None
        try:
            check_record(told, json_file, REFERENCE)
        except ValueError as error:
            raise ValueError(f"{error}, or remove it and {arrays_file.name}") from error
        arrays = load_arrays(arrays_file.read_bytes())
        features = arrays.get("features")
        return Reference(
            orientation=arrays["orientation"].astype(np.float32),
            features=None if features is None else features.astype(np.float32),
            limits={key: float(value) for key, value in told["limits"].items()},
            rates=told["rates"],
        )
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{json_file} or {arrays_file.name} is damaged ({error}); remove both") from error
    except SafetensorError as error:
        raise ValueError(f"{arrays_file} is damaged ({error}); remove it") from error
