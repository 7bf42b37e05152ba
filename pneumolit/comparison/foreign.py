"""Predictions that another program made: a CSV file of paths and scores becomes a method like any other."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pneumolit.comparison.facts import Facts
from pneumolit.comparison.method import FILE, Absent, Method, method_of
from pneumolit.data.records import identify_patient, parse_name
from pneumolit.data.table import ImageRecord
from pneumolit.evaluation.summary import summarise
from pneumolit.labels import BACTERIA, NORMAL, PNEUMONIA, VIRUS, LabelSet
from pneumolit.predictions import Predictions
from pneumolit.rundir import shortest

_LABELS = LabelSet((NORMAL, PNEUMONIA), (PNEUMONIA,))
_YES = frozenset(("1", "1.0", "true", PNEUMONIA.lower(), BACTERIA.lower(), VIRUS.lower()))
_NO = frozenset(("0", "0.0", "false", NORMAL.lower()))
# The probability next below 1 and its mirror image. A 0 is no surer than a 1: as the smallest number it would be 745
# units of log odds away, and one such film would decide the slope of the calibration.
_LEAST, _MOST = 2.0**-53, 1 - 2.0**-53


@dataclass(frozen=True)
class Scores:
    """Rows of one name in a file of predictions.

    Attributes:
        name: of the method.
        file: where they are.
        paths: of the images, with forward slashes.
        scores: as the file has them.
        targets: 1 or 0, by row; None where the file does not say.
        patients: who was imaged, by row; "" where the file does not say.
    """

    name: str
    file: Path
    paths: tuple[str, ...]
    scores: np.ndarray
    targets: tuple[int | None, ...]
    patients: tuple[str, ...]

    @property
    def are_probs(self) -> bool:
        """Whether all scores lie in [0, 1], and are taken for probabilities; else for log odds."""
        return bool((self.scores >= 0).all() and (self.scores <= 1).all())


def read_scores(file: Path) -> list[Scores]:
    """Read a CSV file with the columns path and score and, if it has them, target, patient_id and name.

    Args:
        file: UTF-8, with a header. Rows of several names are several methods.

    Raises:
        ValueError: a column is missing, a score is no number, a target is unknown, or a path comes twice.
    """
    found: dict[str, list[tuple[str, float, int | None, str]]] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as handle:
            rows = csv.DictReader(handle)
            columns = list(rows.fieldnames or [])
            if not {"path", "score"} <= set(columns):
                raise ValueError(f"predictions={file} must have the columns path and score, found {columns}")
            for line, row in enumerate(rows, start=2):
                if None in row:  # where DictReader puts what is left, as of a decimal comma: 0,93
                    raise ValueError(
                        f"{file}, line {line}: more cells than the {len(columns)} columns; write decimals with a "
                        "point, and quotes around a text with a comma"
                    )
                name = (row.get("name") or "").strip() or file.stem
                found.setdefault(name, []).append(_parsed(row, f"{file}, line {line}"))
    except csv.Error as error:
        raise ValueError(f"predictions={file} is no CSV file: {error}") from error
    if not found:
        raise ValueError(f"predictions={file} has no row")
    methods = []
    for name, entries in found.items():
        paths, scores, targets, patients = zip(*entries, strict=True)
        twice = sorted(path for path, count in Counter(paths).items() if count > 1)
        if twice:
            raise ValueError(f"predictions={file} names {len(twice)} images more than once, the first {twice[:3]}")
        methods.append(Scores(name, file, paths, np.array(scores), targets, patients))
    return methods


def foreign_method(scores: Scores, known: Sequence[Method], *, num_resamples: int, seed: int) -> Method | Absent:
    """A method from a file, on the rows of the runs where it has a score for all of them.

    Args:
        scores: of one name.
        known: methods of runs; the first whose images all have a score gives the rows, targets and patients.
        num_resamples: of the intervals.
        seed: of the intervals.

    Returns:
        Why it cannot be compared, where the target of an image cannot be known.
    """
    source = str(shortest(scores.file))
    notes = [assumption(scores)]
    for method in (m for m in known if m.scores is not None):
        places = _places(list(method.paths), scores.paths)
        if (places >= 0).all():
            extra = len(scores.paths) - len(places)
            notes += [f"{extra} of its {len(scores.paths)} rows are of other images and left out"] * bool(extra)
            own = [scores.targets[i] for i in places]
            targets = [int(t) if o is None else o for t, o in zip(method.targets, own, strict=True)]
            patients = [scores.patients[i] or p for p, i in zip(method.patient_ids, places, strict=True)]
            return _method(
                scores, source, notes, method.paths, places, targets, patients, method.causes, num_resamples, seed
            )
    by_path = {path: (int(t), p) for m in reversed(known) if m.scores is not None
               for path, t, p in zip(m.paths, m.targets, m.patient_ids, strict=True)}  # fmt: skip
    targets_found, patients_found, causes = _known_rows(scores, by_path)
    unknown = [path for path, target in zip(scores.paths, targets_found, strict=True) if target is None]
    if unknown:
        return Absent(scores.name, source, _no_target(unknown, len(scores.paths), "that the runs have"))
    if any(target is None for target in scores.targets):
        notes.append("targets that the file does not give come from the runs or from the names of the images")
    everything = np.arange(len(scores.paths))
    paths = np.array(scores.paths, dtype=object)
    return _method(scores, source, notes, paths, everything, [int(t) for t in targets_found if t is not None],
                   patients_found, causes, num_resamples, seed)  # fmt: skip


def to_predictions(scores: Scores) -> Predictions:
    """Predictions of a file by itself; what it does not say of an image is read from the image's name.

    Args:
        scores: of one name.

    Raises:
        ValueError: the target of an image cannot be known, or one of the two classes does not occur.
    """
    targets, patients, causes = _known_rows(scores, {})
    unknown = [path for path, target in zip(scores.paths, targets, strict=True) if target is None]
    if unknown:
        reason = _no_target(unknown, len(scores.paths), "with a folder NORMAL or PNEUMONIA")
        raise ValueError(f"predictions={scores.file}: {reason}")
    if len(set(targets)) < 2:
        found = PNEUMONIA if targets[0] else NORMAL
        raise ValueError(f"predictions={scores.file}: all {len(targets)} images are {found}; both classes are needed")
    paths = np.array(scores.paths, dtype=object)
    return _predictions(scores, paths, scores.scores, [int(t) for t in targets if t is not None], patients, causes)


def _known_rows(
    scores: Scores, by_path: Mapping[str, tuple[int, str]]
) -> tuple[list[int | None], list[str], np.ndarray]:
    """Target and patient of every row, from the file, other methods or the image's name, in this order; causes."""
    records = [_record(path) for path in scores.paths]
    targets: list[int | None] = []
    patients: list[str] = []
    for path, record, target, patient in zip(scores.paths, records, scores.targets, scores.patients, strict=True):
        seen = by_path.get(path)
        targets.append(target if target is not None else seen[0] if seen else _target_of(record))
        patients.append(patient or (seen[1] if seen else record.patient_id))
    return targets, patients, np.array([record.cause for record in records], dtype=object)


