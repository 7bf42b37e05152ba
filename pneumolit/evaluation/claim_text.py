"""What somebody says a model did, read from a text such as `n=234+390 acc=.928 spec=.901 sens=.932`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pneumolit.evaluation.printed import Printed, read_count, read_rate

RATES = (
    "acc", "spec", "sens", "ppv", "npv", "f1", "bal_acc", "macro_precision", "macro_f1", "weighted_precision",
    "weighted_f1", "auroc",
)  # fmt: skip
CELLS = ("tn", "fp", "fn", "tp")
COUNTS = ("right", "wrong", *CELLS)
ALIASES = {
    "accuracy": "acc",
    "weighted_recall": "acc",
    "specificity": "spec",
    "normal_recall": "spec",
    "sensitivity": "sens",
    "recall": "sens",
    "precision": "ppv",
    "f1_score": "f1",
    "balanced_accuracy": "bal_acc",
    "macro_recall": "bal_acc",
    "auc": "auroc",
    "correct": "right",
    "errors": "wrong",
}
OF_A_CLASS = ("precision", "recall", "f1")
# With more than two classes these belong to a class each, or to a pair of them.
TWO_CLASS_ONLY = frozenset(("spec", "sens", "ppv", "npv", "f1", *CELLS))
PER_CLASS = "per_class"  # the column of a table of claims that holds class=... class=...
MOST_IMAGES = 1_000_000  # up to here products of three counts stay within 64 bits


@dataclass(frozen=True)
class Claim:
    """Numbers that are said to come from one test of one model.

    Attributes:
        text: as it was given.
        numbers: by key of `RATES` and `COUNTS`; of a class by `NAME.recall` and so on.
        total: images; None where it is not said.
        parts: images of each class, negatives first; empty where only the total is known.
        files: images of each class, or their sum alone, that somebody has counted; empty where nobody has.
        num_classes: 2 or more.
        class_names: of `parts`, where the claim has numbers of single classes.
    """

    text: str
    numbers: Mapping[str, Printed]
    total: int | None = None
    parts: tuple[int, ...] = ()
    files: tuple[int, ...] = ()
    num_classes: int = 2
    class_names: tuple[str, ...] = ()

    def without(self, key: str) -> Claim:
        """The same, but for one number."""
        return replace(self, numbers={k: number for k, number in self.numbers.items() if k != key})

    def only(self, key: str) -> Claim:
        """One number and the count of images."""
        return replace(self, numbers={key: self.numbers[key]})


def read_claim(text: str) -> Claim:
    """A claim from its text: words of the form key=value.

    `n=N` or `n=NEGATIVES+POSITIVES` is the number of images, `files` in the same form how many there really are,
    `matrix=TN/FP/FN/TP` the confusion matrix; rates and counts have the keys of `RATES`, `COUNTS` and `ALIASES`.
    More than two classes: `classes=K`, and as often as wanted `class=NAME:PRECISION/RECALL/F1/IMAGES`, where all but
    the images may be left empty.

    Raises:
        ValueError: an unknown key, one given twice, a value that is no number, or parts that are at odds.
    """
    numbers: dict[str, Printed] = {}
    named: dict[str, int] = {}
    images: dict[str, tuple[int, ...]] = {}
    num_classes: int | None = None
    for word in _words(text):
        name, equals, value = word.partition("=")
        key = ALIASES.get(name.lower(), name.lower())
        if not equals or not value:
            raise ValueError(f"{word!r} is no part of a claim, which is key=value key=value ..., as in acc=.928")
        if key in numbers or key in images or (key == "classes" and num_classes is not None):
            raise ValueError(f"{word} gives {key} again; a claim has each number once")
        if key in ("n", "files"):
            images[key] = tuple(int(read_count(key, part).value) for part in value.split("+"))
        elif key == "classes":
            num_classes = int(read_count(key, value).value)
        elif key == "class":
            _read_class(value, numbers, named)
        elif key == "matrix":
            _read_matrix(value, numbers)
        elif key in RATES:
            numbers[key] = read_rate(name, value)
        elif key in COUNTS:
            numbers[key] = read_count(name, value)
        else:
            raise ValueError(f"{name} is no key of a claim{_offer(name)}; the keys are n, files, matrix, {_listed()}")
    total = sum(images["n"]) if "n" in images else None
    parts = images["n"] if len(images.get("n", ())) > 1 else ()
    if named and not parts:
        parts, total = tuple(named.values()), sum(named.values()) if total is None else total
    count = max(len(parts), 2) if num_classes is None else num_classes
    _check_classes(text, count, parts, named, numbers)
    if count == 2:
        total, parts = _from_counts(numbers, total, parts)
    if total is not None and not 0 < total <= MOST_IMAGES:
        raise ValueError(f"a claim is about 1 to {MOST_IMAGES} images, got {total}")
    return Claim(text, numbers, total, parts, images.get("files", ()), count, tuple(named))


def row_as_text(row: Mapping[str, str]) -> str:
    """The claim of a row of a table: its columns that are keys of a claim, and the text of `PER_CLASS` as it is.

    >>> row_as_text({"source": "A", "n": "234+390", "accuracy": ".91", "auroc": "", "per_class": ""})
    'n=234+390 accuracy=.91'
    """
    words = []
    for name, value in row.items():
        if is_column(name) and value.strip():
            key = name.strip().lower()
            words.append(value.strip() if key == PER_CLASS else f"{key}={value.strip()}")
    return " ".join(words)


def is_column(name: str) -> bool:
    """Whether a column of a table of claims is a part of them."""
    return name.strip().lower() in (PER_CLASS, "n", "files", "classes", "matrix", *RATES, *COUNTS, *ALIASES)


def _words(text: str) -> list[str]:
    """Words of a claim, blanks around signs and between a number and its percent sign taken away."""
    if comma := re.search(r"\S*\d,\d\S*", text):
        raise ValueError(f"{comma[0]} has a comma between digits; write .928 or 1216, and blanks between numbers")
    closed = re.sub(r"\s*([=/])\s*|(?<=\d)\s+(\+)\s+(?=\d)|\s+(%)", r"\1\2\3", text)
    return closed.replace(",", " ").replace(";", " ").split()


def _read_matrix(value: str, numbers: dict[str, Printed]) -> None:
    cells = value.split("/")
    if len(cells) != len(CELLS):
        raise ValueError(f"matrix={value} must be TN/FP/FN/TP, as in matrix=216/18/11/379")
    for key, cell in zip(CELLS, cells, strict=True):
        if key in numbers:
            raise ValueError(f"matrix={value} gives {key} again; a claim has each number once")
        numbers[key] = read_count("matrix", cell)


def _read_class(value: str, numbers: dict[str, Printed], named: dict[str, int]) -> None:
    name, colon, rest = value.rpartition(":")
    cells = rest.split("/")
    if not colon or not name or len(cells) != len(OF_A_CLASS) + 1:
        raise ValueError(f"class={value} must be NAME:PRECISION/RECALL/F1/IMAGES, as in class=NORMAL:.96/.92/.94/234")
    if name in named:
        raise ValueError(f"class={value} gives {name} again; a claim has each class once")
    named[name] = int(read_count(f"images of {name}", cells[-1]).value)
    for kind, cell in zip(OF_A_CLASS, cells, strict=False):
        if cell:
            numbers[f"{name}.{kind}"] = read_rate(f"{kind} of {name}", cell)


def _check_classes(
    text: str, count: int, parts: tuple[int, ...], named: Mapping[str, int], numbers: Mapping[str, Printed]
) -> None:
    if count < 2 or (parts and len(parts) != count) or (named and len(named) != count):
        found = ", ".join(f"{what} {number}" for what, number in (("n", len(parts)), ("class=", len(named))) if number)
        raise ValueError(f"{text!r} is at odds about its classes: classes={count}, parts by {found or 'none'}")
    if named and tuple(named.values()) != parts:
        raise ValueError(f"{text!r} says {parts} images in n and {tuple(named.values())} in class=; leave n out")
    if count > 2 or named:
        odd = [key for key in numbers if key in TWO_CLASS_ONLY]
        if odd:
            raise ValueError(
                f"{odd[0]} belongs to two classes, and the claim has {'single classes' if named else count}; give "
                "class=NAME:PRECISION/RECALL/F1/IMAGES for each class"
            )


def _from_counts(
    numbers: Mapping[str, Printed], total: int | None, parts: tuple[int, ...]
) -> tuple[int | None, tuple[int, ...]]:
    """The number of images where a matrix, or right and wrong, say it and n does not."""
    if total is not None:
        return total, parts
    if all(key in numbers for key in CELLS):
        tn, fp, fn, tp = (int(numbers[key].value) for key in CELLS)
        return tn + fp + fn + tp, (tn + fp, fn + tp)
    if "right" in numbers and "wrong" in numbers:
        return int(numbers["right"].value + numbers["wrong"].value), ()
    return None, ()


def _offer(name: str) -> str:
    near = difflib.get_close_matches(
        name.lower(), [*RATES, *COUNTS, *ALIASES, "matrix", "files", "classes", "class"], n=1
    )
    return f"; did you mean {near[0]}?" if near else ""


def _listed() -> str:
    return ", ".join([*RATES, *(key for key in COUNTS if key not in CELLS)])
