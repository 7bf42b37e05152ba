from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumolit.evaluation.printed import Bounds, read_count, read_rate

ROUNDINGS = (ROUND_HALF_UP, ROUND_HALF_EVEN, ROUND_HALF_DOWN)
shares = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def decimal_text(count: int, whole: int, digits: int, manner: str) -> str:
    """How the decimal module prints a quotient; its 60 digits are more than any such tie needs."""
    with localcontext() as context:
        context.prec = 60
        return str((Decimal(count) / Decimal(whole)).quantize(Decimal(1).scaleb(-digits), rounding=manner))


@settings(max_examples=40, deadline=None)
@given(shares, st.integers(1, 6), st.sampled_from(ROUNDINGS))
def test_a_rounded_share_lies_within_what_its_digits_allow(share: tuple[int, int], digits: int, manner: str) -> None:
    printed = read_rate("acc", decimal_text(*share, digits, manner))
    assert printed.rounded.hold(Fraction(*share)) and printed.either.hold(Fraction(*share))


@settings(max_examples=40, deadline=None)
@given(shares, st.integers(1, 6))
def test_a_share_that_was_cut_off_lies_within_what_that_allows(share: tuple[int, int], digits: int) -> None:
    printed = read_rate("acc", decimal_text(*share, digits, ROUND_DOWN))
    assert printed.cut_off.hold(Fraction(*share)) and printed.either.hold(Fraction(*share))


@settings(max_examples=40, deadline=None)
@given(shares, st.integers(1, 4), st.integers(0, 9999))
def test_a_share_that_is_printed_otherwise_lies_outside(share: tuple[int, int], digits: int, last: int) -> None:
    text = f"0.{last % 10**digits:0{digits}d}"
    printed = read_rate("acc", text)
    assert printed.rounded.hold(Fraction(*share)) == (text in [decimal_text(*share, digits, m) for m in ROUNDINGS])
    assert printed.cut_off.hold(Fraction(*share)) == (text == decimal_text(*share, digits, ROUND_DOWN))
    assert printed.either.hold(Fraction(*share)) == (
        printed.rounded.hold(Fraction(*share)) or printed.cut_off.hold(Fraction(*share))
    )


@settings(max_examples=40, deadline=None)
@given(shares, st.integers(1, 5), st.sampled_from(["rounded", "cut_off", "either"]), st.integers(1, 400))
def test_counts_are_all_whole_numbers_whose_share_lies_inside(
    share: tuple[int, int], digits: int, which: str, whole: int
) -> None:
    bounds = getattr(read_rate("acc", decimal_text(*share, digits, ROUND_HALF_EVEN)), which)
    low, high = bounds.counts(whole)
    inside = [count for count in range(-1, whole + 2) if bounds.hold(Fraction(count, whole))]
    assert [count for count in range(-1, whole + 2) if low <= count <= high] == inside


@settings(max_examples=40, deadline=None)
@given(shares)
def test_every_digit_of_a_float_is_no_promise_about_the_quotient(share: tuple[int, int]) -> None:
    count, whole = share
    value = count / whole
    if "e" not in repr(value):
        assert read_rate("acc", repr(value)).rounded.hold(Fraction(count, whole))


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        (".928", "0.9275", "0.9285"),
        ("0.928", "0.9275", "0.9285"),
        (".90", "0.895", "0.905"),
        ("1.00", "0.995", "1.005"),
        ("92.8%", "0.9275", "0.9285"),
        ("92.8", "0.9275", "0.9285"),
        ("93%", "0.925", "0.935"),
        ("100%", "0.995", "1.005"),
        ("1", "1", "1"),
        ("0", "0", "0"),
        (".84+", "0.835", "1"),
    ],
)
def test_the_number_of_digits_decides_what_may_be_behind_a_number(text: str, low: str, high: str) -> None:
    bounds = read_rate("acc", text).rounded
    assert (bounds.low, bounds.high, bounds.is_open) == (Fraction(low), Fraction(high), False)


@pytest.mark.parametrize(
    ("text", "value", "more", "expected"),
    [
        (".928", "92/100", 0, ".920"),
        ("0.928", "0.9285714", 0, "0.929"),
        (".928", "0.9285714", 1, ".9286"),
        (".99", "1", 0, "1.00"),
        ("92.8%", "0.9285714", 0, "92.9%"),
        ("93", "0.9285714", 0, "93"),
        ("93", "0.9285714", 1, "92.9"),
        (".5", "0.04", 1, ".04"),
        ("1", "0.9285714", 0, "0.929"),
    ],
)
def test_another_value_is_written_in_the_same_manner(text: str, value: str, more: int, expected: str) -> None:
    assert read_rate("acc", text).like_this(Fraction(value), more) == expected


def test_a_count_is_exact() -> None:
    printed = read_count("right", "0533")
    assert printed.value == 533 and printed.step == 0
    exactly = Bounds(Fraction(533), Fraction(533))
    assert printed.rounded == printed.cut_off == printed.either == exactly
    assert printed.like_this(Fraction(27)) == "27"


@pytest.mark.parametrize("text", ["", ".", "abc", "-.5", "1e-3", "9,28", "%", "½", "٣", ".9.2", "nan"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"acc=.* is no rate; write it as printed"):
        read_rate("acc", text)


@pytest.mark.parametrize("text", ["1.2", "101%", "250", "1.00001"])
def test_a_rate_above_one_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"sens=.* is above 1; write a rate as \.928 or 92\.8%"):
        read_rate("sens", text)


@pytest.mark.parametrize("text", ["", "5.0", "-3", "1e3", "²", "9" * 10])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"right=.* is no number of images"):
        read_count("right", text)


def test_no_number_is_printed_so_exactly_that_nothing_lies_around_it() -> None:
    long = read_rate("acc", "." + "3" * 15)
    assert long.rounded.high - long.rounded.low == 2 * long.value / 2**23


@pytest.mark.parametrize("count", [*range(300, 624, 19), 577, 578])
def test_a_share_with_all_the_digits_that_a_program_printed_is_that_share(count: int) -> None:
    share, single = count / 624, np.float32(count) / np.float32(624)
    for text in (
        repr(share), f"{100 * share!r}%", f"{100 * count / 624!r}%", f"{share:.10f}",
        str(single), repr(float(single)), f"{100 * float(single)!r}%", f"{single * np.float32(100)}%",
    ):  # fmt: skip
        rounded = read_rate("acc", text).rounded
        assert [k for k in range(625) if rounded.hold(Fraction(k, 624))] == [count], text
