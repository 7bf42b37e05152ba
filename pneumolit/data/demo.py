"""Synthetic chest phantoms in the Kaggle layout, for a first run without any download.

The pictures are drawn from formulas: thorax, lungs, ribs, spine, heart and diaphragm, with a focal
consolidation for "bacteria" and a bilateral patchy and reticular pattern for "virus". They show that an
installation works and what the commands print. They are synthetic and prove nothing about real films: no
number obtained on them says anything about a model's use in a clinic, and none belongs in a table beside
numbers from patients.

Exposure, contrast, noise, sharpness and pose are drawn independently of the class, and the lung round a
lesion is drawn with more air, which makes up for much of what the lesion takes: so neither brightness nor a
linear model on raw pixels solves the task. Test AUROC measured for version 1, seeds 0 and 1, over a grid of
penalties: logistic regression on 64 x 64 or 224 x 224 pixels at most .74, on 13 crude statistics at most
.77; a pretrained tf_efficientnet_lite0 after five epochs .98 and .99 at 96 pixels, .99 at 112 (seed 0).
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pneumolit.data.phantom import VIEW, draw_patient, expose
from pneumolit.labels import NORMAL, PNEUMONIA
from pneumolit.rundir import read_json

DEMO_VERSION = 1
"""Raise it with every change that alters a byte of the images or a file name."""

MARKER = ".pneumolit_demo.json"
_STALE_SECONDS = 3600.0  # a half-written folder this old belongs to a process that was killed
_IMAGES_PER_PATIENT = (1, 2, 1, 3)  # repeated along each series; the mean, 1.75, is close to the real set's
_FEWEST_PATIENTS = 8  # so that each of the four series has a patient
_VAL_PATIENTS, _VAL_IMAGES_PER_PATIENT = 4, 2  # per class: 8 + 8 images, as in the official val folder

# Number blocks of the official split, inclusive (shared data README): no number of a series is on two sides.
_BLOCKS: dict[str, dict[str, tuple[tuple[int, int], ...]]] = {
    "IM": {"train": ((115, 766),), "test": ((1, 111),)},
    "NORMAL2": {"train": ((383, 1423),), "val": ((1427, 1442),), "test": ((7, 381),)},
    "bacteria": {"train": ((1, 77), (253, 1945)), "val": ((1946, 1954),), "test": ((78, 175),)},
    "virus": {"train": ((80, 1607),), "test": ((1, 79), (1608, 1685))},
}
# Shares of patients: 74 % pneumonia in train, 62 % in test; bacteria to virus 2 to 1; normals half and half.
_SHARES = {
    "train": {"IM": 0.13, "NORMAL2": 0.13, "bacteria": 0.49, "virus": 0.25},
    "test": {"IM": 0.19, "NORMAL2": 0.19, "bacteria": 0.41, "virus": 0.21},
}


@dataclass(frozen=True)
class _Patient:
    """One phantom patient: where it goes, the file names of its films, and how they are drawn."""

    split: str
    series: str
    number: int
    file_names: tuple[str, ...]
    lesion_density: float = 1.0
    same_stance: bool = False

    @property
    def folder(self) -> Path:
        return Path(self.split) / (PNEUMONIA if self.series in ("bacteria", "virus") else NORMAL)


def make_demo(
    root: Path,
    *,
    seed: int = 0,
    num_train_patients: int = 512,
    num_test_patients: int = 152,
    size: int = 176,
    films_per_patient: Sequence[int] = _IMAGES_PER_PATIENT,
    lesion_density: float = 1.0,
    same_stance: bool = False,
) -> Path:
    """Write `root/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg`, or return at once where exactly that is there.

    The folder appears under its name only when whole: a run killed half way leaves none, and two processes
    that write it at once both return the same folder.

    Args:
        root: folder to create; its parents are made.
        seed: non-negative; the same seed gives the same bytes with the same versions of numpy and Pillow.
        num_train_patients: at least 8; about 74 % of them pneumonia.
        num_test_patients: at least 8; about 62 % of them pneumonia.
        size: width and height of a film in pixels, at least 64.
        films_per_patient: how many films of a patient, repeated along each series; 1.75 on average unless given.
        lesion_density: share of the usual density of every lesion, above 0 and at most 1; below 1 the task is harder.
        same_stance: whether the films of a patient show the same stance, as films taken minutes apart do.

    Returns:
        `root`.

    Raises:
        ValueError: an argument is out of range, or `root` holds something else than this very demo set.
    """
    root = Path(root)
    if seed < 0:
        raise ValueError(f"the demo seed must not be negative, got {seed}; 0 is the usual one")
    if size < 64:
        raise ValueError(f"the demo size must be at least 64 pixels, got {size}; 176 is the usual one")
    for split, count in (("train", num_train_patients), ("test", num_test_patients)):
        if count < _FEWEST_PATIENTS:
            raise ValueError(f"the demo needs at least {_FEWEST_PATIENTS} {split} patients, got {count}")
    if not films_per_patient or min(films_per_patient) < 1:
        raise ValueError(f"films_per_patient must be one or more counts of at least 1, got {list(films_per_patient)}")
    if not 0 < lesion_density <= 1:
        raise ValueError(f"lesion_density must lie above 0 and at most at 1, got {lesion_density}")
    marker: dict[str, Any] = {
        "version": DEMO_VERSION,
        "seed": seed,
        "num_train_patients": num_train_patients,
        "num_test_patients": num_test_patients,
        "size": size,
    }
    # Only what is not as usual, so that the mark of a set from before stays valid.
    if tuple(films_per_patient) != _IMAGES_PER_PATIENT:
        marker["films_per_patient"] = list(films_per_patient)
    if lesion_density != 1:
        marker["lesion_density"] = lesion_density
    if same_stance:
        marker["same_stance"] = True
    if _is_whole(root, marker):
        return root
    enrolled = _enrol(np.random.default_rng([seed, 0]), num_train_patients, num_test_patients, films_per_patient)
    patients = [replace(p, lesion_density=lesion_density, same_stance=same_stance) for p in enrolled]
    root.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(root)
    partial_root = root.with_name(f".{root.name}.{uuid.uuid4().hex}.partial")
    try:
        for folder in {patient.folder for patient in patients}:
            (partial_root / folder).mkdir(parents=True)
        with ThreadPoolExecutor(max_workers=2) as pool:  # numpy and JPEG release the GIL; more threads gain little
            list(pool.map(partial(_write_patient, partial_root, seed, size), patients))
        (partial_root / MARKER).write_text(json.dumps(marker), encoding="utf-8")
        _publish(partial_root, root, marker)
    finally:
        shutil.rmtree(partial_root, ignore_errors=True)
    return root


def _is_whole(root: Path, marker: dict[str, Any]) -> bool:
    """Whether `root` is this very demo set (True) or free (False); anything else there is refused."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    path = root / MARKER
    if not path.is_file():
        raise ValueError(f"{root} exists and is not a demo set; give a path that does not exist yet, or remove it")
    found = read_json(path)
    if found != marker:
        raise ValueError(
            f"{root} holds another demo set ({found}) than the one asked for ({marker}); "
            "remove the folder or give another path"
        )
    return True


