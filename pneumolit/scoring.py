"""A run and a data set become predictions.csv, metrics.json, pictures and a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from pneumolit.data.datamodule import Rows, batches_alone, padded_batches
from pneumolit.data.dataset import ChestXrayData, repeats
from pneumolit.data.sending import send
from pneumolit.data.sharpness import sharpness
from pneumolit.evaluation.calibration import Calibration, fit_calibration
from pneumolit.evaluation.operating_point import OperatingPoint, fit_operating_points, point_at_prevalence
from pneumolit.evaluation.prevalence import PREVALENCES
from pneumolit.evaluation.summary import VIEWS, summarise
from pneumolit.model.features import inference
from pneumolit.model.gathered import Gathered
from pneumolit.predictions import Predictions
from pneumolit.report.evaluation import evaluation_report
from pneumolit.report.figures import draw_evaluation
from pneumolit.rundir import EvaluationDir, RunDir, read_json, write_json, write_text

if TYPE_CHECKING:
    from pneumolit.model.classifier import PneumoniaClassifier


def predict_logits(model: PneumoniaClassifier, rows: Rows, *, precision: str = "float32") -> np.ndarray:
    """Logits of stored images or features, in order.

    Every batch has the same shape (the last is padded), so that a row's logits do not depend on how many rows
    stand beside it. Not so for a model that normalises by the statistics of the batch: padding would bend them, and it
    may ask for batches in a drawn order, since films that follow one another in a list are mostly of one class, whose
    statistics take away what tells classes apart.

    Args:
        model: in any mode; put into eval mode here.
        rows: N of them.
        precision: "float32", "bf16" or "fp16".

    Returns:
        `(N, K)` float64.
    """
    device = model.device
    model.eval()
    logits, places = Gathered(), Gathered()
    with inference(device, precision):
        for read, count in scored_batches(model, rows):
            batch = {k: send(v, device) if isinstance(v, Tensor) else v for k, v in read.items()}
            logits.add(model.logits_of(batch)[:count])
            places.add(read["index"][:count])
        # At the end: a GPU works on while the next batches are read.
        found: np.ndarray = logits.rows().cpu()[places.rows().argsort()].double().numpy()
    return found


def scored_batches(model: PneumoniaClassifier, rows: Rows) -> Iterator[tuple[dict[str, Any], int]]:
    """All rows in the batches that a model is scored in, with the number of rows of each that count."""
    if not model.needs_batch:
        return padded_batches(rows)
    # As validation has them: rows that fill a batch up would bend its statistics.
    return ((batch, len(batch["index"])) for batch in batches_alone(rows, model.drawn_batch))


def predict_split(
    model: PneumoniaClassifier, data: ChestXrayData, rows: Rows, split: str, *, precision: str
) -> Predictions:
    """Predictions of one split, with what is known of every image.

    Raises:
        ValueError: the model's classes are not those of the data.
    """
    logits = predict_logits(model, rows, precision=precision)
    if not np.isfinite(logits).all():
        raise ValueError(f"the model gives logits that are no numbers for {split}; it cannot be scored")
    chosen = data.rows(split)
    records = data.records.select(chosen)
    return Predictions(
        labels=data.labels,
        paths=np.array(list(records.texts("path")), dtype=object),
        patient_ids=np.array(list(records.texts("patient_id")), dtype=object),
        targets=rows.targets,
        logits=logits,
        prior_log_odds=float(model.settings["prior_log_odds"]),
        causes=np.array(list(records.texts("cause")), dtype=object),
        is_copy=repeats(data.store.hashes.contents(chosen)),
        series=np.array(list(records.texts("series")), dtype=object),
        sharpness=sharpness(data.store.images, chosen),
    )


def calibrate(run: RunDir, predictions: Predictions) -> None:
    """Fit calibration and operating points on validation predictions and write calibration.json."""
    if not predictions.labels.is_two_class_view:
        write_json(run.calibration_file, {"calibration": None, "operating_points": []})
        return
    stored = predictions.as_stored()
    calibration = fit_calibration(stored.scores, stored.positives)
    points = fit_operating_points(calibration.probs(stored.scores, 0.5), stored.positives)
    write_json(
        run.calibration_file,
        {
            "calibration": calibration.to_dict(),
            "operating_points": [p.to_dict() for p in points],
            "num_images": len(predictions),
            "fitted_on": "val",
        },
    )


def read_calibration(run: RunDir) -> tuple[Calibration | None, list[OperatingPoint]]:
    """Calibration and operating points of a run."""
    content = read_json(run.calibration_file)
    if content["calibration"] is None:
        return None, []
    return (
        Calibration.from_dict(content["calibration"]),
        [OperatingPoint.from_dict(p) for p in content["operating_points"]],
    )


def write_evaluation(
    run: RunDir,
    name: str,
    predictions: Predictions,
    *,
    title: str,
    context: dict[str, str],
    prevalence: float | None = None,
    views: Sequence[str] = VIEWS,
) -> dict[str, Any]:
    """Write predictions, numbers, pictures and report of one evaluated set.

    Args:
        run: its calibration.json must stand.
        name: folder below evaluation/.
        predictions: of the set.
        title: heading of the report.
        context: label -> text, such as the number of the look.
        prevalence: of the place where the model shall work; adds a rule and a row.
        views: of probabilities against the outcome, see `summarise`.

    Returns:
        The content of metrics.json.
    """
    calibration, points = read_calibration(run)
    run.write_predictions(name, predictions)
    # Numbers come from the file, so that drawing again from it gives every digit again.
    with run.predictions_file(name).open(newline="", encoding="utf-8", errors="surrogateescape") as handle:
        text = handle.read()
    written = Predictions.from_csv(text, predictions.labels.positive, predictions.prior_log_odds)
    return redraw_evaluation(
        run, name, written, calibration, points, title=title, context=context, prevalence=prevalence, views=views
    )


def redraw_evaluation(
    run: RunDir,
    name: str,
    predictions: Predictions,
    calibration: Calibration | None,
    points: Sequence[OperatingPoint],
    *,
    title: str,
    context: dict[str, str],
    prevalence: float | None = None,
    views: Sequence[str] = VIEWS,
) -> dict[str, Any]:
    """Numbers, pictures and report from predictions that are already there.

    Args:
        run: or ensemble.
        name: folder below evaluation/.
        predictions: of the set.
        calibration: of the run.
        points: of the run.
        title: heading of the report.
        context: label -> text.
        prevalence: of the place where the model shall work; adds a rule and a row.
        views: of probabilities against the outcome, see `summarise`.

    Raises:
        ValueError: a prevalence, but no calibration or a prevalence out of range.
    """
    prevalences: tuple[float, ...] = PREVALENCES
    if prevalence is not None:
        points = [*points, _point_at_prevalence(run, calibration, points, prevalence)]
        prevalences = tuple(sorted({*PREVALENCES, prevalence}))
    metrics = summarise(predictions, calibration, points, prevalences=prevalences, views=views)
    metrics |= {"name": name, "context": context}
    _draw(run.evaluation(name), predictions, metrics, calibration, title)
    return metrics


def report_foreign(
    folder: EvaluationDir, predictions: Predictions, *, title: str, context: dict[str, str]
) -> dict[str, Any]:
    """The same report for predictions that another program made, decided at score 0 (a probability of one half)."""
    write_text(folder.predictions_file, predictions.to_csv())
    metrics = summarise(predictions, None, [], is_prior_known=False)
    metrics |= {"name": folder.path.name, "context": context}
    _draw(folder, predictions, metrics, None, title)
    return metrics


def _draw(
    folder: EvaluationDir,
    predictions: Predictions,
    metrics: dict[str, Any],
    calibration: Calibration | None,
    title: str,
) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    draw_evaluation(predictions, metrics, calibration, folder.path)
    write_text(folder.report_file, evaluation_report(metrics, title=title, context=metrics["context"]))
    write_json(folder.metrics_file, metrics)


def _point_at_prevalence(
    run: RunDir, calibration: Calibration | None, points: Sequence[OperatingPoint], prevalence: float
) -> OperatingPoint:
    if calibration is None:
        raise ValueError(f"prevalence={prevalence}: this run has no class that means pneumonia; leave it out")
    val = run.read_predictions("val")
    point = point_at_prevalence(prevalence, calibration.probs(val.scores, 0.5), val.positives)
    if any(other.promised_sensitivity is None for other in points):  # an ensemble of which validation promises nothing
        return replace(point, promised_sensitivity=None, promised_specificity=None)
    return point


def headline(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """The numbers that a person wants first, as (label, value with interval)."""
    from pneumolit.report.tables import with_interval

    if "rules" not in metrics:
        return [
            (
                "accuracy",
                with_interval(metrics["class_view"]["accuracy"], metrics["intervals"]["class_view"]["accuracy"]),
            )
        ]
    rule = "primary" if "primary" in metrics["rules"] else "half"
    intervals = metrics["intervals"]
    rows = [("AUROC", with_interval(metrics["ranking"]["auroc"], intervals["ranking"]["auroc"]))]
    for key in ("accuracy", "balanced_accuracy", "sensitivity", "specificity"):
        rows.append((key.replace("_", " "), with_interval(metrics["rules"][rule][key], intervals["rules"][rule][key])))
    return rows


def read_metrics(path: Path) -> dict[str, Any]:
    """A metrics.json."""
    return read_json(path)
