"""A number as somebody printed it: how far the value behind it may lie from its digits."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

_FLOAT_DIGITS = 15  # of a rate; those that a float has beyond them are its own, not the exact quotient's
# Whoever prints as many significant digits has not rounded, and what was computed in float32 has hardly more good ones.
_UNROUNDED_DIGITS, _FLOAT32 = 7, Fraction(1, 2**23)
_WHOLE_PERCENT = 2  # from here on a number without a sign is a percentage: no rate is larger than 1


class Bounds(NamedTuple):
    """A range of values.

    Attributes:
        low: the smallest.
        high: the largest.
        is_open: `high` itself lies outside.
    """

    low: Fraction
    high: Fraction
    is_open: bool = False

    def hold(self, value: Fraction) -> bool:
        """Whether a value lies inside."""
        return self.low <= value and (value < self.high if self.is_open else value <= self.high)

    def counts(self, whole: int) -> tuple[int, int]:
        """Smallest and largest count c with c / whole inside; the first is larger where there is none."""
        top = self.high * whole
        return math.ceil(self.low * whole), math.ceil(top) - 1 if self.is_open else math.floor(top)


@dataclass(frozen=True)
class Printed:
    """A rate or a count.

    Attributes:
        text: as printed.
        value: of the text; of a percentage its hundredth part.
        digits: after the decimal point of the text; None where the number is exact.
        scale: 100 for a percentage, else 1.
        is_at_least: a plus sign follows, as in ".84+".
    """

    text: str
    value: Fraction
    digits: int | None = None
    scale: int = 1
    is_at_least: bool = False

    @cached_property
    def step(self) -> Fraction:
        """One unit of the last digit, 0 where the number is exact."""
        return Fraction(0) if self.digits is None else Fraction(1, self.scale * 10**self.digits)

    @cached_property
    def rounded(self) -> Bounds:
        """What is printed so when the last digit is rounded, halves up, down or to even, or where a float ends."""
        significant = len(re.sub(r"\D", "", self.text).lstrip("0"))
        is_float = self.digits is not None and significant >= _UNROUNDED_DIGITS
        slack = max(self.step, self.value * _FLOAT32) if is_float else self.step / 2
        return Bounds(self.value - slack, Fraction(1) if self.is_at_least else self.value + slack)

    @cached_property
    def cut_off(self) -> Bounds:
        """What is printed so when further digits are left out."""
        if self.is_at_least or self.digits is None:
            return Bounds(self.value, Fraction(1) if self.is_at_least else self.value)
        return Bounds(self.value, self.value + self.step, is_open=True)

    @cached_property
    def either(self) -> Bounds:
        """What is printed so when the last digit is rounded or further ones are left out."""
        rounded, cut_off = self.rounded, self.cut_off
        is_wider = cut_off.high > rounded.high
        return Bounds(rounded.low, max(rounded.high, cut_off.high), is_wider and cut_off.is_open)

    def like_this(self, value: Fraction, more_digits: int = 0) -> str:
        """Another value in the same manner, rounded to as many digits; of an exact number to as many as it needs.

        Args:
            value: 0 or more.
            more_digits: further ones.
        """
        if self.digits is None and value.denominator == 1:
            return str(value)
        digits = (3 if self.digits is None else self.digits) + more_digits
        whole, part = divmod(round(value * self.scale * 10**digits), 10**digits)
        shown = "" if self.text.startswith(".") and not whole else str(whole)
        return f"{shown}{f'.{part:0{digits}d}' if digits else ''}{'%' * self.text.endswith(('%', '%+'))}"


def read_rate(key: str, text: str) -> Printed:
    """A rate from its text: `.928`, `0.928`, `92.8%`, `92.8`, `.84+`.

    The number of digits decides what may be behind it. 0 and 1 without a decimal point are taken as exact.

    Args:
        key: for the message.
        text: without blanks.

    Raises:
        ValueError: no number, or none from 0 to 1 (100 %).
    """
    match = re.fullmatch(r"([0-9]{0,9})\.?([0-9]*)(%?)(\+?)", text)
    if not match or not (match[1] or match[2]):
        raise ValueError(f"{key}={text} is no rate; write it as printed: .928, 92.8% or .84+ (at least)")
    whole, decimals, sign, plus = match.groups()
    value = Fraction(int(whole + decimals), 10 ** len(decimals))
    scale = 100 if sign or value >= _WHOLE_PERCENT else 1
    is_exact = not decimals and scale == 1
    if value > scale:
        raise ValueError(f"{key}={text} is above 1; write a rate as .928 or 92.8%")
    digits = min(len(decimals), _FLOAT_DIGITS - (len(str(scale)) - 1))
    return Printed(text, round(value, digits) / scale, None if is_exact else digits, scale, bool(plus))


def read_count(key: str, text: str) -> Printed:
    """A number of images.

    Raises:
        ValueError: no whole number.
    """
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{key}={text} is no number of images; write it in digits alone, such as 533")
    return Printed(text, Fraction(int(text)))
