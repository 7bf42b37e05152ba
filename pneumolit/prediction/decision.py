"""From a calibrated log odds to a probability, a decision, or none: mode, prevalence, abstain band."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from pneumolit.evaluation.operating_point import PRIMARY, PRIMARY_POINT, OperatingPoint

PNEUMONIA, NORMAL, ABSTAIN = "pneumonia", "normal", "abstain"
MODES = {"screen": "sensitivity_98", "rule_in": "specificity_95"}  # words for operating points


@dataclass(frozen=True)
class DecisionRule:
    """How log odds become decisions.

    Attributes:
        name: of the mode.
        words: what it is, for people.
        prevalence: fraction of pneumonia that probabilities are told at, strictly between 0 and 1.
        threshold: of the probability at that prevalence; at or above it is pneumonia.
        band: (low, high) of probabilities for which no decision is made: low <= p < high; None decides always.
    """

    name: str
    words: str
    prevalence: float
    threshold: float
    band: tuple[float, float] | None = None

    def probs(self, log_odds: np.ndarray) -> np.ndarray:
        """`(N,)` calibrated log odds at prevalence one half -> probability of pneumonia at `prevalence`."""
        return np.asarray(expit(np.asarray(log_odds, dtype=np.float64) + logit(self.prevalence)))

    def decide(self, probs: np.ndarray, negative: str = NORMAL) -> list[str]:
        """`pneumonia`, `abstain` or the word for all else, for every probability.

        Args:
            probs: of pneumonia, at `prevalence`.
            negative: what a film is called that is not called pneumonia, from `labels.negative_word`.
        """
        low, high = self.band or (2.0, 2.0)
        return [
            ABSTAIN if low <= p < high else PNEUMONIA if p >= self.threshold else negative for p in np.asarray(probs)
        ]


def make_rule(
    points: Sequence[OperatingPoint],
    *,
    mode: str | float = PRIMARY,
    prevalence: float | None = None,
    abstain: float | Sequence[float] | None = None,
    validation: np.ndarray | None = None,
) -> DecisionRule:
    """The rule for the settings that a person gave.

    Args:
        points: operating points of the run.
        mode: `primary`, `screen`, `rule_in`, the name of an operating point, or a threshold of the probability.
        prevalence: fraction of pneumonia where the films come from; None is one half. With it `primary` is a
            probability of one half at that prevalence; other points are fixed by sensitivity or specificity, which do
            not depend on it.
        abstain: two probabilities, between which no decision is made; or the share of validation films, those nearest
            to the threshold, that are left undecided.
        validation: `(M,)` calibrated log odds at prevalence one half, that a share needs.

    Raises:
        ValueError: the first setting that cannot be, by its key.
    """
    share = 0.5 if prevalence is None else _checked_share(prevalence, "prevalence")
    shift = float(logit(share))
    if isinstance(mode, bool) or not isinstance(mode, str | int | float):
        raise ValueError(f"mode must be a word or a threshold, got {mode!r}")
    if isinstance(mode, int | float):
        if not 0 <= mode <= 1:
            raise ValueError(f"mode={mode} is a threshold of the probability, which must lie between 0 and 1")
        name, words, threshold = "threshold", f"probability of at least {mode:g}", float(mode)
    else:
        name, words, threshold = _named(points, mode, shift)
    band = None if abstain is None else _band(abstain, threshold, shift, validation)
    return DecisionRule(name, words, share, threshold, band)


def _named(points: Sequence[OperatingPoint], mode: str, shift: float) -> tuple[str, str, float]:
    known = {point.name: point for point in points}
    if mode == PRIMARY or not known:
        if mode != PRIMARY:
            raise ValueError(f"mode={mode}: this model has no operating points; give a threshold such as mode=0.4")
        return PRIMARY, "probability of at least one half", PRIMARY_POINT.threshold
    point = known.get(MODES.get(mode, mode))
    if point is None:
        allowed = [PRIMARY, *(word for word, own in MODES.items() if own in known), *known]
        near = difflib.get_close_matches(mode, allowed, n=1)
        offer = f"did you mean {near[0]}?" if near else "or a threshold such as mode=0.4"
        raise ValueError(f"mode must be one of {', '.join(dict.fromkeys(allowed))}, got {mode!r}; {offer}")
    # A threshold may lie a hair above 1, so that nothing is called pneumonia. It is the probability of some validation
    # film: there and back through the logit it would miss that film now and then.
    is_as_it_is = point.threshold >= 1 or shift == 0
    threshold = point.threshold if is_as_it_is else float(expit(_logit(point.threshold) + shift))
    return mode, point.rule, threshold


def _band(
    abstain: float | Sequence[float], threshold: float, shift: float, validation: np.ndarray | None
) -> tuple[float, float]:
    if not isinstance(abstain, int | float):
        values = list(abstain)
        if len(values) != 2 or not all(_is_number(v) for v in values) or not 0 <= values[0] < values[1] <= 1:
            raise ValueError(f"abstain must be two ascending probabilities such as [0.3,0.7], or a share, got {values}")
        return float(values[0]), float(values[1])
    share = _checked_share(abstain, "abstain")
    if validation is None or not len(validation):
        raise ValueError(
            f"abstain={abstain} needs the scores of validation films, which are not there; give two probabilities, "
            "such as abstain=[0.3,0.7]"
        )
    distance = np.sort(np.abs(np.asarray(validation) + shift - _logit(threshold)))
    reach = float(distance[max(math.ceil(share * len(distance)) - 1, 0)])
    return float(expit(_logit(threshold) - reach)), float(np.nextafter(expit(_logit(threshold) + reach), 1))


def _checked_share(value: object, key: str) -> float:
    if not _is_number(value) or not 0 < value < 1:  # type: ignore[operator]
        hint = "0.1 means 1 in 10" if key == "prevalence" else "0.1 leaves a tenth undecided"
        raise ValueError(f"{key} must lie strictly between 0 and 1, got {value!r}; {hint}")
    return float(value)  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _logit(probability: float) -> float:
    return float(logit(min(max(probability, 1e-12), 1 - 1e-12)))
