"""Several runs as one method: which of them, with what weights, calibrated on what nobody of them was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pneumolit.comparison.facts import read_auroc, read_config
from pneumolit.comparison.method import read_calibration
from pneumolit.config import configuration_hash
from pneumolit.evaluation.calibration import Calibration, fit_calibration
from pneumolit.evaluation.operating_point import PRIMARY_POINT, OperatingPoint, fit_operating_points
from pneumolit.evaluation.selection import select_greedily
from pneumolit.labels import BACTERIA, PNEUMONIA, VIRUS, LabelSet
from pneumolit.predictions import Predictions
from pneumolit.rundir import RunDir, read_json, shortest

MEAN, GREEDY = "mean", "greedy"
SHARED, OUT_OF_FOLD, OWN = "shared", "out_of_fold", "own"
SINGLE_FOLDS = "those of single fold models; their mean is less extreme, so that nothing is promised of it"
COMBINES = "weighted mean of the members' calibrated log odds of pneumonia, each re-based to prevalence one half"
_VAL = "val"


@dataclass(frozen=True)
class Member:
    """A run that can be part of an ensemble.

    Attributes:
        run: its folder.
        name: for people.
        calibration: its own, from its own validation.
        labels: its classes.
        configuration: hash of what was decided, seed and fold aside.
        seed: of the run.
        fold: (number, of how many); None where there are no folds.
    """

    run: RunDir
    name: str
    calibration: Calibration
    labels: LabelSet
    configuration: str
    seed: int
    fold: tuple[int, int] | None

    def predictions(self, split: str) -> Predictions:
        """What it said of a set, rows in the order of their paths."""
        found = self.run.read_predictions(split)
        return found.take(np.argsort(found.paths.astype(str), kind="stable"))

    def log_odds(self, predictions: Predictions) -> np.ndarray:
        """`(N,)` calibrated log odds of pneumonia at prevalence one half."""
        return self.calibration.log_odds(predictions.scores, 0.5)


@dataclass(frozen=True)
class Ensemble:
    """Members with their weights.

    Attributes:
        kind: `MEAN` or `GREEDY`.
        members: those with a weight above 0.
        weights: `(M,)` float64, sum 1.
        validation: `SHARED` (all members have the same validation images), `OUT_OF_FOLD` (they are folds of one
            partition, and every image is scored by the members that have not seen it) or `OWN`.
        calibration: of the mean, on that validation; with `OWN` none is fitted, and the mean counts as it is. With
            `OUT_OF_FOLD` it is of single fold models: no image has a mean over folds that none was trained on, and
            that mean, which scores other sets, is less extreme.
        points: operating points on that validation; with `OUT_OF_FOLD` they promise nothing, for the same reason.
        val: what the ensemble says of validation; None with `OWN`.
        record: how members were chosen, for ensemble.json.
    """

    kind: str
    members: tuple[Member, ...]
    weights: np.ndarray
    validation: str
    calibration: Calibration
    points: tuple[OperatingPoint, ...]
    val: Predictions | None
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> LabelSet:
        """The two classes of the mean."""
        return _labels(self.members)

    @property
    def views(self) -> tuple[str, ...]:
        """Of its probabilities against the outcome: a mean is at prevalence one half and was not trained at any."""
        return views_of(self.validation)

    def combine(self, split: str) -> Predictions:
        """What the ensemble says of a set that every member was scored on.

        Raises:
            ValueError: a member was not scored on it, or on other images.
        """
        parts = []
        for member in self.members:
            if not member.run.predictions_file(split).is_file():
                raise ValueError(
                    f"{member.name} has no predictions of {split}; python -m pneumolit.evaluate "
                    f"run_dir={shortest(member.run.path)} split={split} makes them"
                )
            parts.append(member.predictions(split))
        first = parts[0]
        for member, part in zip(self.members, parts, strict=True):
            if not _is_same(first, part):
                raise ValueError(
                    f"{member.name} was scored on other {split} images than {self.members[0].name}; leave one out"
                )
        columns = [member.log_odds(part) for member, part in zip(self.members, parts, strict=True)]
        return _as_predictions(first, np.column_stack(columns) @ self.weights, self.labels)


def views_of(validation: str) -> tuple[str, ...]:
    """Of an ensemble's probabilities against the outcome; without validation it shares, none of a class mix there."""
    return ("rebased",) if validation == OWN else ("calibrated", "rebased")


