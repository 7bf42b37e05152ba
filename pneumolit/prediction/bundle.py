"""The bundle: a folder that `export` writes and that scores without the run, its data or its code's history.

Weights are safetensors and everything else is JSON, so that nothing in it can run; weights are checked against the hash
that the JSON file names.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from pneumolit.data.reader import UNRECORDED_READER
from pneumolit.evaluation.calibration import Calibration
from pneumolit.evaluation.operating_point import OperatingPoint
from pneumolit.labels import LabelSet
from pneumolit.prediction.reference import load_reference, save_reference
from pneumolit.prediction.scorer import Scorer, ScoringModel, best_device
from pneumolit.run_checks import BUNDLE as BUNDLE_RECORD
from pneumolit.run_checks import check_links, check_record
from pneumolit.rundir import read_json, write_bytes, write_json

FORMAT, FORMAT_VERSION = "pneumolit bundle", 1
BUNDLE, REFERENCE, REFERENCE_ARRAYS = "bundle.json", "reference.json", "reference.safetensors"
_WEIGHTS = re.compile(r"model(_\d+)?\.safetensors")
_MOST_JSON = 20_000_000  # bytes


def write_bundle(scorer: Scorer, folder: Path, *, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write a bundle; its JSON file comes last and says that the rest is whole.

    Args:
        scorer: a run or an ensemble; also a bundle again.
        folder: it need not exist.
        facts: versions and the like.

    Returns:
        The content of bundle.json.
    """
    (folder / BUNDLE).unlink(missing_ok=True)
    models = []
    for number, one in enumerate(scorer.models, start=1):
        name = "model.safetensors" if not scorer.is_ensemble else f"model_{number:02d}.safetensors"
        # Contiguous copies: channels-last tensors are refused, and shared ones are written twice.
        state = {key: value.detach().cpu().contiguous().clone() for key, value in one.model.state_dict().items()}
        weights = save_tensors(state)
        write_bytes(folder / name, weights)
        models.append({"weights": name, "sha256": hashlib.sha256(weights).hexdigest(), **_model_record(one)})
    if scorer.reference is not None:
        save_reference(scorer.reference, folder / REFERENCE_ARRAYS, folder / REFERENCE, made_for=scorer.identity)
    _remove_earlier(folder, [str(model["weights"]) for model in models], with_reference=scorer.reference is not None)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": scorer.name,
        "identity": scorer.identity,
        "notice": "Research software, not a medical device.",
        **scorer.labels.to_dict(),
        "models": models,
        "combines": _COMBINES if scorer.is_ensemble else None,
        "calibration": None if scorer.calibration is None else scorer.calibration.to_dict(),
        "operating_points": [point.to_dict() for point in scorer.points],
        "validation_log_odds": None if scorer.validation is None else np.sort(scorer.validation).round(4).tolist(),
        "facts": {**scorer.facts, **facts},
    }
    write_json(folder / BUNDLE, content)
    return content


def _remove_earlier(folder: Path, weights: Sequence[str], *, with_reference: bool) -> None:
    """What a bundle that stood here before has left, and nobody names now."""
    gone = [] if with_reference else [folder / REFERENCE_ARRAYS, folder / REFERENCE]
    gone += [path for path in folder.iterdir() if _WEIGHTS.fullmatch(path.name) and path.name not in weights]
    for path in gone:
        path.unlink(missing_ok=True)


_COMBINES = "weighted mean of the models' calibrated log odds of pneumonia, each re-based to prevalence one half"


def _model_record(one: ScoringModel) -> dict[str, Any]:
    settings = json.loads(json.dumps(one.model.settings))  # plain, whatever tuples there are
    return {
        "settings": settings,
        "stored_side": one.stored_side,
        "reader": one.reader,
        "precision": one.precision,
        "weight": one.weight,
        "calibration": None if one.calibration is None else one.calibration.to_dict(),
        "preprocessing": [
            "8-bit gray, upright; DICOM windowed, MONOCHROME1 inverted; 16-bit scaled",
            f"squashed to {one.stored_side} x {one.stored_side} pixels, bilinear with antialiasing, rounded to 8 bits",
            "resized to {0} x {0}, bilinear with antialiasing, divided by 255".format(settings["image_size"]),
            f"minus {settings['mean']}, divided by {settings['std']}"
            + (", repeated in three channels" if settings["in_chans"] == 3 else ""),
        ],
    }


