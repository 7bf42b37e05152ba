"""Adjusted p-values: a textbook's numbers, and Holm's steps written out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumolit.evaluation.multiplicity import holm


def test_holm_gives_the_textbook_adjustment() -> None:
    # By hand: .005 x 4, .01 x 3, then .03 x 2, and .04 x 1 raised to the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12))
def test_holm_equals_stepping_down_one_by_one(p_values: list[float | None]) -> None:
    known = sorted(p for p in p_values if p is not None)
    adjusted, reached = holm(p_values), 0.0
    found: dict[float, float] = {}
    for step, p in enumerate(known):
        reached = max(reached, min(1.0, p * (len(known) - step)))
        found[p] = found.get(p, reached)
    for given_p, one in zip(p_values, adjusted, strict=True):
        assert one is None if given_p is None else one is not None and one >= given_p
    for value, one in found.items():
        assert min(a for a, p in zip(adjusted, p_values, strict=True) if p == value and a is not None) == pytest.approx(
            one
        )
