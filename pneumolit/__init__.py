"""pneumolit: chest-X-ray pneumonia classifiers with PyTorch Lightning, Hydra, timm and TensorBoard.

Research software. It is not a medical device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pneumolit.prediction.predictor import Predictor

__version__ = "0.1.0"


def load(run_dir: str | Path) -> Predictor:
    """Open a trained model for prediction.

    >>> model = pneumolit.load("outputs/train/2026-11-28/09-00-00")  # doctest: +SKIP
    >>> [(p.probability, p.decision, p.warnings) for p in model.predict(["film.jpeg", "film.dcm"])]  # doctest: +SKIP
    [(0.97, 'pneumonia', ()), (0.02, 'normal', ('rotated_90',))]

    Args:
        run_dir: a run, a bundle that `export` wrote, or an ensemble.

    Returns:
        A predictor, whose `predict(paths)` gives a list of predictions, `stream(paths)` one after the other, and
        `with_rule(mode, prevalence=..., abstain=...)` the same model deciding in another way.

    Raises:
        FileNotFoundError, ValueError: there is none, or it is damaged.
    """
    from pneumolit.prediction.predictor import load as open_predictor

    return open_predictor(run_dir)
