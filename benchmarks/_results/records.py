"""What is kept of a finished run: its configuration, where it ran, its numbers, and what it said about every film.

    docs/results/runs/<study>/<row>/<seed>/config.yaml  metrics.json  environment.json  predictions.csv

Films are named by their file, patients and classes follow from the names, so that a record is under 60 kB. Paths of
the machine stay out. Nothing is computed here that `metrics.json` of the run does not hold.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from benchmarks._results import ensembles
from pneumolit.comparison.method import read_calibration
from pneumolit.config import CONFIG_DIR, configuration_hash, filled
from pneumolit.data.records import parse_name
from pneumolit.rundir import DONE, LEDGER_NAME, RunDir, read_json, read_looks, read_yaml

LIMIT = 60_000  # bytes of a record
SETS = ("val", "block", "test")
RULES = ("argmax", "half", "primary")
_NUMBERS = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv", "f1")
_KEPT_PREDICTIONS = ("block", "test")
# Of a configuration: where things lie on one machine, and what only shows.
_LEFT_OUT = ("data.root", "output_dir", "cache_dir", "run_dir", "resume", "trainer.progress_bar", "logger", "report")
# Overrides of a job that are no part of its row.
_NO_CHOICE = ("experiment", "seed", "test", "sweep", "hydra", "trainer.progress_bar", "data.root", "logger")
_OF_THE_COMMAND = ("resume", "run_dir", "sweep")  # of what is composed, but not of a run
_BY_PATIENTS, _BY_IMAGE = "data.patient_key=full", "data.patient_key=image"  # the latter is what its recipes say


@dataclass(frozen=True)
class Scored:
    """What a run said about the films of one set.

    Attributes:
        films: `(N,)` file names without their ending, ascending.
        patient_ids: `(N,)` who was imaged.
        positives: `(N,)` 0/1, 1 is pneumonia.
        calls: `(N,)` 0/1, 1 where the class with the largest logit means pneumonia.
        correct: `(N,)` bool, where that class is the film's own.
        primary: `(N,)` 0/1, 1 where the primary decision rule says pneumonia.
        scores: `(N,)` two-class logit, re-based, three decimals.
    """

    films: np.ndarray
    patient_ids: np.ndarray
    positives: np.ndarray
    calls: np.ndarray
    correct: np.ndarray
    primary: np.ndarray
    scores: np.ndarray

    def decided(self, rule: str) -> np.ndarray:
        """`(N,)` 0/1, what `argmax` or `primary` says."""
        return {"argmax": self.calls, "primary": self.primary}[rule]

    def of(self, films: np.ndarray) -> Scored:
        """The same of some of the films, which are in ascending order."""
        kept = np.isin(self.films, films)
        return Scored(*(getattr(self, field.name)[kept] for field in fields(self)))


@dataclass(frozen=True)
class Record:
    """A finished run.

    Attributes:
        row: the recipe, `study_a/two_layer_cnn`.
        seed: of the run.
        config: the task configuration, dotted keys nested.
        metrics: `command`, `classes`, `epochs`, `seconds`, `threads`, `looks`, `sets`.
        scored: by set, `block` and `test` where they were scored.
    """

    row: str
    seed: int
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    scored: Mapping[str, Scored]


def row_of(overrides: list[str]) -> str:
    """The row that a job belongs to, from its overrides.

    >>> row_of(["experiment=study_d/dropout_2", "seed=1", "data.patient_key=full", "sweep=results", "sweep.name=all"])
    'study_d/by_patients/dropout_2'

    Raises:
        ValueError: it is no named experiment, or something else was changed. What a sweep decides beside its grid is
            not seen here, but by `is_recipe_now`.
    """
    given = dict(override.lstrip("+").partition("=")[::2] for override in overrides)
    others = [f"{k}={v}" for k, v in given.items() if not k.startswith(_NO_CHOICE)]
    row = given.get("experiment", "")
    if row.startswith("study_d/") and _BY_IMAGE in others:
        others.remove(_BY_IMAGE)
    if row.startswith("study_d/") and _BY_PATIENTS in others:
        others.remove(_BY_PATIENTS)
        row = row.replace("study_d/", "study_d/by_patients/")
    if not row or others:
        raise ValueError(f"a record belongs to a named experiment and nothing else, got {' '.join(overrides)}")
    return row


def command_of(row: str, seed: int) -> str:
    """What makes the run again."""
    return f"python -m pneumolit.train experiment={row} test=true seed={seed}"


def recipe_hash(*choices: str) -> str:
    """Hash of what overrides such as `experiment=best` decide now, seed and places aside, as a run has it."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from pneumolit.composition import compose_choices, register_resolvers
    from pneumolit.stage_plan import expand_stages

    def load_option(group: str, option: str) -> dict[str, Any]:  # that of a running command asks which one runs
        content = OmegaConf.to_container(compose("train", overrides=[f"{group}={option}"])[group], resolve=True)
        assert isinstance(content, dict)
        return {str(key): value for key, value in content.items()}

    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        content, _ = compose_choices(list(choices), "train")
        run = {key: value for key, value in content.items() if key not in _OF_THE_COMMAND}
        return configuration_hash(expand_stages(run, load_option))


