"""From a data configuration to audit.json, audit.md and audit.html."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pneumolit.auditing.copies import exact_groups, near_groups, near_pairs
from pneumolit.auditing.counts import class_mix, compare_with_known, count_images, split_order
from pneumolit.auditing.files import find_strays
from pneumolit.auditing.floor import FloorModel, Side, refuse_one_class, single_aurocs
from pneumolit.auditing.label_errors import read_out_of_fold, review_list
from pneumolit.auditing.patients import GIVEN, all_readings, number_stretches, odd_names, shared_between
from pneumolit.auditing.pictures import draw_pictures
from pneumolit.auditing.showing import say
from pneumolit.auditing.statistics import FEATURES, crude_features, describe_by_group
from pneumolit.auditing.subject import PLAUSIBLE, GivenSplit, Subject, drawn_sides, open_subject, read_split
from pneumolit.data.dataset import UNREADABLE
from pneumolit.data.store import Progress, cache_folder
from pneumolit.rundir import decoded, fingerprint, read_json, record_look, shortest, utc_now, write_text
from pneumolit.training.progress import data_progress

if TYPE_CHECKING:
    from rich.console import Console

_FOLDER = "audit"  # below output_dir
_MOST_LINES = 12  # findings on the console


@dataclass(frozen=True)
class Audit:
    """A finished audit.

    Attributes:
        found: content of audit.json.
        folder: where it lies.
        replaced: data root of the audit that lay there, where it was another one; else empty.
    """

    found: dict[str, Any]
    folder: Path
    replaced: str = ""


def audit_data(cfg: Mapping[str, Any], console: Console) -> Audit:
    """Audit the data set that `data` or `run_dir` names, and write what was found.

    Args:
        cfg: the composed `audit` configuration, plain values.
        console: for a bar while files are read.

    Raises:
        FileNotFoundError, ValueError: there is no such data set, split, or sweep of folds.
    """
    from pneumolit.report.data_audit import audit_markdown, write_audit_page

    started = time.monotonic()
    suspects = review_list(read_out_of_fold(Path(str(cfg["folds"])))) if cfg["folds"] is not None else None
    with data_progress(console) as progress:
        subject = open_subject(cfg, cache_folder(cfg["cache_dir"]), progress)
        split = read_split(cfg, subject)
        found = _examine(cfg, subject, split, progress)
    found["label_errors"] = _placed(suspects, subject)
    found["seconds"] = round(time.monotonic() - started, 1)
    folder = Path(cfg["output_dir"]) / _FOLDER / subject.name
    replaced = _earlier_root(folder / "audit.json", found)
    # Plain ASCII: names that are no UTF-8 come back from it as they were.
    write_text(folder / "audit.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
    shown = json.loads(decoded(json.dumps(found, ensure_ascii=False)))
    write_text(folder / "audit.md", audit_markdown(shown))
    with tempfile.TemporaryDirectory(prefix="pneumolit-") as pictures:
        write_audit_page(folder / "audit.html", shown, draw_pictures(found, subject, Path(pictures)))
    return Audit(found, shortest(folder), replaced)


def _earlier_root(file: Path, found: Mapping[str, Any]) -> str:
    """Where the data lie of an audit that this one replaces, unless they are the same."""
    try:
        root = str(read_json(file)["root"])
    except (OSError, ValueError, KeyError):  # none, or somebody else's
        return ""
    return "" if root == found["root"] else root


def print_audit(audit: Audit, console: Console) -> None:
    """What was found in some lines, and where all of it stands."""
    from pneumolit.report.data_audit import findings, headline

    say(console, headline(audit.found))
    told = findings(audit.found)
    for line in told[:_MOST_LINES]:
        say(console, f"- {line}")
    if len(told) > _MOST_LINES:
        say(console, f"... and {len(told) - _MOST_LINES} more")
    if audit.replaced:
        say(console, f"This replaces the audit of {audit.replaced}; name=NAME keeps both.")
    say(console, "Research software, not a medical device.")
    say(console, f"page  {audit.folder / 'audit.html'}")


def _examine(cfg: Mapping[str, Any], subject: Subject, split: GivenSplit | None, progress: Progress) -> dict[str, Any]:
    records, paths, store = subject.records, subject.paths, subject.store
    counts = count_images(records)
    readings = all_readings(records, has_patients=subject.has_patients)
    patients = readings.get(GIVEN, readings.get(PLAUSIBLE, np.arange(len(records))))
    is_silent = bool(readings) and subject.cfg["source"] == "manifest" and not subject.has_patients
    features = crude_features(store.images, subject.files)
    values = dict(zip(FEATURES, features.T, strict=True))
    sizes = {name: values[name] for name in ("width", "height", "aspect")}
    strays = [] if subject.cfg["source"] == "manifest" else find_strays(subject.root, records)
    copies = _copies(subject, patients if readings else None, progress)
    return {
        "name": subject.name,
        "made": utc_now(),
        "root": str(subject.root),
        "source": subject.cfg["source"],
        "num_images": len(records),
        "num_patients": len(np.unique(patients)),
        "knows_patients": bool(readings),
        "counts": counts,
        "known": compare_with_known(counts) if subject.cfg["source"] == "kaggle" else None,
        "files": {
            "unreadable": [{"path": paths[row], "reason": why} for row, why in sorted(store.errors.items())],
            "odd": [
                {"path": path, "kind": kind, "what": what}
                for path, facts in zip(paths, subject.files, strict=True)
                for kind, what in facts.odd
            ],
            "strays": [{"path": path, "reason": why} for path, why in strays],
            "names": [{"path": path, "reason": why} for path, why in odd_names(records) if not subject.has_patients],
        },
        "copies": copies,
        "patients": {
            "readings": _between(readings, list(records.texts("split")), paths),
            "stretches": number_stretches(records),
            "unnamed": _with_several(patients) if is_silent else 0,
        },
        "split": None if split is None else _leaks(split, readings, paths, copies),
        "mix": class_mix(records, patients),
        "sizes": describe_by_group(records, sizes, subject.readable),
        "sharpness": describe_by_group(records, {"sharpness": values["sharpness"]}, subject.readable),
        "floor": _floor(cfg, subject, features, patients, split),
    }


def _copies(subject: Subject, patients: np.ndarray | None, progress: Progress) -> dict[str, Any]:
    records, paths, unreadable = subject.records, subject.paths, subject.unreadable
    splits, labels = list(records.texts("split")), list(records.texts("label"))
    contents = subject.store.hashes.contents()

    def told(rows: list[int]) -> dict[str, Any]:
        return {
            "paths": [paths[row] for row in rows],
            "is_across_splits": len({splits[row] for row in rows}) > 1,
            "is_across_classes": len({labels[row] for row in rows}) > 1,
            "is_across_patients": None if patients is None else len(np.unique(patients[rows])) > 1,
        }

    groups = exact_groups(contents, unreadable)
    exact = [told(group.tolist()) for group in groups]
    pairs = near_pairs(subject.store.images, contents, unreadable, progress)
    near = []
    for group in near_groups(pairs):
        rows = np.flatnonzero(np.isin(contents, contents[group.rows]))  # copies of each as well
        near.append({**told(rows.tolist()), "kind": ", ".join(group.kinds), "detail": group.detail})
    return {
        "exact": sorted(exact, key=_graver_first),
        "num_extra": sum(len(group) - 1 for group in groups),
        "near": sorted(near, key=_graver_first),
    }


def _graver_first(copy: Mapping[str, Any]) -> tuple[bool, bool, bool]:
    return not copy["is_across_splits"], not copy["is_across_classes"], not copy["is_across_patients"]


def _with_several(patients: np.ndarray) -> int:
    """Patients of several images."""
    return int((np.unique(patients, return_counts=True)[1] > 1).sum())


def _between(readings: Mapping[str, np.ndarray], sides: Sequence[str], paths: Sequence[str]) -> dict[str, Any]:
    return {
        name: {"patients": len(np.unique(keys)), "between": shared_between(keys, sides, paths)}
        for name, keys in readings.items()
    }


def _leaks(
    split: GivenSplit, readings: Mapping[str, np.ndarray], paths: Sequence[str], copies: Mapping[str, Any]
) -> dict[str, Any]:
    """What of a given split is on two sides."""
    side_of = dict(zip(paths, split.sides, strict=True))

    def sides_of(copy: Mapping[str, Any]) -> list[str]:
        sides = {side_of[path] for path in copy["paths"]} - {"", "dropped", "unreadable"}
        return sorted(sides, key=split_order)

    return {
        "file": split.source,
        "unnamed": split.unnamed,
        "absent": split.absent,
        "sides": {name: split.sides.count(name) for name in sorted(set(split.sides) - {""}, key=split_order)},
        "readings": _between(readings, split.sides, paths),
        "exact": [{**c, "sides": sides_of(c)} for c in copies["exact"] if len(sides_of(c)) > 1],
        "near": [{**c, "sides": sides_of(c)} for c in copies["near"] if len(sides_of(c)) > 1],
    }


def _floor(
    cfg: Mapping[str, Any], subject: Subject, features: np.ndarray, patients: np.ndarray, split: GivenSplit | None
) -> dict[str, Any]:
    """The crude-feature floor on the validation of a run on this data, and if asked on test."""
    if subject.positives is None:
        return {"reason": "no class means pneumonia, or there is only one class; set data.positive"}
    positives, reason = subject.positives, ""
    try:
        sides, how = (np.array(split.sides, dtype=object), "given") if split is not None else drawn_sides(subject)
    except ValueError as error:  # too few patients, say; a run would not begin
        sides, how, reason = np.full(len(positives), "", dtype=object), "", f"no validation can be made ({error})"
    sides[subject.unreadable] = UNREADABLE  # a split of before may name files that cannot be read today
    test = np.flatnonzero(sides == "test")

    def side(rows: np.ndarray) -> Side:
        return Side(features[rows], positives[rows], patients[rows])

    fitted, val = (side(np.flatnonzero(sides == name)) for name in ("train", "val"))
    reason = reason or refuse_one_class([("training", fitted), ("validation", val)])
    if cfg["floor_on_test"]:
        reason = reason or (refuse_one_class([("test", side(test))]) if len(test) else "there is no test split")
        if reason:
            raise ValueError(f"floor_on_test=true, but {reason}; leave it out")
    if reason:
        return {"reason": reason}
    model = FloorModel(fitted)
    result: dict[str, Any] = {
        "validation": how,
        "features": dict(FEATURES),
        "num_train": len(fitted.positives),
        "val": model.score(val),
        "weights": model.weights,
        "single": single_aurocs(val),
    }
    if cfg["floor_on_test"]:
        look, configuration = record_look(  # before: a kill must not hide that it was seen
            Path(cfg["output_dir"]),
            run=f"{_FOLDER}/{subject.name}",
            configuration=fingerprint([*FEATURES, *map(str, sides)]),
            test_set=subject.store.hashes.fingerprint(test),
            purpose="audit floor_on_test=true",
        )
        result["look"] = f"look {look} of this test set, configuration {configuration}"
        result["test"] = model.score(side(test))
    return result


def _placed(suspects: dict[str, Any] | None, subject: Subject) -> dict[str, Any] | None:
    """Doubtful labels with how many of them are images of this set.

    Raises:
        ValueError: none of them is.
    """
    if suspects is None:
        return None
    known = set(subject.paths)
    listed = [one["path"] for view in suspects["views"] for one in view["images"]]
    strangers = len(set(listed) - known)
    if listed and strangers == len(set(listed)):
        raise ValueError(
            f"the images of folds= are none of {subject.root}, the first is {listed[0]}; give a sweep on this data set"
        )
    return {**suspects, "strangers": strangers}
