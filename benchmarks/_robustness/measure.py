"""What a run or a saved ensemble says of distorted films."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks._common.arguments import require
from benchmarks._robustness.distortions import distorted, names_of
from pneumolit.evaluation.calibration import Calibration
from pneumolit.rundir import RunDir

NUMBERS = ("auroc", "argmax_sensitivity", "argmax_specificity", "primary_sensitivity", "primary_specificity")
Found = dict[str, dict[str, float]]


class Heard:
    """What one model said of a split, as it is and under every distortion.

    Attributes:
        rows: `(N,)` places of the films in the store.
        positives: `(N,)` bool, whether a film shows pneumonia.
        scores: by distortion, `(N,)` two-class logits re-based to prevalence one half, not calibrated.
        calls: by distortion, `(N,)` bool, whether the largest logit is one of pneumonia.
    """

    def __init__(self, rows: np.ndarray, positives: np.ndarray) -> None:
        self.rows, self.positives = rows, positives
        self.scores: dict[str, np.ndarray] = {}
        self.calls: dict[str, np.ndarray] = {}


def measure(run: RunDir, split: str, kind: str, root: Path | None, cache: Path | None) -> Found:
    """Numbers under every distortion.

    Args:
        run: folder of a run or of a saved ensemble, whose members score every film anew.
        split: `block` or `val`.
        kind: `stress` or `curves`.
        root: where the run's images lie now, if they moved.
        cache: folder of decoded images; None: as for every command.
    """
    from pneumolit.comparison.ensemble_folder import read_ensemble
    from pneumolit.scoring import read_calibration

    if not run.ensemble_file.is_file():
        calibration, _ = read_calibration(run)
        assert isinstance(calibration, Calibration)
        heard = _hear(run, split, kind, root, cache)
        return {
            name: numbers_of(heard.positives, scores, heard.calls[name], calibration)
            for name, scores in heard.scores.items()
        }
    ensemble = read_ensemble(run)
    parts = [_hear(member.run, split, kind, root, cache) for member in ensemble.members]
    require(
        all(np.array_equal(parts[0].rows, part.rows) for part in parts),
        f"{run.path}: its members have no {split} images in common; choose split=block",
    )
    log_odds: Mapping[str, np.ndarray] = {
        name: np.column_stack(
            [m.calibration.log_odds(part.scores[name], 0.5) for m, part in zip(ensemble.members, parts, strict=True)]
        )
        @ ensemble.weights
        for name in parts[0].scores
    }
    return {
        name: numbers_of(parts[0].positives, scores, scores > 0, ensemble.calibration)
        for name, scores in log_odds.items()
    }


def _hear(run: RunDir, split: str, kind: str, root: Path | None, cache: Path | None) -> Heard:
    from rich.console import Console

    from pneumolit.data.datamodule import ImageRows
    from pneumolit.data.store import cache_folder
    from pneumolit.labels import two_class_logit
    from pneumolit.scoring import predict_logits
    from pneumolit.training.rescore import load_model, reopen_data

    cfg = run.read_config()
    model = load_model(run, cfg)
    place = cache_folder(None if cache is None else str(cache))
    data = reopen_data(run, cfg, None if root is None else str(root), place, Console(stderr=True))
    rows = data.rows(split)
    require(len(rows) > 0, f"{run.path}: the run has no split {split}; set one aside with data.holdout_fraction=0.1")
    require(data.labels.is_two_class_view, f"{run.path}: no class of this run means pneumonia")
    films, targets = np.asarray(data.store.images[rows]), data.targets(rows)
    is_positive = np.array(data.labels.positive_mask)
    heard = Heard(np.asarray(rows), is_positive[targets])
    for name in names_of(kind):
        logits = predict_logits(model, ImageRows(distorted(films, name, rows), targets))
        heard.scores[name] = two_class_logit(logits, is_positive) - float(model.settings["prior_log_odds"])
        heard.calls[name] = is_positive[logits.argmax(axis=1)]
    return heard


def numbers_of(
    positives: np.ndarray, scores: np.ndarray, largest: np.ndarray, calibration: Calibration
) -> dict[str, float]:
    """AUROC, and sensitivity and specificity by the largest logit and by the primary rule.

    Args:
        positives: `(N,)` bool, the truth.
        scores: `(N,)` two-class logits at prevalence one half.
        largest: `(N,)` bool, what the largest logit says.
        calibration: of the scores.
    """
    from pneumolit.evaluation.metrics import auroc

    numbers = {"auroc": float(auroc(positives.astype(np.int64), scores))}
    for rule, called in {"argmax": largest, "primary": calibration.probs(scores, 0.5) >= 0.5}.items():
        numbers[f"{rule}_sensitivity"] = float(called[positives].mean())
        numbers[f"{rule}_specificity"] = float(1 - called[~positives].mean())
    return numbers
