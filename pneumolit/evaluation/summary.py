"""Every number of one set of predictions: the content of metrics.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pneumolit.evaluation.calibration import Calibration
from pneumolit.evaluation.calibration_check import check_calibration
from pneumolit.evaluation.clustered import mean_recall_interval
from pneumolit.evaluation.intervals import NUM_RESAMPLES, formula_intervals, patient_intervals
from pneumolit.evaluation.metrics import (
    auroc,
    average_precision,
    class_report,
    confusion_matrix,
    decision_metrics,
    macro_auroc,
)
from pneumolit.evaluation.operating_point import PRIMARY, PRIMARY_POINT, OperatingPoint
from pneumolit.evaluation.prevalence import PREVALENCES, at_prevalence
from pneumolit.evaluation.subgroups import subgroups
from pneumolit.predictions import Predictions

FORMAT_VERSION = 2
_CAUSES = ("bacteria", "virus")
# Of probabilities against the outcome: what the softmax says, training prior and all; calibrated, at the class mix of
# validation; calibrated, at that of the set.
VIEWS = ("as_trained", "calibrated", "rebased")
_HEADLINE = ("accuracy", "balanced_accuracy", "sensitivity", "specificity")


def summarise(
    predictions: Predictions,
    calibration: Calibration | None,
    points: Sequence[OperatingPoint],
    *,
    prevalences: Sequence[float] = PREVALENCES,
    views: Sequence[str] = VIEWS,
    is_prior_known: bool = True,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute every number of a set of predictions.

    Args:
        predictions: at least one row.
        calibration: fitted on validation; None leaves out all rules but `argmax` and `half`.
        points: operating points from validation; `primary` is added at one half where they lack it.
        prevalences: fractions of pneumonia at which predictive values and net benefit are told.
        views: those of `VIEWS` that the scores have a meaning in.
        is_prior_known: whether score 0 is a probability of one half at prevalence one half; else the rule `half` has
            no threshold at other prevalences, and no net benefit.
        num_resamples: of the patient bootstrap.
        seed: of the patient bootstrap.

    Returns:
        What metrics.json holds: plain dicts, lists, strings, ints, finite floats, and None for what is
        undefined (no ranking with one class). Without a two-class view only the head, `class_view` and its
        interval.

    Raises:
        ValueError: there is no row, or operating points come without a calibration.
    """
    if not len(predictions):
        raise ValueError("there are no predictions to summarise; check that the split holds images")
    if points and calibration is None:
        raise ValueError(
            f"operating points {[p.name for p in points]} act on calibrated probabilities; "
            "give the calibration of the same run, or no points"
        )
    summary: dict[str, Any] = _head(predictions)
    class_view = _class_view(predictions)
    hits = predictions.preds == predictions.targets
    accuracy = mean_recall_interval(hits, predictions.targets, predictions.patient_ids, weights="images")
    if not predictions.labels.is_two_class_view:
        intervals = {"level": 0.95, "num_resamples": num_resamples, "num_patients": summary["num_patients"]}
        return summary | {
            "class_view": class_view,
            "intervals": intervals | {"class_view": {"accuracy": accuracy}},
        }
    preds_by_rule = decide_by_rule(predictions, calibration, points)
    intervals = patient_intervals(
        predictions.positives,
        predictions.scores,
        preds_by_rule,
        predictions.patient_ids,
        num_resamples=num_resamples,
        seed=seed,
    )
    rules = {name: _rule_view(predictions, preds) | _rule_origin(name, points) for name, preds in preds_by_rule.items()}
    headline = preds_by_rule[PRIMARY if PRIMARY in preds_by_rule else "half"]
    calibration_view = {k: v for k, v in _calibration_view(predictions, calibration).items() if k in views}
    re_based = rules if is_prior_known else {**rules, "half": {**rules["half"], "threshold": None}}
    return summary | {
        "prevalence": float(predictions.positives.mean()),
        "ranking": _ranking(predictions),
        "probability": _probability(calibration_view),
        "calibration": calibration_view,
        "rules": rules,
        "prevalences": _at_prevalences(re_based, intervals["rules"], prevalences),
        "subgroups": subgroups(
            predictions.positives,
            predictions.scores,
            headline,
            predictions.patient_ids,
            causes=predictions.causes,
            series=predictions.series,
            sharpness=predictions.sharpness,
        ),
        "class_view": class_view,
        "intervals": intervals | {"class_view": {"accuracy": accuracy}},
        "without_copies": _without_copies(predictions, preds_by_rule),
    }


def decide_by_rule(
    predictions: Predictions, calibration: Calibration | None, points: Sequence[OperatingPoint]
) -> dict[str, np.ndarray]:
    """What each decision rule says of each image.

    Returns:
        rule name -> `(N,)` int64, 1 is called pneumonia: `argmax` (the class with the largest logit means
        pneumonia), `half` (score >= 0) and, with a calibration, `primary` and every other operating point
        (calibrated probability, re-based to prevalence one half, >= threshold).
    """
    decisions = {
        "argmax": predictions.positive_preds,
        "half": (predictions.scores >= 0).astype(np.int64),
    }
    if calibration is not None:
        probs = calibration.probs(predictions.scores, prevalence=0.5)
        decisions[PRIMARY] = PRIMARY_POINT.decide(probs)
        decisions |= {point.name: point.decide(probs) for point in points}
    return decisions


