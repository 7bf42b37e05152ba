"""The whole way from a stored film to a calibrated probability as one module, for formats that hold a graph."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pneumolit.evaluation.calibration import Calibration
from pneumolit.prediction.scorer import Scorer, ScoringModel


class FilmToProbability(nn.Module):
    """`(B, 1, S, S)` uint8 films at the stored side -> class probabilities and the probability of pneumonia.

    Resizing is two matrix products: the numbers of evaluation's antialiased bilinear filter, in every runtime.

    Args:
        scorer: whose models share one stored side.

    Raises:
        ValueError: they do not, or no class means pneumonia.
    """

    weights: Tensor

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        if len(scorer.sides) > 1:
            raise ValueError(
                f"the members of {scorer.name} read films at {len(scorer.sides)} sides {list(scorer.sides)}, and a "
                "graph has one input; export the members one by one, or the bundle alone (onnx=false)"
            )
        if scorer.calibration is None:
            raise ValueError(
                f"no class of {list(scorer.labels.classes)} means pneumonia, so that there is no probability to put "
                "into a graph; export the bundle alone (onnx=false)"
            )
        self.members = nn.ModuleList(_Member(one) for one in scorer.models)
        weights = torch.tensor([one.weight for one in scorer.models], dtype=torch.float64)
        self.register_buffer("weights", (weights / weights.sum()).float())
        self.slope, self.intercept = _at_one_half(scorer.calibration)
        self.is_ensemble = scorer.is_ensemble

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(`(B, K)` class probabilities, `(B,)` calibrated probability of pneumonia at prevalence one half)."""
        if not self.is_ensemble:
            logits, score = self.members[0](image)
            return logits.softmax(1), torch.sigmoid(self.slope * score + self.intercept)
        odds = torch.stack([member.log_odds(member(image)[1]) for member in self.members], dim=1)  # type: ignore[operator]
        score = odds @ self.weights
        probs = torch.stack([-score, torch.zeros_like(score)], dim=1).softmax(1)
        return torch.stack([probs[:, 0], probs[:, 1]], dim=1), torch.sigmoid(self.slope * score + self.intercept)


class _Member(nn.Module):
    resize: Tensor

    def __init__(self, one: ScoringModel) -> None:
        super().__init__()
        settings = one.model.settings
        self.backbone = one.model.backbone
        self.register_buffer("resize", resize_matrix(one.stored_side, int(settings["image_size"])))
        self.mean, self.std = float(settings["mean"]), float(settings["std"])
        self.in_chans = int(settings["in_chans"])
        self.prior = float(settings["prior_log_odds"])
        mask = one.labels.positive_mask
        self.positive = [k for k in range(len(mask)) if mask[k]]
        self.negative = [k for k in range(len(mask)) if not mask[k]]
        self.slope, self.intercept = _at_one_half(one.calibration) if one.calibration is not None else (1.0, 0.0)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        pixels = self.resize @ image.float() @ self.resize.T / 255
        pixels = (pixels - self.mean) / self.std
        if self.in_chans == 3:
            pixels = torch.cat([pixels] * 3, dim=1)
        logits = self.backbone(pixels).float()
        score = logits[:, self.positive].logsumexp(1) - logits[:, self.negative].logsumexp(1) - self.prior
        return logits, score

    def log_odds(self, score: Tensor) -> Tensor:
        return self.slope * score + self.intercept


def resize_matrix(side: int, size: int) -> Tensor:
    """`(size, side)` float32: what the antialiased bilinear filter makes of every pixel of a line."""
    if side == size:
        return torch.eye(side)
    lines = torch.eye(side)[None, None]  # each column a line with one bright pixel
    return F.interpolate(lines, (size, side), mode="bilinear", antialias=True, align_corners=False)[0, 0]


def _at_one_half(calibration: Calibration) -> tuple[float, float]:
    """Slope and intercept of the log odds at prevalence one half."""
    shift = math.log(calibration.prevalence / (1 - calibration.prevalence))
    return calibration.slope, calibration.intercept - shift
