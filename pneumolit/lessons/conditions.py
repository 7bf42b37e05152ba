"""Lessons about what a number depends on beside the model: the films of its batch, the mix of its patients."""

from __future__ import annotations

import numpy as np

from pneumolit.data.datamodule import image_rows
from pneumolit.evaluation.metrics import decision_metrics
from pneumolit.evaluation.prevalence import at_prevalence
from pneumolit.lessons.finding import POINTS, Finding, accuracy, percent, points, shown
from pneumolit.lessons.taught import Taught, met_later, scores_of
from pneumolit.scoring import predict_logits

_RARE = 0.10  # share of the ill on another ward
_NO_INTERVAL = ([0.0, 1.0], [0.0, 1.0])


def batch_norm(taught: Taught) -> Finding:
    """The same films in another order, with the statistics of the batch and with those of training."""
    rates = {name: _by_order(taught, name) for name in ("wrong", "right")}
    (mixed, sorted_), (still_mixed, still_sorted) = rates["wrong"], rates["right"]
    apart = abs(points(mixed, sorted_))
    still = abs(points(still_mixed, still_sorted))
    return Finding(
        sentence=(
            f"With the statistics of the batch the same model called {percent(mixed)} % of the same films right when "
            f"they came shuffled and {percent(sorted_)} % when the healthy came first: the order of the files made "
            f"{apart:.1f} points, and {still:.1f} with the statistics of training."
        ),
        number=apart,
        unit=POINTS,
        rows=(
            ("statistics of the batch: accuracy, films shuffled", shown(mixed)),
            ("statistics of the batch: accuracy, healthy first", shown(sorted_)),
            ("statistics of training: accuracy, films shuffled", shown(still_mixed)),
            ("statistics of training: accuracy, healthy first", shown(still_sorted)),
        ),
    )


def _by_order(taught: Taught, name: str) -> tuple[float, float]:
    """Accuracy in new patients, shuffled and healthy first."""
    model, data = taught.model(name), taught.new_data(name)
    rows = met_later(data)
    positives = data.labels.positive_mask[data.targets(rows)]
    shuffled = np.random.default_rng(taught.lesson.cfg["seed"]).permutation(len(rows))
    found = []
    for order in (shuffled, np.argsort(positives, kind="stable")):
        scores = scores_of(predict_logits(model, image_rows(data, rows[order])), model)
        found.append(accuracy(positives[order], scores > 0))
    return found[0], found[1]


def class_mix(taught: Taught) -> Finding:
    """The same decisions where most are ill and where few are."""
    new = taught.new_patients("model")
    rates = decision_metrics(new.positives, new.positive_preds)
    sensitivity, specificity = rates["sensitivity"], rates["specificity"]
    assert sensitivity is not None and specificity is not None  # new patients are of both kinds
    usual = float(new.positives.mean())
    right = {share: share * sensitivity + (1 - share) * specificity for share in (usual, _RARE)}
    ppv = {
        share: at_prevalence(sensitivity, specificity, share, threshold=None, intervals=_NO_INTERVAL)["ppv"] or 0.0
        for share in right
    }
    lost = points(right[usual], right[_RARE])
    return Finding(
        sentence=(
            f"Where {percent(usual)} % are ill the model is right in {percent(right[usual])} % of the films, where "
            f"{percent(_RARE)} % are ill in {percent(right[_RARE])} %: {lost:.1f} points are the mix, for sensitivity "
            f"({percent(sensitivity)} %) and specificity ({percent(specificity)} %) are the same."
        ),
        number=lost,
        unit=POINTS,
        rows=(
            ("sensitivity in new patients", shown(sensitivity)),
            ("specificity in new patients", shown(specificity)),
            (f"accuracy where {percent(usual)} % are ill", shown(right[usual])),
            (f"accuracy where {percent(_RARE)} % are ill", shown(right[_RARE])),
            (f"accuracy of calling everybody ill where {percent(usual)} % are", shown(usual)),
            (f"a finding of pneumonia is right where {percent(usual)} % are ill", shown(ppv[usual])),
            (f"a finding of pneumonia is right where {percent(_RARE)} % are ill", shown(ppv[_RARE])),
        ),
    )
