"""The pictures that TensorBoard gets of a validation: its confusion matrix, and the films that fare worst."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from pneumolit.data.datamodule import ImageRows, IndexBatch
from pneumolit.evaluation.calibration import Calibration
from pneumolit.labels import negative_word
from pneumolit.predictions import Predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from pneumolit.model.classifier import PneumoniaClassifier

NUM_FILMS = 12


def confusion_picture(predictions: Predictions, *, when: str) -> Figure:
    """Counts by true class and class with the largest logit.

    Args:
        predictions: of the validation images.
        when: "after epoch 3" or the like.
    """
    from pneumolit.evaluation.metrics import confusion_matrix
    from pneumolit.report.confusion import confusion_figure

    labels = predictions.labels
    counts = confusion_matrix(predictions.targets, predictions.preds, labels.num_classes)
    return confusion_figure(counts, labels.classes, title=f"Validation {when}, largest logit")


def error_picture(
    predictions: Predictions,
    images: ImageRows,
    model: PneumoniaClassifier,
    *,
    when: str,
    calibration: Calibration | None = None,
    what: str = "Validation",
) -> tuple[Figure, str]:
    """The films that fare worst, with heat maps of what speaks for the decision where the model gives some.

    Args:
        predictions: of the validation images.
        images: the same rows.
        model: that has made them, in eval mode.
        when: "after epoch 3" or the like.
        calibration: of the score; None takes it as trained.
        what: the set, for people.

    Returns:
        The sheet, and why the model gives no heat maps; empty where it does, or has no two-class logit.
    """
    from pneumolit.report.films import film_sheet

    rows, num_wrong, notes, is_positive = worst_films(predictions, calibration)
    pixels = images[IndexBatch(rows, 0, 0)]["image"]
    heat: np.ndarray | None = None
    if predictions.labels.is_two_class_view:
        caption = f"p: {'' if calibration else 'uncalibrated '}probability of pneumonia at prevalence one half"
        try:
            heat, why_not = _heat_of_calls(model, pixels, is_positive), ""
        except (ValueError, RuntimeError) as error:  # hundreds of nets, some without a map: no reason to end a run
            why_not = re.split(r"[;\n]", str(error))[0]  # what to do comes behind it
        caption += f"; no heat maps: {why_not}" if why_not else "; heat: what speaks for the call (Grad-CAM)"
    else:
        caption, why_not = "p: probability of the true class", ""
    title = f"{what} {when}: {_in_words(num_wrong, len(predictions), len(rows))}"
    return film_sheet(pixels[:, 0].cpu().numpy(), notes, title=title, caption=caption, heat=heat), why_not


def _heat_of_calls(model: PneumoniaClassifier, pixels: Tensor, is_positive: np.ndarray) -> np.ndarray:
    """Heat of what speaks for each film's own call: that by the calibrated score need not be the model's at score 0."""
    from pneumolit.model.heatmap import heatmaps

    if model.needs_batch:
        raise ValueError("what speaks for a film depends on the films beside it")
    heat = np.zeros((len(pixels), *pixels.shape[-2:]), np.float32)
    for side, rows in (("pneumonia", np.flatnonzero(is_positive)), ("normal", np.flatnonzero(~is_positive))):
        if len(rows):
            heat[rows] = heatmaps(model, pixels[rows.tolist()], side=side)
    return heat


def worst_films(
    predictions: Predictions, calibration: Calibration | None = None, count: int = NUM_FILMS
) -> tuple[np.ndarray, int, list[tuple[str, str]], np.ndarray]:
    """The rows whose truth is given the least probability, in this order.

    Args:
        predictions: of some images.
        calibration: of the two-class score; None takes it as trained.
        count: most rows.

    Returns:
        Rows, how many of all rows are wrong (by the primary rule, or at probability one half of the score as trained;
        without a two-class view by the largest logit), two lines for people for each of the rows, and `(rows,)` bool,
        whether each is called pneumonia.
    """
    labels, targets = predictions.labels, predictions.targets
    if labels.is_two_class_view:
        scores = predictions.scores
        probs = calibration.probs(scores, 0.5) if calibration is not None else expit(scores)
        is_positive, called = predictions.positives == 1, probs >= 0.5
        is_wrong, of_truth = called != is_positive, np.where(is_positive, probs, 1 - probs)
        words = np.where(called, "pneumonia", negative_word(labels))
    else:
        probs = of_truth = predictions.probs[np.arange(len(targets)), targets]
        is_wrong, words = predictions.preds != targets, np.array(labels.classes)[predictions.preds]
        called = np.zeros(len(targets), dtype=bool)
    rows = np.lexsort((of_truth, ~is_wrong))[:count]
    notes = [
        (
            str(predictions.paths[i]).rpartition("/")[2],
            f"{labels.classes[targets[i]]}, called {words[i]}, p {probs[i]:.3f}",
        )
        for i in rows
    ]
    return rows, int(is_wrong.sum()), notes, called[rows]


def _in_words(num_wrong: int, num_films: int, shown: int) -> str:
    errors = f"{num_wrong} error{'s' * (num_wrong != 1)} in {num_films} films"
    if num_wrong > shown:
        return f"{errors}, the {shown} worst"
    if num_wrong == shown:
        return errors
    near = shown - num_wrong
    more = f"the {near} film{'s' * (near > 1)} nearest to an error"
    return f"{errors}, and {more}" if num_wrong else f"no error in {num_films} films; {more}"
