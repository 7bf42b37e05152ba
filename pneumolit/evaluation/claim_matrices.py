"""Every confusion matrix that a claim about two classes can come from, found by whole numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from pneumolit.evaluation.claim_text import CELLS, Claim
from pneumolit.evaluation.printed import Bounds, Printed

_MOST_TRIED = 20_000_000  # matrices; some seconds
_PER_DIVISION = 500  # matrices that take as long as a division of the images without any
_AT_ONCE = 500_000
_SAFE = 2**62  # of int64; beyond it Python's own whole numbers are used, which are slower and never overflow
_FLOAT_SLACK = 1e-9  # far above the rounding of a quotient of floats


class TooManyError(ValueError):
    """A claim that says so little that all it allows cannot be tried."""


class Cells(NamedTuple):
    """A confusion matrix, or many: whole numbers or `(N,)` int arrays.

    Attributes:
        tn: negatives called negative.
        fp: negatives called positive.
        fn: positives called negative.
        tp: positives called positive.
    """

    tn: Any
    fp: Any
    fn: Any
    tp: Any

    @property
    def negatives(self) -> Any:
        """Images without pneumonia."""
        return self.tn + self.fp

    @property
    def positives(self) -> Any:
        """Images with pneumonia."""
        return self.fn + self.tp

    @property
    def wrong(self) -> Any:
        """Images that were called what they are not."""
        return self.fp + self.fn


Terms = tuple[Any, Any]


def _mean(of_negative: Terms, of_positive: Terms, weight_negative: Any, weight_positive: Any) -> Terms:
    """Weighted mean of two fractions; one without a denominator counts as 0, as in `metrics.class_report`."""
    (a, b), (c, d) = of_negative, of_positive
    b, d = b + (b == 0), d + (d == 0)
    return weight_negative * a * d + weight_positive * c * b, (weight_negative + weight_positive) * b * d


def _f1_negative(m: Cells) -> Terms:
    return 2 * m.tn, 2 * m.tn + m.wrong


def _f1_positive(m: Cells) -> Terms:
    return 2 * m.tp, 2 * m.tp + m.wrong


def _npv(m: Cells) -> Terms:
    return m.tn, m.tn + m.fn


def _ppv(m: Cells) -> Terms:
    return m.tp, m.tp + m.fp


# Numerator and denominator, whole numbers as long as the cells are; 0 / 0 where a rate is undefined.
TERMS: Mapping[str, Callable[[Cells], Terms]] = {
    "acc": lambda m: (m.tn + m.tp, m.negatives + m.positives),
    "spec": lambda m: (m.tn, m.negatives),
    "sens": lambda m: (m.tp, m.positives),
    "ppv": _ppv,
    "npv": _npv,
    "f1": _f1_positive,
    "bal_acc": lambda m: _mean((m.tn, m.negatives), (m.tp, m.positives), 1, 1),
    "macro_precision": lambda m: _mean(_npv(m), _ppv(m), 1, 1),
    "macro_f1": lambda m: _mean(_f1_negative(m), _f1_positive(m), 1, 1),
    "weighted_precision": lambda m: _mean(_npv(m), _ppv(m), m.negatives, m.positives),
    "weighted_f1": lambda m: _mean(_f1_negative(m), _f1_positive(m), m.negatives, m.positives),
    "right": lambda m: (m.tn + m.tp, 1),
    "wrong": lambda m: (m.wrong, 1),
    "tn": lambda m: (m.tn, 1),
    "fp": lambda m: (m.fp, 1),
    "fn": lambda m: (m.fn, 1),
    "tp": lambda m: (m.tp, 1),
}


@dataclass(frozen=True)
class Fits:
    """All that a claim can come from.

    Attributes:
        columns: what the counts are: TN, FP, FN, TP; with more classes right and called images of each.
        counts: `(F, C)` int64, one way per row.
        keys: of the numbers that were asked for.
        is_rounded: `(F, K)` bool, whether a number comes out when it is rounded; else only when it is cut off.
        unused: keys of the numbers that could not be asked for.
    """

    columns: tuple[str, ...]
    counts: np.ndarray
    keys: tuple[str, ...]
    is_rounded: np.ndarray
    unused: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def num_cut_off(self) -> np.ndarray:
        """`(F,)` int64, how many numbers must have been cut off."""
        return np.asarray((~self.is_rounded).sum(axis=1))

    def best(self) -> Fits:
        """The ways in which the fewest numbers must have been cut off: none where rounding explains all."""
        if not len(self):
            return self
        cut_off = self.num_cut_off
        return self.take(np.flatnonzero(cut_off == cut_off.min()))

    def take(self, rows: np.ndarray) -> Fits:
        """Some of the ways, by index."""
        return replace(self, counts=self.counts[rows], is_rounded=self.is_rounded[rows])


def find_matrices(claim: Claim) -> Fits:
    """Every confusion matrix of a claim's images that gives all its numbers as printed.

    Args:
        claim: about two classes, with a total. Where its parts are unknown, every division of the total is tried.

    Returns:
        Columns TN, FP, FN, TP. A rate without a denominator counts as 0, as scikit-learn prints it.

    Raises:
        TooManyError: the claim leaves more matrices open than can be tried.
    """
    assert claim.total is not None
    divisions = [claim.parts] if claim.parts else [(n, claim.total - n) for n in range(claim.total + 1)]
    counts, is_rounded, tried = [], [], 0
    for negatives, positives in divisions:
        tried += _PER_DIVISION
        _check_open(tried)
        for cells in _candidates(negatives, positives, claim.numbers):
            tried += len(cells.tn)
            _check_open(tried)
            flags = [agreement(key, printed, cells) for key, printed in claim.numbers.items()]
            fits = np.logical_and.reduce([rounded | cut_off for rounded, cut_off in flags])
            if fits.any():
                counts.append(np.stack(cells, axis=1)[fits])
                is_rounded.append(np.stack([rounded for rounded, _ in flags], axis=1)[fits])
    return Fits(
        tuple(key.upper() for key in CELLS),
        np.concatenate(counts) if counts else np.empty((0, 4), dtype=np.int64),
        tuple(claim.numbers),
        np.concatenate(is_rounded) if is_rounded else np.empty((0, len(claim.numbers)), dtype=bool),
    )


def _check_open(tried: int) -> None:
    if tried > _MOST_TRIED:
        raise TooManyError("it leaves too many matrices open; give n as NEGATIVES+POSITIVES, or more numbers")


def agreement(key: str, printed: Printed, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Which matrices give a number as printed.

    Args:
        key: of `TERMS`, or `auroc`, of which a matrix says only between what limits it lies.
        printed: the number.
        cells: `(N,)` int64 each.

    Returns:
        `(N,)` bool twice: when it was rounded; when it was cut off.
    """
    if key == "auroc":
        lowest, highest, whole = auroc_limits(cells)
    else:
        lowest, whole = TERMS[key](cells)
        whole = np.broadcast_to(whole + (whole == 0), lowest.shape)
        highest = lowest
    rounded, cut_off = (_within(lowest, highest, whole, bounds) for bounds in (printed.rounded, printed.cut_off))
    return rounded, cut_off


