"""Can printed numbers belong together? Which counts give them all, how sure they would be, which one is at odds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from pneumolit.evaluation.claim_classes import find_fits
from pneumolit.evaluation.claim_conflicts import CUT_OFF, NEVER, OPEN, ROUNDED, Conflict, find_conflict, manner_of
from pneumolit.evaluation.claim_matrices import TERMS, Cells, Fits, TooManyError
from pneumolit.evaluation.claim_text import Claim
from pneumolit.evaluation.clustered import newcombe_auroc, wilson
from pneumolit.evaluation.printed import Printed

Estimate = tuple[float, float, float]
MOST_SIZES = 3000  # on a larger set almost any rate of four digits is possible
_HEADLINE = ("acc", "spec", "sens")
_auroc_limits = lru_cache(maxsize=64)(newcombe_auroc)  # of many ways to a claim most have the same classes


@dataclass(frozen=True)
class Verdict:
    """What can be said about a claim.

    Attributes:
        claim: as it was read.
        manner: what it takes that its numbers belong together: ROUNDED, CUT_OFF or NEVER; OPEN where that cannot
            be told.
        reason: why it is OPEN, or NEVER without a conflict.
        fits: all that it can come from, of several manners only the one with the fewest numbers cut off; what lies
            nearest to the printed digits comes first.
        intervals: value, low and high at 95 % of rates of the first, as if images were independent.
        ranges: smallest and largest value of rates over all fits.
        widest: from the low end of the smallest to the high end of the largest, of the rates of `intervals`.
        conflict: which number is at odds, where nothing fits.
    """

    claim: Claim
    manner: str
    reason: str = ""
    fits: Fits = field(default_factory=lambda: Fits((), np.empty((0, 0), dtype=np.int64), (), np.empty((0, 0), bool)))
    intervals: Mapping[str, Estimate] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    widest: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    conflict: Conflict | None = None

    @property
    def cut_off(self) -> tuple[str, ...]:
        """Keys of the numbers that must have been cut off, in the first way to come to the claim."""
        row = self.fits.is_rounded[0] if self.manner == CUT_OFF else ()
        return tuple(key for key, is_rounded in zip(self.fits.keys, row, strict=False) if not is_rounded)


def check_claim(claim: Claim) -> Verdict:
    """Say whether the numbers of a claim can belong together.

    This is a statement about one model on one set of images: a mean over several runs need not be the share of
    any count.
    """
    if claim.files and claim.total is not None and not _is_of_files(claim):
        return Verdict(
            claim, NEVER, f"n is {_sum_of(claim.parts or (claim.total,))}, and there are {_sum_of(claim.files)} files"
        )
    if not claim.numbers:
        return Verdict(claim, OPEN, "there is no number beside n")
    if claim.total is None:
        return Verdict(claim, OPEN, "n is not given")
    try:
        fits = find_fits(claim)
    except TooManyError as error:
        return Verdict(claim, OPEN, str(error))
    if not fits.keys:
        return Verdict(claim, OPEN, f"{', '.join(fits.unused)} cannot be checked without numbers of the single classes")
    if not len(fits):
        return Verdict(claim, NEVER, fits=fits, conflict=find_conflict(claim))
    best = _nearest_first(fits.best(), claim)
    intervals = estimates(best, 0, claim)
    widest = _widest(best, claim, intervals)
    return Verdict(claim, manner_of(fits), "", best, intervals, _ranges(best, claim), widest)


def estimates(fits: Fits, row: int, claim: Claim) -> dict[str, Estimate]:
    """Value, low and high at 95 % of the rates of one way to come to a claim, as if images were independent.

    Where the claim does not say how many images each class has and several divisions fit, accuracy alone.
    """
    counts = dict(zip(fits.columns, fits.counts[row].tolist(), strict=True))
    if fits.columns == ("right",):  # also where classes have names, and none has a number of its own
        shares = {"acc": (counts["right"], claim.total or 0)}
    elif _is_binary(fits):
        tn, fp, fn, tp = counts.values()
        shares = {"acc": (tn + tp, tn + fp + fn + tp)}
        if claim.parts or len(fits) == 1:
            shares |= {"spec": (tn, tn + fp), "sens": (tp, fn + tp)}
    else:
        right = [counts[f"{name} right"] for name in claim.class_names]
        shares = {"acc": (sum(right), sum(claim.parts))}
        triples = zip(claim.class_names, right, claim.parts, strict=True)
        shares |= {f"{name}.recall": (hits, images) for name, hits, images in triples}
    found = {key: _share_with_interval(hits, whole) for key, (hits, whole) in shares.items() if whole}
    if "auroc" in fits.keys and "spec" in found and "sens" in found:
        value = float(claim.numbers["auroc"].value)
        low, high = _auroc_limits(value, shares["sens"][1], shares["spec"][1])
        found["auroc"] = (value, low, high)
    return found


def possible_sizes(numbers: Sequence[Printed], most: int = MOST_SIZES) -> list[tuple[int, str]]:
    """Sizes of a test set of which every one of several shares can be printed, all in the same manner.

    Args:
        numbers: accuracies of different models on the same images.
        most: the largest size to try.

    Returns:
        (images, ROUNDED or CUT_OFF) by size; ROUNDED where both are possible.
    """
    sizes = np.arange(1, most + 1).astype(object)  # Python's whole numbers: long decimals would overflow
    is_possible = {ROUNDED: np.ones(most, dtype=bool), CUT_OFF: np.ones(most, dtype=bool)}
    for printed in numbers:
        for manner, (low, high, is_open) in ((ROUNDED, printed.rounded), (CUT_OFF, printed.cut_off)):
            first = -((-low.numerator * sizes) // low.denominator)
            last = (high.numerator * sizes - is_open) // high.denominator
            is_possible[manner] &= np.asarray(last >= first, dtype=bool)
    found = np.flatnonzero(is_possible[ROUNDED] | is_possible[CUT_OFF]).tolist()
    return [(n + 1, ROUNDED if is_possible[ROUNDED][n] else CUT_OFF) for n in found]


def _is_of_files(claim: Claim) -> bool:
    """Whether the claim's images are those that were counted; classes are compared where both sides have them."""
    if claim.parts and len(claim.parts) == len(claim.files):
        return claim.parts == claim.files
    return claim.total == sum(claim.files)


