"""Claims: every count that gives them is found, and what is at odds is named."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from decimal import ROUND_DOWN, ROUND_HALF_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, precision_score, recall_score

from pneumolit.evaluation import claim_classes
from pneumolit.evaluation.claim_classes import find_fits
from pneumolit.evaluation.claim_conflicts import AS_RATES, CUT_OFF, NEVER, OPEN, ROUNDED, Suspect, as_rates
from pneumolit.evaluation.claim_matrices import TERMS, Cells, TooManyError, auroc_limits, exact_rate
from pneumolit.evaluation.claim_text import read_claim
from pneumolit.evaluation.claims import Verdict, check_claim, possible_sizes
from pneumolit.evaluation.metrics import auroc
from pneumolit.evaluation.printed import read_rate
from tests.processor_time import times_slower

RATES = tuple(key for key in TERMS if key not in ("right", "wrong", "tn", "fp", "fn", "tp"))
ROUNDINGS = (ROUND_HALF_UP, ROUND_HALF_EVEN, ROUND_HALF_DOWN)
KERMANY = "n=234+390 acc=.928 spec=.901 sens=.932"
MLP = "n=234+390 acc=.813 recall=.931 precision=.801 matrix=144/90/28/363 macro_f1=.79 auc=.92"
STUDY_B = (
    "n=484 accuracy=.95 macro_f1=.94 weighted_f1=.95 class=A:.86/.93/.89/86 class=B:.96/.96/.96/79 "
    "class=C:.93/.87/.90/98 class=D:.99/.99/.99/221"
)


def text_of(value: Fraction, digits: int, manner: str) -> str:
    with localcontext() as context:
        context.prec = 60
        quotient = Decimal(value.numerator) / Decimal(value.denominator)
        return str(quotient.quantize(Decimal(1).scaleb(-digits), rounding=manner))


def by_hand(key: str, tn: int, fp: int, fn: int, tp: int) -> Fraction:
    """A second way to every rate: from the rates of the classes, undefined ones 0."""

    def share(part: int, whole: int) -> Fraction:
        return Fraction(part, whole) if whole else Fraction(0)

    def f1(precision: Fraction, recall: Fraction) -> Fraction:
        return 2 * precision * recall / (precision + recall) if precision + recall else Fraction(0)

    spec, sens, npv, ppv = share(tn, tn + fp), share(tp, fn + tp), share(tn, tn + fn), share(tp, tp + fp)
    weight = share(fn + tp, tn + fp + fn + tp)
    return {
        "acc": (1 - weight) * spec + weight * sens,
        "spec": spec,
        "sens": sens,
        "ppv": ppv,
        "npv": npv,
        "f1": f1(ppv, sens),
        "bal_acc": (spec + sens) / 2,
        "macro_precision": (npv + ppv) / 2,
        "macro_f1": (f1(npv, spec) + f1(ppv, sens)) / 2,
        "weighted_precision": (1 - weight) * npv + weight * ppv,
        "weighted_f1": (1 - weight) * f1(npv, spec) + weight * f1(ppv, sens),
    }[key]


def matrices(negatives: int, positives: int) -> Iterator[tuple[int, int, int, int]]:
    for tn, tp in itertools.product(range(negatives + 1), range(positives + 1)):
        yield tn, negatives - tn, positives - tp, tp


def suspects(verdict: Verdict) -> dict[str, Suspect]:
    assert verdict.conflict is not None
    return {suspect.key: suspect for suspect in verdict.conflict.suspects}


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.dictionaries(st.sampled_from(RATES), st.tuples(st.integers(0, 1000), st.integers(1, 3)), min_size=1, max_size=3),
    st.booleans(),
)
@example(1, 1, {"spec": (0, 1), "bal_acc": (0, 1)}, False)  # a division without negatives
def test_the_fits_are_those_of_trying_every_matrix(
    negatives: int, positives: int, drawn: dict[str, tuple[int, int]], is_divided: bool
) -> None:
    texts = {key: f"{min(n, 10**digits) / 10**digits:.{digits}f}" for key, (n, digits) in drawn.items()}
    total = negatives + positives
    claim = read_claim(
        f"n={f'{negatives}+{positives}' if is_divided else total} " + " ".join(f"{k}={t}" for k, t in texts.items())
    )
    divisions = [(negatives, positives)] if is_divided else [(n, total - n) for n in range(total + 1)]
    expected = {}
    for cells in itertools.chain.from_iterable(matrices(*division) for division in divisions):
        rounded = [t in [text_of(by_hand(k, *cells), drawn[k][1], m) for m in ROUNDINGS] for k, t in texts.items()]
        cut_off = [t == text_of(by_hand(k, *cells), drawn[k][1], ROUND_DOWN) for k, t in texts.items()]
        if all(a or b for a, b in zip(rounded, cut_off, strict=True)):
            expected[cells] = rounded
    fits = find_fits(claim)
    found = {tuple(row): flags for row, flags in zip(fits.counts.tolist(), fits.is_rounded.tolist(), strict=True)}
    assert found == expected


cells_of_sets = st.tuples(*[st.integers(0, 300)] * 4).filter(lambda m: m[0] + m[1] > 0 and m[2] + m[3] > 0)


@settings(max_examples=60, deadline=None)
@given(
    cells_of_sets,
    st.dictionaries(st.sampled_from(RATES), st.integers(1, 6), min_size=1),
    st.sampled_from([*ROUNDINGS, ROUND_DOWN]),
)
def test_numbers_printed_from_a_real_matrix_always_fit_and_that_matrix_is_among_the_fits(
    cells: tuple[int, int, int, int], digits: dict[str, int], manner: str
) -> None:
    tn, fp, fn, tp = cells
    numbers = " ".join(f"{key}={text_of(by_hand(key, *cells), d, manner)}" for key, d in digits.items())
    verdict = check_claim(read_claim(f"n={tn + fp}+{fn + tp} right={tn + tp} wrong={fp + fn} {numbers}"))
    assert verdict.manner in (ROUNDED, CUT_OFF)
    assert verdict.manner == ROUNDED or manner == ROUND_DOWN
    assert list(cells) in find_fits(verdict.claim).counts.tolist()


@settings(max_examples=15, deadline=None)
@given(st.tuples(*[st.integers(0, 12)] * 4).filter(lambda m: sum(m) > 0))
def test_every_rate_is_that_of_scikit_learn(cells: tuple[int, int, int, int]) -> None:
    tn, fp, fn, tp = cells
    truth, called = np.repeat([0, 0, 1, 1], cells), np.repeat([0, 1, 0, 1], cells)
    own = {key: float(exact_rate(key, Cells(*cells))) for key in RATES}
    expected = {
        "acc": accuracy_score(truth, called),
        "spec": recall_score(truth, called, pos_label=0, zero_division=0),
        "sens": recall_score(truth, called, zero_division=0),
        "ppv": precision_score(truth, called, zero_division=0),
        "npv": precision_score(truth, called, pos_label=0, zero_division=0),
        "f1": f1_score(truth, called, zero_division=0),
    }
    for mean in ("macro", "weighted"):
        means = {"labels": [0, 1], "average": mean, "zero_division": 0}
        expected[f"{mean}_precision"] = precision_score(truth, called, **means)
        expected[f"{mean}_f1"] = f1_score(truth, called, **means)
    if tn + fp and fn + tp:
        expected["bal_acc"] = balanced_accuracy_score(truth, called)
    for key, value in expected.items():
        assert own[key] == pytest.approx(value, abs=1e-12), key


@pytest.mark.parametrize("key", ["weighted_f1", "macro_precision", "bal_acc", "ppv", "auroc"])
def test_no_product_of_large_counts_overflows(key: str) -> None:
    cells = (399_999, 1, 7, 599_993)
    exact = by_hand("sens" if key == "auroc" else key, *cells)
    text = text_of(exact, 14, ROUND_HALF_EVEN)
    claim = f"n=400000+600000 tn=399999 acc=.99999 {key}="
    assert list(cells) in find_fits(read_claim(claim + text)).counts.tolist()
    other = text_of(exact + Fraction(3, 10**7) if key != "auroc" else Fraction(1, 2), 14, ROUND_HALF_EVEN)
    assert list(cells) not in find_fits(read_claim(claim + other)).counts.tolist()


# What is printed in the literature.


def test_accuracy_that_specificity_and_sensitivity_do_not_give_is_found() -> None:
    verdict = check_claim(read_claim(KERMANY))
    assert verdict.manner == NEVER
    found = suspects(verdict)
    # .9005 * 234 + .9315 * 390 = 574.002 and .9015 * 234 + .9325 * 390 = 574.626 of 624
    assert found["acc"].others == AS_RATES
    assert (found["acc"].low, found["acc"].high) == (Fraction("574.002") / 624, Fraction("574.626") / 624)
    assert [round(float(end), 3) for end in (found["acc"].low or 0, found["acc"].high or 0)] == [0.920, 0.921]
    assert (found["acc"].alone, found["acc"].near) == (ROUNDED, (579,))
    assert (found["spec"].alone, found["spec"].near, found["spec"].whole) == (CUT_OFF, (211,), 234)
    assert (found["sens"].alone, found["sens"].near, found["sens"].whole) == (NEVER, (363, 364), 390)
    assert (found["sens"].others, found["sens"].low, found["sens"].high) == (CUT_OFF, *[Fraction(368, 390)] * 2)


def test_counts_next_to_a_number_are_those_of_the_manner_that_gives_it() -> None:
    odd = suspects(check_claim(read_claim("n=234+390 acc=.92 spec=.99 sens=.99")))["acc"]
    assert (odd.alone, odd.near) == (ROUNDED, tuple(range(571, 578)))  # .915 and .925 of 624 are 570.96 and 577.2


def test_every_other_division_of_the_images_that_is_offered_fits() -> None:
    verdict = check_claim(read_claim(KERMANY))
    assert verdict.conflict is not None and verdict.conflict.other_manner == ROUNDED
    assert verdict.conflict.other_parts == ((81, 543), (91, 533))
    for negatives, positives in verdict.conflict.other_parts:
        assert check_claim(read_claim(KERMANY.replace("234+390", f"{negatives}+{positives}"))).manner == ROUNDED


def test_classes_that_were_confused_are_offered_first() -> None:
    verdict = check_claim(read_claim("n=390+234 spec=.62 sens=.99 right=533"))
    assert verdict.manner == NEVER and verdict.conflict is not None
    assert verdict.conflict.other_parts[0] == (234, 390)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("n=1590+4273 files=1583+4273", "n is 1590 + 4273 = 5863, and there are 1583 + 4273 = 5856 files"),
        ("n=5863 files=5856 acc=.9", "n is 5863, and there are 5856 files"),
        ("n=390+234 files=234+390 acc=.9", "n is 390 + 234 = 624, and there are 234 + 390 = 624 files"),
    ],
)
def test_images_that_are_claimed_and_not_there_are_found(text: str, reason: str) -> None:
    verdict = check_claim(read_claim(text))
    assert (verdict.manner, verdict.reason) == (NEVER, reason)


@pytest.mark.parametrize("files", ["624", "234+390"])
def test_images_that_are_all_there_leave_the_claim_as_it_is(files: str) -> None:
    plain, counted = (check_claim(read_claim(f"n=234+390 acc=.88 {more}")) for more in ("", f"files={files}"))
    assert counted.manner == ROUNDED and counted.intervals == plain.intervals


def test_the_one_cell_that_is_wrong_is_found_in_a_matrix_that_adds_to_one_image_too_many() -> None:
    verdict = check_claim(read_claim(MLP))
    assert verdict.manner == NEVER
    odd = {key: (s.low, s.high) for key, s in suspects(verdict).items() if s.others != NEVER}
    assert odd == {"fn": (Fraction(27), Fraction(27))}
    assert check_claim(read_claim(MLP.replace("/28/", "/27/"))).manner == ROUNDED


def test_a_matrix_that_does_not_add_up_may_have_a_wrong_cell_or_a_wrong_n() -> None:
    verdict = check_claim(read_claim("n=234+390 matrix=144/90/28/363"))
    odd = {key: s.low for key, s in suspects(verdict).items() if s.others == ROUNDED}
    assert odd == {"fn": 27, "tp": 362}
    assert verdict.conflict is not None and verdict.conflict.other_parts == ((234, 391),)


def test_a_number_that_was_cut_off_is_a_weaker_fit_and_named() -> None:
    claim = "n=234+390 acc=.731 recall=.987 precision={} matrix=71/163/5/385 macro_f1=.64 auc=.91"
    verdict = check_claim(read_claim(claim.format(".702")))  # 385 / 548 = .70255
    assert (verdict.manner, verdict.cut_off, verdict.fits.counts.tolist()) == (CUT_OFF, ("ppv",), [[71, 163, 5, 385]])
    verdict = check_claim(read_claim(claim.format(".703")))
    assert (verdict.manner, verdict.cut_off) == (ROUNDED, ())


def test_a_half_may_be_rounded_either_way() -> None:
    for text in (".62", ".63"):  # 390 / 624 = .625
        assert check_claim(read_claim(f"n=234+390 matrix=0/234/0/390 acc={text}")).manner == ROUNDED


def test_ways_in_which_fewer_numbers_were_cut_off_are_preferred() -> None:
    claim = read_claim("n=234+390 acc=.89")  # 553 to 558 if rounded, 556 to 561 if cut off
    assert {sum(row) for row in find_fits(claim).counts[:, [0, 3]].tolist()} == set(range(553, 562))
    verdict = check_claim(claim)
    assert verdict.manner == ROUNDED
    assert {sum(row) for row in verdict.fits.counts[:, [0, 3]].tolist()} == set(range(553, 559))
    assert verdict.ranges["spec"] == pytest.approx((163 / 234, 1.0))
    # Of 163 of 234 negatives at least, and of 553 to 558 images.
    ends = [
        binomtest(hits, whole).proportion_ci(method="wilson") for hits, whole in ((163, 234), (553, 624), (558, 624))
    ]
    assert verdict.widest["spec"] == pytest.approx((ends[0].low, 1.0), abs=1e-12)
    assert verdict.widest["acc"] == pytest.approx((ends[1].low, ends[2].high), abs=1e-12)


def test_the_nearest_to_the_printed_digits_comes_first() -> None:
    verdict = check_claim(read_claim("n=100+100 spec=.90 sens=.9"))
    first = verdict.fits.counts[0].tolist()
    assert first == [90, 10, 10, 90] and len(verdict.fits) > 1


def test_intervals_are_those_of_wilson() -> None:
    # Newcombe, Statistics in Medicine 17, 1998, table I, method 3: 81 of 263 and 1 of 29.
    verdict = check_claim(read_claim("matrix=1/28/182/81 right=82"))
    assert verdict.intervals["sens"] == pytest.approx((81 / 263, 0.2553, 0.3662), abs=5e-5)
    assert verdict.intervals["spec"] == pytest.approx((1 / 29, 0.0061, 0.1718), abs=5e-5)


def test_an_auroc_that_no_curve_through_the_matrix_has_is_refused() -> None:
    # The curve passes (.1, .9): its area is .81 at least and .99 at most.
    base = "n=100+100 spec=.90 sens=.90 right=180 auroc="
    for text, manner in ((".81", ROUNDED), (".80", NEVER), (".99", ROUNDED), (".999", NEVER)):
        verdict = check_claim(read_claim(base + text))
        assert verdict.manner == manner, text
    odd = suspects(check_claim(read_claim(base + ".80")))["auroc"]
    assert (odd.others, odd.low, odd.high) == (ROUNDED, Fraction(81, 100), Fraction(99, 100))


def test_what_an_auroc_would_have_to_be_spans_all_matrices_that_the_others_leave() -> None:
    odd = suspects(check_claim(read_claim("n=5+4 right=7 auroc=.3")))["auroc"]
    left = [(tn, fp, fn, tp) for tn, fp, fn, tp in matrices(5, 4) if tn + tp == 7]
    assert odd.low == min(Fraction(tn, 5) * Fraction(tp, 4) for tn, _, _, tp in left)
    assert odd.high == max(1 - Fraction(fp, 5) * Fraction(fn, 4) for _, fp, fn, _ in left)
    assert len(left) > 1 and odd.low != odd.high


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=30), st.integers(0, 7))
def test_the_area_of_real_scores_lies_within_the_limits_of_every_threshold(
    rows: list[tuple[int, int]], threshold: int
) -> None:
    targets, scores = (np.array(column) for column in zip(*rows, strict=True))
    if set(targets.tolist()) != {0, 1}:
        return
    called = scores >= threshold
    tn, fp, fn, tp = (int(((targets == t) & (called == c)).sum()) for t, c in ((0, 0), (0, 1), (1, 0), (1, 1)))
    low, high, whole = auroc_limits(Cells(tn, fp, fn, tp))
    assert low / whole - 1e-12 <= auroc(targets, scores) <= high / whole + 1e-12


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["acc", "spec", "sens", "ppv", "npv", "f1", "bal_acc"]),
    st.sampled_from([("spec", "sens"), ("spec", "ppv"), ("sens", "npv"), ("acc", "f1")]),
    st.integers(2, 38),
    st.integers(2, 58),
)
def test_what_a_rate_would_have_to_be_agrees_with_a_fine_grid_of_divided_images(
    dropped: str, kept: tuple[str, str], tn: int, tp: int
) -> None:
    if dropped in kept:
        return
    cells = (tn, 40 - tn, 60 - tp, tp)
    texts = {key: text_of(by_hand(key, *cells), 2, ROUND_HALF_EVEN) for key in kept}
    claim = read_claim("n=40+60 " + " ".join(f"{k}={t}" for k, t in texts.items()))
    manner, low, high = as_rates(claim, dropped)
    assert manner == AS_RATES and low is not None and high is not None
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(0, 40, 401), np.linspace(0, 60, 601)))
    grid = Cells(x, 40 - x, 60 - y, y)
    inside = np.ones(len(x), dtype=bool)
    for key, text in texts.items():
        num, den = TERMS[key](grid)
        rate, bounds = num / np.maximum(den, 1e-9), read_rate(key, text).rounded
        inside &= (rate >= float(bounds.low) - 1e-9) & (rate <= float(bounds.high) + 1e-9)
    num, den = TERMS[dropped](grid)
    values = (num / np.maximum(den, 1e-9))[inside]
    assert len(values)
    assert float(low) - 1e-9 <= values.min() and values.max() <= float(high) + 1e-9
    assert values.min() - float(low) < 0.02 and float(high) - values.max() < 0.02


def test_what_cannot_be_told_is_left_open_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_claim(read_claim("acc=.9")).reason == "n is not given"
    assert check_claim(read_claim("n=624")).reason == "there is no number beside n"
    assert check_claim(read_claim("n=9 classes=3 macro_f1=.9")).manner == OPEN
    monkeypatch.setattr("pneumolit.evaluation.claim_matrices._MOST_TRIED", 1000)  # its own takes some seconds to reach
    verdict = check_claim(read_claim("n=624 ppv=.9"))
    assert verdict.manner == OPEN and "leaves too many matrices open; give n as NEGATIVES+POSITIVES" in verdict.reason
    # Divisions take their time as well, also where none of them leaves a matrix.
    assert check_claim(read_claim("n=624 acc=.9 right=1")).manner == OPEN


def test_the_vaguest_claim_about_the_test_split_takes_under_a_second() -> None:
    start = time.process_time()
    verdict = check_claim(read_claim("n=234+390 macro_f1=.79 weighted_f1=.80 npv=.8"))
    assert verdict.manner == ROUNDED and time.process_time() - start < times_slower()


# More than two classes.


def test_a_report_of_four_classes_fits_in_the_two_ways_there_are() -> None:
    verdict = check_claim(read_claim(STUDY_B))
    assert verdict.manner == ROUNDED
    assert verdict.fits.columns[:2] == ("A right", "A called")
    ways = sorted(verdict.fits.counts.tolist())
    assert ways == [[80, 93, 76, 79, 85, 91, 218, 221], [80, 93, 76, 79, 85, 91, 219, 221]]
    assert verdict.intervals["acc"][0] == pytest.approx(460 / 484)


def test_a_class_without_images_is_possible() -> None:
    # classification_report([1] * 9, [1] * 4 + [0] * 5, labels=[0, 1], zero_division=0)
    verdict = check_claim(read_claim("class=NORMAL:0.00/0.00/0.00/0 class=PNEUMONIA:1.00/0.44/0.62/9"))
    assert verdict.manner == ROUNDED
    assert [0, 5, 4, 4] in verdict.fits.counts.tolist()


@pytest.mark.parametrize(
    ("old", "new", "odd"),
    [
        ("accuracy=.95", "accuracy=.96", {"acc"}),
        ("macro_f1=.94", "macro_f1=.96", {"macro_f1"}),
        (".86/.93/.89", ".86/.93/.91", {"A.precision", "A.recall", "A.f1"}),
    ],
)
def test_a_number_that_the_classes_do_not_give_is_the_odd_one(old: str, new: str, odd: set[str]) -> None:
    verdict = check_claim(read_claim(STUDY_B.replace(old, new)))
    assert verdict.manner == NEVER
    assert {key for key, suspect in suspects(verdict).items() if suspect.others in (ROUNDED, CUT_OFF)} <= odd
    assert any(suspect.others in (ROUNDED, CUT_OFF) for suspect in suspects(verdict).values())


def test_supports_that_do_not_add_up_to_n_are_found() -> None:
    verdict = check_claim(read_claim(STUDY_B.replace("n=484", "n=485")))
    assert verdict.manner == NEVER
    assert verdict.conflict is not None and verdict.conflict.other_parts == ((86, 79, 98, 221),)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=9, max_size=9), st.integers(1, 3), st.sampled_from(ROUNDINGS))
def test_a_report_printed_from_a_real_matrix_of_three_classes_fits(cells: list[int], digits: int, manner: str) -> None:
    table = np.array(cells).reshape(3, 3)
    if not table.sum(axis=1).all():
        return
    right, called, images = table.diagonal(), table.sum(axis=0), table.sum(axis=1)
    words, f1s = [], []
    for name, hit, call, own in zip("ABC", right.tolist(), called.tolist(), images.tolist(), strict=True):
        f1s.append(Fraction(2 * hit, call + own))
        rates = (Fraction(hit, call or 1), Fraction(hit, own), f1s[-1])
        words.append(f"class={name}:" + "/".join(text_of(rate, digits, manner) for rate in rates) + f"/{own}")
    words.append(f"acc={text_of(Fraction(int(right.sum()), int(images.sum())), digits, manner)}")
    words.append(f"macro_f1={text_of(sum(f1s, Fraction(0)) / 3, digits, manner)}")
    verdict = check_claim(read_claim(" ".join(words)))
    if verdict.manner == OPEN:  # one digit leaves very much open
        assert digits == 1
        return
    assert verdict.manner == ROUNDED
    expected = [n for pair in zip(right.tolist(), called.tolist(), strict=True) for n in pair]
    assert expected in verdict.fits.counts.tolist()


@pytest.mark.parametrize("counted", ["ABC", "AB", "AC", "B", "C"])
def test_right_and_called_images_are_those_that_some_matrix_has(counted: str) -> None:
    images = (2, 1, 2)
    possible = set()
    rows = [[(a, b, n - a - b) for a in range(n + 1) for b in range(n + 1 - a)] for n in images]
    for table in map(np.array, itertools.product(*rows)):
        calls = [int(table[:, k].sum()) if name in counted else -1 for k, name in enumerate("ABC")]
        possible.add(tuple(n for k in range(3) for n in (int(table[k, k]), calls[k])))
    # A precision of at least 0 says nothing, but that the calls are to be counted.
    words = [f"class={name}:{'.0+' if name in counted else ''}/.0+//{n}" for name, n in zip("ABC", images, strict=True)]
    assert {tuple(row) for row in find_fits(read_claim(" ".join(words))).counts.tolist()} == possible


def test_accuracy_of_many_classes_needs_no_more_than_n() -> None:
    verdict = check_claim(read_claim("n=256 classes=4 acc=.629 right=161"))
    assert (verdict.manner, verdict.fits.counts.tolist()) == (ROUNDED, [[161]])
    verdict = check_claim(read_claim("n=256 classes=4 acc=.629 right=160 macro_f1=.6"))
    assert verdict.manner == NEVER and verdict.fits.unused == ("macro_f1",)
    assert suspects(verdict)["right"].low == 161


def test_two_classes_with_names_and_no_numbers_of_their_own_leave_the_right_images() -> None:
    verdict = check_claim(read_claim("acc=.9 class=A:///5 class=B:///6"))
    assert (verdict.manner, verdict.fits.columns, verdict.fits.counts.tolist()) == (ROUNDED, ("right",), [[10]])
    assert list(verdict.intervals) == ["acc"] and verdict.intervals["acc"][0] == 10 / 11


def test_no_more_counts_of_a_large_set_are_tried_than_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def count(name: str) -> None:
        original = getattr(claim_classes, name)

        def counted(*values: object) -> object:
            tried.append(name)
            return original(*values)

        monkeypatch.setattr(claim_classes, name, counted)

    count("_of_right")
    assert find_fits(read_claim("n=1000000 classes=3 right=700000")).counts.tolist() == [[700_000]]
    assert tried == ["_of_right"]
    monkeypatch.setattr(claim_classes, "_MOST_TRIED", 1000)
    count("Column")
    with pytest.raises(TooManyError, match="leaves too much open"):
        find_fits(read_claim("acc=.9 class=A:///900000 class=B:.9/.9/.9/10"))
    assert tried.count("Column") < 1100


def test_sizes_of_a_test_set_are_those_at_which_all_accuracies_are_shares() -> None:
    texts = [".6518", ".7013", ".6356", ".7295", ".7303", ".6433", ".8071", ".8114", ".8267", ".8199", ".8370"]
    numbers = [read_rate("acc", text) for text in texts]
    assert possible_sizes(numbers, 2000) == [(1172, CUT_OFF)]

    def is_share(text: str, size: int, manners: tuple[str, ...]) -> bool:
        near = round(float(text) * size)
        counts = range(max(near - 1, 0), near + 2)
        return any(text == text_of(Fraction(n, size), 2, m)[1:] for n in counts for m in manners)

    texts, expected = [".57", ".31"], []
    for size in range(1, 41):
        if all(is_share(text, size, ROUNDINGS) for text in texts):
            expected.append((size, ROUNDED))
        elif all(is_share(text, size, (ROUND_DOWN,)) for text in texts):
            expected.append((size, CUT_OFF))
    assert possible_sizes([read_rate("acc", text) for text in texts], 40) == expected
    assert {manner for _, manner in expected} == {ROUNDED, CUT_OFF}
