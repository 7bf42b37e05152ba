"""From log odds to a decision: modes, prevalence and the band in which none is made."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from pneumolit.evaluation.operating_point import OperatingPoint
from pneumolit.labels import LabelSet, negative_word
from pneumolit.prediction.decision import make_rule
from pneumolit.prediction.predictor import explained_side

POINTS = [
    OperatingPoint("primary", 0.5, "fixed"),
    OperatingPoint("sensitivity_98", 0.2, "highest threshold with sensitivity >= 0.98 on validation"),
    OperatingPoint("specificity_95", 0.8, "lowest threshold with specificity >= 0.95 on validation"),
]
PROBS = np.array([0.1, 0.3, 0.6, 0.9])


def decided(**settings: object) -> str:
    rule = make_rule(POINTS, **settings)  # type: ignore[arg-type]
    return "".join(word[0] for word in rule.decide(rule.probs(logit(PROBS))))


def test_modes_are_words_for_operating_points_or_a_threshold() -> None:
    assert decided() == "nnpp"
    assert decided(mode="screen") == decided(mode="sensitivity_98") == "nppp"
    assert decided(mode="rule_in") == "nnnp"
    assert decided(mode=0.05) == "pppp" and decided(mode=1) == "nnnn"


def test_prevalence_moves_the_probability_and_the_primary_rule_with_it() -> None:
    rule = make_rule(POINTS, prevalence=0.1)
    np.testing.assert_allclose(rule.probs(logit(PROBS)), expit(logit(PROBS) + logit(0.1)))
    assert decided(prevalence=0.09) == "nnnn"  # a probability of .9 becomes one of .47
    assert decided(prevalence=0.12) == "nnnp"


@pytest.mark.parametrize("mode", ["screen", "rule_in"])
def test_a_rule_by_sensitivity_or_specificity_decides_the_same_at_every_prevalence(mode: str) -> None:
    assert decided(mode=mode) == decided(mode=mode, prevalence=0.02) == decided(mode=mode, prevalence=0.7)


def test_a_threshold_above_one_calls_nothing_pneumonia_at_any_prevalence() -> None:
    points = [OperatingPoint("specificity_95", float(np.nextafter(1, 2)), "x")]
    for prevalence in (None, 0.01, 0.99):
        rule = make_rule(points, mode="rule_in", prevalence=prevalence)
        assert rule.decide(np.array([1.0, 0.999])) == ["normal", "normal"]


def test_without_a_prevalence_a_mode_decides_about_every_film_as_its_operating_point_does() -> None:
    probs = np.random.default_rng(0).random(2000)  # a threshold is the probability of a validation film
    for threshold in probs:
        rule = make_rule([OperatingPoint("sensitivity_98", float(threshold), "x")], mode="screen")
        assert rule.decide(np.array([threshold])) == ["pneumonia"] and rule.threshold == threshold


def test_between_two_probabilities_nothing_is_decided() -> None:
    assert decided(abstain=[0.25, 0.65]) == "naap"


def test_a_share_leaves_that_share_of_validation_films_undecided_on_both_sides_of_the_threshold() -> None:
    validation = np.random.default_rng(0).normal(0, 3, 1000)
    for settings in ({"mode": "primary"}, {"mode": "screen"}, {"mode": "primary", "prevalence": 0.2}):
        rule = make_rule(POINTS, abstain=0.1, validation=validation, **settings)
        said = rule.decide(rule.probs(validation))
        assert said.count("abstain") == 100
        assert rule.band is not None and rule.band[0] < rule.threshold < rule.band[1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "scren"}, "mode must be one of primary, screen, rule_in.*did you mean screen"),
        ({"mode": 1.5}, "mode=1.5 is a threshold"),
        ({"mode": True}, "mode must be a word or a threshold"),
        ({"prevalence": 0}, "prevalence must lie strictly between 0 and 1, got 0"),
        ({"prevalence": "high"}, "prevalence must lie strictly between 0 and 1, got 'high'"),
        ({"abstain": [0.7, 0.3]}, "abstain must be two ascending probabilities"),
        ({"abstain": 1.0}, "abstain must lie strictly between 0 and 1"),
        ({"abstain": 0.1}, "abstain=0.1 needs the scores of validation films"),
    ],
)
def test_a_setting_that_cannot_be_is_named(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_rule(POINTS, **settings)  # type: ignore[arg-type]


def test_a_model_without_operating_points_has_the_primary_rule_alone() -> None:
    assert make_rule([]).threshold == 0.5
    with pytest.raises(ValueError, match="no operating points"):
        make_rule([], mode="screen")


def test_what_is_not_called_pneumonia_is_called_as_the_classes_allow() -> None:
    rule = make_rule([], abstain=[0.4, 0.6])
    assert rule.decide(np.array([0.1, 0.5, 0.9])) == ["normal", "abstain", "pneumonia"]
    labels = LabelSet(("BACTERIA", "NORMAL", "VIRUS"), ("BACTERIA",))
    decided = rule.decide(np.array([0.1, 0.5, 0.9]), negative_word(labels))
    assert decided == ["no pneumonia", "abstain", "pneumonia"]
    assert [explained_side(word) for word in decided] == ["normal", "pneumonia", "pneumonia"]
