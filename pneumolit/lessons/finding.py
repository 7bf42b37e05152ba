"""What a lesson found: one sentence, its number, and the rows of its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

POINTS, AREA = "percentage points", "AUROC"


@dataclass(frozen=True)
class Finding:
    """The end of a lesson.

    Attributes:
        sentence: in English, with its numbers in it.
        number: what the mistake costs, as the sentence gives it.
        unit: of the number.
        rows: label and value of what was measured.
    """

    sentence: str
    number: float
    unit: str
    rows: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        return {"number": self.number, "unit": self.unit, "measured": [list(row) for row in self.rows]}


def percent(value: float) -> str:
    """A rate as people say it.

    >>> percent(0.8125)
    '81.2'
    """
    return f"{100 * value:.1f}"


def shown(value: float) -> str:
    """A rate as a cell of a table."""
    return f"{percent(value)} %"


def points(high: float, low: float) -> float:
    """Difference of two rates in percentage points, of the values as they are printed.

    >>> points(0.9164, 0.8001)
    11.6
    """
    return round(round(100 * high, 1) - round(100 * low, 1), 1)


def accuracy(positives: np.ndarray, called: np.ndarray) -> float:
    """Share of right decisions."""
    return float(np.mean(np.asarray(positives) == np.asarray(called)))


def balanced_accuracy(positives: np.ndarray, called: np.ndarray) -> float:
    """Mean of sensitivity and specificity; both classes must occur."""
    positives, called = np.asarray(positives, dtype=bool), np.asarray(called, dtype=bool)
    return float((called[positives].mean() + (~called[~positives]).mean()) / 2)
