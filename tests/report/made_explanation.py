"""An explanation made by hand: a model that passes every check, three films, no error."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from pneumolit.report.explanation import ExplainedFilm, Explanation
from pneumolit.report.explanations import NEAREST, RIGHT

RNG = np.random.default_rng(0)
BETTER = {"mean": 0.1, "interval": [0.05, 0.15], "p": 0.0001}
AREAS = {"area_own": 0.6, "area_other": 0.65, "area_random": 0.7}
CURVE = {"own": [0.9, 0.3], "other": [0.9, 0.3], "random": [0.9, 0.3]}
REGION = {
    "area": 0.6, "share": 0.8, "ratio": 1.3, "interval": [1.2, 1.4], "ratio_random": 1.0, "against_random": 1.3,
    "against_random_interval": [1.1, 1.5],
}  # fmt: skip
LESS = {**REGION, "share": 0.1, "ratio": 0.4, "interval": [0.3, 0.5]}
STEP = {"share_random": 1.0, "median": 0.1, "quartiles": [0.0, 0.2], "num_known": 64}
CHECKS: dict[str, Any] = {
    "format_version": 1, "split": "val", "num_images": 366, "num_patients": 280, "has_patients": True, "num_wrong": 7,
    "backbone": "test_resnet", "method": "gradcam", "side": "predicted", "seed": 0,
    "lungs": {"kind": "box", "box": [0.08, 0.08, 0.86, 0.92], "area": 0.655}, "map_shape": [7, 7],
    "scale": {"greatest": 0.4, "share_above": 0.0}, "num_without_heat": 1,
    "scores": {"num_images": 80, "max_difference": 1e-6, "tolerance": 0.02},
    "randomization": {
        **STEP, "num_images": 64, "num_draws": 3, "num_maps": 192, "num_empty_before": 0, "num_empty_after": 2,
        "num_groups": 2,
        "cascade": [{"groups": 1, **STEP, "share_random": 0.3}, {"groups": 2, **STEP}],
    },
    "places": {
        "num_images": 64, "num_without_heat": 0, "regions": {"lungs": REGION, "border": LESS, "corners": LESS},
    },
    "removal": {
        "num_images": 64, "num_patients": 60, "fractions": [0, 1], "blurred": 0.3,
        "curves": {"deletion": CURVE, "insertion": CURVE},
        "deletion": {**AREAS, "better_than_random": BETTER, "better_than_other": BETTER},
        "insertion": {**AREAS, "better_than_random": BETTER, "better_than_other": BETTER},
    },
    "masked": {
        "num_images": 366, "num_patients": 280, "gray": 120, "area": 0.655,
        "whole": {"auroc": 0.99, "interval": [0.98, 1.0]},
        "without_lungs": {"auroc": 0.6, "interval": [0.5, 0.7]},
        "lungs_only": {"auroc": 0.98, "interval": [0.97, 0.99]},
    },
    "seconds": {},
}  # fmt: skip


def changed(**changes: Any) -> dict[str, Any]:
    """CHECKS with values at dotted keys (double underscores) changed."""
    checks = copy.deepcopy(CHECKS)
    for key, value in changes.items():
        *path, last = key.split("__")
        part = checks
        for name in path:
            part = part[name]
        part[last] = value
    return checks


def film(group: str, name: str, heat: float = 0.4) -> ExplainedFilm:
    return ExplainedFilm(
        group=group, path=f"train/NORMAL/{name}.jpeg", label="NORMAL", called="pneumonia", prob=0.75, side="pneumonia",
        film=RNG.integers(256, size=(64, 64), dtype=np.uint8),
        heat=np.full((64, 64), heat, dtype=np.float32), lung_share=0.655 if heat else None,
    )  # fmt: skip


FILMS = [film(RIGHT, "a"), film(RIGHT, "b"), film(NEAREST, "<c> & d", heat=0.0)]
BOX = np.zeros((64, 64), dtype=bool)
BOX[5:55, 5:59] = True


def explanation(checks: dict[str, Any] = CHECKS) -> Explanation:
    return Explanation(checks, FILMS, FILMS[0].film[None], BOX)