def read_members(runs: Sequence[RunDir], names: Sequence[str]) -> list[Member]:
    """Runs as members.

    Raises:
        ValueError: a run is an ensemble itself, or has no calibration, no two-class view or no validation predictions.
    """
    members = []
    for run, name in zip(runs, names, strict=True):
        why = _unfit(run)
        if why:
            raise ValueError(f"{name} ({run.path}) cannot be in an ensemble: {why}; leave it out of runs=")
        members.append(read_member(run, name))
    return members


def read_member(run: RunDir, name: str) -> Member:
    """A run that has a calibration as a member."""
    calibration, _ = read_calibration(run)
    assert calibration is not None
    cfg, data = read_config(run), read_json(run.data_file)
    folds = cfg["data"].get("folds")
    return Member(
        run=run,
        name=name,
        calibration=calibration,
        labels=LabelSet(tuple(data["classes"]), tuple(data["positive"])),
        configuration=configuration_hash({**cfg, "data": {**cfg["data"], "fold": 0}}),
        seed=cfg["seed"],
        fold=None if folds is None else (cfg["data"]["fold"], folds),
    )


def build_ensemble(members: Sequence[Member], kind: str) -> Ensemble:
    """Choose weights, and calibrate the mean on validation.

    Args:
        members: at least two.
        kind: `MEAN`, all with equal weight, or `GREEDY`.

    Raises:
        ValueError: fewer than two members, folds that are not whole, or `GREEDY` without validation images that no
            member was trained on.
    """
    if len(members) < 2:
        raise ValueError(f"ensemble={kind} needs at least two runs with predictions, found {len(members)}")
    parts = [member.predictions(_VAL) for member in members]
    if all(_is_same(parts[0], part) for part in parts):
        candidates = [(i,) for i in range(len(members))]
        return _fitted(kind, members, parts, candidates, SHARED)
    if all(member.fold is not None for member in members):
        return _fitted(kind, members, parts, _whole_folds(members, parts), OUT_OF_FOLD)
    if kind == GREEDY:
        raise ValueError(_why_not_greedy(members, parts))
    weights = np.full(len(members), 1 / len(members))
    # Every member is calibrated already, at prevalence one half.
    return Ensemble(MEAN, tuple(members), weights, OWN, Calibration(1.0, 0.0, 0.5), (PRIMARY_POINT,), None)


def best_single(members: Sequence[Member]) -> Member:
    """The member with the highest AUROC on its own validation images; the first of equals."""
    return max(members, key=lambda member: read_auroc(member.run, _VAL) or 0.0)


def _fitted(
    kind: str,
    members: Sequence[Member],
    parts: Sequence[Predictions],
    candidates: Sequence[tuple[int, ...]],
    validation: str,
) -> Ensemble:
    """Weights of the candidates, each a run or all folds of a configuration, and the calibration of their mean.

    Of folds an image has the one model that has not seen it, so that what is calibrated is the mean over configurations
    of single fold models, not that over all members.
    """
    pooled = [_pooled([(members[i], parts[i]) for i in places]) for places in candidates]
    first = pooled[0][0]
    columns = np.column_stack([log_odds for _, log_odds in pooled])
    record: dict[str, Any] = {}
    if kind == GREEDY:
        shares, losses = select_greedily(first.positives, columns)
        record = {
            "chosen_by": "class-balanced log loss on validation, in nats",
            "losses": losses,
            "not_chosen": [
                members[i].name for c, share in zip(candidates, shares, strict=True) if not share for i in c
            ],
        }
    else:
        shares = np.full(len(candidates), 1 / len(candidates))
    chosen = [
        (i, share / len(places)) for places, share in zip(candidates, shares, strict=True) if share for i in places
    ]
    own = tuple(members[i] for i, _ in chosen)
    val = _as_predictions(first, columns @ shares, _labels(own)).as_stored()
    calibration = fit_calibration(val.scores, val.positives)
    points = fit_operating_points(calibration.probs(val.scores, 0.5), val.positives)
    if validation == OUT_OF_FOLD:
        points = [replace(point, promised_sensitivity=None, promised_specificity=None) for point in points]
    weights = np.array([weight for _, weight in chosen])
    return Ensemble(kind, own, weights, validation, calibration, tuple(points), val, record)