def _sum_of(parts: Sequence[int]) -> str:
    """`234 + 390 = 624`, or the number where it is one."""
    return f"{' + '.join(map(str, parts))}{f' = {sum(parts)}' if len(parts) > 1 else ''}"


def _is_binary(fits: Fits) -> bool:
    return fits.columns == ("TN", "FP", "FN", "TP")


def _nearest_first(fits: Fits, claim: Claim) -> Fits:
    """Ways by the distance of their rates from the printed digits, in units of the last one.

    Of many equally near ones, which differ in what the claim does not say, those in the middle are no extremes.
    """
    distance = np.zeros(len(fits))
    for key, printed in claim.numbers.items():
        terms = _terms(fits, key, claim) if printed.step else None
        if terms is not None:
            num, den = terms
            distance += np.abs(num / (den + (den == 0)) - float(printed.value)) / float(printed.step)
    distance = distance.round(6)  # ties stay ties
    nearest = np.flatnonzero(distance == distance.min())
    from_middle = np.abs(np.arange(len(fits)) - nearest[len(nearest) // 2])
    return fits.take(np.lexsort((from_middle, distance)))


@lru_cache(maxsize=4096)
def _share_with_interval(hits: int, whole: int) -> Estimate:
    low, high = wilson(hits / whole, whole)
    return hits / whole, low, high


def _terms(fits: Fits, key: str, claim: Claim) -> tuple[np.ndarray, np.ndarray] | None:
    """`(F,)` numerators and denominators of a rate in every way; of several classes only of the accuracy."""
    if _is_binary(fits) and key in TERMS:
        num, den = TERMS[key](Cells(*fits.counts.T))
        return num, np.broadcast_to(den, num.shape)
    if key == "acc" and not _is_binary(fits):
        of_right = [position for position, name in enumerate(fits.columns) if name.endswith("right")]
        return fits.counts[:, of_right].sum(axis=1), np.full(len(fits), claim.total)
    return None


def _ranges(fits: Fits, claim: Claim) -> dict[str, tuple[float, float]]:
    found = {}
    for key in _HEADLINE:
        num, den = _terms(fits, key, claim) or (np.empty(0), np.empty(0))
        values = num[den > 0] / den[den > 0]
        if len(values):
            found[key] = (float(values.min()), float(values.max()))
    return found


def _widest(fits: Fits, claim: Claim, intervals: Mapping[str, Estimate]) -> dict[str, tuple[float, float]]:
    """The interval of the first of many ways hides how much they differ; these hold the intervals of all of them."""
    found = {}
    for key in _HEADLINE:
        terms = _terms(fits, key, claim) if key in intervals else None
        if terms is not None:
            num, den = terms  # a rate with an interval has the same images in every way
            ends = [_share_with_interval(int(hits), int(den[0])) for hits in (num.min(), num.max())]
            found[key] = (ends[0][1], ends[1][2])
    return found