def is_recipe_now(row: str, run: RunDir) -> bool:
    """Whether a run was made by its recipe as it stands."""
    return configuration_hash(filled(read_yaml(run.config_file))) == recipe_hash(f"experiment={row}")


def find_finished(folder: Path) -> Iterator[RunDir]:
    """Finished jobs in the folder of a sweep, ensembles in the folder of ensembles."""
    for path in sorted(folder.iterdir()):
        run = RunDir(path)
        is_meant = run.job_file.is_file() or run.ensemble_file.is_file()
        if is_meant and run.status_file.is_file() and read_json(run.status_file)["state"] == DONE:
            yield run


def row_of_run(run: RunDir) -> str:
    """The row that a finished job is a run of.

    Raises:
        ValueError: it is no run of a named experiment, or no ensemble of a named sweep, as that stands now.
    """
    if run.ensemble_file.is_file():
        return ensembles.row_of_ensemble(run, recipe_hash)
    row = row_of(read_json(run.job_file)["overrides"])
    if not is_recipe_now(row, run):
        raise ValueError(f"experiment={row} is another recipe by now; run it again")
    return row


def seed_of(run: RunDir) -> int:
    """Seed of a run, of an ensemble that of its members."""
    return int(read_yaml(ensembles.members_of(run)[0].config_file)["seed"])


def write_record(row: str, run: RunDir, folder: Path) -> Path:
    """Write the record of a finished run below `folder`/<row>/<seed>.

    Returns:
        The record's folder.

    Raises:
        ValueError: it is larger than `LIMIT`.
    """
    members = ensembles.members_of(run)  # of a single run itself
    config, seed = read_yaml(members[0].config_file), seed_of(run)
    environment = read_json(members[0].environment_file)
    own, statuses = read_json(run.status_file), [read_json(member.status_file) for member in members]
    is_ensemble = run.ensemble_file.is_file()
    sets = {name: _numbers(run, name) for name in SETS if run.evaluation_metrics_file(name).is_file()}
    metrics = {
        "row": row,
        "command": ensembles.command_of_ensemble(row, seed) if is_ensemble else command_of(row, seed),
        "configuration": own["configuration"],
        "code": statuses[0]["code"],
        "classes": read_json(members[0].data_file)["classes"],
        "epochs": statuses[0]["epochs"],
        "checkpoint": own["checkpoint"],
        **({"members": len(members)} if is_ensemble else {}),
        "seconds": sum(_seconds(member, status) for member, status in zip(members, statuses, strict=True)),
        "threads": environment["threads"],
        "looks": [look for one in ([run, *members] if is_ensemble else members) for look in _looks(one)],
        "sets": sets,
    }
    kept = {
        "config.yaml": yaml.safe_dump(_without(config, _LEFT_OUT), sort_keys=False, width=120),
        "environment.json": json.dumps(environment, indent=1) + "\n",
        "metrics.json": json.dumps(metrics, indent=1) + "\n",
        "predictions.csv": "".join(_prediction_lines(run)),
    }
    size = sum(len(text.encode()) for text in kept.values())
    if size > LIMIT:
        raise ValueError(f"the record of {row}, seed {seed} has {size} bytes, {LIMIT} are allowed")
    place = record_folder(folder, row, seed)
    place.mkdir(parents=True, exist_ok=True)
    for name, text in kept.items():
        (place / name).write_text(text, encoding="utf-8")
    return place


def record_folder(folder: Path, row: str, seed: int) -> Path:
    """Where a record lies."""
    return folder / row / str(seed)


def read_records(folder: Path) -> list[Record]:
    """All records below a folder, by row and seed."""
    return [read_record(path.parent) for path in sorted(folder.rglob("metrics.json"))]


def read_record(place: Path) -> Record:
    """One record."""
    config, metrics = read_yaml(place / "config.yaml"), read_json(place / "metrics.json")
    return Record(
        row=metrics["row"],
        seed=int(config["seed"]),
        config=config,
        metrics=metrics,
        scored=_read_predictions(place / "predictions.csv"),
    )


