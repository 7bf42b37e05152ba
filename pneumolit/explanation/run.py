"""From a run and a split to its explanation: films with their heat maps, and what the checks found."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console

from pneumolit.explanation.choose import choose_checked, choose_gallery
from pneumolit.explanation.masked import check_masked
from pneumolit.explanation.methods import choose_method, heat_of, is_of_pixels
from pneumolit.explanation.places import check_places
from pneumolit.explanation.progress import check_progress
from pneumolit.explanation.randomization import check_randomization, num_maps
from pneumolit.explanation.removal import check_removal, num_images
from pneumolit.explanation.subject import Subject
from pneumolit.labels import negative_word
from pneumolit.model.heatmap import map_shape
from pneumolit.report.explanation import ExplainedFilm, Explanation

FORMAT_VERSION = 1  # of checks.json
TEST = "test"
_PIXEL_GRID = (16, 16)  # places of the random maps that heat of pixels is held against
_ABOVE = 0.005  # share of pixels whose heat may lie above the scale: single pixels outshine all others


def explain_subject(subject: Subject, cfg: Mapping[str, Any], console: Console) -> Explanation:
    """Make the heat maps of a gallery and check them.

    Args:
        subject: what is explained.
        cfg: of the command, checked: split, num, method, num_checked, checks, lung_box, seed.
        console: shows how far the checks are.

    Raises:
        ValueError: the method is not for this model, or the model gives other scores than those stored.
    """
    start = time.monotonic()
    method = choose_method(subject.model, cfg["method"])
    patients = subject.predictions.patient_ids
    gallery = choose_gallery(subject.margins, subject.predictions.positives, patients, cfg["num"])
    shown = np.unique(np.concatenate(list(gallery.values())))
    checked = choose_checked(subject.sides, subject.called, cfg["num_checked"], cfg["seed"])
    rows = np.union1d(shown, checked) if cfg["checks"] else shown
    scores = subject.check_scores(rows)
    with check_progress(console, "heat maps", len(rows)) as advance:
        heat_of_rows = heat_of(subject.model, subject.images[rows], subject.sides[rows], method, advance)
    heat = heat_of_rows[np.searchsorted(rows, shown)]
    place = {int(row): i for i, row in enumerate(shown)}
    films = [
        _film(subject, group, int(row), heat[place[int(row)]]) for group, found in gallery.items() for row in found
    ]
    checks: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "split": cfg["split"],
        "num_images": len(subject.images),
        "num_patients": len(np.unique(patients.astype(str))),
        "has_patients": subject.predictions.has_patients,
        "num_wrong": int(((subject.margins >= 0) != (subject.predictions.positives == 1)).sum()),
        "backbone": str(subject.model.settings["backbone"]),
        "method": method,
        "side": subject.side,
        "seed": cfg["seed"],
        "lungs": {
            "kind": "masks" if subject.has_masks else "box",
            "box": None if subject.has_masks else [float(edge) for edge in cfg["lung_box"]],
            "area": float(subject.lungs.mean()),
        },
        "map_shape": None if is_of_pixels(method) else list(map_shape(subject.model)),
        "scale": _scale(heat, method),
        "scores": scores,
        "num_without_heat": int((heat.max((1, 2)) <= 0).sum()),
        "randomization": None,
        "places": None,
        "removal": None,
        "masked": None,
        "seconds": {},
    }
    if cfg["checks"]:
        _check(subject, checked, heat_of_rows[np.searchsorted(rows, checked)], cfg, checks, console)
    checks["seconds"]["in_all"] = round(time.monotonic() - start, 1)
    return Explanation(checks, films, subject.images[checked[:1]], subject.lungs_of(checked[:1])[0])


def _check(
    subject: Subject,
    checked: np.ndarray,
    heat: np.ndarray,
    cfg: Mapping[str, Any],
    checks: dict[str, Any],
    console: Console,
) -> None:
    """Fill in what the checks find; on test only those that score no image."""
    images, sides, patients = subject.images[checked], subject.sides[checked], subject.predictions.patient_ids[checked]
    model, method, seed, clock = subject.model, checks["method"], cfg["seed"], _Clock(checks["seconds"])
    with check_progress(console, "weights drawn anew", len(checked) * num_maps(model.backbone)) as advance:
        checks["randomization"], random_heat = check_randomization(
            model, images, sides, heat, method, seed=seed, advance=advance
        )
    clock.stop("randomization")
    checks["places"] = check_places(heat, random_heat, subject.lungs_of(checked), patients, seed=seed)
    clock.stop("places")
    if cfg["split"] == TEST:  # scores of changed test images would be a further look
        return
    grid = _PIXEL_GRID if is_of_pixels(method) else map_shape(model)
    with check_progress(console, "deletion and insertion", num_images(len(checked))) as advance:
        checks["removal"] = check_removal(
            images, heat, sides, patients, subject.probs_of, grid=grid, seed=seed, advance=advance
        )
    clock.stop("removal")
    if len(np.unique(subject.predictions.positives)) == 2:
        with check_progress(console, "lungs blanked", 2 * len(subject.images)) as advance:
            checks["masked"] = check_masked(
                subject.images,
                subject.lungs,
                subject.predictions.positives,
                subject.predictions.scores,
                subject.predictions.patient_ids,
                subject.scores_of,
                advance=advance,
            )
        clock.stop("masked")


class _Clock:
    """Seconds between stops."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds, self.last = seconds, time.monotonic()

    def stop(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name], self.last = round(now - self.last, 1), now


def _film(subject: Subject, group: str, row: int, heat: np.ndarray) -> ExplainedFilm:
    predictions = subject.predictions
    mask = subject.lungs_of(np.array([row]))[0]
    total = float(heat.sum(dtype=np.float64))
    return ExplainedFilm(
        group=group,
        path=str(predictions.paths[row]),
        label=predictions.labels.classes[predictions.targets[row]],
        called=str(subject.called[row]),
        prob=float(subject.calibration.probs(predictions.scores[row : row + 1], 0.5)[0]),
        side=str(subject.sides[row]),
        film=subject.images[row],
        heat=heat,
        lung_share=float(heat[mask].sum(dtype=np.float64)) / total if total > 0 else None,
        negative=negative_word(predictions.labels),
    )


def _scale(heat: np.ndarray, method: str) -> dict[str, Any]:
    """Where the colours of all heat maps that are shown end."""
    if not is_of_pixels(method):
        return {"greatest": float(heat.max(initial=0.0)), "share_above": 0.0}
    greatest = float(np.quantile(heat, 1 - _ABOVE))
    greatest = greatest if greatest > 0 else float(heat.max())
    return {"greatest": greatest, "share_above": float((heat > greatest).mean())}