def _no_target(unknown: Sequence[str], num: int, where: str) -> str:
    return (
        f"the target of {len(unknown)} of {num} images is not known, the first {unknown[0]}; "
        f"give a column target (1 is pneumonia), or paths {where}"
    )


def _method(
    scores: Scores, source: str, notes: Sequence[str], paths: np.ndarray, places: np.ndarray, targets: Sequence[int],
    patients: Sequence[str], causes: np.ndarray, num_resamples: int, seed: int,
) -> Method:  # fmt: skip
    values = scores.scores[places]
    predictions = _predictions(scores, paths, values, targets, patients, causes)
    metrics = summarise(predictions, None, [], is_prior_known=False, num_resamples=num_resamples, seed=seed)
    called = (predictions.scores >= 0).astype(np.int64)
    method = method_of(
        predictions,
        called,
        metrics,
        name=scores.name,
        kind=FILE,
        source=source,
        rule="half",
        facts=Facts(),
        notes=notes,
    )
    return replace(method, scores=values)  # ranked as the file has them: two that log odds round alike stay apart


def _predictions(
    scores: Scores, paths: np.ndarray, values: np.ndarray, targets: Sequence[int], patients: Sequence[str],
    causes: np.ndarray,
) -> Predictions:  # fmt: skip
    log_odds = values
    if scores.are_probs:
        above = values[values > 0]
        least = min(_LEAST, above.min() / 2) if len(above) else _LEAST  # below all that the file tells apart from 0
        bounded = np.clip(values, max(least, np.nextafter(0.0, 1.0)), _MOST)
        log_odds = np.log(bounded) - np.log1p(-bounded)
    return Predictions(
        labels=_LABELS,
        paths=paths,
        patient_ids=np.array(patients, dtype=object),
        targets=np.array(targets, dtype=np.int64),
        logits=np.column_stack([np.zeros(len(values)), log_odds]),
        causes=causes,
    )


