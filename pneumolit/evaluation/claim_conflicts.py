"""Where the numbers of a claim cannot belong together: which of them is at odds with the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from pneumolit.evaluation.claim_classes import find_fits, manner_alone
from pneumolit.evaluation.claim_matrices import TERMS, Cells, Fits, TooManyError, auroc_limits, exact_rate
from pneumolit.evaluation.claim_text import CELLS, Claim
from pneumolit.evaluation.printed import Bounds

ROUNDED, CUT_OFF, AS_RATES, NEVER, OPEN = "rounded", "cut off", "as rates", "never", "open"
# Whole numbers or fractions whose numerator and denominator are straight lines in TN and TP.
_LINEAR = frozenset(("acc", "spec", "sens", "ppv", "npv", "f1", "bal_acc", "right", "wrong", *CELLS))
_OF_WHOLE = {"acc": (0, 1), "spec": (0,), "sens": (1,)}  # which parts a rate is a share of

Corner = tuple[Fraction, Fraction]
Line = tuple[Fraction, Fraction, Fraction]


@dataclass(frozen=True)
class Suspect:
    """One number of a claim that does not hold together.

    Attributes:
        key: of the number.
        alone: ROUNDED, CUT_OFF or NEVER: what it takes that some matrix gives it and nothing else; OPEN where
            that was not tried.
        near: counts of images out of `whole` whose share is nearest to it, where it has such a whole.
        whole: images of which it is a share; 0 where it is none of a fixed whole.
        others: what it takes that the others fit without it; AS_RATES where they do so only if images could be
            divided.
        low: what it would have to be then, at least; None where that is not known.
        high: at most.
    """

    key: str
    alone: str
    near: tuple[int, ...]
    whole: int
    others: str
    low: Fraction | None
    high: Fraction | None


@dataclass(frozen=True)
class Conflict:
    """What is wrong with a claim that nothing fits.

    Attributes:
        suspects: its numbers, in order.
        other_parts: if the images were divided otherwise, all numbers would fit: each such division. Its sum is
            another one where the claim's own parts or cells do not add up to its total.
        other_manner: ROUNDED or CUT_OFF, what that takes; NEVER where there is none.
    """

    suspects: tuple[Suspect, ...]
    other_parts: tuple[tuple[int, ...], ...]
    other_manner: str


def manner_of(fits: Fits) -> str:
    """ROUNDED, CUT_OFF or NEVER: what it takes that a claim fits."""
    if not len(fits):
        return NEVER
    return CUT_OFF if fits.num_cut_off.min() else ROUNDED


def find_conflict(claim: Claim) -> Conflict:
    """Drop each number in turn, and see whether the others fit and what it would have to be.

    Args:
        claim: that nothing fits.
    """
    divisions, manner = _other_parts(claim)
    return Conflict(tuple(_suspect(claim, key) for key in claim.numbers), divisions, manner)


def _suspect(claim: Claim, key: str) -> Suspect:
    alone = _manner_alone(claim, key)
    whole = sum(claim.parts[i] for i in _OF_WHOLE[key]) if key in _OF_WHOLE and len(claim.parts) == 2 else 0
    whole = claim.total or 0 if key == "acc" else whole
    printed = claim.numbers[key]
    near = _nearest(printed.rounded if alone == ROUNDED else printed.either, whole)
    others, low, high = NEVER, None, None
    rest = claim.without(key)
    if rest.numbers:
        try:
            fits = find_fits(rest)
        except TooManyError:
            return Suspect(key, alone, near, whole, OPEN, None, None)
        others = manner_of(fits)
        if len(fits):
            low, high = _values(key, fits.best(), rest)
        elif len(claim.parts) == 2 and not claim.class_names:
            others, low, high = as_rates(rest, key)
    return Suspect(key, alone, near, whole, others, low, high)


def _manner_alone(claim: Claim, key: str) -> str:
    if "." in key:
        is_rounded, is_cut_off = manner_alone(claim, key)
        return ROUNDED if is_rounded else CUT_OFF if is_cut_off else NEVER
    try:
        fits = find_fits(claim.only(key))
    except TooManyError:
        return OPEN
    return OPEN if fits.unused else manner_of(fits)


def _nearest(bounds: Bounds, whole: int) -> tuple[int, ...]:
    """The counts that are the number or stand next to it on both sides."""
    if not whole:
        return ()
    low, high = bounds.counts(whole)
    counts = range(low, high + 1) if low <= high else range(high, low + 1)
    return tuple(count for count in counts if 0 <= count <= whole)


def _values(key: str, fits: Fits, claim: Claim) -> tuple[Fraction | None, Fraction | None]:
    """Smallest and largest value of a number over all fits; unknown for numbers of several classes."""
    if fits.columns == ("right",) and key in ("acc", "right", "wrong"):
        right = [Fraction(int(n)) for n in fits.counts[:, 0]]
        total = Fraction(claim.total or 1)
        values = {"acc": [n / total for n in right], "right": right, "wrong": [total - n for n in right]}[key]
        return min(values), max(values)
    if key not in (*TERMS, "auroc") or len(fits.columns) != len(CELLS) or claim.class_names:
        return None, None
    if key == "auroc":
        least, most, whole = auroc_limits(Cells(*fits.counts.T))
        lows, highs = (least / whole).argmin(), (most / whole).argmax()
        return Fraction(int(least[lows]), int(whole[lows])), Fraction(int(most[highs]), int(whole[highs]))
    num, den = TERMS[key](Cells(*fits.counts.T))
    ratio = num / (den + (den == 0))  # near enough to find the extremes, which are then taken exactly
    extremes = [exact_rate(key, Cells(*fits.counts[i].tolist())) for i in (int(ratio.argmin()), int(ratio.argmax()))]
    return extremes[0], extremes[1]


def _other_parts(claim: Claim) -> tuple[tuple[tuple[int, ...], ...], str]:
    """Divisions of the images into classes, other than the claim's, with which all numbers would fit."""
    cells = [claim.numbers[key] for key in CELLS if key in claim.numbers]
    if len(cells) == len(CELLS):
        tn, fp, fn, tp = (int(cell.value) for cell in cells)
        others = [replace(claim, total=tn + fp + fn + tp, parts=(tn + fp, fn + tp))]
    elif claim.class_names:
        others = [replace(claim, total=sum(claim.parts))]
    elif len(claim.parts) == 2 and len(claim.numbers) > 1:
        others = [replace(claim, parts=())]
    else:
        return (), NEVER
    try:
        fits = find_fits(others[0])
    except TooManyError:
        return (), OPEN
    if not len(fits) or claim.class_names:
        return tuple(other.parts for other in others if len(fits)), manner_of(fits)
    cells_of = Cells(*fits.best().counts.T)
    pairs = set(zip(cells_of.negatives.tolist(), cells_of.positives.tolist(), strict=True))
    swapped = claim.parts[::-1]  # first: the two may have been confused
    return tuple(sorted(pairs, key=lambda pair: (pair != swapped, pair))), manner_of(fits)