def halted_seconds(epochs: Sequence[float], stages: Sequence[float] | None = None) -> float:
    """Seconds that a run stood still: of epochs that took over twice the median of their stage, what is beyond it.

    Args:
        epochs: seconds of each.
        stages: of each; None where there is one.
    """
    times, found = np.array(epochs), 0.0
    own = np.zeros(len(times)) if stages is None else np.array(stages)
    for stage in np.unique(own):
        part = times[own == stage]
        found += float((part - np.median(part))[part > 2 * np.median(part)].sum())
    return found


def _seconds(run: RunDir, status: Mapping[str, Any]) -> int:
    rows = [row for row in run.read_metrics() if "seconds" in row]
    stages = [row.get("stage", 0.0) for row in rows]
    return round(float(status["seconds"]) - halted_seconds([row["seconds"] for row in rows], stages))


def _numbers(run: RunDir, name: str) -> dict[str, Any]:
    found = read_json(run.evaluation_metrics_file(name))
    intervals = found["intervals"]
    kept: dict[str, Any] = {"images": found["num_images"], "patients": found["num_patients"]}
    if found.get("ranking"):
        kept["auroc"] = [found["ranking"]["auroc"], *intervals["ranking"]["auroc"]]
        kept["brier"], kept["ece"] = found["probability"]["brier"], found["probability"]["ece"]
        kept["rules"] = {
            rule: _with_intervals(found["rules"][rule], intervals["rules"][rule])
            for rule in RULES
            if rule in found["rules"]
        }
    view = found["class_view"]
    kept["class_view"] = {
        "accuracy": [view["accuracy"], *intervals["class_view"]["accuracy"]],
        "macro_recall": view["macro"]["recall"],
        "macro_f1": view["macro"]["f1"],
        "confusion": view["confusion"],
    }
    return dict(_rounded(kept))


def _with_intervals(numbers: Mapping[str, Any], intervals: Mapping[str, Any]) -> dict[str, Any]:
    return {key: [numbers[key], *(intervals.get(key) or (None, None))] for key in _NUMBERS}


def _looks(run: RunDir) -> list[dict[str, str]]:
    """Lines of the ledger that are this run's, without the machine's path."""
    for folder in run.path.resolve().parents:
        if (folder / LEDGER_NAME).is_file():
            own = [look for look in read_looks(folder) if PurePosixPath(look["run"]).name == run.path.name]
            return [{key: look[key] for key in ("time", "test_set", "purpose")} for look in own]
    return []


def _prediction_lines(run: RunDir) -> Iterator[str]:
    yield "set,film,pred,primary,score\n"
    calibration, _ = read_calibration(run)
    for name in _KEPT_PREDICTIONS:
        if not run.predictions_file(name).is_file():
            continue
        lines = []
        with run.predictions_file(name).open(newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                called = score = ""
                if row.get("score") and calibration is not None:
                    called = str(int(calibration.probs(np.array([float(row["score"])]), 0.5)[0] >= 0.5))
                    score = f"{float(row['score']):.3f}"
                lines.append(f"{name},{PurePosixPath(row['path']).stem},{row['pred'][0]},{called},{score}\n")
        yield from sorted(lines)


def _read_predictions(path: Path) -> dict[str, Scored]:
    by_set: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))):
        by_set.setdefault(row["set"], []).append(row)
    return {name: _scored(rows) for name, rows in by_set.items()}


def _scored(rows: list[dict[str, str]]) -> Scored:
    rows = sorted(rows, key=lambda row: row["film"])
    known = [parse_name(row["film"]) for row in rows]
    assert all(known), "names of the Kaggle set tell the patient"
    preds = np.array([row["pred"] for row in rows])  # N(ORMAL), P(NEUMONIA), B(ACTERIA), V(IRUS)
    has_causes = bool(set(preds) & {"B", "V"})
    targets = np.array([(one[2][0].upper() if has_causes else "P") if one[2] else "N" for one in known if one])
    return Scored(
        films=np.array([row["film"] for row in rows]),
        patient_ids=np.array([f"{one[0]}-{one[1]}" for one in known if one]),
        positives=(targets != "N").astype(np.int64),
        calls=(preds != "N").astype(np.int64),
        correct=preds == targets,
        primary=np.array([int(row["primary"]) for row in rows]),
        scores=np.array([float(row["score"]) for row in rows]),
    )


def _without(config: Mapping[str, Any], left_out: tuple[str, ...], prefix: str = "") -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in config.items():
        if f"{prefix}{key}" in left_out:
            continue
        kept[key] = _without(value, left_out, f"{prefix}{key}.") if isinstance(value, Mapping) else value
    return kept


def _rounded(value: Any) -> Any:
    """Five decimals: what the tables show, and two more."""
    if isinstance(value, Mapping):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return round(value, 5) if isinstance(value, float) else value
