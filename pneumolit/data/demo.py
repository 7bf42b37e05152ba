"""Synthetic chest phantoms in the Kaggle layout, for a first run without any download.

The pictures are drawn from formulas: thorax, lungs, ribs, spine, heart and diaphragm, with a focal
consolidation for "bacteria" and a bilateral patchy and reticular pattern for "virus". They show that an
installation works and what the commands print. They are synthetic and prove nothing about real films: no
number obtained on them says anything about a model's use in a clinic, and none belongs in a table beside
numbers from patients.

Exposure, contrast, noise, sharpness, aeration and pose are drawn independently of the class, so that neither
brightness nor a linear model on raw pixels solves the task. MEASURED
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from pneumolit.labels import NORMAL, PNEUMONIA

DEMO_VERSION = 1
"""Raise it with every change that alters a byte of the images or a file name."""

_MARKER = ".pneumolit_demo.json"
_STALE_SECONDS = 3600.0  # a half-written folder this old belongs to a process that was killed
_IMAGES_PER_PATIENT = (1, 2, 1, 3)  # repeated along each series; the mean, 1.75, is close to the real set's
_FEWEST_PATIENTS = 8  # so that each of the four series has a patient
_VAL_PATIENTS, _VAL_IMAGES_PER_PATIENT = 4, 2  # per class: 8 + 8 images, as in the official val folder
_VIEW = 1.3  # the patient is drawn this much wider than the film, so that a turned film has no empty corner

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
    """One phantom patient: where it goes, and the file names of its films."""

    split: str
    series: str
    number: int
    file_names: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return Path(self.split) / (PNEUMONIA if self.series in ("bacteria", "virus") else NORMAL)


def make_demo(
    root: Path, *, seed: int = 0, num_train_patients: int = 512, num_test_patients: int = 152, size: int = 176
) -> Path:
    """Write `root/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg`, or return at once where exactly that is there.

    The folder appears under its name only when whole: a run killed half way leaves none, and two processes
    that write it at once both return the same folder.

    Args:
        root: folder to create; its parents are made.
        seed: non-negative; the same seed gives the same bytes with the same versions of numpy and Pillow.
        num_train_patients: at least 8; 1.75 films each, about 74 % of them pneumonia.
        num_test_patients: at least 8; 1.75 films each, about 62 % of them pneumonia.
        size: width and height of a film in pixels, at least 64.

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
    marker: dict[str, int] = {
        "version": DEMO_VERSION,
        "seed": seed,
        "num_train_patients": num_train_patients,
        "num_test_patients": num_test_patients,
        "size": size,
    }
    if _is_whole(root, marker):
        return root
    patients = _enrol(np.random.default_rng([seed, 0]), num_train_patients, num_test_patients)
    root.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(root)
    partial_root = root.with_name(f".{root.name}.{uuid.uuid4().hex}.partial")
    try:
        for folder in {patient.folder for patient in patients}:
            (partial_root / folder).mkdir(parents=True)
        with ThreadPoolExecutor(max_workers=2) as pool:  # numpy and JPEG release the GIL; more threads gain little
            list(pool.map(partial(_write_patient, partial_root, seed, size), patients))
        (partial_root / _MARKER).write_text(json.dumps(marker), encoding="utf-8")
        _publish(partial_root, root, marker)
    finally:
        shutil.rmtree(partial_root, ignore_errors=True)
    return root


def _is_whole(root: Path, marker: dict[str, int]) -> bool:
    """Whether `root` is this very demo set (True) or free (False); anything else there is refused."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    path = root / _MARKER
    if not path.is_file():
        raise ValueError(f"{root} exists and is not a demo set; give a path that does not exist yet, or remove it")
    found = json.loads(path.read_text(encoding="utf-8"))
    if found != marker:
        raise ValueError(
            f"{root} holds another demo set ({found}) than the one asked for ({marker}); "
            "remove the folder or give another path"
        )
    return True


def _publish(partial_root: Path, root: Path, marker: dict[str, int]) -> None:
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


def _enrol(rng: np.random.Generator, num_train: int, num_test: int) -> list[_Patient]:
    """Draw the numbers of all patients and name their films as the Kaggle set does."""
    drawn: list[tuple[str, int, str, int]] = []
    for split, total in (("train", num_train), ("test", num_test)):
        for series, share in _SHARES[split].items():
            numbers = _draw_numbers(rng, split, series, max(1, round(total * share)))
            drawn += [
                (series, n, split, _IMAGES_PER_PATIENT[i % len(_IMAGES_PER_PATIENT)]) for i, n in enumerate(numbers)
            ]
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
    body = _draw_patient(np.random.default_rng([*key, 0]), patient.series, round(size * _VIEW))
    for i, name in enumerate(patient.file_names):
        film = _expose(np.random.default_rng([*key, 1 + i]), body, size)
        film.save(root / patient.folder / name, quality=90)


# ---- the patient: a map of attenuation, 0 is air; u runs to the picture's right, v down; film: -1..1 ----


@lru_cache(maxsize=4)
def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    line = np.linspace(-_VIEW, _VIEW, side, dtype=np.float32)
    return np.broadcast_to(line, (side, side)), np.broadcast_to(line[:, None], (side, side))


def _soft(distance: np.ndarray, width: float) -> np.ndarray:
    """1 well inside (distance > 0), 0 well outside, smooth over `width`."""
    return np.asarray(0.5 + 0.5 * np.tanh(distance / width), dtype=np.float32)


def _ridge(distance: np.ndarray, width: float) -> np.ndarray:
    return np.asarray(np.exp(-np.square(distance / width)), dtype=np.float32)


def _noise(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """`(side, side)` float32 smooth noise of unit variance with about `cells` bumps across."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    field = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), dtype=np.float32)