def as_rates(claim: Claim, dropped: str) -> tuple[str, Fraction | None, Fraction | None]:
    """Whether numbers fit one another when images may be divided, and what the dropped one would be.

    TN and TP are then any point of a rectangle, every number that is a quotient of two straight lines allows a
    strip or a wedge of it, and what is left is a polygon, on which such a quotient is largest and smallest in
    corners. The AUROC is left aside; a mean over classes of such a quotient is none itself.
    """
    numbers = {key: printed for key, printed in claim.numbers.items() if key != "auroc"}
    if not numbers or not {dropped, *numbers} <= _LINEAR:
        return NEVER, None, None
    for bounds in ({k: p.rounded for k, p in numbers.items()}, {k: p.either for k, p in numbers.items()}):
        corners = _polygon(claim.parts, bounds)
        if corners:
            values = [num / den for num, den in (_at(dropped, claim.parts, corner) for corner in corners) if den]
            return AS_RATES, min(values, default=None), max(values, default=None)
    return NEVER, None, None


def _polygon(parts: Sequence[int], bounds: Mapping[str, Bounds]) -> list[Corner]:
    """Corners of all (TN, TP) at which every number lies within its bounds; empty where there is none."""
    negatives, positives = (Fraction(part) for part in parts)
    nought = Fraction(0)
    corners = [(nought, nought), (negatives, nought), (negatives, positives), (nought, positives)]
    for key, (low, high, _) in bounds.items():
        num, den = _lines(key, parts)
        for sign, bound in ((1, low), (-1, high)):  # num - low den >= 0 and high den - num >= 0
            a, b, c = (sign * (n - bound * d) for n, d in zip(num, den, strict=True))
            corners = _clipped(corners, (a, b, c))
    return corners


def _clipped(corners: Sequence[Corner], line: Line) -> list[Corner]:
    """The part of a convex polygon where a + b x + c y >= 0.

    Source:
        Sutherland and Hodgman, Communications of the ACM 17, 1974.
    """
    a, b, c = line
    kept = []
    for (x, y), (u, v) in zip(corners, [*corners[1:], *corners[:1]], strict=True):
        here, there = a + b * x + c * y, a + b * u + c * v
        if here >= 0:
            kept.append((x, y))
        if (here > 0 > there) or (here < 0 < there):
            share = here / (here - there)
            kept.append((x + share * (u - x), y + share * (v - y)))
    return kept


def _at(key: str, parts: Sequence[int], corner: tuple[Any, Any]) -> tuple[Any, Any]:
    """Numerator and denominator of a number at a point (TN, TP)."""
    tn, tp = corner
    return TERMS[key](Cells(tn, parts[0] - tn, parts[1] - tp, tp))


def _lines(key: str, parts: Sequence[int]) -> tuple[Line, Line]:
    """Numerator and denominator of a number as a + b TN + c TP."""
    origin, right, up = (_at(key, parts, point) for point in ((0, 0), (1, 0), (0, 1)))
    num, den = (
        (Fraction(o), Fraction(r) - Fraction(o), Fraction(u) - Fraction(o))
        for o, r, u in zip(origin, right, up, strict=True)
    )
    return num, den
