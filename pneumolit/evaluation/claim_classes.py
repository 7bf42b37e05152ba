"""What a claim about any number of classes can come from: right and called images of each class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import islice, product
from typing import NamedTuple

import numpy as np

from pneumolit.evaluation.claim_matrices import Fits, TooManyError, count_range, find_matrices
from pneumolit.evaluation.claim_text import OF_A_CLASS, Claim
from pneumolit.evaluation.printed import Bounds, Printed

_MOST_TRIED = 200_000
_OF_TOTAL = frozenset(("acc", "right", "wrong"))


class Column(NamedTuple):
    """One class of a way.

    Attributes:
        right: its images that were called so.
        called: images that were called so, of whatever class; None where the claim says nothing about it.
        images: its own.
    """

    right: int
    called: int | None
    images: int


def find_fits(claim: Claim) -> Fits:
    """All that a claim can come from.

    With two classes these are confusion matrices. With more, and numbers of the single classes, they are the
    counts of right and of called images of each class, if some confusion matrix has them; with a total alone,
    the counts of right images.

    Args:
        claim: with a total and at least one number.

    Raises:
        TooManyError: the claim leaves more open than can be tried.
    """
    if claim.num_classes == 2 and not claim.class_names:
        return find_matrices(claim)
    is_of_total = claim.total == sum(claim.parts) and set(claim.numbers) <= _OF_TOTAL
    return _of_classes(claim) if claim.class_names and not is_of_total else _of_total(claim)


def manner_alone(claim: Claim, key: str) -> tuple[bool, bool]:
    """Whether some right and called images of a class give one of its numbers: when rounded, when cut off."""
    name, _, kind = key.rpartition(".")
    printed = claim.numbers[key]
    images = claim.parts[claim.class_names.index(name)]
    is_rounded = is_cut_off = False
    for column in _columns_of_class(name, images, claim.only(key)):
        rounded, cut_off = _agrees(printed, _of_column(kind, column))
        is_rounded, is_cut_off = is_rounded or rounded, is_cut_off or cut_off
        if is_rounded and is_cut_off:
            break
    return is_rounded, is_cut_off


def _of_total(claim: Claim) -> Fits:
    """Counts of right images: nothing else is known of the classes."""
    assert claim.total is not None
    used = [key for key in claim.numbers if key in _OF_TOTAL]
    rows = []
    low, high = count_range(claim.total, claim.numbers, "right", "wrong", "acc")
    for right in range(low, high + 1) if used else []:
        flags = [_agrees(claim.numbers[key], _of_right(key, right, claim.total)) for key in used]
        if all(rounded or cut_off for rounded, cut_off in flags):
            rows.append(((right,), [rounded for rounded, _ in flags]))
    return _fits(("right",), rows, used, claim)


def _of_classes(claim: Claim) -> Fits:
    columns = tuple(f"{name} {word}" for name in claim.class_names for word in ("right", "called"))
    per_class = [
        list(islice(_columns_of_class(name, images, claim), _MOST_TRIED + 1))  # one more than is allowed tells enough
        for name, images in zip(claim.class_names, claim.parts, strict=True)
    ]
    is_known = all(column.called is not None for found in per_class for column in found)
    overall = [key for key in claim.numbers if "." not in key and _is_usable(key, is_known)]
    used = [*(key for key in claim.numbers if "." in key), *overall]
    if claim.total != sum(claim.parts):
        return _fits(columns, [], used, claim)
    if math.prod(len(found) for found in per_class) > _MOST_TRIED:
        raise TooManyError("it leaves too much open; give precision, recall and F1 of every class")
    rows = []
    for way in product(*per_class):
        if not _has_matrix(way):
            continue
        flags = [_agrees(claim.numbers[key], _of_way(key, way, claim)) for key in used]
        if all(rounded or cut_off for rounded, cut_off in flags):
            counts = [n for column in way for n in (column.right, -1 if column.called is None else column.called)]
            rows.append((counts, [rounded for rounded, _ in flags]))
    return _fits(columns, rows, used, claim)


def _columns_of_class(name: str, images: int, claim: Claim) -> Iterator[Column]:
    """Right and called images of a class that give its own numbers."""
    assert claim.total is not None
    own = {kind: claim.numbers[f"{name}.{kind}"] for kind in OF_A_CLASS if f"{name}.{kind}" in claim.numbers}
    low, high = own["recall"].either.counts(images) if "recall" in own and images else (0, images)
    for right in range(max(low, 0), min(high, images) + 1):
        for called in _calls(right, images, claim.total, own):
            column = Column(right, called, images)
            if all(any(_agrees(printed, _of_column(kind, column))) for kind, printed in own.items()):
                yield column


def _calls(right: int, images: int, total: int, own: Mapping[str, Printed]) -> Sequence[int | None]:
    """Called images that precision and F1 leave open; None alone where neither is known."""
    if "precision" not in own and "f1" not in own:
        return (None,)
    first, last = right, right + total - images
    for kind, hits, further in (("precision", right, 0), ("f1", 2 * right, images)):  # hits / (called + further)
        if kind in own and hits:
            low, high, _ = own[kind].either
            first = max(first, math.ceil(hits / high) - further) if high > 0 else last + 1
            last = min(last, math.floor(hits / low) - further) if low > 0 else last
    return range(first, last + 1)


def _has_matrix(way: Sequence[Column]) -> bool:
    """Whether wrong images can be given out so that every class has as many calls as it should, where that is known.

    Of a class' own wrong images none may be called so; it is enough that those of one class find room among
    the wrong calls of the others. A class whose calls are not known takes as many wrong images as others miss.
    """
    missed = [column.images - column.right for column in way]
    total = sum(missed)
    known = [(own, c.called - c.right) for own, c in zip(missed, way, strict=True) if c.called is not None]
    room = sum(total - own for own, c in zip(missed, way, strict=True) if c.called is None)
    left = total - sum(strayed for _, strayed in known)
    return 0 <= left <= room and all(own + strayed <= total for own, strayed in known)


def _is_usable(key: str, calls_are_known: bool) -> bool:
    return key in _OF_TOTAL | {"bal_acc"} or (key.startswith(("macro_", "weighted_")) and calls_are_known)


def _of_right(key: str, right: int, total: int) -> Fraction:
    return Fraction({"acc": right, "right": right * total, "wrong": (total - right) * total}[key], total)


def _of_way(key: str, way: Sequence[Column], claim: Claim) -> Fraction:
    """A number of the claim, for given right and called images."""
    name, dot, kind = key.rpartition(".")
    if dot:
        return _of_column(kind, way[claim.class_names.index(name)])
    if key in _OF_TOTAL:
        return _of_right(key, sum(column.right for column in way), sum(claim.parts))
    mean, _, kind = key.partition("_") if key != "bal_acc" else ("macro", "", "recall")
    weights = [column.images if mean == "weighted" else 1 for column in way]
    values = [_of_column(kind, column) for column in way]
    return sum((w * v for w, v in zip(weights, values, strict=True)), Fraction(0)) / sum(weights)


def _of_column(kind: str, column: Column) -> Fraction:
    """Precision, recall or F1 of a class; undefined counts as 0."""
    right, called, images = column
    called = called or 0
    num, den = {"precision": (right, called), "recall": (right, images), "f1": (2 * right, called + images)}[kind]
    return Fraction(num, den or 1)


def _agrees(printed: Printed, value: Fraction) -> tuple[bool, bool]:
    bounds: tuple[Bounds, Bounds] = (printed.rounded, printed.cut_off)
    return bounds[0].hold(value), bounds[1].hold(value)


def _fits(
    columns: tuple[str, ...], rows: Sequence[tuple[Sequence[int], Sequence[bool]]], used: Sequence[str], claim: Claim
) -> Fits:
    return Fits(
        columns,
        np.array([counts for counts, _ in rows], dtype=np.int64).reshape(len(rows), len(columns)),
        tuple(used),
        np.array([flags for _, flags in rows], dtype=bool).reshape(len(rows), len(used)),
        tuple(key for key in claim.numbers if key not in used),
    )
