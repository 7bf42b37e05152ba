"""How honest probabilities are on a set that they were not fitted on: slope, intercept, and in the large."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from pneumolit.evaluation.clustered import Interval, patient_rows
from pneumolit.evaluation.metrics import brier, ece

_MAX_STEPS = 100
_SMALLEST_STEP = 1e-8  # of a coefficient; each Newton step squares the error, so that the last leaves none
_ROUNDING = 1e-12  # fraction of the log loss, and of the Brier score


def check_calibration(
    log_odds: np.ndarray, positives: np.ndarray, patient_ids: np.ndarray, level: float = 0.95
) -> dict[str, Any]:
    """Compare predicted log odds with what happened.

    Args:
        log_odds: `(N,)` float, logit of the predicted probability of pneumonia.
        positives: `(N,)` 0/1, 1 is pneumonia.
        patient_ids: `(N,)` who was imaged.
        level: of the intervals.

    Returns:
        `slope` and `intercept` of a logistic regression of the outcome on the log odds (1 and 0 are perfect; a slope
        below 1 means too extreme); `in_the_large`: the intercept where the slope is held at 1 (above 0: risk is
        underestimated); `observed`, `expected`: mean outcome and mean probability; `ece`: of ten bins of equally many
        images; `brier`; `intervals` of slope, intercept, in_the_large and brier, over patients. None where one class
        is missing, where the scores separate the classes, which no finite slope describes, or where every probability
        is so near 0 or 1 that no variance is left; one patient has no interval.

    Source:
        Cox, Biometrika 45, 1958; Steyerberg, Clinical Prediction Models, 2019, ch. 15; variance over patients: Liang
        and Zeger, Biometrika 73, 1986.
    """
    log_odds, positives = np.asarray(log_odds, dtype=np.float64), np.asarray(positives).astype(np.float64)
    rows, num_patients = patient_rows(patient_ids)
    probs = expit(log_odds)
    z = float(norm.ppf((1 + level) / 2))
    found: dict[str, Any] = {"slope": None, "intercept": None, "in_the_large": None}
    limits: dict[str, Interval | None] = dict.fromkeys(("slope", "intercept", "in_the_large", "brier"))
    if 0 < positives.sum() < len(positives):
        ones = np.ones((len(positives), 1))
        fitted = {"in_the_large": _fit(ones, positives, log_odds, rows, num_patients)}
        if not _separates(log_odds, positives):
            both = _fit(np.hstack([log_odds[:, None], ones]), positives, np.zeros_like(log_odds), rows, num_patients)
            if both is not None:
                fitted |= {"slope": (both[0][:1], both[1][:1]), "intercept": (both[0][1:], both[1][1:])}
        for name, pair in fitted.items():
            if pair is not None:
                value, error = float(pair[0][0]), float(pair[1][0])
                found[name] = value
                limits[name] = [value - z * error, value + z * error] if num_patients > 1 else None
    found |= {
        "observed": float(positives.mean()),
        "expected": float(probs.mean()),
        "ece": ece(positives, probs),
        "brier": brier(positives, probs),
    }
    if num_patients > 1:
        losses = (probs - positives) ** 2 - found["brier"]
        sums = np.bincount(rows, losses, num_patients)
        error = float(np.sqrt(num_patients / (num_patients - 1) * (sums @ sums))) / len(positives)
        if error > _ROUNDING * found["brier"]:  # else all images lose alike, and no width can be told
            limits["brier"] = [max(0.0, found["brier"] - z * error), min(1.0, found["brier"] + z * error)]
    return found | {"intervals": limits}


def _separates(log_odds: np.ndarray, positives: np.ndarray) -> bool:
    return bool(
        log_odds[positives == 0].max() <= log_odds[positives == 1].min()
        or log_odds[positives == 1].max() <= log_odds[positives == 0].min()
    )


def _fit(
    design: np.ndarray, targets: np.ndarray, offset: np.ndarray, rows: np.ndarray, num_patients: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Coefficients of a logistic regression by Newton steps, and their standard errors over patients; None without.

    Where nearly all probabilities are 0 or 1 there may be neither.
    """
    coefficients = np.zeros(design.shape[1])
    signs = 2 * targets - 1

    def loss(values: np.ndarray) -> float:
        # By the distance to the outcome, which keeps its digits where every image is nearly certain.
        return float(np.sum(np.logaddexp(0.0, -signs * (design @ values + offset))))

    def derivatives(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        margins = signs * (design @ values + offset)
        return -signs * expit(-margins), (design * (expit(margins) * expit(-margins))[:, None]).T @ design

    current = loss(coefficients)
    try:
        for _ in range(_MAX_STEPS):
            residuals, hessian = derivatives(coefficients)
            step = np.linalg.solve(hessian, design.T @ residuals)
            # In a flat valley the loss tells less than its slope: what may be rounding is no reason to turn back.
            while not loss(coefficients - step) <= current * (1 + _ROUNDING) and np.abs(step).max() > _SMALLEST_STEP:
                step = step / 2
            coefficients = coefficients - step
            current = min(current, loss(coefficients))
            if np.abs(step).max() <= _SMALLEST_STEP * max(1.0, float(np.abs(coefficients).max())):
                break
        residuals, hessian = derivatives(coefficients)
        bread = np.linalg.inv(hessian)
    except np.linalg.LinAlgError:  # all probabilities are 0 or 1, or all scores are equal
        return None
    sums = np.stack([np.bincount(rows, column, num_patients) for column in (design * residuals[:, None]).T])
    with np.errstate(over="ignore", invalid="ignore"):
        halves = bread @ sums  # (D, patients)
        errors = np.sqrt(num_patients / max(num_patients - 1, 1) * (halves**2).sum(axis=1))
    return (coefficients, errors) if np.isfinite(errors).all() and np.isfinite(coefficients).all() else None
