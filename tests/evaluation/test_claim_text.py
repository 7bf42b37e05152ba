"""Claims are read as somebody may write them, and what cannot be read is named."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pneumolit.evaluation.claim_text import read_claim, row_as_text
from pneumolit.evaluation.printed import Bounds


def test_a_claim_is_read_under_every_name_of_its_numbers() -> None:
    claim = read_claim(
        "n = 234 + 390, Accuracy=92.8 %; recall=.93 precision=.9 auc=.97 correct=579 matrix=1 / 2 / 3 / 4"
    )
    assert (claim.total, claim.parts) == (624, (234, 390))
    assert list(claim.numbers) == ["acc", "sens", "ppv", "auroc", "right", "tn", "fp", "fn", "tp"]
    assert claim.numbers["acc"].rounded == Bounds(Fraction("0.9275"), Fraction("0.9285"))
    assert [int(claim.numbers[key].value) for key in ("tn", "fp", "fn", "tp")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "total", "parts"),
    [
        ("n=624 acc=.9", 624, ()),
        ("acc=.9", None, ()),
        ("right=533 wrong=91", 624, ()),
        ("matrix=144/90/27/363", 624, (234, 390)),
        ("class=A:.9///5 class=B:///6", 11, (5, 6)),
        ("n=12 class=A:.9///5 class=B:///6", 12, (5, 6)),
    ],
)
def test_images_are_counted_from_what_says_them(text: str, total: int | None, parts: tuple[int, ...]) -> None:
    claim = read_claim(text)
    assert (claim.total, claim.parts) == (total, parts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acc", r"'acc' is no part of a claim, which is key=value"),
        ("n=5 acc=", r"'acc=' is no part of a claim"),
        (
            "n=5 acurracy=.9",
            r"acurracy is no key of a claim; did you mean accuracy\?; the keys are n, files, matrix, acc",
        ),
        ("acc=.9 accuracy=.9", r"accuracy=\.9 gives acc again; a claim has each number once"),
        ("n=5 n=6", r"n=6 gives n again"),
        ("tn=5 matrix=1/2/3/4", r"matrix=1/2/3/4 gives tn again"),
        ("matrix=1/2/3", r"matrix=1/2/3 must be TN/FP/FN/TP"),
        ("n=2000000 acc=.9", r"about 1 to 1000000 images, got 2000000"),
        ("n=0 acc=.9", r"about 1 to 1000000 images, got 0"),
        ("n=5+6 classes=3 acc=.9", r"at odds about its classes: classes=3, parts by n 2"),
        ("n=5+6 classes=0 acc=.9", r"at odds about its classes: classes=0"),
        ("n=624 acc=92,8 spec=.9", r"acc=92,8 has a comma between digits; write \.928"),
        ("files=5 files=6", r"files=6 gives files again"),
        ("classes=3 n=9 spec=.9", r"spec belongs to two classes, and the claim has 3; give class="),
        ("class=A:.9/.9/.9/5", r"at odds about its classes"),
        ("class=A:.9/.9/5 class=B:.9/.9/5", r"class=A:\.9/\.9/5 must be NAME:PRECISION/RECALL/F1/IMAGES"),
        ("class=A:.9/.9/.9/5 class=A:.9/.9/.9/5", r"gives A again"),
        ("n=5+6 class=A:.9/.9/.9/5 class=B:.9/.9/.9/7", r"says \(5, 6\) images in n and \(5, 7\) in class="),
    ],
)
def test_what_cannot_be_read_is_refused_and_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_claim(text)


def test_a_row_of_a_table_becomes_the_claim_that_one_could_type() -> None:
    row = {"source": "A", "N": "8+8", " Accuracy": " .81 ", "auroc": "", "note": "n=1", "per_class": "class=A:.9///8"}
    assert row_as_text(row) == "n=8+8 accuracy=.81 class=A:.9///8"
