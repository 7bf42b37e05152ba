"""Who was imaged, under every reading of the names, and who is on two sides of a split."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from pneumolit.auditing.counts import split_order
from pneumolit.data.records import PATIENT_KEYS, SPLITS, identify_patient
from pneumolit.data.table import RecordTable

READINGS: dict[str, str] = {
    "number": "the bare number",
    "class_number": "class + number",
    "prefix": "prefix + number, the cause dropped",
    "full": "prefix or kind + number",
}
"""From the coarsest to the finest, by the names that `data.patient_key` has for them."""

GIVEN = "given"
_EXAMPLES = 5
_OUTSIDE = frozenset({"", "dropped", "unreadable"})  # on no side


def patient_keys(records: RecordTable, reading: str) -> np.ndarray:
    """`(N,)` integers, the same for images of one patient under a reading.

    A name that tells no number leaves the image with the patient that it came with: that of a manifest, else itself.

    Args:
        records: of all images.
        reading: a key of `READINGS`, or `GIVEN` for the patients that the records came with.
    """
    assert reading == GIVEN or reading in PATIENT_KEYS
    keys = [r.patient_id if reading == GIVEN else identify_patient(r, reading).patient_id for r in records]
    return np.unique(np.array(keys, dtype=object).astype(str), return_inverse=True)[1]


def all_readings(records: RecordTable, *, has_patients: bool) -> dict[str, np.ndarray]:
    """`patient_keys` of every reading that the data allow; the patients of a manifest come first.

    Args:
        records: of all images.
        has_patients: whether they came with patients.
    """
    given = {GIVEN: patient_keys(records, GIVEN)} if has_patients else {}
    if not records.is_numbered.any():
        return given
    return given | {name: patient_keys(records, name) for name in READINGS}


def shared_between(keys: np.ndarray, sides: Sequence[str], paths: Sequence[str]) -> list[dict[str, Any]]:
    """How many patients are on two sides, for every two sides that there are.

    Args:
        keys: `(N,)` patients.
        sides: N names of sides; "" and what was left out of all sides do not count.
        paths: N names of files.

    Returns:
        sides, shared (patients), images of each side that belong to them, and some of them.
    """
    of_side = np.asarray(sides, dtype=object)
    names = [name for name in (*SPLITS, *sorted(set(sides) - {*SPLITS})) if name in set(sides) - _OUTSIDE]
    rows = []
    for first, second in combinations(names, 2):
        one, other = of_side == first, of_side == second
        shared = np.intersect1d(keys[one], keys[other])
        is_shared = np.isin(keys, shared)
        examples = [
            [paths[np.flatnonzero(side & (keys == key))[0]] for side in (one, other)] for key in shared[:_EXAMPLES]
        ]
        rows.append(
            {
                "sides": [first, second],
                "shared": len(shared),
                "images": [int((is_shared & one).sum()), int((is_shared & other).sum())],
                "examples": examples,
            }
        )
    return rows


def number_stretches(records: RecordTable) -> list[dict[str, Any]]:
    """Which patient numbers of a series every split holds: stretches of the numbering in which no other split occurs.

    Returns:
        By series and split: series, split, numbers (how many occur), stretches ([lowest, highest] each).
    """
    series, splits = records.kinds("series"), records.kinds("split")
    rows: list[dict[str, Any]] = []
    for code, (name,) in enumerate(series.values):
        chosen = (series.codes == code) & records.is_numbered
        pairs = np.unique(np.stack([records.patient_numbers[chosen], splits.codes[chosen]], axis=1), axis=0)
        bounds = np.flatnonzero(np.diff(pairs[:, 1])) + 1
        runs = [run for run in np.split(pairs, bounds) if len(run)]
        for side in sorted(range(len(splits.values)), key=lambda side: split_order(splits.values[side][0])):
            split = splits.values[side][0]
            own = [run[:, 0] for run in runs if run[0, 1] == side]
            if own:
                stretches = [[int(run[0]), int(run[-1])] for run in own]
                rows.append({"series": name, "split": split, "numbers": sum(map(len, own)), "stretches": stretches})
    return rows


def odd_names(records: RecordTable) -> list[tuple[str, str]]:
    """(path, why) of names that tell no patient, or have another form than all others of their series.

    Nothing where no name tells a patient: then names are of another kind altogether.
    """
    odd: list[tuple[str, str]] = []
    if not records.is_numbered.any():
        return odd
    for record in records:
        stem = PurePosixPath(record.path.as_posix()).stem
        if record.number is None:
            odd.append((record.path.as_posix(), "tells no patient"))
        elif record.cause and stem.startswith("person") and stem.count("_") > 2:  # personN_cause_M and no more
            odd.append((record.path.as_posix(), "has a further number at its end, which is read over"))
    return odd
