"""One method of a comparison: what it says of every image, with its numbers; or why it cannot be compared."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pneumolit.comparison.facts import Facts, read_facts
from pneumolit.evaluation.calibration import Calibration
from pneumolit.evaluation.operating_point import OperatingPoint
from pneumolit.evaluation.summary import FORMAT_VERSION, decide_by_rule, summarise
from pneumolit.predictions import Predictions
from pneumolit.rundir import DONE, RunDir, read_json, shortest

RUN, FILE, ENSEMBLE = "run", "file", "ensemble"


@dataclass(frozen=True)
class Method:
    """What one method says of N images.

    Attributes:
        name: short, different for every method of a comparison.
        kind: `RUN`, `FILE` or `ENSEMBLE`.
        source: its folder or file, as one would type it.
        paths: `(N,)` of the images.
        patient_ids: `(N,)` who was imaged.
        targets: `(N,)` text, what the image shows: "1" or "0" for pneumonia or not, else the class.
        scores: `(N,)` float, higher speaks for pneumonia; None where no class means pneumonia.
        decisions: `(N,)` text, as `targets`.
        metrics: as metrics.json has them.
        rule: the decision rule.
        facts: how it was made.
        causes: `(N,)` "bacteria", "virus" or "".
        notes: what has to be assumed to read it.
        run: its folder; None for a file.
        distinction: what of the name is neither the model nor what trained.
    """

    name: str
    kind: str
    source: str
    paths: np.ndarray
    patient_ids: np.ndarray
    targets: np.ndarray
    scores: np.ndarray | None
    decisions: np.ndarray
    metrics: Mapping[str, Any]
    rule: str
    facts: Facts = field(default_factory=Facts)
    causes: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=object))
    notes: Sequence[str] = ()
    run: RunDir | None = None
    distinction: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def correct(self) -> np.ndarray:
        """`(N,)` bool, whether the decision is right."""
        return np.asarray(self.decisions == self.targets)

    @property
    def view(self) -> Mapping[str, Any]:
        """Its numbers by the decision rule, or of all classes where no class means pneumonia."""
        found: Mapping[str, Any] = (
            self.metrics["rules"][self.rule] if self.scores is not None else self.metrics["class_view"]
        )
        return found

    @property
    def view_intervals(self) -> Mapping[str, Any]:
        """Intervals of `view`."""
        intervals = self.metrics["intervals"]
        found: Mapping[str, Any] = intervals["rules"][self.rule] if self.scores is not None else intervals["class_view"]
        return found


@dataclass(frozen=True)
class Absent:
    """A run or a file that cannot be compared.

    Attributes:
        name: of its folder or file.
        source: as one would type it.
        reason: why not.
        command: what would help; empty where nothing does.
    """

    name: str
    source: str
    reason: str
    command: str = ""


def read_method(run: RunDir, split: str, rule: str) -> Method | Absent:
    """What a run said of a set of images, from its files; nothing is predicted.

    Args:
        run: its folder.
        split: name of the evaluated set.
        rule: decision rule; a run without calibration decides by `half` instead of `primary`.
    """
    source = str(shortest(run.path))
    try:
        run.check_records()
    except ValueError as error:
        return Absent(run.path.name, source, str(error))
    status = read_json(run.status_file)
    if not run.predictions_file(split).is_file():
        return _absent(run, split, source, status)
    try:
        predictions = run.read_predictions(split)
    except (ValueError, KeyError) as error:
        return Absent(run.path.name, source, f"{run.predictions_file(split).name} cannot be read: {error}")
    if not len(predictions):
        return Absent(run.path.name, source, f"evaluation/{split} holds no image")
    calibration, points = read_calibration(run)
    notes = [] if status["state"] == DONE else [f"the run is {status['state']}, not done"]
    file = run.evaluation_metrics_file(split)
    found = read_json(file) if file.is_file() else {}
    if found.get("format_version") != FORMAT_VERSION:  # none, or of earlier code with intervals of another kind
        context = found.get("context", {})
        found = summarise(predictions, calibration, points) | {"context": context}
    if predictions.labels.is_two_class_view:
        own = rule
        if rule == "primary" and calibration is None:
            own = "half"
            notes.append("no calibration: decided where the uncalibrated probability is one half")
        decided = decide_by_rule(predictions, calibration, points)
        if own not in decided or own not in found["rules"]:
            known = ", ".join(name for name in decided if name in found["rules"])
            return Absent(run.path.name, source, f"it has no decision rule {own} (it has {known})")
    else:
        own, decided = "largest logit", {}
    facts = read_facts(run, own)
    kind = ENSEMBLE if run.ensemble_file.is_file() else RUN
    return method_of(predictions, decided.get(own), found, name=run.path.name, kind=kind, source=source, rule=own,
                     facts=facts, notes=notes, run=run)  # fmt: skip


def method_of(
    predictions: Predictions, called: np.ndarray | None, metrics: Mapping[str, Any], *, name: str, kind: str,
    source: str, rule: str, facts: Facts, notes: Sequence[str] = (), run: RunDir | None = None,
) -> Method:  # fmt: skip
    """A method from its predictions.

    Args:
        predictions: of N images.
        called: `(N,)` 0/1, 1 is called pneumonia; None: the class with the largest logit is the decision.
        metrics: as `summarise` gives them.
        name: short.
        kind: `RUN`, `FILE` or `ENSEMBLE`.
        source: where it comes from.
        rule: that gave `called`.
        facts: how it was made.
        notes: what was assumed.
        run: its folder.
    """
    names = np.array(predictions.labels.classes, dtype=object)
    has_view = called is not None
    return Method(
        name=name,
        kind=kind,
        source=source,
        paths=predictions.paths,
        patient_ids=predictions.patient_ids,
        targets=predictions.positives.astype(str).astype(object) if has_view else names[predictions.targets],
        scores=predictions.scores if has_view else None,
        decisions=called.astype(int).astype(str).astype(object) if called is not None else names[predictions.preds],
        metrics=metrics,
        rule=rule,
        facts=facts,
        causes=predictions.causes,
        notes=tuple(notes),
        run=run,
    )


def read_calibration(run: RunDir) -> tuple[Calibration | None, list[OperatingPoint]]:
    """Calibration and operating points of a run; (None, []) where it has none."""
    content = read_json(run.calibration_file) if run.calibration_file.is_file() else {}
    if content.get("calibration") is None:
        return None, []
    points = [OperatingPoint.from_dict(point) for point in content["operating_points"]]
    return Calibration.from_dict(content["calibration"]), points


def _absent(run: RunDir, split: str, source: str, status: Mapping[str, Any]) -> Absent:
    where = shlex.quote(source)
    if status["state"] != DONE:
        reason = f"the run is {status['state']}" + (f": {status['reason']}" if status.get("reason") else "")
        return Absent(run.path.name, source, reason, f"python -m pneumolit.train run_dir={where}")
    counts = read_json(run.data_file).get("counts", {}) if run.data_file.is_file() else {}
    if split not in counts:
        known = sorted(path.parent.name for path in run.path.glob("evaluation/*/predictions.csv"))
        reason = f"its data have no {split} images, and no set was scored under this name"
        return Absent(run.path.name, source, reason + (f" (scored: {', '.join(known)})" if known else ""))
    look = " (a look at the test split)" if split == "test" else ""
    return Absent(
        run.path.name,
        source,
        f"{split} was not scored",
        f"python -m pneumolit.evaluate run_dir={where} split={split}{look and '   #' + look}",
    )
