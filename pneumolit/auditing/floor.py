"""The crude-feature floor: how well pneumonia is told from statistics that know nothing of lungs.

A model has learned something about films only where it is better than this. A high floor says that the two classes
differ in how their films were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pneumolit.auditing.statistics import FEATURES
from pneumolit.evaluation.clustered import auroc_interval, proportion_interval
from pneumolit.evaluation.metrics import auroc, decision_metrics

_STEPS = 2000  # of the optimizer; it needs some hundred


@dataclass(frozen=True)
class Side:
    """Some images.

    Attributes:
        features: `(N, F)` from `crude_features`.
        positives: `(N,)` 0/1, 1 is pneumonia.
        patients: `(N,)` who was imaged.
    """

    features: np.ndarray
    positives: np.ndarray
    patients: np.ndarray


class FloorModel:
    """Logistic regression on standardised features, both classes weighing the same.

    Args:
        train: what it is fitted on; both classes must occur.
    """

    def __init__(self, train: Side) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=_STEPS))
        self._model.fit(train.features, train.positives)

    @property
    def weights(self) -> dict[str, float]:
        """Change of the log odds of pneumonia per standard deviation of a feature, the strongest first."""
        values = dict(zip(FEATURES, self._model[-1].coef_[0].tolist(), strict=True))
        return dict(sorted(values.items(), key=lambda item: -abs(item[1])))

    def score(self, side: Side) -> dict[str, Any]:
        """AUROC, sensitivity and specificity at probability one half, with 95 % intervals over patients."""
        scores = self._model.decision_function(side.features)
        is_pos, called = side.positives == 1, scores >= 0
        rates = decision_metrics(side.positives, called.astype(np.int64))
        return {
            "num_images": len(scores),
            "num_positive": int(is_pos.sum()),
            "num_patients": len(np.unique(side.patients)),
            "auroc": auroc(side.positives, scores),
            "sensitivity": rates["sensitivity"],
            "specificity": rates["specificity"],
            "balanced_accuracy": rates["balanced_accuracy"],
            "intervals": {
                "auroc": auroc_interval(side.positives, scores, side.patients),
                "sensitivity": proportion_interval(called[is_pos], side.patients[is_pos]),
                "specificity": proportion_interval(~called[~is_pos], side.patients[~is_pos]),
            },
        }


def single_aurocs(side: Side) -> dict[str, float]:
    """AUROC of each feature alone; below .5 where pneumonia has the smaller values."""
    return {name: auroc(side.positives, side.features[:, column]) for column, name in enumerate(FEATURES)}


def refuse_one_class(sides: Sequence[tuple[str, Side]]) -> str:
    """Why no floor can be measured; empty where it can."""
    for name, side in sides:
        if not len(side.positives):
            return f"no image that can be read is on the {name} side"
        if not np.isfinite(side.features).all():
            return f"of some {name} images nothing can be measured: they are a few pixels wide"
        if len(np.unique(side.positives)) < 2:
            return f"the {name} images are all of one kind"
    return ""
