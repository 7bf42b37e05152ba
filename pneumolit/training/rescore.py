"""Score a finished run again, or on another data set, from its folder alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console

from pneumolit.data.datamodule import rows_of
from pneumolit.data.dataset import ChestXrayData, find_copies, find_root, handle_unreadable, read_records
from pneumolit.data.records import ImageRecord, choose_labels
from pneumolit.data.store import open_store
from pneumolit.labels import NORMAL, PNEUMONIA, LabelSet
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.predictions import Predictions
from pneumolit.rundir import RunDir, read_json
from pneumolit.scoring import calibrate, predict_logits, predict_split, write_evaluation
from pneumolit.training.console import data_progress
from pneumolit.training.fit import cache_folder, note_look
from pneumolit.training.page import write_page
from pneumolit.training.precision import choose_precision


def score_own_split(cfg: Mapping[str, Any], run: RunDir, split: str, console: Console, *, title: str) -> dict[str, Any]:
    """Score a split of the data that the run was trained on; on test this is a look.

    Raises:
        FileNotFoundError, ValueError: the checkpoint or the images are gone, or other images lie there.
    """
    run_cfg = yaml.safe_load(run.config_file.read_text(encoding="utf-8"))
    model = load_model(run, run_cfg)
    data = reopen_data(run, run_cfg, cfg["data"]["root"], cache_folder(cfg["cache_dir"]), console)
    if not len(data.rows(split)):
        known = ", ".join(sorted({r.split for r in data.records}))
        raise ValueError(f"split={split}: this run's data have no such images (they have {known})")
    precision = choose_precision(run_cfg["precision"], "cpu" if model.device.type == "cpu" else "gpu").scoring
    if not run.calibration_file.is_file():  # the run was cut off after its last epoch
        calibrate(run, predict_split(model, data, rows_of(data, "val"), "val", precision=precision))
    predictions = predict_split(model, data, rows_of(data, split), split, precision=precision)
    context = {
        "run": run.path.name,
        "weights": f"{run_cfg['callbacks']['checkpoint']['use']} checkpoint",
        "scored in": precision,
    }
    if split == "test":
        # The look belongs to the ledger that the caller's folder holds, by the run's own configuration.
        context["look"] = note_look(
            {**run_cfg, "output_dir": cfg["output_dir"]}, run, data, purpose="evaluate split=test"
        )
    metrics = write_evaluation(run, split, predictions, title=title, context=context)
    write_page(run)
    return metrics


def score_other_set(cfg: Mapping[str, Any], run: RunDir, name: str, console: Console) -> dict[str, Any]:
    """Score another labelled set with the run's own preprocessing, calibration and thresholds.

    A set that tells only normal from pneumonia is scored by the two-class logit of a model with more classes.

    Raises:
        ValueError: the classes of the set and of the model have nothing to do with each other.
    """
    run_cfg = yaml.safe_load(run.config_file.read_text(encoding="utf-8"))
    settings = {**cfg["data"], "store_size": run_cfg["data"]["store_size"]}
    model = load_model(run, run_cfg)
    cache = cache_folder(cfg["cache_dir"])
    root, records = read_records(settings, cache)
    labels, records = choose_labels(records, settings["target"], settings["positive"])
    records = [replace(r, split="test") for r in records]
    with data_progress(console) as progress:
        store = open_store(
            root,
            [r.path for r in records],
            cache_dir=cache,
            store_size=settings["store_size"],
            progress=progress,
        )
    records = handle_unreadable(records, store, root, settings["on_bad_image"])
    data = ChestXrayData(tuple(records), store, labels, find_copies(records, store.hashes))
    rows = rows_of(data, "test")
    precision = choose_precision(run_cfg["precision"], "cpu" if model.device.type == "cpu" else "gpu").scoring
    logits = predict_logits(model, rows, precision=precision)
    chosen = [data.records[i] for i in data.rows("test")]
    predictions = _match_classes(logits, rows.targets, model, labels, chosen, data.is_copy[data.rows("test")])
    context = {"run": run.path.name, "data": f"{settings['source']} {root.name}", "scored in": precision}
    return write_evaluation(run, name, predictions, title=name, context=context)


def load_model(run: RunDir, run_cfg: Mapping[str, Any]) -> PneumoniaClassifier:
    """The checkpoint that the run is judged by, on the best device."""
    path = run.checkpoint(run_cfg["callbacks"]["checkpoint"]["use"])
    if not path.is_file():
        state = read_json(run.status_file)["state"]
        raise FileNotFoundError(f"{path} does not exist (the run is {state}); train it to the end first")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return PneumoniaClassifier.from_checkpoint(path).to(device)


def reopen_data(
    run: RunDir, run_cfg: Mapping[str, Any], root_now: str | None, cache: Path, console: Console
) -> ChestXrayData:
    """The run's data as split.csv lists them.

    Raises:
        ValueError: the images there are not those of the run.
    """
    described = read_json(run.data_file)
    root = Path(root_now).expanduser() if root_now else find_root(run_cfg["data"], cache)
    records = [
        ImageRecord(Path(row["path"]), row["label"], row["patient_id"], row["cause"], row["split"], row["series"])
        for row in run.read_split()
    ]
    with data_progress(console) as progress:
        store = open_store(
            root,
            [r.path for r in records],
            cache_dir=cache,
            store_size=run_cfg["data"]["store_size"],
            progress=progress,
        )
    if store.key != described["store"]:
        gone = [r.path.as_posix() for r in records if not (root / r.path).is_file()]
        why = f"{len(gone)} files are missing, the first {gone[:2]}" if gone else "their contents differ"
        raise ValueError(
            f"the images below {root} are not those that the run was trained on: {why}. "
            "Set data.root=FOLDER to where they lie now"
        )
    labels = LabelSet(tuple(described["classes"]), tuple(described["positive"]))
    return ChestXrayData(tuple(records), store, labels, find_copies(records, store.hashes))


def _match_classes(
    logits: np.ndarray,
    targets: np.ndarray,
    model: PneumoniaClassifier,
    labels: LabelSet,
    records: list[ImageRecord],
    is_copy: np.ndarray,
) -> Predictions:
    if labels.classes != model.labels.classes:
        if not (labels.is_two_class_view and model.labels.is_two_class_view):
            raise ValueError(
                f"the set has the classes {list(labels.classes)}, the model {list(model.labels.classes)}; they must be "
                "the same, or both must say which of them mean pneumonia (data.positive)"
            )
        mask = model.labels.positive_mask
        logits = np.stack([_logsumexp(logits[:, ~mask]), _logsumexp(logits[:, mask])], axis=1)
        targets = labels.positive_mask[targets].astype(np.int64)
        labels = LabelSet((NORMAL, PNEUMONIA), (PNEUMONIA,))
    return Predictions(
        labels=labels,
        paths=np.array([r.path.as_posix() for r in records], dtype=object),
        patient_ids=np.array([r.patient_id for r in records], dtype=object),
        targets=targets,
        logits=logits,
        prior_log_odds=float(model.settings["prior_log_odds"]),
        causes=np.array([r.cause for r in records], dtype=object),
        is_copy=is_copy,
    )


def _logsumexp(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.logaddexp.reduce(values, axis=1))