def _whole_folds(members: Sequence[Member], parts: Sequence[Predictions]) -> list[tuple[int, ...]]:
    """Members by configuration and seed, each with all folds of one and the same partition of the images."""
    groups: dict[tuple[str, int], list[int]] = {}
    for i, member in enumerate(members):
        groups.setdefault((member.configuration, member.seed), []).append(i)
    partition: dict[int, tuple[str, ...]] = {}
    for places in groups.values():
        folds = sorted(members[i].fold or (0, 0) for i in places)
        count = folds[0][1]
        if folds != [(number, count) for number in range(count)]:
            held = ", ".join(str(number) for number, _ in folds)
            raise ValueError(
                f"the runs like {members[places[0]].name} hold the folds {held} of {count}; an ensemble of folds needs "
                f"each of 0 to {count - 1} once, so that every image is scored by a model that has not seen it"
            )
        for i in places:
            paths = tuple(parts[i].paths)
            if partition.setdefault((members[i].fold or (0, 0))[0], paths) != paths:
                raise ValueError(
                    f"{members[i].name} has other images in its fold than the others; give the runs one data.seed and "
                    "one data.folds"
                )
    if len({path for paths in partition.values() for path in paths}) < sum(map(len, partition.values())):
        raise ValueError("the folds share images, so that they are not a partition; give the runs one data.seed")
    return [tuple(places) for places in groups.values()]


def _pooled(parts: Sequence[tuple[Member, Predictions]]) -> tuple[Predictions, np.ndarray]:
    """Rows of several folds as those of one set, in the order of their paths, with each fold's own log odds."""
    labels = _labels([member for member, _ in parts])
    log_odds = [member.log_odds(predictions) for member, predictions in parts]
    columns = [_as_predictions(p, odds, labels) for (_, p), odds in zip(parts, log_odds, strict=True)]
    whole = Predictions(
        labels=labels,
        paths=np.concatenate([column.paths for column in columns]),
        patient_ids=np.concatenate([column.patient_ids for column in columns]),
        targets=np.concatenate([column.targets for column in columns]),
        logits=np.concatenate([column.logits for column in columns]),
        causes=np.concatenate([column.causes for column in columns]),
        is_copy=np.concatenate([column.is_copy for column in columns]),
        series=np.concatenate([column.series for column in columns]),
        sharpness=np.concatenate([column.sharpness for column in columns]),
    )
    order = np.argsort(whole.paths.astype(str), kind="stable")
    return whole.take(order), np.concatenate(log_odds)[order]


def _as_predictions(rows: Predictions, log_odds: np.ndarray, labels: LabelSet) -> Predictions:
    """Two-class predictions with these log odds, for the images of others."""
    return Predictions(
        labels=labels,
        paths=rows.paths,
        patient_ids=rows.patient_ids,
        targets=rows.positives,
        logits=np.column_stack([np.zeros(len(log_odds)), log_odds]),
        causes=rows.causes,
        is_copy=rows.is_copy,
        series=rows.series,
        sharpness=rows.sharpness,
    )


def _labels(members: Sequence[Member]) -> LabelSet:
    """Pneumonia or not, by the members' own words where they have one for each."""
    negative = {name for m in members for name in m.labels.classes if name not in m.labels.positive}
    positive = {name for m in members for name in m.labels.positive}
    no = negative.pop() if len(negative) == 1 else "NEGATIVE"
    if len(positive) == 1:
        yes = positive.pop()
    else:
        yes = PNEUMONIA if {name.upper() for name in positive} <= {PNEUMONIA, BACTERIA, VIRUS} else "POSITIVE"
    return LabelSet((no, yes), (yes,))


def _is_same(one: Predictions, other: Predictions) -> bool:
    return (
        len(one) == len(other)
        and bool((one.paths == other.paths).all())
        and bool((one.positives == other.positives).all())
    )


def _unfit(run: RunDir) -> str:
    if run.ensemble_file.is_file():
        return "it is an ensemble itself"
    if not run.data_file.is_file() or not read_json(run.data_file)["positive"]:
        return "no class of its data means pneumonia"
    if read_calibration(run)[0] is None:
        return "it has no calibration"
    return "" if run.predictions_file(_VAL).is_file() else "it has no predictions of its validation images"


def _why_not_greedy(members: Sequence[Member], parts: Sequence[Predictions]) -> str:
    other = next(i for i, part in enumerate(parts) if not _is_same(parts[0], part))
    shared = len(set(parts[0].paths) & set(parts[other].paths))
    return (
        "ensemble=greedy chooses by validation, but the runs do not share it: "
        f"{members[0].name} has {len(parts[0])} images, {members[other].name} has {len(parts[other])}, and {shared} "
        "are the same; what one was validated on, another was trained on. Train them with one data.seed and "
        "data.val_fraction, or as all folds of one partition (data.folds, data.fold=0,1,...), or use ensemble=mean"
    )
