"""Run folders as training leaves them, written in milliseconds: scores are drawn, everything else follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pneumolit.evaluation.calibration import fit_calibration
from pneumolit.evaluation.operating_point import fit_operating_points
from pneumolit.evaluation.summary import summarise
from pneumolit.labels import LabelSet
from pneumolit.predictions import Predictions
from pneumolit.rundir import RunDir, write_json

CAUSES = LabelSet(("NORMAL", "BACTERIA", "VIRUS"), ("BACTERIA", "VIRUS"))
BINARY = LabelSet(("NORMAL", "PNEUMONIA"), ("PNEUMONIA",))
PLAIN = LabelSet(("A", "B"))  # no two-class view
SETS = {"val": 40, "test": 60}  # patients, two images each


def film_names(split: str, count: int) -> tuple[list[str], list[str], np.ndarray]:
    """Paths, patients and causes of two films of each patient: a third normal, the others bacterial or viral."""
    paths, patients, causes = [], [], []
    for patient in range(count):
        cause = ("", "bacteria", "virus")[patient % 3]
        for film in range(2):
            number = 1000 * (split == "val") + patient + 1
            name = f"person{number}_{cause}_{film}.jpeg" if cause else f"IM-{number:04d}-{film:04d}.jpeg"
            paths.append(f"{split}/{'PNEUMONIA' if cause else 'NORMAL'}/{name}")
            patients.append(f"{cause or 'IM'}-{number}")
            causes.append(cause)
    return paths, patients, np.array(causes, dtype=object)


def drawn(split: str, count: int, labels: LabelSet, noise: float, seed: int) -> Predictions:
    """Predictions that are right more often the less noise there is; patients of one set have the same difficulty."""
    paths, patients, causes = film_names(split, count)
    targets = np.array([("", "bacteria", "virus").index(cause) for cause in causes])
    if labels.num_classes == 2:
        targets = (targets > 0).astype(np.int64)
    rng, shared = np.random.default_rng(seed), np.random.default_rng(len(split))
    logits = noise * rng.normal(size=(len(paths), labels.num_classes))
    logits += np.repeat(shared.normal(size=(count, labels.num_classes)), 2, axis=0)
    logits[np.arange(len(paths)), targets] += 2.0
    return Predictions(
        labels, np.array(paths, dtype=object), np.array(patients, dtype=object), targets, logits, 0.3, causes
    )


def write_run(
    folder: Path,
    *,
    noise: float = 1.0,
    draw: int = 0,
    sets: Mapping[str, int] = SETS,
    labels: LabelSet = CAUSES,
    settings: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    choices: Mapping[str, Any] | None = None,
    policy: str = "none",
    state: str = "done",
    only: Sequence[int] | None = None,
) -> RunDir:
    """Write a run folder.

    Args:
        folder: of the run.
        noise: of its scores.
        draw: which draw of them.
        sets: evaluated set -> patients.
        labels: its classes.
        settings: keys of config.yaml, such as backbone and seed.
        data: keys of its group data.
        choices: of job.json.
        policy: what trains.
        state: of status.json.
        only: rows of its validation set that it has.
    """
    run = RunDir(folder)
    folder.mkdir(parents=True)
    group = {"source": "kaggle", "root": None, "manifest": None, "demo_seed": 0, "seed": 0, "folds": None, "fold": 0}
    group["store_size"] = 256
    cfg = {
        "backbone": "resnet18",
        "seed": 0,
        "stages": None,
        "precision": "auto",
        "callbacks": {"checkpoint": {"monitor": "val/auroc", "use": "last"}},
        **(settings or {}),
        "model": {"pretrained": True, "image_size": 128, **(settings or {}).get("model", {})},
        "data": {**group, **(data or {})},
    }
    run.config_file.write_text(yaml.safe_dump(cfg, sort_keys=False))
    run.write_status(state, seconds=100.0, training_seconds=90.0 + draw, epochs=3, checkpoint="last")
    write_json(
        run.environment_file,
        {
            "gpus": [],
            "processor": "CPU",
            "packages": {},
            "precision": {},
            "weights": {"name": f"{cfg['backbone']}.tv_in1k"},
        },
    )
    frozen = 0 if policy == "none" else 11_000_000
    stage = {"policy": policy, "settings": {"policy": policy}, "trainable_count": 180_000, "frozen_count": frozen}
    write_json(run.freeze_plan_file, {"stages": [stage]})
    run.append_metrics({"epoch": 1, "train/loss": 0.5, "val/auroc": 0.9})
    run.append_metrics({"epoch": 2, "train/loss": 0.25, "val/auroc": 0.8})
    counts = {name: dict.fromkeys(labels.classes, count) for name, count in {"train": 9, **SETS, **sets}.items()}
    prints = {name: name for name in counts}
    write_json(
        run.data_file,
        {**labels.to_dict(), "counts": counts, "prior_log_odds": 0.3, "store": "s", "fingerprints": prints},
    )
    if choices is not None:
        write_json(run.job_file, {"choices": dict(choices), "state": state})
    calibration, points = None, []
    for name in sorted(sets, key=lambda name: name != "val"):
        predictions = drawn(name, sets[name], labels, noise, 1000 * draw + len(name))
        if name == "val" and only is not None:
            predictions = predictions.take(np.array(only))
        if name == "val" and labels.is_two_class_view:
            calibration = fit_calibration(predictions.scores, predictions.positives)
            points = fit_operating_points(calibration.probs(predictions.scores, 0.5), predictions.positives)
            content = {"calibration": calibration.to_dict(), "operating_points": [p.to_dict() for p in points]}
            write_json(run.calibration_file, content)
        run.write_predictions(name, predictions)
        metrics = summarise(predictions, calibration, points, num_resamples=50) | {"name": name, "context": {}}
        if name == "test":
            metrics["context"] = {"look": f"look {draw + 1} of this test set, configuration {draw + 1}"}
        write_json(run.evaluation_metrics_file(name), metrics)
    return run
