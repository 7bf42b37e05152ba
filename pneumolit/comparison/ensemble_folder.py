"""The folder of an ensemble: like a run's, made from what its members have written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from pneumolit.comparison.ensemble import COMBINES, GREEDY, OUT_OF_FOLD, OWN, SINGLE_FOLDS, Ensemble, read_member
from pneumolit.comparison.method import read_calibration
from pneumolit.evaluation.summary import summarise
from pneumolit.predictions import Predictions
from pneumolit.report.ensemble import write_ensemble_page
from pneumolit.report.evaluation import CALIBRATED_APART, TITLES, evaluation_report
from pneumolit.report.figures import draw_evaluation
from pneumolit.rundir import (
    DONE,
    RunDir,
    fingerprint,
    read_json,
    read_looks,
    record_look,
    write_json,
    write_text,
    write_yaml,
)

FORMAT_VERSION = 1


def save_ensemble(ensemble: Ensemble, run: RunDir) -> list[str]:
    """Write the folder: ensemble.json, what a run folder has too, and every set that all members were scored on.

    Args:
        ensemble: to write.
        run: its folder; one that holds the same ensemble is written anew.

    Returns:
        Names of the evaluated sets.

    Raises:
        ValueError: the folder holds something else.
    """
    content = describe(ensemble, run)
    if run.path.exists() and any(run.path.iterdir()):
        same = run.ensemble_file.is_file() and _identity(read_json(run.ensemble_file)) == _identity(content)
        if not same:
            raise ValueError(f"save: {run.path} holds something else already; choose another name, or remove it")
    run.path.mkdir(parents=True, exist_ok=True)
    write_json(run.ensemble_file, content)
    settings = {"ensemble": ensemble.kind, "members": [member["run_dir"] for member in content["members"]]}
    write_yaml(run.config_file, settings)
    write_json(run.data_file, _data(ensemble))
    write_json(
        run.calibration_file,
        {
            "calibration": ensemble.calibration.to_dict(),
            "operating_points": [point.to_dict() for point in ensemble.points],
            "num_images": len(ensemble.val) if ensemble.val is not None else 0,
            "fitted_on": {OWN: "nothing: every member is calibrated on its own validation images"}.get(
                ensemble.validation, "val"
            ),
        },
    )
    names = _evaluate(ensemble, run)
    run.write_status(DONE, configuration=_configuration(ensemble), checkpoint="of its members")
    write_ensemble_page(run)
    return names


def read_ensemble(run: RunDir) -> Ensemble:
    """An ensemble as it was saved, its members as they were then; what it says of validation is not read.

    Raises:
        FileNotFoundError: a member is gone.
        ValueError: a member was trained or calibrated anew since.
    """
    content, members = read_json(run.ensemble_file), []
    for told in content["members"]:
        own = RunDir((run.path / told["run_dir"]).resolve())
        if not own.config_file.is_file() or not own.data_file.is_file():
            raise FileNotFoundError(
                f"{run.path}: its member {told['name']} is not in {own.path} any more; put it back, or make "
                "the ensemble again from the runs that are there"
            )
        own.check_records()
        calibration = read_calibration(own)[0]
        if calibration is None or calibration.to_dict() != told["calibration"]:
            raise ValueError(
                f"{run.path}: its member {told['name']} was trained or calibrated anew since the ensemble was made; "
                "make it again: python -m pneumolit.compare runs=[...] ensemble=... save=NAME"
            )
        members.append(read_member(own, told["name"]))
    calibration, points = read_calibration(run)
    assert calibration is not None
    return Ensemble(
        kind=content["ensemble"],
        members=tuple(members),
        weights=np.array([told["weight"] for told in content["members"]]),
        validation=content["validation"],
        calibration=calibration,
        points=tuple(points),
        val=None,
        record=content.get("selection", {}),
    )


def describe(ensemble: Ensemble, run: RunDir) -> dict[str, Any]:
    """Content of ensemble.json; paths are relative to the folder of the ensemble."""
    members = [
        {
            "run_dir": Path(os.path.relpath(member.run.path.resolve(), run.path.resolve())).as_posix(),
            "name": member.name,
            "weight": float(weight),
            "configuration": member.configuration,
            "calibration": member.calibration.to_dict(),
        }
        for member, weight in zip(ensemble.members, ensemble.weights, strict=True)
    ]
    return {
        "format_version": FORMAT_VERSION,
        "ensemble": ensemble.kind,
        "combines": COMBINES,
        "validation": ensemble.validation,
        **ensemble.labels.to_dict(),
        "members": members,
        **({"selection": dict(ensemble.record)} if ensemble.record else {}),
    }


def _identity(content: dict[str, Any]) -> list[Any]:
    return [content.get("ensemble"), [(m["run_dir"], m["weight"]) for m in content.get("members", [])]]


def _data(ensemble: Ensemble) -> dict[str, Any]:
    """data.json, with what the members' data have in common."""
    found = [read_json(member.run.data_file) for member in ensemble.members]
    prints = [data.get("fingerprints", {}) for data in found]
    same = {key: value for key, value in prints[0].items() if all(p.get(key) == value for p in prints)}
    counts = {key: found[0]["counts"][key] for key in same if key in found[0].get("counts", {})}
    stores = {data.get("store") for data in found}
    return {
        **ensemble.labels.to_dict(),
        "prior_log_odds": 0.0,  # the members' scores are re-based already
        "counts": counts,
        "fingerprints": same,
        **({"store": stores.pop()} if len(stores) == 1 else {}),
    }


