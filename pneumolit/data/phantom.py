"""The pictures of the demo set: one phantom patient drawn from formulas, and films taken of it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

VIEW = 1.3  # the patient is drawn this much wider than the film, so that a turned film has no empty corner

# ---- the patient: a map of attenuation, 0 is air; u runs to the picture's right, v down; film: -1..1 ----


@lru_cache(maxsize=4)
def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    line = np.linspace(-VIEW, VIEW, side, dtype=np.float32)
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


def draw_patient(rng: np.random.Generator, series: str, side: int, *, density: float = 1.0) -> np.ndarray:
    """`(side, side)` float32 attenuation of one patient, about 0 (air) to 1.6 (spine over heart).

    Args:
        rng: of the patient.
        series: bacteria and virus have a lesion.
        side: in pixels.
        density: share of a lesion's usual density, above 0 and at most 1.
    """
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
    fill = fill * np.float32(density)
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


def expose(
    rng: np.random.Generator, body: np.ndarray, size: int, *, stand: np.random.Generator | None = None
) -> Image.Image:
    """One film of a patient: turned, shifted and scaled, then exposed.

    Args:
        rng: of the film.
        body: from `draw_patient`.
        size: of the film in pixels.
        stand: how the patient stands is drawn from it, so that two films with equal ones show the same stance;
            None: from `rng`.
    """
    posed = _pose(rng if stand is None else stand, body, size)
    posed = ndimage.gaussian_filter(posed, rng.uniform(0.3, 0.9))
    light = np.clip(posed / rng.uniform(1.10, 1.35), 0, 1) ** rng.uniform(0.7, 1.5)
    light += rng.uniform(-0.10, 0.10) * np.sin(2 * np.pi * light)  # a steeper or flatter middle of the film's curve
    light = rng.uniform(0.0, 0.12) + rng.uniform(0.74, 0.98) * light
    u, v = _grid(size)
    light = light * (1 + rng.uniform(-0.10, 0.10) * u + rng.uniform(-0.10, 0.10) * v)
    left, right, top, bottom = np.maximum(rng.uniform(-0.08, 0.08, size=4), 0)  # the collimator's black border
    light = light * ((u > left * 2 * VIEW - VIEW) & (u < VIEW - right * 2 * VIEW))
    light = light * ((v > top * 2 * VIEW - VIEW) & (v < VIEW - bottom * 2 * VIEW))
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
