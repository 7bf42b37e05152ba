"""Slope and intercept that turn the two-class score into an honest probability."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import expit, logit

# Per standard deviation of the scores: too flat to say anything, steep enough to keep their order.
_MIN_SLOPE = 1e-3
_MAX_STEPS = 100


@dataclass(frozen=True)
class Calibration:
    """A logistic map of the two-class score, and the prevalence for which it holds.

    Attributes:
        slope: > 0, so that the ranking never changes.
        intercept: any real number.
        prevalence: fraction of pneumonia, strictly between 0 and 1, in the validation set of the fit.
    """

    slope: float
    intercept: float
    prevalence: float

    def __post_init__(self) -> None:
        if not self.slope > 0:
            raise ValueError(f"the slope of a calibration must be above 0, got {self.slope}; fit it again")
        _check_prevalence(self.prevalence)

    def probs(self, scores: np.ndarray, prevalence: float | None = None) -> np.ndarray:
        """Calibrated probability of pneumonia.

        Args:
            scores: `(N,)` two-class logits, any range.
            prevalence: re-base to this fraction of pneumonia, strictly between 0 and 1; None keeps that of
                the validation set.

        Returns:
            `(N,)` float64 in [0, 1].

        Raises:
            ValueError: the prevalence lies outside (0, 1).

        Source:
            Saerens, Latinne and Decaestecker, Neural Computation 14, 2002 (new priors by shifting the log
            odds).
        """
        return np.asarray(expit(self.log_odds(scores, prevalence)))

    def log_odds(self, scores: np.ndarray, prevalence: float | None = None) -> np.ndarray:
        """Logit of `probs`, `(N,)` float64, which keeps its digits where the probability is next to 0 or 1.

        Raises:
            ValueError: the prevalence lies outside (0, 1).
        """
        log_odds = self.slope * np.asarray(scores, dtype=np.float64) + self.intercept
        if prevalence is not None:
            _check_prevalence(prevalence)
            log_odds = log_odds - logit(self.prevalence) + logit(prevalence)
        return np.asarray(log_odds)

    def to_dict(self) -> dict[str, float]:
        """Plain form for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, float]) -> Calibration:
        """Inverse of `to_dict`."""
        return cls(float(plain["slope"]), float(plain["intercept"]), float(plain["prevalence"]))


def fit_calibration(scores: np.ndarray, targets: np.ndarray) -> Calibration:
    """Find slope and intercept that make validation probabilities honest.

    Targets are smoothed to (P + 1) / (P + 2) and 1 / (N + 2) as Platt proposed, so that separable scores give
    a finite slope. Scores that rank no better than chance get a small positive slope and the best intercept
    for it: every probability then lies next to the prevalence, and the ranking stays as it was.

    Args:
        scores: `(N,)` float, two-class logits of the validation split, any finite range.
        targets: `(N,)` int, 1 is pneumonia, 0 is normal. Both must occur.

    Raises:
        ValueError: the lengths differ, a score is not finite, or only one class occurs.

    Source:
        Platt, Probabilistic Outputs for Support Vector Machines, 1999; Lin, Lin and Weng, Machine Learning
        68, 2007 (Newton steps with backtracking); Cox, Biometrika 45, 1958.
    """
    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets).astype(np.int64)
    _check_fit(scores, targets)
    num_pos = int(targets.sum())
    num_neg = len(targets) - num_pos
    smoothed = np.where(targets == 1, (num_pos + 1) / (num_pos + 2), 1 / (num_neg + 2))
    centre, spread = float(scores.mean()), float(scores.std())
    if spread <= 1e-12 * max(1.0, abs(centre)):  # equal but for rounding: nothing to fit a slope on
        spread = 1.0
    standard = (scores - centre) / spread
    design = np.column_stack([standard, np.ones_like(standard)])  # (N, 2)
    slope, intercept = _fit_logistic(design, smoothed, np.zeros_like(standard))
    if slope < _MIN_SLOPE:
        slope = _MIN_SLOPE
        (intercept,) = _fit_logistic(design[:, 1:], smoothed, slope * standard)
    return Calibration(slope / spread, intercept - slope * centre / spread, num_pos / len(targets))


def _fit_logistic(design: np.ndarray, targets: np.ndarray, offset: np.ndarray) -> list[float]:
    """Coefficients of a `(N, D)` design with the least log loss against soft targets, by damped Newton."""
    coefficients = np.zeros(design.shape[1])

    def loss(values: np.ndarray) -> float:
        log_odds = design @ values + offset
        return float(np.sum(np.logaddexp(0.0, log_odds) - targets * log_odds))

    current = loss(coefficients)
    for _ in range(_MAX_STEPS):
        probs = expit(design @ coefficients + offset)
        gradient = design.T @ (probs - targets)
        if np.abs(gradient).max() < 1e-10 * len(targets):
            break
        # The small diagonal keeps the system solvable where all scores are equal; it bends the path, not the
        # minimum.
        hessian = (design * (probs * (1 - probs))[:, None]).T @ design + 1e-10 * np.eye(design.shape[1])
        step = np.linalg.solve(hessian, gradient)
        promised = 1e-4 * float(gradient @ step)
        scale = 1.0
        while scale > 1e-10 and loss(coefficients - scale * step) > current - scale * promised:
            scale /= 2
        if scale <= 1e-10:  # no descent left within float64
            break
        coefficients = coefficients - scale * step
        current = loss(coefficients)
    return [float(value) for value in coefficients]


def _check_fit(scores: np.ndarray, targets: np.ndarray) -> None:
    if scores.shape != targets.shape:
        raise ValueError(f"scores and targets must be equally long, got {scores.shape} and {targets.shape}")
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise ValueError(f"{bad} of {len(scores)} validation scores are not finite; the model has diverged")
    if set(targets.tolist()) != {0, 1}:
        raise ValueError(
            f"calibration needs both classes in the validation split, found {sorted(set(targets.tolist()))}; "
            "raise data.val_fraction"
        )


def _check_prevalence(prevalence: float) -> None:
    if not 0 < prevalence < 1:
        raise ValueError(f"a prevalence must lie strictly between 0 and 1, got {prevalence}")
