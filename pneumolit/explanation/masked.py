"""Does the model need the lungs?

A split is scored with the lungs blanked, and with all but the lungs blanked. A model that still ranks films well
without any lung reads something else: how a child was laid on the table, markers, exposure, the hospital's machine.
What is blanked becomes one gray, the same in all films, so that the blank itself says nothing. With masks in place of a
box the shape of the blank does say something: dense lungs are segmented smaller.

Source:
    Maguolo and Nanni, Information Fusion 76, 2021 (films without lungs still tell the data set); DeGrave, Janizek and
    Lee, Nature Machine Intelligence 3, 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pneumolit.data.datamodule import ImageRows
from pneumolit.evaluation.clustered import auroc_interval
from pneumolit.evaluation.metrics import auroc
from pneumolit.explanation.methods import Advance

Score = Callable[[ImageRows], np.ndarray]


class Blanked:
    """Images with a part blanked, made when they are asked for; an array to `ImageRows`.

    Args:
        images: `(N, H, W)` uint8.
        blank: `(N, H, W)` or `(1, H, W)` bool, what is blanked.
        gray: that it becomes, 0 to 255.
        advance: told of every image made.
    """

    def __init__(self, images: np.ndarray, blank: np.ndarray, gray: int, advance: Advance | None = None) -> None:
        self.images, self.blank, self.gray, self.advance = images, blank, np.uint8(gray), advance

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        blank = self.blank if len(self.blank) == 1 else self.blank[rows]
        if self.advance is not None:
            self.advance(len(rows))
        return np.where(blank, self.gray, self.images[rows])


def check_masked(
    images: np.ndarray,
    lungs: np.ndarray,
    positives: np.ndarray,
    scores: np.ndarray,
    patient_ids: np.ndarray,
    score: Score,
    *,
    advance: Advance | None = None,
) -> dict[str, Any]:
    """Rank films with and without their lungs.

    Args:
        images: `(N, H, W)` uint8.
        lungs: `(N, H, W)` or `(1, H, W)` bool.
        positives: `(N,)` 0/1; both must occur.
        scores: `(N,)` float, of the whole films.
        patient_ids: `(N,)` who was imaged.
        score: of changed images.
        advance: told of every changed image, twice as many as there are.

    Returns:
        Plain values for checks.json: AUROC and interval of `whole`, `without_lungs` and `lungs_only`, with the gray of
        the blank and the share of the film that the lungs are.
    """
    gray = round(float(images.mean()))
    targets = np.asarray(positives, dtype=np.int64)
    found = {
        "whole": scores,
        "without_lungs": score(ImageRows(Blanked(images, lungs, gray, advance), targets)),  # type: ignore[arg-type]
        "lungs_only": score(ImageRows(Blanked(images, ~lungs, gray, advance), targets)),  # type: ignore[arg-type]
    }
    aurocs = {
        name: {"auroc": auroc(targets, values), "interval": auroc_interval(targets, values, patient_ids)}
        for name, values in found.items()
    }
    area = float(lungs.mean())
    return {"num_images": len(images), "num_patients": len(np.unique(patient_ids.astype(str))), "gray": gray,
            "area": area, **aurocs}  # fmt: skip