def _publish(partial_root: Path, root: Path, marker: dict[str, Any]) -> None:
    """Rename the whole folder into place; where another process was first, its equal folder is taken."""
    try:
        if root.exists():
            root.rmdir()  # an empty folder: POSIX would replace it, Windows would not
        partial_root.rename(root)
    except OSError:
        if not _is_whole(root, marker):
            raise


def _remove_stale(root: Path) -> None:
    for left_over in root.parent.glob(f".{root.name}.*.partial"):
        try:
            age = time.time() - left_over.stat().st_mtime
        except FileNotFoundError:  # another process has just renamed or removed it
            continue
        if age > _STALE_SECONDS:
            shutil.rmtree(left_over, ignore_errors=True)


def _enrol(
    rng: np.random.Generator, num_train: int, num_test: int, films: Sequence[int] = _IMAGES_PER_PATIENT
) -> list[_Patient]:
    """Draw the numbers of all patients and name their films as the Kaggle set does."""
    drawn: list[tuple[str, int, str, int]] = []
    for split, total in (("train", num_train), ("test", num_test)):
        for series, share in _SHARES[split].items():
            numbers = _draw_numbers(rng, split, series, max(1, round(total * share)))
            drawn += [(series, n, split, films[i % len(films)]) for i, n in enumerate(numbers)]
    for series in ("NORMAL2", "bacteria"):
        numbers = _draw_numbers(rng, "val", series, _VAL_PATIENTS)
        drawn += [(series, n, "val", _VAL_IMAGES_PER_PATIENT) for n in numbers]
    return list(_name_films(sorted(drawn)))


def _draw_numbers(rng: np.random.Generator, split: str, series: str, count: int) -> list[int]:
    pool = [n for first, last in _BLOCKS[series][split] for n in range(first, last + 1)]
    if count > len(pool):
        raise ValueError(
            f"the {series} series has {len(pool)} numbers for {split}, {count} were asked for; "
            f"ask for fewer {split} patients"
        )
    return [pool[i] for i in sorted(rng.choice(len(pool), size=count, replace=False))]


def _name_films(drawn: list[tuple[str, int, str, int]]) -> Iterator[_Patient]:
    running = {"bacteria": 0, "virus": 0}  # the last part of person<n>_<cause>_<m> counts films of that cause
    for series, number, split, count in drawn:
        if series in running:
            first = running[series] + 1
            running[series] += count
            names = [f"person{number}_{series}_{first + i}.jpeg" for i in range(count)]
        else:
            stem = f"{'' if series == 'IM' else series + '-'}IM-{number:04d}-0001"
            names = [f"{stem}.jpeg", *(f"{stem}-{i:04d}.jpeg" for i in range(1, count))]
        yield _Patient(split, series, number, tuple(names))


def _write_patient(root: Path, seed: int, size: int, patient: _Patient) -> None:
    key = [seed, 1 + list(_BLOCKS).index(patient.series), patient.number]
    rng = np.random.default_rng([*key, 0])
    body = draw_patient(rng, patient.series, round(size * VIEW), density=patient.lesion_density)
    for i, name in enumerate(patient.file_names):
        stand = np.random.default_rng([*key, 1]) if patient.same_stance else None
        film = expose(np.random.default_rng([*key, 1 + i]), body, size, stand=stand)
        film.save(root / patient.folder / name, quality=90)