def assumption(scores: Scores) -> str:
    """How the scores of a file are read."""
    if scores.are_probs:
        return "its scores lie in [0, 1] and are taken for probabilities: called pneumonia from 0.5 on"
    return "its scores leave [0, 1] and are taken for log odds: called pneumonia from 0 on"


def _parsed(row: Mapping[str, str | None], place: str) -> tuple[str, float, int | None, str]:
    path = (row.get("path") or "").strip().replace("\\", "/")
    if not path:
        raise ValueError(f"{place}: the path is empty")
    text = (row.get("score") or "").strip()
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise ValueError(f"{place}: the score must be a finite number, got {text!r}")
    target = (row.get("target") or "").strip().lower()
    if target and target not in _YES | _NO:
        raise ValueError(
            f"{place}: the target must be 0 or 1, or one of {NORMAL}, {PNEUMONIA}, {BACTERIA}, {VIRUS}, got {target!r}"
        )
    return path, score, int(target in _YES) if target else None, (row.get("patient_id") or "").strip()


def _places(wanted: Sequence[str], given: Sequence[str]) -> np.ndarray:
    """`(N,)` row of each wanted image; -1 where there is none, or where it is not clear which.

    A path is found whole, or by its end where one of the two is longer by leading folders.
    """
    whole = {path: i for i, path in enumerate(given)}
    by_name: dict[str, list[int]] = {}
    for i, path in enumerate(given):
        by_name.setdefault(path.rpartition("/")[2], []).append(i)
    places = np.array([whole.get(path, -1) for path in wanted], dtype=np.int64)
    by_end = np.flatnonzero(places < 0)
    for position in by_end.tolist():
        path = wanted[position]
        alike = [i for i in by_name.get(path.rpartition("/")[2], []) if _ends_alike(path, given[i])]
        places[position] = alike[0] if len(alike) == 1 else -1
    found, counts = np.unique(places, return_counts=True)
    shared = np.isin(places[by_end], found[counts > 1])  # one row is no score of two images
    places[by_end[shared]] = -1
    return places


def _ends_alike(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return long.endswith(f"/{short}")


def _record(path: str) -> ImageRecord:
    """What the name of an image tells of it."""
    series, number, cause = parse_name(path) or ("", None, "")
    folders = [part.upper() for part in path.split("/")[:-1]]
    # The nearest one counts: above the set's own folders one may be called pneumonia as well, and holds both classes.
    nearest = next((folder for folder in reversed(folders) if folder in (NORMAL, PNEUMONIA, BACTERIA, VIRUS)), "")
    if series and not cause and not (nearest and folders[-1] == nearest):
        nearest = NORMAL  # a name that only normal films have is believed more than a folder further up
    label = PNEUMONIA if cause or nearest not in ("", NORMAL) else nearest
    return identify_patient(ImageRecord(Path(path), label, path, cause, series=series, number=number), "full")


def _target_of(record: ImageRecord) -> int | None:
    return None if not record.label else int(record.label == PNEUMONIA)
