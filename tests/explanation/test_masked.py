"""Scores with lungs blanked: what is blanked, and a reader of lungs against a reader of corners."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pneumolit.data.datamodule import ImageRows, IndexBatch
from pneumolit.explanation.lungs import box_mask
from pneumolit.explanation.masked import check_masked

COUNT, SIZE = 60, 16
LUNGS = box_mask((0.25, 0.25, 0.75, 0.75), SIZE)
POSITIVES = np.arange(COUNT) % 2
PATIENTS = np.arange(COUNT).astype(str)
RNG = np.random.default_rng(0)


def films() -> np.ndarray:
    """Lungs are brighter by 60 with pneumonia, the corner by 12; noise of 10."""
    images = RNG.normal(100, 10, (COUNT, SIZE, SIZE))
    images[:, LUNGS] += 60 * POSITIVES[:, None]
    images[:, :2, :2] += 12 * POSITIVES[:, None, None]
    return np.asarray(images.clip(0, 255).astype(np.uint8))


def pixels(rows: ImageRows) -> np.ndarray:
    return np.asarray(rows[IndexBatch(np.arange(COUNT), 0, 0)]["image"].numpy()[:, 0], dtype=np.float64)


def by_lungs(rows: ImageRows) -> np.ndarray:
    return np.asarray(pixels(rows)[:, LUNGS].mean(1))


def by_corner(rows: ImageRows) -> np.ndarray:
    return np.asarray(pixels(rows)[:, :2, :2].mean((1, 2)))


def test_who_reads_lungs_ranks_nothing_without_them_and_who_reads_a_corner_still_does() -> None:
    images = films()
    whole = ImageRows(images, POSITIVES)
    lungs = check_masked(images, LUNGS[None], POSITIVES, by_lungs(whole), PATIENTS, by_lungs)
    assert lungs["whole"]["auroc"] == lungs["lungs_only"]["auroc"] == 1
    assert lungs["without_lungs"]["auroc"] == 0.5  # the same gray in every film
    corner = check_masked(images, LUNGS[None], POSITIVES, by_corner(whole), PATIENTS, by_corner)
    assert corner["without_lungs"]["auroc"] == pytest.approx(roc_auc_score(POSITIVES, by_corner(whole)), abs=1e-9)
    assert corner["without_lungs"]["auroc"] > 0.8 and corner["lungs_only"]["auroc"] == 0.5
    low, high = corner["without_lungs"]["interval"]
    assert low < corner["without_lungs"]["auroc"] < high


def test_what_is_blanked_becomes_one_gray_and_all_else_stays() -> None:
    images, seen = films(), []

    def score(rows: ImageRows) -> np.ndarray:
        seen.append(pixels(rows))
        return np.arange(COUNT, dtype=float)

    told: list[int] = []
    masks = np.repeat(LUNGS[None], COUNT, 0)
    masks[0] = ~LUNGS
    found = check_masked(images, masks, POSITIVES, np.arange(COUNT), PATIENTS, score, advance=told.append)
    without, only = seen
    assert (without[masks] == found["gray"]).all() and (without[~masks] == images[~masks]).all()
    assert (only[~masks] == found["gray"]).all() and (only[masks] == images[masks]).all()
    assert found["gray"] == round(float(images.mean())) and sum(told) == 2 * COUNT