def _head(predictions: Predictions) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "num_images": len(predictions),
        "num_patients": len(set(predictions.patient_ids.tolist())),
        "has_patients": predictions.has_patients,
        "num_copies": int(predictions.is_copy.sum()),
        "classes": list(predictions.labels.classes),
        "positive": list(predictions.labels.positive),
    }


def _class_view(predictions: Predictions) -> dict[str, Any]:
    confusion = confusion_matrix(predictions.targets, predictions.preds, predictions.labels.num_classes)
    report = class_report(confusion)
    all_occur = len(np.unique(predictions.targets)) == predictions.labels.num_classes
    return {
        "confusion": confusion.tolist(),
        "accuracy": float(np.mean(predictions.preds == predictions.targets)),
        "per_class": dict(zip(predictions.labels.classes, report["per_class"], strict=True)),
        "macro": report["macro"],
        "weighted": report["weighted"],
        "macro_auroc": macro_auroc(predictions.targets, predictions.probs) if all_occur else None,
    }


def _ranking(predictions: Predictions) -> dict[str, float | None]:
    positives = predictions.positives
    if positives.min() == positives.max():
        return {"auroc": None, "average_precision": None}
    return {
        "auroc": auroc(positives, predictions.scores),
        "average_precision": average_precision(positives, predictions.scores),
    }


def _probability(view: dict[str, Any]) -> dict[str, float | None]:
    """The headline of `_calibration_view`."""
    plain, calibrated = (view.get(name, {"brier": None, "ece": None}) for name in ("as_trained", "calibrated"))
    return {
        "brier": calibrated["brier"],
        "ece": calibrated["ece"],
        "brier_uncalibrated": plain["brier"],
        "ece_uncalibrated": plain["ece"],
    }


def _calibration_view(predictions: Predictions, calibration: Calibration | None) -> dict[str, Any]:
    """Probabilities before and after calibration, and re-based to the class mix of this set, against the outcome."""
    log_odds = {"as_trained": predictions.scores + predictions.prior_log_odds}
    if calibration is not None:
        log_odds["calibrated"] = calibration.log_odds(predictions.scores)
        prevalence = float(predictions.positives.mean())
        if 0 < prevalence < 1:
            log_odds["rebased"] = calibration.log_odds(predictions.scores, prevalence)
    return {
        name: check_calibration(values, predictions.positives, predictions.patient_ids)
        for name, values in log_odds.items()
    }


def _at_prevalences(
    rules: dict[str, Any], intervals: dict[str, Any], prevalences: Sequence[float]
) -> dict[str, list[dict[str, Any]]]:
    """Predictive values of each rule at other class mixes; without rules that lack a rate for want of a class."""
    return {
        name: [
            at_prevalence(
                found["sensitivity"],
                found["specificity"],
                prevalence,
                threshold=found["threshold"],
                intervals=(intervals[name]["sensitivity"], intervals[name]["specificity"]),
            )
            for prevalence in prevalences
        ]
        for name, found in rules.items()
        if found["sensitivity"] is not None and found["specificity"] is not None
    }


def _rule_view(predictions: Predictions, preds: np.ndarray) -> dict[str, Any]:
    confusion = confusion_matrix(predictions.positives, preds, 2)
    report = class_report(confusion)
    by_cause = {}
    for cause in _CAUSES:
        rows = (predictions.causes == cause) & (predictions.positives == 1)
        if rows.any():
            by_cause[cause] = float(preds[rows].mean())
    return {
        **decision_metrics(predictions.positives, preds),
        "confusion": confusion.tolist(),
        "macro": report["macro"],
        "weighted": report["weighted"],
        "sensitivity_by_cause": by_cause,
    }


def _rule_origin(name: str, points: Sequence[OperatingPoint]) -> dict[str, Any]:
    """Where a rule comes from, and what validation promised of it."""
    point = next((p for p in points if p.name == name), None)
    if point is not None:
        promised = {"sensitivity": point.promised_sensitivity, "specificity": point.promised_specificity}
        return {"rule": point.rule, "threshold": point.threshold, "promised": promised}
    fixed = {
        "argmax": ("the class with the largest logit means pneumonia", None),
        "half": ("uncalibrated score probability >= 0.5", 0.5),
        PRIMARY: (PRIMARY_POINT.rule, PRIMARY_POINT.threshold),
    }
    rule, threshold = fixed[name]
    return {"rule": rule, "threshold": threshold, "promised": None}


def _without_copies(predictions: Predictions, preds_by_rule: dict[str, np.ndarray]) -> dict[str, Any]:
    """The headline once more, without further byte-identical copies of images in the set."""
    kept = ~predictions.is_copy
    originals = predictions.take(kept)
    decided = {name: preds[kept] for name, preds in preds_by_rule.items()}
    rules = {name: decision_metrics(originals.positives, preds) for name, preds in decided.items()}
    auroc_limits, limits = formula_intervals(originals.positives, originals.scores, decided, originals.patient_ids)
    return {
        "num_images": len(originals),
        "auroc": _ranking(originals)["auroc"],
        "rules": {name: {key: found[key] for key in _HEADLINE} for name, found in rules.items()},
        "intervals": {
            "auroc": auroc_limits,
            "rules": {name: {key: found.get(key) for key in _HEADLINE} for name, found in limits.items()},
        },
    }
