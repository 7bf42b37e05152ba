"""Pictures of one set of predictions: ROC, precision and recall, reliability, scores, confusion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import expit

from pneumolit.evaluation.calibration import Calibration
from pneumolit.evaluation.clustered import proportion_interval
from pneumolit.evaluation.metrics import bin_of_each, precision_recall_curve, reliability_bins, roc_curve
from pneumolit.evaluation.operating_point import PRIMARY
from pneumolit.labels import negative_word
from pneumolit.predictions import Predictions
from pneumolit.report.canvas import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    RED,
    SKY,
    blank_figure,
    names_and_markers,
    save,
    square,
    style,
)
from pneumolit.report.confusion import confusion_figure
from pneumolit.report.curves import draw_training_curves
from pneumolit.report.tables import headline_rule, number, rule_label, with_interval

__all__ = ["confusion_figure", "draw_evaluation", "draw_training_curves"]

_WORTH_MAGNIFYING = 0.45  # of the axis; a larger corner would look the same in the inset


def draw_evaluation(
    predictions: Predictions, metrics: dict[str, Any], calibration: Calibration | None, folder: Path
) -> list[Path]:
    """Draw every picture of one evaluation.

    Args:
        predictions: the rows that `metrics` sums up.
        metrics: what `evaluation.summary.summarise` returned, or metrics.json read back.
        calibration: as given to `summarise`.
        folder: an existing folder; pictures of the same names are replaced.

    Returns:
        The files written. Without a two-class view only confusion_classes.png; roc.png and pr.png only where
        both classes occur; reliability.png only where the scores stand for probabilities.
    """
    figures: dict[str, Figure] = {}
    if "rules" in metrics:
        if metrics["ranking"]["auroc"] is not None:
            figures["roc.png"] = _roc(predictions, metrics)
            figures["pr.png"] = _precision_recall(predictions, metrics)
        rule = headline_rule(metrics)
        figures["confusion.png"] = confusion_figure(
            np.array(metrics["rules"][rule]["confusion"]),
            (negative_word(predictions.labels).capitalize(), "Pneumonia")
            if metrics["classes"][0].upper() == "NORMAL"
            else ("Negative", "Positive"),
            title=f"Decisions by the {rule_label(rule)} rule",
        )
        if metrics["calibration"]:
            figures["reliability.png"] = _reliability(predictions, metrics, calibration)
        figures["scores.png"] = _scores(predictions)
    view = metrics["class_view"]
    figures["confusion_classes.png"] = confusion_figure(
        np.array(view["confusion"]),
        metrics["classes"],
        title=f"{len(metrics['classes'])} classes, largest logit",
    )
    return [save(figure, folder / name) for name, figure in figures.items()]


def _roc(predictions: Predictions, metrics: dict[str, Any]) -> Figure:
    fpr, tpr, _ = roc_curve(predictions.positives, predictions.scores)
    found = metrics["rules"]
    points = {name: (1 - rule["specificity"], rule["sensitivity"]) for name, rule in found.items()}
    figure = blank_figure(7.6, 5.2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    axes.plot(fpr, tpr, color=BLUE, linewidth=2, label="ROC")
    _mark_rules(axes, points)
    value = with_interval(metrics["ranking"]["auroc"], metrics["intervals"]["ranking"]["auroc"])
    style(axes, f"ROC, AUROC {value}", "1 - specificity", "sensitivity")
    square(axes)
    _magnify(axes, (0.42, 0.1, 0.54, 0.54), (fpr, tpr), points, corner=(0.0, 1.0))
    _legend_beside(figure)
    return figure


def _precision_recall(predictions: Predictions, metrics: dict[str, Any]) -> Figure:
    precision, recall, _ = precision_recall_curve(predictions.positives, predictions.scores)
    found = metrics["rules"]
    points = {name: (rule["sensitivity"], rule["ppv"]) for name, rule in found.items() if rule["ppv"] is not None}
    figure = blank_figure(7.6, 5.2)
    axes = figure.add_subplot()
    axes.axhline(metrics["prevalence"], color=GREY, linestyle=":", label="chance")
    axes.plot(recall, precision, color=BLUE, linewidth=2, label="precision")
    _mark_rules(axes, points)
    value = with_interval(metrics["ranking"]["average_precision"], metrics["intervals"]["ranking"]["average_precision"])
    xlabel, ylabel = "recall (sensitivity)", f"precision (PPV) at prevalence {number(metrics['prevalence'])}"
    style(axes, f"Average precision {value}", xlabel, ylabel)
    square(axes)
    _magnify(axes, (0.1, 0.1, 0.54, 0.54), (recall, precision), points, corner=(1.0, 1.0))
    _legend_beside(figure)
    return figure


def _mark_rules(axes: Axes, points: dict[str, tuple[float, float]], *, labelled: bool = True) -> None:
    for name, colour, marker in names_and_markers(list(points)):
        axes.plot(
            *points[name],
            marker="*" if name == PRIMARY else marker,
            markersize=14 if name == PRIMARY else 8,
            zorder=4 if name == PRIMARY else 3,
            color=colour,
            markeredgecolor=BLACK,
            linestyle="none",
            label=rule_label(name) if labelled else None,
            clip_on=False,
        )


def _magnify(
    axes: Axes,
    place: tuple[float, float, float, float],
    curve: tuple[np.ndarray, np.ndarray],
    points: dict[str, tuple[float, float]],
    corner: tuple[float, float],
) -> None:
    """Repeat the corner that holds all rules in the empty middle, where they would overlap at full scale."""
    reach = max((abs(value - end) for p in points.values() for value, end in zip(p, corner, strict=True)), default=1)
    span = max(1.12 * reach, 0.02)
    if span > _WORTH_MAGNIFYING:
        return
    inset = axes.inset_axes(place)
    inset.plot(*curve, color=BLUE, linewidth=2)
    _mark_rules(inset, points, labelled=False)
    limits = [(-0.04 * span, span) if end == 0 else (1 - span, 1 + 0.04 * span) for end in corner]
    inset.set(xlim=limits[0], ylim=limits[1])
    inset.set_title("magnified", fontsize=9, loc="left")
    inset.tick_params(labelsize=9)
    inset.locator_params(nbins=4)
    inset.grid(color="#DDDDDD", linewidth=0.7)


def _reliability(predictions: Predictions, metrics: dict[str, Any], calibration: Calibration | None) -> Figure:
    positives, scores = predictions.positives, predictions.scores
    series = []
    if "as_trained" in metrics["calibration"]:
        series.append(("as trained", expit(scores + predictions.prior_log_odds), ORANGE, "s", "as_trained"))
    if calibration is not None and "calibrated" in metrics["calibration"]:
        series.append(("calibrated", calibration.probs(scores), BLUE, "o", "calibrated"))
    elif calibration is not None and "rebased" in metrics["calibration"]:  # an ensemble's
        rebased = calibration.probs(scores, metrics["prevalence"])
        series.append(("calibrated, at this class mix", rebased, BLUE, "o", "rebased"))
    figure = blank_figure(6.2, 6.2)
    axes, below = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect")
    for label, probs, colour, marker, view in series:
        mean_prob, frequency, _ = reliability_bins(positives, probs)
        text = f"{label}, ECE {number(metrics['calibration'][view]['ece'])}"
        axes.plot(mean_prob, frequency, color=colour, marker=marker, linewidth=1.5, label=text)
        below.hist(probs, bins=np.linspace(0, 1, 21), histtype="step", color=colour, linewidth=1.5)
    # Of the last series only: bars of both would hide each other.
    limits = _frequency_limits(predictions, probs)
    over = f"95 % interval over {'patients' if predictions.has_patients else 'images'}"
    axes.vlines(mean_prob, limits[:, 0], limits[:, 1], color=colour, linewidth=1.2, label=over)
    style(axes, "Reliability, 10 bins of equally many images", "", "observed fraction of pneumonia")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(fontsize=10, loc="upper left", frameon=False)
    style(below, "", "predicted probability of pneumonia", "images")
    return figure


def _frequency_limits(predictions: Predictions, probs: np.ndarray) -> np.ndarray:
    """`(B, 2)` interval over patients of the observed frequency in every bin of the reliability diagram."""
    bins = bin_of_each(probs)
    members = [bins == k for k in np.unique(bins)]
    return np.array([proportion_interval(predictions.positives[m], predictions.patient_ids[m]) for m in members])


def _scores(predictions: Predictions) -> Figure:
    scores, positives = predictions.scores, predictions.positives
    finite = scores[np.isfinite(scores)]
    edges = np.linspace(*_padded_range(finite), 41).tolist()
    figure = blank_figure(7.4, 4.2)
    axes = figure.add_subplot()
    axes.hist(
        scores[positives == 0],
        edges,
        facecolor=SKY,
        edgecolor=BLUE,
        alpha=0.6,
        label=f"{negative_word(predictions.labels)} ({(positives == 0).sum()})",
    )
    for label, rows, colour, dash in _positive_groups(predictions):
        axes.hist(
            scores[rows],
            edges,
            histtype="step",
            color=colour,
            linestyle=dash,
            linewidth=2,
            label=f"{label} ({rows.sum()})",
        )
    axes.axvline(0, color=BLACK, linewidth=1, linestyle=":", label="score 0 (half)")
    style(axes, "Scores by class", "two-class score (log odds, prevalence one half)", "images")
    axes.legend(fontsize=10, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _positive_groups(predictions: Predictions) -> list[tuple[str, np.ndarray, str, str]]:
    is_pos = predictions.positives == 1
    if not (is_pos & (predictions.causes != "")).any():
        return [("pneumonia", is_pos, RED, "-")]
    groups = [
        ("bacterial", is_pos & (predictions.causes == "bacteria"), RED, "-"),
        ("viral", is_pos & (predictions.causes == "virus"), BLACK, "--"),
        ("cause unknown", is_pos & (predictions.causes == ""), GREY, "-."),
    ]
    return [group for group in groups if group[1].any()]


def _padded_range(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return -1.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low - 0.5, high + 0.5) if high - low < 1e-6 else (low, high)


def _legend_beside(figure: Figure) -> None:
    """Outside the axes, where it cannot hide a curve that hugs a corner."""
    figure.legend(loc="outside right upper", fontsize=10, frameon=False)
