"""Classes and the two-class logit: refused where they make no sense, right where numbers are extreme."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special

from pneumolit.labels import LabelSet, log_softmax, prior_log_odds, two_class_logit

THREE = LabelSet(("NORMAL", "BACTERIA", "VIRUS"), ("BACTERIA", "VIRUS"))
MASK = THREE.positive_mask

moderate = arrays(np.float64, (5, 3), elements=st.floats(-12, 12))
extreme = arrays(np.float64, (5, 3), elements=st.floats(-1e30, 1e30))


@pytest.mark.parametrize(
    ("classes", "positive", "message"),
    [
        (("NORMAL",), (), r"at least two classes, found 1.*NORMAL.*data\.root"),
        ((), (), "at least two classes, found 0"),
        (("NORMAL", "NORMAL"), (), "distinct"),
        (("NORMAL", "PNEUMONIA"), ("VIRUS",), r"data\.positive names \['VIRUS'\].*choose from.*PNEUMONIA"),
        (("NORMAL", "PNEUMONIA"), ("NORMAL", "PNEUMONIA"), "at least one class must stay negative"),
    ],
)
def test_classes_that_make_no_task_are_refused(
    classes: tuple[str, ...], positive: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LabelSet(classes, positive)


def test_index_and_positive_mask_speak_of_the_same_columns() -> None:
    assert [THREE.index(name) for name in THREE.classes] == [0, 1, 2]
    assert MASK.tolist() == [False, True, True]
    with pytest.raises(ValueError, match=r"unknown class 'FUNGUS'.*NORMAL"):
        THREE.index("FUNGUS")


@pytest.mark.parametrize("labels", [THREE, LabelSet(("a", "b"))])
def test_classes_come_back_from_json_as_they_were(labels: LabelSet) -> None:
    plain: dict[str, Sequence[str]] = json.loads(json.dumps(labels.to_dict()))
    assert LabelSet.from_dict(plain) == labels


@given(extreme)
def test_log_softmax_is_that_of_scipy_and_finite_for_huge_logits(logits: np.ndarray) -> None:
    out = log_softmax(logits)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out, special.log_softmax(logits, axis=1), rtol=1e-12, atol=1e-12)


@given(moderate)
def test_the_two_class_logit_is_the_log_odds_of_the_summed_probabilities(logits: np.ndarray) -> None:
    positive = special.softmax(logits, axis=1)[:, MASK].sum(axis=1)
    assert two_class_logit(logits, MASK) == pytest.approx(special.logit(positive), rel=1e-6, abs=1e-6)


@given(extreme)
def test_the_two_class_logit_of_huge_logits_does_not_overflow(logits: np.ndarray) -> None:
    assert np.isfinite(two_class_logit(logits, MASK)).all()
    assert two_class_logit(np.array([[-1e4, 1e4, 0.0]]), MASK).tolist() == [2e4]


@given(moderate, st.floats(-50, 50))
def test_a_constant_added_to_all_logits_leaves_the_two_class_logit(logits: np.ndarray, constant: float) -> None:
    np.testing.assert_allclose(two_class_logit(logits + constant, MASK), two_class_logit(logits, MASK), atol=1e-9)


def test_with_two_classes_the_two_class_logit_is_their_difference_with_its_sign() -> None:
    logits = np.array([[1.0, 4.0], [2.0, -3.0]])
    np.testing.assert_array_equal(two_class_logit(logits, np.array([False, True])), [3.0, -5.0])
    np.testing.assert_array_equal(two_class_logit(logits, np.array([True, False])), [-3.0, 5.0])


def test_three_equal_logits_speak_two_to_one_for_pneumonia_and_the_equal_prior_takes_that_back() -> None:
    odds = two_class_logit(np.zeros((1, 3)), MASK)
    assert odds[0] == pytest.approx(np.log(2))
    assert odds[0] - prior_log_odds([1, 1, 1], MASK) == pytest.approx(0)


@given(arrays(np.float64, 3, elements=st.floats(0.01, 100)), st.floats(0.01, 100))
def test_a_prior_need_not_sum_to_one(prior: np.ndarray, factor: float) -> None:
    expected = special.logit(prior[1:].sum() / prior.sum())
    assert prior_log_odds(prior, MASK) == pytest.approx(expected, abs=1e-9)
    assert prior_log_odds(prior * factor, MASK) == pytest.approx(expected, abs=1e-9)