def _draw_patient(rng: np.random.Generator, series: str, side: int) -> np.ndarray:
    """`(side, side)` float32 attenuation of one patient, about 0 (air) to 1.6 (spine over heart)."""
    u, v = _grid(side)
    cage_width, apex, base = rng.uniform(0.62, 0.74), rng.uniform(-0.86, -0.72), rng.uniform(0.66, 0.86)
    depth = np.clip((v - base - 0.05) / (apex - base - 0.05), 0, 1)
    cage = cage_width * np.power(1 - depth ** rng.uniform(2.3, 2.9), 0.5) * (1 - 0.08 * depth) + 1e-3
    lateral = np.abs(u) / cage  # 0 at the spine, 1 at the chest wall

    air, dome = _lungs(rng, u, v, lateral, cage_width, base)
    fill = np.zeros_like(air)
    if series == "bacteria":
        fill = _consolidation(rng, u, v, air)
    elif series == "virus":
        fill = _interstitial(rng, u, v, air)
    tissue = _soft_tissue(rng, u, v, cage_width) + rng.uniform(0.03, 0.10) * dome
    aerated = air * (1 - np.clip(fill, 0, 1))
    # A lesion leaves the mean of the lungs nearly where it was: else their brightness alone told the class.
    regained = (air.sum() / aerated.sum()) ** 0.5
    haze = 1 - rng.uniform(0.0, 0.40) * np.clip(0.5 + 0.6 * _noise(rng, side, 4), 0, 1)  # fat, breast, muscle
    tissue -= rng.uniform(0.42, 0.56) * regained * haze * aerated
    tissue += rng.uniform(0.06, 0.16) * air * _vessels(rng, u, v)
    return np.asarray(
        tissue + _bones(rng, u, v, lateral, cage_width, apex) * (1 - 0.65 * dome * (np.abs(u) > 0.1)),
        dtype=np.float32,
    )


def _lungs(
    rng: np.random.Generator, u: np.ndarray, v: np.ndarray, lateral: np.ndarray, width: float, base: float
) -> tuple[np.ndarray, np.ndarray]:
    """Depth of air, 0 to 1, and the mask of what lies below the diaphragm."""
    lung_centre = 0.48 * width
    rise = rng.uniform(0.14, 0.26)
    right_higher = rng.uniform(0.0, 0.06)  # the liver lifts the patient's right side, on the picture's left
    top = base - rise - right_higher * (u < 0) + rise * 3.2 * np.square((np.abs(u) - lung_centre) / width)
    dome = _soft(v - top, 0.015)
    heart_u, heart_v = rng.uniform(0.09, 0.17), base - rise - rng.uniform(0.16, 0.24)
    tilt = 0.45 * (v - heart_v)
    heart = np.square((u - heart_u - tilt) / rng.uniform(0.24, 0.36)) + np.square(
        (v - heart_v) / rng.uniform(0.28, 0.36)
    )
    hilum = rng.uniform(0.02, 0.06) * _ridge(v + 0.12, 0.16)
    middle = rng.uniform(0.12, 0.17) + hilum + 0.05 * _ridge(v + 0.34, 0.10) * (u > 0)
    air = _soft(0.97 - lateral, 0.035) * _soft(np.abs(u) - middle, 0.025) * (1 - dome)
    air *= _soft(heart - 1, 0.10)
    return air * np.sqrt(np.clip(1.05 - 0.6 * np.square(lateral), 0, 1)), dome


