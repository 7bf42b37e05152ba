"""A folder becomes what scores films: that of a run, of a bundle or of an ensemble."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from pneumolit.comparison.ensemble_folder import read_ensemble
from pneumolit.data.dataset import BLOCKS, ChestXrayData
from pneumolit.data.reader import UNRECORDED_READER
from pneumolit.data.store import cache_folder
from pneumolit.evaluation.calibration import Calibration
from pneumolit.evaluation.operating_point import OperatingPoint
from pneumolit.labels import LabelSet
from pneumolit.prediction.bundle import open_bundle
from pneumolit.prediction.reference import (
    MOST_CHECKED,
    MOST_FILMS,
    Reference,
    build_reference,
    load_reference,
    save_reference,
)
from pneumolit.prediction.scorer import Scorer, ScoringModel, is_bundle
from pneumolit.report.run_record import RunRecord
from pneumolit.rundir import RunDir, fingerprint, printable, read_json
from pneumolit.scoring import read_calibration
from pneumolit.training.precision import choose_precision
from pneumolit.training.rescore import load_model, reopen_data

# "Pediatric patients of one to five years old" (Kermany et al., Cell 172, 2018).
_AGES_OF_KAGGLE = (1.0, 5.0)


def open_scorer(path: Path | str) -> Scorer:
    """Whatever a folder holds that can score.

    Args:
        path: of a run, of a bundle that `export` wrote, or of an ensemble.

    Raises:
        FileNotFoundError: there is none, or a part of it is gone.
        ValueError: it is damaged, was not trained to the end, was trained anew since it became part of an ensemble, or
            scores a film by those beside it.
    """
    folder = Path(path).expanduser()
    if str(path) and is_bundle(folder):
        scorer = open_bundle(folder)
    else:
        run = RunDir.open(path, takes_ensembles=True)
        scorer = _open_ensemble(run) if run.ensemble_file.is_file() else _open_run(run)
    if any(one.model.needs_batch for one in scorer.models):
        raise ValueError(
            f"run_dir={path} normalises by the statistics of the scored batch (model.bn_inference), so that a film's "
            "score depends on the films beside it; train with model.bn_inference=running to predict"
        )
    return scorer


def _open_run(run: RunDir) -> Scorer:
    one, labels, points = _scoring_model(run)
    identity = _identity(run)
    return Scorer(
        name=run.path.absolute().name,
        identity=identity,
        labels=labels,
        models=(one,),
        calibration=one.calibration,
        points=tuple(points),
        validation=_validation(run, one.calibration),
        reference=load_reference(run.reference_arrays_file, run.reference_file, made_for=identity),
        facts=_facts(run),
    )


def _open_ensemble(run: RunDir) -> Scorer:
    ensemble = read_ensemble(run)
    models = []
    for member, weight in zip(ensemble.members, ensemble.weights, strict=True):
        one, _, _ = _scoring_model(member.run)
        models.append(replace(one, calibration=member.calibration, weight=float(weight)))
    # The first member's films stand for all: members of an ensemble share their data.
    first = ensemble.members[0].run
    own = _identity(first)
    return Scorer(
        name=run.path.absolute().name,
        identity=fingerprint(
            [run.calibration_file.read_text(), *(f"{_identity(m.run)} {w}" for m, w in _weighted(ensemble))]
        ),
        labels=ensemble.labels,
        models=tuple(models),
        calibration=ensemble.calibration,
        points=ensemble.points,
        validation=_validation(run, ensemble.calibration),
        reference=load_reference(first.reference_arrays_file, first.reference_file, made_for=own),
        facts={
            "ensemble": f"{ensemble.kind} of {len(models)} runs",
            "members": [{"run": m.run.path.name, "weight": w, **_facts(m.run)} for m, w in _weighted(ensemble)],
        },
        is_ensemble=True,
    )


def _weighted(ensemble: Any) -> list[tuple[Any, float]]:
    return [(m, float(w)) for m, w in zip(ensemble.members, ensemble.weights, strict=True)]


def _scoring_model(run: RunDir) -> tuple[ScoringModel, LabelSet, Sequence[OperatingPoint]]:
    run_cfg = run.read_config()
    model = load_model(run, run_cfg)
    if not run.calibration_file.is_file():
        raise FileNotFoundError(
            f"{run.path} has no calibration, since it was cut off after its last epoch; first: "
            f"python -m pneumolit.evaluate run_dir={run.path} split=val"
        )
    calibration, points = read_calibration(run)
    kind = "cpu" if model.device.type == "cpu" else "gpu"
    precision = choose_precision(run_cfg["precision"], kind).scoring
    reader = read_json(run.data_file).get("reader", UNRECORDED_READER)
    if type(reader) is not int:
        raise ValueError(f"{run.data_file} is damaged: reader is {reader!r}; put it back as it was written")
    return ScoringModel(model, stored_side(run), precision, calibration, reader=reader), model.labels, points


def stored_side(run: RunDir) -> int:
    """Side in pixels at which the run's films were stored."""
    described = read_json(run.data_file)
    if "stored_side" not in described:
        raise ValueError(f"{run.data_file} does not say at what side films were stored; train the run again")
    return int(described["stored_side"])