def open_bundle(folder: Path) -> Scorer:
    """Read a bundle.

    Raises:
        FileNotFoundError: a file of it is gone.
        ValueError: it is damaged, was changed, or is of another version.
    """
    check_links(folder)
    content = _read_record(folder)
    check_record(content, folder / BUNDLE, BUNDLE_RECORD)
    try:
        models = tuple(_open_model(folder, told) for told in content["models"])
        calibration = content["calibration"]
        scorer = Scorer(
            name=str(content["name"]),
            identity=str(content["identity"]),
            labels=LabelSet(tuple(content["classes"]), tuple(content["positive"])),
            models=models,
            calibration=None if calibration is None else Calibration.from_dict(calibration),
            points=tuple(OperatingPoint.from_dict(point) for point in content["operating_points"]),
            validation=_as_array(content["validation_log_odds"]),
            facts=dict(content["facts"]),
            is_ensemble=content.get("combines") is not None,
        )
    except (KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise ValueError(
            f"{folder / BUNDLE} is damaged: {type(error).__name__} {error}; export the run again"
        ) from error
    if not scorer.is_ensemble and (len(models) > 1 or content["models"][0]["calibration"] != calibration):
        raise ValueError(
            f"{folder / BUNDLE} does not say how its models are combined (ensembles of one model were once written "
            "so); export the ensemble again"
        )
    if scorer.is_ensemble and scorer.calibration is None:
        raise ValueError(f"{folder / BUNDLE} is damaged: an ensemble without a calibration; export the run again")
    if not sum(model.weight for model in models) > 0:  # their mean would be no number
        raise ValueError(f"{folder / BUNDLE} is damaged: no model has a weight; export the run again")
    return replace(
        scorer,
        reference=load_reference(folder / REFERENCE_ARRAYS, folder / REFERENCE, made_for=scorer.identity),
    )


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / BUNDLE
    if path.stat().st_size > _MOST_JSON:
        raise ValueError(f"{path} has {path.stat().st_size / 1e6:.0f} MB; a bundle's has less than one")
    try:
        content = read_json(path)
    except ValueError as error:  # no JSON, or no UTF-8
        raise ValueError(f"{path} is damaged: {error}; export the run again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is no bundle of pneumolit; python -m pneumolit.export run_dir=... writes one")
    if content.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {content.get('format_version')}, this pneumolit reads {FORMAT_VERSION}; "
            "export the run again with this version, or use the version that wrote it"
        )
    return content


def _open_model(folder: Path, told: Mapping[str, Any]) -> ScoringModel:
    from pneumolit.model.classifier import PneumoniaClassifier

    name = str(told["weights"])
    if Path(name).name != name or name.startswith("."):
        raise ValueError(f"{folder / BUNDLE} names weights outside of its folder: {name!r}; it was changed")
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is gone; the bundle is not whole, copy it again")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != told["sha256"]:
        raise ValueError(f"{path} is not the file that {BUNDLE} names: damaged, or exchanged; copy the bundle again")
    try:
        state = load_tensors(data)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}; copy the bundle again") from error
    model = PneumoniaClassifier(told["settings"])
    try:
        model.load_state_dict(state)
    except (RuntimeError, ValueError) as error:  # other names or shapes
        raise ValueError(
            f"{path} does not fit {told['settings'].get('backbone')}: {str(error).splitlines()[0]}"
        ) from error
    calibration, reader = told["calibration"], told.get("reader", UNRECORDED_READER)
    if type(reader) is not int:
        raise ValueError(f"{folder / BUNDLE} is damaged: reader is {reader!r}; export the run again")
    return ScoringModel(
        model=model.use_channels_last().eval().to(best_device()),
        stored_side=int(told["stored_side"]),
        precision=str(told["precision"]),
        calibration=None if calibration is None else Calibration.from_dict(calibration),
        weight=float(told["weight"]),
        reader=reader,
    )


def _as_array(values: Sequence[float] | None) -> np.ndarray | None:
    return None if values is None else np.array(values, dtype=np.float64)