def _soft_tissue(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, cage_width: float) -> np.ndarray:
    fat = rng.uniform(0.06, 0.16)
    waist = cage_width + fat
    shoulder = waist + 0.42 * _ridge(v + 0.95, 0.28) - 0.75 * _soft(-1.0 - v, 0.10)
    chord = np.sqrt(np.clip(1 - np.square(u / np.maximum(shoulder, 0.2)), 0, 1))
    body = rng.uniform(0.72, 0.92) * np.power(chord, 0.6)
    arm_axis = rng.uniform(0.96, 1.12) + rng.uniform(-0.05, 0.22) * (v + 0.6)
    arm = np.sqrt(np.clip(1 - np.square((np.abs(u) - arm_axis) / 0.17), 0, 1)) * _soft(v + 0.75, 0.08)
    humerus = _ridge(np.abs(u) - arm_axis, 0.055) * _soft(v + 0.72, 0.04)
    return np.asarray(np.maximum(body, 0.40 * arm + 0.12 * humerus), dtype=np.float32)


def _bones(
    rng: np.random.Generator, u: np.ndarray, v: np.ndarray, lateral: np.ndarray, width: float, apex: float
) -> np.ndarray:
    side = np.abs(u)
    spacing, strength = rng.uniform(0.135, 0.165), rng.uniform(0.04, 0.09)
    r = np.clip(lateral, 0, 1.3)
    inside = _soft(1.02 - lateral, 0.02) * _soft(v - apex + 0.06, 0.05)

    def ribs(course: np.ndarray, thickness: float) -> np.ndarray:
        phase = (v - course) / spacing + rng.uniform()
        return _ridge((phase - np.round(phase)) * spacing, thickness)

    out = strength * inside * ribs(0.34 * r**2.4 - 0.07 * np.sin(2.2 * r), 0.032) * _soft(side - 0.07, 0.03)
    out += 0.75 * strength * inside * ribs(0.30 * (1 - r) + 0.12 * r**4, 0.036) * _soft(lateral - 0.45, 0.08)
    out += 0.8 * strength * _ridge(lateral - 1.0, 0.05) * _soft(v - apex, 0.10) * _soft(0.95 - v, 0.2)
    vertebra = 0.72 + 0.28 * np.cos(2 * np.pi * v / rng.uniform(0.115, 0.135))
    out += rng.uniform(0.10, 0.19) * vertebra * _soft(0.085 - side, 0.015)
    out += 0.07 * _ridge(side - 0.06, 0.02) * vertebra  # pedicles
    out -= 0.16 * _ridge(u - rng.uniform(-0.02, 0.02), 0.042) * _soft(-0.30 - v, 0.05)  # trachea
    collar = apex + rng.uniform(0.10, 0.20) - rng.uniform(0.10, 0.40) * (side - 0.1) - 0.06 * np.sin(9 * side)
    out += 0.20 * _ridge(v - collar, 0.034) * _soft(side - 0.11, 0.02) * _soft(width - 0.08 - side, 0.06)
    blade = side - width * rng.uniform(0.95, 1.05) - 0.30 * (v + 0.45)
    out += 0.08 * _soft(blade, 0.012) * _soft(0.24 - blade, 0.02) * _soft(0.32 - np.abs(v + 0.42), 0.05)
    return np.asarray(out, dtype=np.float32)


