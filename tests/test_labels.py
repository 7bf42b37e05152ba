"""K logits become one two-class logit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logit, softmax

from pneumolit.labels import LabelSet, log_softmax, prior_log_odds, two_class_logit

MASK = np.array([False, True, True])
logits_strategy = arrays(np.float64, (7, 3), elements=st.floats(-12, 12))


@given(logits_strategy)
def test_the_two_class_logit_is_the_log_odds_of_the_positive_classes(logits: np.ndarray) -> None:
    positive = softmax(logits, axis=1)[:, MASK].sum(axis=1)
    assert two_class_logit(logits, MASK) == pytest.approx(logit(positive), rel=1e-6, abs=1e-6)


@given(logits_strategy)
def test_log_softmax_agrees_with_scipy(logits: np.ndarray) -> None:
    assert np.exp(log_softmax(logits)) == pytest.approx(softmax(logits, axis=1))


def test_huge_logits_do_not_overflow() -> None:
    assert two_class_logit(np.array([[-1e4, 1e4, 0.0]]), MASK).tolist() == [2e4]


def test_prior_log_odds_need_not_be_normalised() -> None:
    assert prior_log_odds([10, 20, 10], MASK) == pytest.approx(np.log(3))


@pytest.mark.parametrize(
    ("classes", "positive", "message"),
    [
        (("A",), (), "at least two classes, found 1"),
        (("A", "A"), (), "distinct"),
        (("A", "B"), ("C",), r"data\.positive names \['C'\]"),
        (("A", "B"), ("A", "B"), "names every class"),
    ],
)
def test_an_unsound_set_of_classes_is_refused(
    classes: tuple[str, ...], positive: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LabelSet(classes, positive)


def test_plain_form_gives_the_same_labels_back() -> None:
    labels = LabelSet(("NORMAL", "BACTERIA", "VIRUS"), ("BACTERIA", "VIRUS"))
    assert LabelSet.from_dict(labels.to_dict()) == labels
