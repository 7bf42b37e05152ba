"""What is explained: a finished run, the images of one of its splits, and what it has said about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from pneumolit.data.datamodule import ImageRows
from pneumolit.data.store import cache_folder
from pneumolit.evaluation.calibration import Calibration
from pneumolit.explanation.lungs import box_mask, read_masks
from pneumolit.labels import two_class_logit
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.predictions import Predictions
from pneumolit.rundir import RunDir
from pneumolit.scoring import predict_logits, read_calibration
from pneumolit.training.precision import choose_precision
from pneumolit.training.rescore import load_model, reopen_data

PREDICTED = "predicted"
# Log odds by which scores may differ from the stored ones: rounding on another device, against other weights.
_TOLERANCES = {"float32": 0.02, "bf16": 0.5, "fp16": 0.1}


@dataclass(frozen=True)
class Subject:
    """Everything that heat maps and their checks are made from; N images in the order of predictions.csv.

    Attributes:
        model: of the run, in eval mode.
        images: `(N, S, S)` uint8, as they are stored.
        predictions: what the run has said of them, from its folder.
        calibration: of its score.
        lungs: `(N, S, S)` or `(1, S, S)` bool.
        has_masks: whether `lungs` came from a folder of masks; a box otherwise.
        precision: in which the run scores.
        side: "pneumonia", "normal" or "predicted", what heat maps explain.
        margins: `(N,)` calibrated log odds of pneumonia at prevalence one half; >= 0 is called pneumonia.
        called: `(N,)` "pneumonia" or "normal", by the primary rule.
        sides: `(N,)` likewise, what the heat map of each image explains.
    """

    model: PneumoniaClassifier
    images: np.ndarray
    predictions: Predictions
    calibration: Calibration
    lungs: np.ndarray
    has_masks: bool
    precision: str
    side: str
    margins: np.ndarray = field(init=False)
    called: np.ndarray = field(init=False)
    sides: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        margins = self.calibration.log_odds(self.predictions.scores, 0.5)
        called = np.where(margins >= 0, "pneumonia", "normal")
        object.__setattr__(self, "margins", margins)
        object.__setattr__(self, "called", called)
        object.__setattr__(self, "sides", called if self.side == PREDICTED else np.full(len(called), self.side))

    def lungs_of(self, rows: np.ndarray) -> np.ndarray:
        """Where the lungs of some images are, `(len(rows), S, S)` or `(1, S, S)`."""
        return self.lungs if len(self.lungs) == 1 else self.lungs[rows]

    def scores_of(self, rows: ImageRows) -> np.ndarray:
        """`(M,)` two-class logit re-based to prevalence one half, of any images."""
        logits = predict_logits(self.model, rows, precision=self.precision)
        return np.asarray(
            two_class_logit(logits, self.predictions.labels.positive_mask) - self.predictions.prior_log_odds
        )

    def probs_of(self, rows: ImageRows) -> np.ndarray:
        """`(M,)` calibrated probability of pneumonia at prevalence one half, of any images."""
        return self.calibration.probs(self.scores_of(rows), 0.5)

    def check_scores(self, rows: np.ndarray) -> dict[str, Any]:
        """Score some images again and compare with what is stored.

        Args:
            rows: of the images, at least one.

        Returns:
            Plain values for checks.json: how many images, the largest difference in log odds, what is tolerated.

        Raises:
            ValueError: scores differ by more than rounding does, so that heat maps would explain another model.
        """
        found = self.scores_of(ImageRows(self.images[rows], self.predictions.targets[rows]))
        difference = float(np.abs(found - self.predictions.scores[rows]).max())
        tolerance = _TOLERANCES.get(self.precision, max(_TOLERANCES.values()))
        if not difference <= tolerance:  # also NaN
            raise ValueError(
                f"the checkpoint does not give the scores in predictions.csv: of {len(rows)} images scored again one "
                f"is off by {difference:.3g} log odds, more than {tolerance:g}. The weights or the code have changed "
                "since; score the split again (evaluate ... rescore=true) before it is explained"
            )
        return {"num_images": len(rows), "max_difference": difference, "tolerance": tolerance}


def open_subject(cfg: Mapping[str, Any], run: RunDir, console: Console) -> Subject:
    """Read model, images and predictions of a run.

    Args:
        cfg: of the command, checked.
        run: finished, with an evaluation of `cfg["split"]`.
        console: shows how images are decoded where they are not in the cache.

    Raises:
        FileNotFoundError, ValueError: the split was not evaluated, no class means pneumonia, or model, images or masks
            are not there or not those of the run.
    """
    split = cfg["split"]
    predictions = stored_predictions(run, split)
    calibration, _ = read_calibration(run)
    assert calibration is not None  # wherever a class means pneumonia
    run_cfg = run.read_config()
    model = load_model(run, run_cfg)
    if model.needs_batch:
        raise ValueError(
            f"run_dir={run.path} normalises by the statistics of the scored batch (model.bn_inference), so that a "
            "film's score depends on the films beside it; train with model.bn_inference=running to explain"
        )
    data = reopen_data(run, run_cfg, cfg["data"]["root"], cache_folder(cfg["cache_dir"]), console)
    place = {path: row for row, path in enumerate(data.records.texts("path"))}
    gone = [path for path in predictions.paths if path not in place]
    if gone:
        raise ValueError(
            f"{run.predictions_file(split)} names {len(gone)} images that the run's split.csv does not, the first "
            f"{gone[:2]}; score the split again: evaluate ... rescore=true"
        )
    images = np.asarray(data.store.images[np.array([place[path] for path in predictions.paths])])
    size = images.shape[1]
    if cfg["lung_masks"] is not None:
        lungs = read_masks(Path(cfg["lung_masks"]).expanduser(), [str(path) for path in predictions.paths], size)
    else:
        lungs = box_mask(cfg["lung_box"], size)[None]
    kind = "cpu" if model.device.type == "cpu" else "gpu"
    return Subject(
        model=model,
        images=images,
        predictions=predictions,
        calibration=calibration,
        lungs=lungs,
        has_masks=cfg["lung_masks"] is not None,
        precision=choose_precision(run_cfg["precision"], kind).scoring,
        side=cfg["side"],
    )


def stored_predictions(run: RunDir, split: str) -> Predictions:
    """What the run has said about a split.

    Raises:
        FileNotFoundError: it was not asked; on test that would be a look, which explaining is not.
        ValueError: no class means pneumonia.
    """
    if not (run.predictions_file(split).is_file() and run.evaluation_metrics_file(split).is_file()):
        look = "; on test that is a look, which only evaluate takes" if split == "test" else ""
        raise FileNotFoundError(
            f"split={split} was not evaluated in {run.path}, so there are no decisions to explain. First: "
            f"python -m pneumolit.evaluate run_dir={run.path} split={split}{look}"
        )
    predictions = run.read_predictions(split)
    if not predictions.labels.is_two_class_view:
        raise ValueError(
            f"no class of {list(predictions.labels.classes)} means pneumonia (data.positive is empty), so there is no "
            "two-class logit to explain"
        )
    return predictions