def _vessels(rng: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Branching shadows that run out from both hila and thin towards the wall."""
    texture = np.clip(_noise(rng, 256, 52), 0.0, 1.6)
    x, y = np.abs(u) - 0.16, v + 0.08
    radius = np.hypot(x, y)
    angle = np.arctan2(y, x + 0.02) / np.pi * 0.5 + 0.5
    column = (angle * 125 + 128 * (u > 0)).astype(np.intp) & 255
    row = np.clip(radius * 34, 0, 255).astype(np.intp)
    return np.asarray(texture[row, column] * np.exp(-radius * 2.2), dtype=np.float32)


def _consolidation(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, air: np.ndarray) -> np.ndarray:
    """One or two ragged dense areas anywhere in the lungs; share of the air that is replaced."""
    side = len(air)
    deep = np.square(ndimage.gaussian_filter(air, 0.04 * side), dtype=np.float64).ravel()
    deep[deep < 0.6 * deep.max()] = 0
    fill = np.zeros_like(air)
    for _ in range(1 + int(rng.uniform() < 0.3)):
        centre = rng.choice(air.size, p=deep / deep.sum())
        wide, high = rng.uniform(0.21, 0.31, size=2)
        ragged = 0.25 * _noise(rng, side, 14) + 0.20 * _noise(rng, side, 34)
        distance = 1 - np.hypot((u - u.flat[centre]) / wide, (v - v.flat[centre]) / high) + ragged
        bronchi = 1 - 0.35 * _ridge(_noise(rng, side, 22), 0.3)  # air-filled branches within the dense area
        fill = np.maximum(fill, rng.uniform(0.85, 1.0) * bronchi * _soft(distance, 0.17))
    return fill


def _interstitial(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, air: np.ndarray) -> np.ndarray:
    """A net of lines and patches in both lungs, denser round the hila; share of the air that is replaced."""
    side = len(air)
    net = np.maximum(_ridge(_noise(rng, side, 17), 0.42), _ridge(_noise(rng, side, 24), 0.40))
    net *= np.clip(0.8 + 0.35 * _noise(rng, side, 12), 0.1, 1.0)  # broken lines, not closed rings
    patches = _soft(_noise(rng, side, 13) - 0.6, 0.30)
    reach = np.exp(-np.square(np.hypot(np.abs(u) - 0.32, v - rng.uniform(-0.1, 0.2)) / rng.uniform(0.6, 0.9)))
    zones = np.clip(0.85 + 0.25 * _noise(rng, side, 5), 0.2, 1.0)
    return np.asarray(rng.uniform(0.8, 1.0) * reach * zones * np.maximum(0.9 * net, patches), dtype=np.float32)


# ---- the film: pose, exposure, sharpness, noise and side marker, all drawn without regard to the class ----


def _expose(rng: np.random.Generator, body: np.ndarray, size: int) -> Image.Image:
    """One film of a patient: turned, shifted and scaled, then exposed."""
    posed = _pose(rng, body, size)
    posed = ndimage.gaussian_filter(posed, rng.uniform(0.3, 0.9))
    light = np.clip(posed / rng.uniform(1.10, 1.35), 0, 1) ** rng.uniform(0.7, 1.5)
    light += rng.uniform(-0.10, 0.10) * np.sin(2 * np.pi * light)  # a steeper or flatter middle of the film's curve
    light = rng.uniform(0.0, 0.12) + rng.uniform(0.74, 0.98) * light
    u, v = _grid(size)
    light = light * (1 + rng.uniform(-0.10, 0.10) * u + rng.uniform(-0.10, 0.10) * v)
    left, right, top, bottom = np.maximum(rng.uniform(-0.08, 0.08, size=4), 0)  # the collimator's black border
    light = light * ((u > left * 2 * _VIEW - _VIEW) & (u < _VIEW - right * 2 * _VIEW))
    light = light * ((v > top * 2 * _VIEW - _VIEW) & (v < _VIEW - bottom * 2 * _VIEW))
    grain = rng.standard_normal((size, size), dtype=np.float32)
    light = light + rng.uniform(0.004, 0.022) * grain
    film = Image.fromarray((np.clip(light, 0, 1) * 255).astype(np.uint8))
    _stamp_side_marker(rng, film)
    return film


def _pose(rng: np.random.Generator, body: np.ndarray, size: int) -> np.ndarray:
    turn, shear = np.deg2rad(rng.uniform(-7, 7)), rng.uniform(-0.05, 0.05)
    zoom_u, zoom_v = rng.uniform(0.86, 1.06) * rng.uniform(0.95, 1.05, size=2)
    shift = rng.uniform(-0.09, 0.09, size=2) * size
    to_body = np.array([[np.cos(turn), -np.sin(turn) + shear], [np.sin(turn), np.cos(turn)]])
    to_body = to_body @ np.diag([zoom_u, zoom_v])
    offset = np.full(2, len(body) / 2) - to_body @ (np.full(2, size / 2) + shift)
    affine = (*to_body[0], offset[0], *to_body[1], offset[1])
    view = Image.fromarray(body).transform((size, size), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    return np.asarray(view, dtype=np.float32)


def _stamp_side_marker(rng: np.random.Generator, film: Image.Image) -> None:
    """The letter R at the patient's right (the picture's left), or L on the other side."""
    size = film.width
    letter = "R" if rng.uniform() < 0.8 else "L"
    across = rng.uniform(0.02, 0.10) if letter == "R" else rng.uniform(0.84, 0.92)
    place = (across * size, rng.uniform(0.02, 0.45) * size)
    font = ImageFont.load_default(size=size * rng.uniform(0.055, 0.085))
    ImageDraw.Draw(film).text(place, letter, fill=int(rng.uniform(190, 256)), font=font)