def _identity(run: RunDir) -> str:
    """Hash of weights and calibration."""
    run_cfg = run.read_config()
    digest = hashlib.sha256(run.checkpoint(run_cfg["callbacks"]["checkpoint"]["use"]).read_bytes())
    digest.update(run.calibration_file.read_bytes())
    return digest.hexdigest()[:16]


def _validation(run: RunDir, calibration: Calibration | None) -> np.ndarray | None:
    if calibration is None or not run.predictions_file("val").is_file():
        return None
    return calibration.log_odds(run.read_predictions("val").scores, 0.5)


def _facts(run: RunDir) -> dict[str, Any]:
    status = read_json(run.status_file)
    cfg = run.read_config()
    return {
        "backbone": cfg["backbone"],
        "image_size": cfg["model"]["image_size"],
        "configuration": status.get("configuration"),
        "trained": status.get("time"),
    }


def with_reference(scorer: Scorer, place: Path, cfg: Mapping[str, Any], console: Console) -> tuple[Scorer, str]:
    """A scorer that knows what ordinary films look like, made now where nobody has; else why not.

    Args:
        scorer: from `place`.
        place: folder of the run, the bundle or the ensemble.
        cfg: of the command: `data.root` where the run's films lie now, and `cache_dir`.
        console: for a bar.

    Returns:
        (the scorer, ""), or (the scorer as it was, why it knows nothing).

    Raises:
        FileNotFoundError, ValueError: `data.root` was given, and the run's films are not there, or nobody needs them.
    """
    if cfg["data"]["root"] is not None and (scorer.reference is not None or is_bundle(place)):
        why = "a bundle needs no films" if is_bundle(place) else "its films were looked at already"
        raise ValueError(f"data.root has no effect on run_dir={place}: {why}; leave it out")
    if scorer.reference is not None:
        return scorer, ""
    if is_bundle(place):
        return scorer, "the bundle was exported where training films were not found"
    run = RunDir(place)
    if run.ensemble_file.is_file():
        run = RunDir((run.path / read_json(run.ensemble_file)["members"][0]["run_dir"]).resolve())
    try:
        reference = make_reference(
            run, scorer, data_root=cfg["data"]["root"], cache_dir=cfg["cache_dir"], console=console
        )
    except (OSError, ValueError) as error:
        if cfg["data"]["root"] is not None:
            raise
        return scorer, f"training films were not found: {error}"
    try:
        keep_reference(run, reference)
    except OSError as error:  # a run on a read-only disk
        text = f"what the run's films look like cannot be kept ({error}), so that they are looked at again every time"
        console.print(f"  {printable(text)}", highlight=False, markup=False, soft_wrap=True)
    return replace(scorer, reference=reference), ""


def make_reference(
    run: RunDir, scorer: Scorer, *, data_root: str | None, cache_dir: str | None, console: Console
) -> Reference:
    """Look at training and validation films of a run.

    Args:
        run: of the scorer; of an ensemble its first member.
        scorer: whose first model's features are used.
        data_root: where the run's films lie now; None where they lay.
        cache_dir: of the stored films.
        console: for a bar.

    Raises:
        FileNotFoundError, ValueError: the films are not there, or not those of the run, or too few.
    """
    run_cfg = run.read_config()
    data = reopen_data(run, run_cfg, data_root, cache_folder(cache_dir), console)
    train, val, other, counted_on = _chosen_films(data)
    if len(val) < 2 or len(other) < 1:
        raise ValueError(f"the run in {run.path} has too few validation films to say what is usual")
    with console.status(f"looking at {len(train) + len(val) + len(other)} of the run's films, once"):
        ages = _AGES_OF_KAGGLE if RunRecord.read(run).is_kaggle else None  # other sets can lie in the same folders
        return build_reference(scorer.models[0], train, val, other, counted_on=counted_on, ages=ages)


def keep_reference(run: RunDir, reference: Reference) -> None:
    """Write it beside the run, for other times and other machines."""
    save_reference(reference, run.reference_arrays_file, run.reference_file, made_for=_identity(run))


def _chosen_films(data: ChestXrayData) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    rng = np.random.default_rng(0)

    def draw(rows: np.ndarray, most: int) -> np.ndarray:
        chosen = np.sort(rng.permutation(rows)[:most])
        return np.asarray(data.store.images[chosen])

    train, val = data.rows("train"), data.rows("val")
    block = np.concatenate([data.rows(name) for name in BLOCKS])
    if len(block):
        return draw(train, MOST_FILMS), draw(val, MOST_CHECKED), draw(block, MOST_CHECKED), "block validation"
    patients = np.array(list(data.records.select(val).texts("patient_id")))
    half = np.isin(patients, rng.permutation(np.unique(patients))[::2])
    words = "validation films that set no threshold"
    return draw(train, MOST_FILMS), draw(val[half], MOST_CHECKED), draw(val[~half], MOST_CHECKED), words
