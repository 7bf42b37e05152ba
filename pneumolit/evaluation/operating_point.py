"""Thresholds fixed on validation, each with what validation promised."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pneumolit.evaluation.metrics import decision_metrics, roc_curve

PRIMARY = "primary"
_SENSITIVITIES = (0.95, 0.98, 0.99)
_SPECIFICITIES = (0.95,)


@dataclass(frozen=True)
class OperatingPoint:
    """A decision rule: calibrated probability, re-based to prevalence one half, at or above a threshold.

    Attributes:
        name: key under `rules` in metrics.json.
        threshold: an image whose probability is >= this is called pneumonia.
        rule: how the threshold was found, in words.
        promised_sensitivity: what the rule reached on validation, in [0, 1]; None where unknown.
        promised_specificity: likewise.
    """

    name: str
    threshold: float
    rule: str
    promised_sensitivity: float | None = None
    promised_specificity: float | None = None

    def decide(self, probs: np.ndarray) -> np.ndarray:
        """`(N,)` int64, 1 where the re-based calibrated probability reaches the threshold."""
        return (np.asarray(probs) >= self.threshold).astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON; floats keep every digit, since a threshold is the probability of some
        image."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> OperatingPoint:
        """Inverse of `to_dict`."""
        return cls(**plain)


# The rule of the headline numbers. Nobody fits it: what decides, predicts and pools runs takes it from here.
PRIMARY_POINT = OperatingPoint(PRIMARY, 0.5, "fixed at one half before any data were seen")


def fit_operating_points(probs: np.ndarray, targets: np.ndarray) -> list[OperatingPoint]:
    """Fix all operating points on validation.

    - `primary`: one half, whatever the data say.
    - `youden`: largest sensitivity + specificity - 1; of all thresholds that reach it the one nearest to one
      half (of two equally near the lower, which is the more sensitive).
    - `sensitivity_95`, `_98`, `_99`: the highest threshold that still reaches that sensitivity.
    - `specificity_95`: the lowest threshold that still reaches that specificity; it may lie a hair above 1,
      and then nothing is called pneumonia.

    Images with equal probabilities fall on the same side, so a point can reach more than it had to.

    Args:
        probs: `(N,)` in [0, 1], calibrated and re-based to prevalence one half.
        targets: `(N,)` 0/1, 1 is pneumonia. Both must occur.

    Raises:
        ValueError: the lengths differ, a probability is NaN, or only one class occurs.
    """
    probs, targets = np.asarray(probs, dtype=np.float64), np.asarray(targets).astype(np.int64)
    rules = [
        (PRIMARY, PRIMARY_POINT.threshold, PRIMARY_POINT.rule),
        ("youden", _youden_threshold(probs, targets), "largest sensitivity + specificity on validation"),
    ]
    for wanted in _SENSITIVITIES:
        rules.append(
            (
                f"sensitivity_{wanted * 100:.0f}",
                _threshold_for_sensitivity(probs[targets == 1], wanted),
                f"highest threshold with sensitivity >= {wanted} on validation",
            )
        )
    for wanted in _SPECIFICITIES:
        rules.append(
            (
                f"specificity_{wanted * 100:.0f}",
                _threshold_for_specificity(probs[targets == 0], wanted),
                f"lowest threshold with specificity >= {wanted} on validation",
            )
        )
    return [_promise(name, threshold, rule, probs, targets) for name, threshold, rule in rules]


def point_at_prevalence(prevalence: float, probs: np.ndarray, targets: np.ndarray) -> OperatingPoint:
    """The rule for a place where pneumonia has this prevalence: probability, re-based to it, at least one half.

    Args:
        prevalence: fraction of pneumonia, strictly between 0 and 1.
        probs: `(N,)` in [0, 1], of validation, calibrated and re-based to prevalence one half.
        targets: `(N,)` 0/1, 1 is pneumonia.

    Raises:
        ValueError: the prevalence lies outside (0, 1).
    """
    if not 0 < prevalence < 1:
        raise ValueError(f"prevalence must lie strictly between 0 and 1, got {prevalence}; 0.1 means one in ten")
    rule = f"probability at prevalence {prevalence:g} at least one half"
    # p / (1 - p) * prevalence / (1 - prevalence) >= 1 in terms of p.
    return _promise(prevalence_rule(prevalence), 1 - prevalence, rule, np.asarray(probs), np.asarray(targets))


def prevalence_rule(prevalence: float) -> str:
    """Key under `rules` of the rule for a prevalence."""
    return f"prevalence_{prevalence:g}"


def _promise(name: str, threshold: float, rule: str, probs: np.ndarray, targets: np.ndarray) -> OperatingPoint:
    found = decision_metrics(targets, probs >= threshold)
    return OperatingPoint(name, float(threshold), rule, found["sensitivity"], found["specificity"])


def _threshold_for_sensitivity(positive_probs: np.ndarray, wanted: float) -> float:
    count = _at_least(wanted, len(positive_probs))
    return float(np.sort(positive_probs)[::-1][count - 1])


def _threshold_for_specificity(negative_probs: np.ndarray, wanted: float) -> float:
    count = _at_least(wanted, len(negative_probs))
    return float(np.nextafter(np.sort(negative_probs)[count - 1], np.inf))


def _at_least(fraction: float, count: int) -> int:
    # 0.95 * 20 may come out a hair above 19; without the slack one image too many would be asked for.
    return max(1, math.ceil(fraction * count - 1e-9))


def _youden_threshold(probs: np.ndarray, targets: np.ndarray) -> float:
    fpr, tpr, thresholds = roc_curve(targets, probs)
    index = tpr - fpr
    # Any threshold in (next lower probability, this probability] makes the same decisions.
    lower = np.append(thresholds[1:], -np.inf)
    best = np.flatnonzero(index >= index.max() - 1e-12)
    nearest = np.clip(0.5, np.nextafter(lower[best], np.inf), thresholds[best])
    distance = np.abs(nearest - 0.5)
    return float(nearest[distance <= distance.min()].min())
