"""Where the values of a hyperparameter and the scores of a sweep stand on an axis from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from pneumolit.config import monitor_mode
from pneumolit.report.sweep import ABSENT, SweepRow, level_order, text_of, value_text

CATEGORY, LINEAR, LOG = "category", "linear", "log"
_MOST_LEVELS = 12  # of which each has its own tick
_CROWDED = 0.35  # of an even step between two values
_SHORT = 7  # letters; 0.9995 is not rounded to 1
_DECADES = 100  # a numeric axis over two decades is logarithmic
_FEWEST = 8  # scores without which none is called far from the others
WORSE, NO_SCORE = -0.1, -0.21  # below the axis: scores far worse than the others, and jobs without one


@dataclass(frozen=True)
class Scale:
    """The axis of one hyperparameter.

    Attributes:
        kind: "category", "linear" or "log".
        places: text of a value -> 0 to 1; a single value stands in the middle.
        ticks: (place, label), from low to high.
    """

    kind: str
    places: Mapping[str, float]
    ticks: tuple[tuple[float, str], ...]

    @property
    def has_levels(self) -> bool:
        """Whether so few values occur that many jobs share each."""
        return self.kind == CATEGORY or len(self.places) <= _MOST_LEVELS


@dataclass(frozen=True)
class ScoreScale:
    """The axis of the scores: 1 is the best, whether that is the largest or the smallest.

    Attributes:
        worst: score at 0.
        best: score at 1.
        ticks: (place, label).
        num_worse: scores that are so far from all others that they stand below the axis.
    """

    worst: float
    best: float
    ticks: tuple[tuple[float, str], ...]
    num_worse: int

    def place(self, score: float) -> float:
        """0 to 1, or `WORSE`."""
        if self.best == self.worst:
            return 0.5
        place = (score - self.worst) / (self.best - self.worst)
        return WORSE if place < -1e-9 else min(max(place, 0.0), 1.0)


def scale_of(rows: Iterable[SweepRow], key: str) -> Scale:
    """Numbers stand where they are or, over two decades or in even ratios, by their logarithm; all else in order.

    A zero among numbers that stand by their logarithm stands one step below the smallest. A few numbers of which
    some would stand on top of one another are only put in order.
    """
    values = {text_of(row, key): row.choices.get(key) for row in rows}
    levels = sorted(values, key=lambda text: (text == ABSENT, level_order(values[text])))
    even = np.linspace(0, 1, len(levels)).tolist() if len(levels) > 1 else [0.5]
    in_order = dict(zip(levels, even, strict=True))
    numbers = [values[text] for text in levels]
    if len(levels) == 1 or not all(_is_number(number) for number in numbers):
        return Scale(CATEGORY, in_order, _level_ticks(in_order, values))
    array = np.array(numbers, dtype=float)
    kind = LOG if _is_log(array) else LINEAR
    raw = _log_places(array) if kind == LOG else array
    share = (raw - raw[0]) / (raw[-1] - raw[0])
    places = dict(zip(levels, share.tolist(), strict=True))
    if len(levels) > _MOST_LEVELS:
        return Scale(kind, places, _round_ticks(array, raw, kind))
    if np.diff(share).min() < _CROWDED / (len(levels) - 1):
        return Scale(CATEGORY, in_order, _level_ticks(in_order, values))
    return Scale(kind, places, _level_ticks(places, values))


def score_scale(rows: Iterable[SweepRow], monitor: str) -> ScoreScale:
    """From the worst to the best score; one that is far from all others does not squeeze them.

    Raises:
        ValueError: no row has a score.
    """
    scores = np.array([row.score for row in rows if row.is_scored], dtype=float)
    if not len(scores):
        raise ValueError(f"no run of the sweep has a {monitor} to draw")
    sign = 1.0 if monitor_mode(monitor) == "max" else -1.0
    goodness = np.sort(scores * sign)
    kept = goodness[goodness >= far_worse(goodness)]
    worst, best = float(kept[0] * sign), float(kept[-1] * sign)
    if worst == best:
        return ScoreScale(worst, best, ((0.5, f"{best:.4g}"),), len(goodness) - len(kept))
    marks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(min(worst, best), max(worst, best))
    inside = [mark for mark in marks if min(worst, best) <= mark <= max(worst, best)]
    ticks = sorted((float((mark - worst) / (best - worst)), f"{mark:.6g}") for mark in inside)
    return ScoreScale(worst, best, tuple(ticks), len(goodness) - len(kept))


def far_worse(goodness: np.ndarray) -> float:
    """Tukey's outer fence: values below it are so far from all others that on one axis they would squeeze these.

    Args:
        goodness: any shape; more is better.

    Returns:
        -inf where values are too few, or too many of them equal, to say so.
    """
    low, high = np.quantile(goodness, [0.25, 0.75])
    return float(low - 3 * (high - low)) if goodness.size >= _FEWEST and high > low else -math.inf


def spread_ticks(ticks: Sequence[tuple[float, str]], distance: float) -> list[tuple[float, str]]:
    """Ticks that are at least that far apart; both ends are kept, and between them as many as fit."""
    kept: list[tuple[float, str]] = []
    for place, label in [*ticks[:1], *ticks[:0:-1][:1], *ticks[1:-1]]:
        if all(abs(place - other) >= distance - 1e-9 for other, _ in kept):
            kept.append((place, label))
    return sorted(kept)


def score_name(monitor: str) -> str:
    """The monitor, and that it is better when it is smaller."""
    return f"{monitor} (smaller is better)" if monitor_mode(monitor) == "min" else monitor


def short_names(keys: Sequence[str], parts: int = 1) -> dict[str, str]:
    """The last parts of keys: `optim.lr` is "lr" where no other key ends alike."""
    ends = [".".join(key.split(".")[-parts:]) for key in keys]
    return {key: end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_log(numbers: np.ndarray) -> bool:
    positive = numbers[numbers > 0]
    if numbers[0] < 0 or len(positive) < 2:
        return False
    is_wide = bool(positive[-1] / positive[0] >= _DECADES)
    ratios, steps = np.diff(np.log(positive)), np.diff(numbers)
    if is_wide and len(numbers) <= _MOST_LEVELS:
        return True
    # Many drawn evenly from 0 to 1 span decades as well, but crowd on a logarithmic axis.
    is_even = len(ratios) > 1 and bool(_unevenness(ratios) < _unevenness(steps) - 0.05)
    return is_even and (is_wide or len(positive) == len(numbers))


def _unevenness(steps: np.ndarray) -> float:
    return float(steps.std() / steps.mean())


def _log_places(numbers: np.ndarray) -> np.ndarray:
    positive = np.log10(numbers[numbers > 0])
    step = (positive[-1] - positive[0]) / max(len(positive) - 1, 1)
    return np.concatenate([[positive[0] - max(step, 0.5)] * (len(numbers) - len(positive)), positive])


def _round_ticks(numbers: np.ndarray, raw: np.ndarray, kind: str) -> tuple[tuple[float, str], ...]:
    """Powers of ten, or round numbers, between the smallest and the largest value."""
    if kind == LINEAR:
        marks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(numbers[0], numbers[-1])
        marks = marks[(marks >= numbers[0]) & (marks <= numbers[-1])]
        return tuple((float((m - raw[0]) / (raw[-1] - raw[0])), value_text(float(m), 6)) for m in marks)
    zero = [(0.0, "0")] if numbers[0] == 0 else []
    low, high = math.log10(numbers[numbers > 0][0]), raw[-1]
    powers = list(range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1))
    if len(powers) < 2:  # over less than two decades in even ratios
        powers = []
        zero += [(float((m - raw[0]) / (raw[-1] - raw[0])), value_text(10.0**m, 2)) for m in (low, high)]
    marks_of = [(float((p - raw[0]) / (raw[-1] - raw[0])), value_text(10.0**p, 6)) for p in powers]
    return (*zero, *marks_of)


def _level_ticks(places: Mapping[str, float], values: Mapping[str, Any]) -> tuple[tuple[float, str], ...]:
    """All digits of short numbers, three of long ones unless that does not tell the values apart."""
    short = {text: text if len(text) <= _SHORT else value_text(values[text], 3) for text in places}
    is_clear = len(set(short.values())) == len(places)
    return tuple((place, short[text] if is_clear else text) for text, place in places.items())