def _configuration(ensemble: Ensemble) -> str:
    """Hash of what was decided: the kind, the members' configurations, their weights."""
    pairs = zip(ensemble.members, ensemble.weights, strict=True)
    return fingerprint([ensemble.kind, *(f"{member.configuration} {float(weight)}" for member, weight in pairs)])[:12]


def note_look(ensemble: Ensemble, run: RunDir, name: str) -> dict[str, str]:
    """Enter an ensemble's numbers of a test split into the ledger of its members' looks, once for each ensemble.

    Args:
        ensemble: that is evaluated.
        run: its folder.
        name: of the set.

    Returns:
        `{"look": ...}` for the context of the evaluation; empty where the set holds no test images.
    """
    told = _told(ensemble, name)
    if name != "test" and not any("look" in one for one in told):
        return {}
    member = ensemble.members[0].run
    prints = read_json(member.data_file).get("fingerprints", {})
    test_set = str(prints.get("test", ""))  # of which another set with a look holds a part at least
    folder, configuration = member.ledger_folder(run.path.absolute().parent.parent), _configuration(ensemble)
    looks = [look for look in read_looks(folder) if look["test_set"] == test_set]
    # Its folder is written as seen from wherever a command was started.
    purpose = f"ensemble {run.path.name}" + ("" if name == "test" else f" on {name}")
    own = [i for i, one in enumerate(looks) if one["configuration"] == configuration and one["purpose"] == purpose]
    if own:
        place = [*dict.fromkeys(look["configuration"] for look in looks)].index(configuration)
        look, number = own[0] + 1, place + 1
    else:
        look, number = record_look(
            folder,
            run=run.path.as_posix(),
            configuration=configuration,
            test_set=test_set,
            purpose=purpose,
        )
    return {"look": f"look {look} of this test set, configuration {number}"}


def _evaluate(ensemble: Ensemble, run: RunDir) -> list[str]:
    folders = [set(_scored(member.run)) for member in ensemble.members]
    names = [name for name in _scored(ensemble.members[0].run) if all(name in found for found in folders)]
    written = []
    for name in names:
        if name == "val":
            predictions = ensemble.val
        else:
            try:
                predictions = ensemble.combine(name)
            except ValueError:  # other images under the same name
                continue
        if predictions is not None:
            _write_evaluation(ensemble, run, name, predictions)
            written.append(name)
    return written


def _write_evaluation(ensemble: Ensemble, run: RunDir, name: str, predictions: Predictions) -> None:
    """Predictions, numbers, pictures and report of one set, as for a run."""
    # Noted before it is seen: a kill must not hide it.
    context = combined_context(ensemble, run, name) | note_look(ensemble, run, name)
    run.write_predictions(name, predictions)
    with run.predictions_file(name).open(newline="", encoding="utf-8", errors="surrogateescape") as handle:
        text = handle.read()
    # Numbers come from the file, so that drawing again from it gives every digit again.
    written = Predictions.from_csv(text, predictions.labels.positive, 0.0)
    metrics = summarise(written, ensemble.calibration, list(ensemble.points), views=ensemble.views)
    metrics |= {"name": name, "context": context}
    folder = run.evaluation_folder(name)
    draw_evaluation(written, metrics, ensemble.calibration, folder)
    title = TITLES.get(name, name)
    write_text(run.evaluation_report_file(name), evaluation_report(metrics, title=title, context=context))
    write_json(run.evaluation_metrics_file(name), metrics)


def combined_context(ensemble: Ensemble, run: RunDir, name: str) -> dict[str, str]:
    """What stands above the numbers of a set: that they were made from those of the members."""
    context = {
        "run": run.path.name,
        "ensemble": f"{ensemble.kind} of {len(ensemble.members)} runs",
        "made from": "the predictions that its members have written",
    }
    if name == "val" and ensemble.validation == OUT_OF_FOLD:
        context["out of fold"] = "every image is scored by the members that have not seen it, not by all"
    if name == "val" and ensemble.kind == GREEDY:
        context["chosen"] = "members and weights were chosen by these very images, so that the numbers are too good"
    if ensemble.validation == OUT_OF_FOLD:
        context["calibration"] = f"calibration and thresholds are {SINGLE_FOLDS}"
    elif ensemble.validation == OWN:
        context["calibration"] = CALIBRATED_APART
    images = [one.get("images") for one in _told(ensemble, name)]
    if len(set(images)) == 1 and images[0] is not None:
        context["images"] = images[0]
    return context


def _told(ensemble: Ensemble, name: str) -> list[dict[str, Any]]:
    """The context of each member's evaluation of a set."""
    files = [member.run.evaluation_metrics_file(name) for member in ensemble.members]
    return [read_json(file).get("context", {}) for file in files if file.is_file()]


def _scored(run: RunDir) -> list[str]:
    return sorted(path.parent.name for path in run.path.glob("evaluation/*/predictions.csv"))
