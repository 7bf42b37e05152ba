"""Is a film of the kind that the model was trained on? Short words for what speaks against it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pneumolit.data.film import Exam, Film
from pneumolit.prediction.appearance import Appearance
from pneumolit.prediction.reference import ORIENTATIONS, Reference

MOST_COLOR = 8.0  # gray levels; every film of the Kaggle set has 0, compression of a gray photo leaves up to 3
ASPECTS = (0.6, 3.5)  # width / height; 200 original films of children lie between 0.96 and 3.2, adults' down to 0.8
LEAST_SIDE = 96  # pixels; lobar opacities are still told apart at that size, vessels no more
IMAGE_CHECKS = ("inverted", "rotated_90", "rotated_180", "rotated_270", "noisy", "blurred", "flat", "unlike_training")
FILE_CHECKS = ("not_gray", "aspect", "tiny", "modality", "body_part", "view", "age", "no_window")
WORDS = {
    "inverted": "black and white are exchanged",
    "rotated_90": "turned by 90 degrees",
    "rotated_180": "upside down",
    "rotated_270": "turned by 270 degrees",
    "noisy": "more fine detail than training films: noise, or heavy sharpening",
    "blurred": "less fine detail than training films",
    "flat": "less contrast than training films",
    "unlike_training": "what the model sees in it is far from training films",
    "not_gray": "a color picture",
    "aspect": f"width is not {ASPECTS[0]} to {ASPECTS[1]} times the height",
    "tiny": f"a side of less than {LEAST_SIDE} pixels",
    "modality": "the DICOM file says it is no radiograph",
    "body_part": "the DICOM file names another body part than the chest",
    "view": "the DICOM file says it is no frontal view",
    "age": "the patient's age is outside of that of training patients",
    "no_window": "the DICOM file does not say which values are black and white, so that they had to be guessed",
}
_RADIOGRAPHS = frozenset(("", "CR", "DX", "DR", "RG", "XR", "OT", "SC"))
_CHESTS = ("CHEST", "THORAX", "LUNG", "RIB")
_FRONTAL = frozenset(("", "PA", "AP", "ANTERO-POSTERIOR", "POSTERO-ANTERIOR"))


def image_checks(films: Appearance, reference: Reference) -> list[tuple[str, ...]]:
    """For every film, which of `IMAGE_CHECKS` it fails."""
    limits, count = reference.limits, len(films)
    sharp = np.log(np.maximum(films.sharpness, 1e-6))
    failed: dict[str, np.ndarray] = {
        "noisy": sharp > limits["sharpness_high"],
        "blurred": sharp < limits["sharpness_low"],
        "flat": np.log(np.maximum(films.contrast, 1e-3)) < limits["contrast_low"],
    }
    if reference.features is not None and films.features is not None and "distance" in limits:
        failed["unlike_training"] = reference.distances(films.features) > limits["distance"]
    likeliest, by = reference.turned(films.thumbnails)
    turned = by > limits["turned"]
    found = [[name for name in IMAGE_CHECKS if name in failed and failed[name][row]] for row in range(count)]
    for row in np.flatnonzero(turned):
        words = ORIENTATIONS[likeliest[row]].split()
        found[row] = [*(word for word in words if word != "upright"), *found[row]]
    return [tuple(one) for one in found]


def file_checks(film: Film, reference: Reference | None) -> tuple[str, ...]:
    """Which of `FILE_CHECKS` a film fails, by what its file says."""
    low, high = ASPECTS
    found = []
    if film.colorfulness > MOST_COLOR:
        found.append("not_gray")
    if not low <= film.aspect <= high:
        found.append("aspect")
    if min(film.width, film.height) < LEAST_SIDE:
        found.append("tiny")
    if film.exam is not None:
        found += _exam_checks(film.exam, reference)
    return tuple(found)


def _exam_checks(exam: Exam, reference: Reference | None) -> Sequence[str]:
    found = []
    if exam.modality not in _RADIOGRAPHS:
        found.append("modality")
    if exam.body_part and not any(part in exam.body_part for part in _CHESTS):
        found.append("body_part")
    if exam.view not in _FRONTAL:
        found.append("view")
    limits = {} if reference is None else reference.limits
    is_known = exam.age_years is not None and "age_low" in limits
    # A child of five is five until its sixth birthday.
    if is_known and not limits["age_low"] <= (exam.age_years or 0) < limits["age_high"] + 1:
        found.append("age")
    if not exam.is_windowed:
        found.append("no_window")
    return found