def auroc_limits(cells: Cells) -> tuple[Any, Any, Any]:
    """Between what areas a ROC curve lies that passes through the point of a matrix.

    A rising curve through the point is at least the rectangle below and right of it, and at most all but the
    one above and left of it. This holds where the decisions are a threshold on the very score that is ranked.

    Returns:
        smallest and largest area, both as numerators over the third; where a class is missing 0 and 1 over 1.
    """
    whole = cells.negatives * cells.positives
    missing = whole == 0
    return cells.tn * cells.tp, whole - cells.fp * cells.fn + missing, whole + missing


def exact_rate(key: str, cells: Cells) -> Fraction:
    """The value of a number for one matrix of Python's whole numbers; undefined counts as 0."""
    num, den = TERMS[key](cells)
    return Fraction(num, den or 1)


def _candidates(negatives: int, positives: int, numbers: Mapping[str, Printed]) -> Iterator[Cells]:
    """Matrices that counts and the rates with a fixed denominator leave open, some at a time."""
    low_tn, high_tn = count_range(negatives, numbers, "tn", "fp", "spec")
    low_tp, high_tp = count_range(positives, numbers, "tp", "fn", "sens")
    low_right, high_right = count_range(negatives + positives, numbers, "right", "wrong", "acc")
    tn = np.arange(low_tn, high_tn + 1, dtype=np.int64)
    first = np.maximum(low_tp, low_right - tn)
    lengths = np.maximum(0, np.minimum(high_tp, high_right - tn) - first + 1)
    kept = lengths > 0
    tn, first, lengths = tn[kept], first[kept], lengths[kept]
    ends = np.cumsum(lengths)
    start = 0
    while start < len(tn):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _AT_ONCE, side="right")))
        sizes = lengths[start:stop]
        position = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        some_tn = np.repeat(tn[start:stop], sizes)
        some_tp = np.repeat(first[start:stop], sizes) + position
        yield Cells(some_tn, negatives - some_tn, positives - some_tp, some_tp)
        start = stop


def count_range(whole: int, numbers: Mapping[str, Printed], hits: str, misses: str, rate: str) -> tuple[int, int]:
    """Smallest and largest count of hits among `whole` that a count of hits or misses, or their rate, allows."""
    low, high = 0, whole
    if hits in numbers:
        low = high = int(numbers[hits].value)
    if misses in numbers:
        found = whole - int(numbers[misses].value)
        low, high = max(low, found), min(high, found)
    if rate in numbers and whole:
        first, last = numbers[rate].either.counts(whole)
        low, high = max(low, first), min(high, last)
    return max(low, 0), min(high, whole)


def _within(lowest: np.ndarray, highest: np.ndarray, whole: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Whether lowest / whole to highest / whole and the bounds have a value in common, without dividing."""
    low, high, is_open = bounds
    largest = max(int(highest.max()), int(whole.max())) * max(low.denominator, high.denominator) * 2
    if largest < _SAFE:
        above, below, edge = highest * low.denominator, lowest * high.denominator, high.numerator * whole
        return np.asarray((above >= low.numerator * whole) & ((below < edge) if is_open else (below <= edge)))
    # Python's whole numbers for those that floats cannot tell from the bounds, which are few.
    near = (highest / whole >= float(low) - _FLOAT_SLACK) & (lowest / whole <= float(high) + _FLOAT_SLACK)
    for row in np.flatnonzero(near):
        first, last = Fraction(int(lowest[row]), int(whole[row])), Fraction(int(highest[row]), int(whole[row]))
        near[row] = last >= low and (first < high if is_open else first <= high)
    return np.asarray(near)
