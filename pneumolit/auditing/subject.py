"""The data set that is audited: its files, what is known of them, and the split that is asked about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pneumolit.auditing.files import FileFacts, inspect_files
from pneumolit.comparison.facts import read_config
from pneumolit.data.dataset import UNREADABLE, divide, divide_given, read_records
from pneumolit.data.records import choose_labels, identify_patient
from pneumolit.data.store import ImageStore, Progress, open_store
from pneumolit.data.table import RecordTable
from pneumolit.rundir import RunDir, read_split_csv

PLAUSIBLE = "full"  # reading of the names that `data.patient_key` has by default
_NAMED_PATIENTS = "manifest"  # source that may say who the patient is


@dataclass(frozen=True)
class Subject:
    """A data set that was read once.

    Attributes:
        name: of the folder that the audit is written to.
        cfg: its data configuration.
        root: what the paths are relative to.
        records: with the given splits and labels, patients under the plausible reading or as a manifest gives them.
        store: the decoded images.
        files: N of them, what their headers say.
        has_patients: whether a manifest names patients.
        positives: `(N,)` 0/1, 1 is pneumonia; None where no class means pneumonia.
    """

    name: str
    cfg: Mapping[str, Any]
    root: Path
    records: RecordTable
    store: ImageStore
    files: list[FileFacts]
    has_patients: bool
    positives: np.ndarray | None

    @property
    def paths(self) -> list[str]:
        """N of them, relative to the root."""
        return list(self.records.texts("path"))

    @property
    def unreadable(self) -> np.ndarray:
        """Rows of files that cannot be read."""
        return np.array(sorted(self.store.errors), dtype=np.int64)

    @property
    def readable(self) -> np.ndarray:
        """Rows of all others."""
        return np.setdiff1d(np.arange(len(self.records)), self.unreadable)


@dataclass(frozen=True)
class GivenSplit:
    """Who is on which side, as a file says.

    Attributes:
        source: the file.
        sides: N names; "" for images that the file does not name.
        unnamed: how many it does not name.
        absent: how many that it names are not in the data set.
    """

    source: str
    sides: list[str]
    unnamed: int
    absent: int


def open_subject(cfg: Mapping[str, Any], cache_dir: Path, progress: Progress | None = None) -> Subject:
    """Read, decode and look at every file of the data set that `data` or `run_dir` names.

    Raises:
        FileNotFoundError, ValueError: as the readers of records, runs and the store say. Files that cannot be read
            and names that do not tell the patient are no error here.
    """
    data = _data_config(cfg)
    # As images of their own first: names that tell no patient would be refused, and here they are a finding.
    root, raw = read_records({**data, "patient_key": "image"}, cache_dir)
    has_patients = data["source"] == _NAMED_PATIENTS and any(r.patient_id != r.path.as_posix() for r in raw)
    is_named = data["source"] == _NAMED_PATIENTS
    records = raw if is_named else RecordTable.of(identify_patient(r, PLAUSIBLE) for r in raw)
    paths = records.texts("path")
    store = open_store(root, paths, cache_dir=cache_dir, store_size=data["store_size"], progress=progress)
    files = inspect_files(root, paths, store.errors, progress)
    return Subject(
        name=str(cfg["name"]) if cfg["name"] is not None else _default_name(data, root),
        cfg=data,
        root=root,
        records=records,
        store=store,
        files=files,
        has_patients=has_patients,
        positives=_positives(records, data),
    )


def read_split(cfg: Mapping[str, Any], subject: Subject) -> GivenSplit | None:
    """The split that is asked about: that of `run_dir`, or of `data.split_file`; None where none is.

    Raises:
        FileNotFoundError, ValueError: the file cannot be read, or names no image of the set.
    """
    if cfg["run_dir"] is not None:
        file = RunDir.open(cfg["run_dir"]).split_file
    elif cfg["data"].get("split_file") is not None:
        file = Path(str(cfg["data"]["split_file"])).expanduser()
    else:
        return None
    side_of: dict[str, str] = {}
    for row in read_split_csv(file):
        if row["path"] in side_of:
            raise ValueError(f"{file} names {row['path']} twice; name every image once")
        side_of[row["path"]] = row["split"]
    paths = subject.paths
    unnamed = sum(path not in side_of for path in paths)
    if unnamed == len(paths):
        raise ValueError(
            f"{file} names no image of {subject.root}, its first is {next(iter(side_of))}; give the split of this "
            "data set, with paths relative to data.root"
        )
    sides = [side_of.get(path, "") for path in paths]
    return GivenSplit(str(file), sides, unnamed, len(side_of) - (len(paths) - unnamed))


def drawn_sides(subject: Subject) -> tuple[np.ndarray, str]:
    """The sides that a run on this data would draw: train, val, test and what `pneumolit.data.dataset` has besides.

    Training is whole: neither balanced nor reduced to a share of its patients.

    Returns:
        (`(N,)` texts, how validation is made: "named" by the data set, "patients" or "images" drawn from train)

    Raises:
        ValueError: none can be drawn.
    """
    data = {**subject.cfg, "split_file": None}
    records = subject.records
    if data["source"] != _NAMED_PATIENTS:
        records = RecordTable.of(identify_patient(record, data["patient_key"]) for record in records)
    _, labelled = choose_labels(records, data["target"], data["positive"])
    given = divide_given(labelled, data)
    is_named = bool(given.is_in("split", "val").any()) and data["resplit"] is None
    divided, _ = divide(given.with_split(UNREADABLE, subject.unreadable), subject.store.hashes.contents(), data)
    is_by_patients = len(set(records.texts("patient_id"))) < len(records)
    sides = np.array(list(divided.texts("split")), dtype=object)
    return sides, "named" if is_named else "patients" if is_by_patients else "images"


def _data_config(cfg: Mapping[str, Any]) -> dict[str, Any]:
    if cfg["run_dir"] is None:
        return dict(cfg["data"])
    data = dict(read_config(RunDir.open(cfg["run_dir"]))["data"])
    return {**data, "root": cfg["data"]["root"] or data["root"]}


def _default_name(data: Mapping[str, Any], root: Path) -> str:
    given = Path(str(data["manifest"])).stem if data["source"] == _NAMED_PATIENTS else root.resolve().name
    return re.sub(r"[^\w.-]+", "_", given).lstrip(".-") or "data"


def _positives(records: RecordTable, data: Mapping[str, Any]) -> np.ndarray | None:
    try:
        labels, labelled = choose_labels(records, data["target"], data["positive"])
    except ValueError:
        if data["target"] != "auto" or data["positive"] is not None:
            raise
        return None  # one class only, say
    if not labels.is_two_class_view:
        return None
    kinds = labelled.kinds("label")
    is_positive = np.array([labels.positive_mask[labels.index(name)] for (name,) in kinds.values])
    return np.asarray(is_positive[kinds.codes], dtype=np.int64)
