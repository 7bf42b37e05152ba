"""What training minimises: K-class cross entropy with smoothing and class weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def class_weights(setting: str | Sequence[float] | None, class_counts: Sequence[int]) -> list[float] | None:
    """Weight of every class in the loss.

    Args:
        setting: None or "none"; "balanced" (inverse to the class count); or K positive numbers.
        class_counts: training images per class.

    Returns:
        K weights with mean 1 over the training images for "balanced", as given for numbers, None for none.

    Raises:
        ValueError: unknown word, or not one positive number per class.
    """
    if setting is None or setting == "none":
        return None
    if setting == "balanced":
        total, classes = sum(class_counts), len(class_counts)
        return [total / (classes * count) for count in class_counts]
    if (
        isinstance(setting, str)
        or len(setting) != len(class_counts)
        or not all(0 < float(value) < math.inf for value in setting)
    ):
        raise ValueError(
            f"loss.class_weight must be none, balanced or {len(class_counts)} positive numbers "
            f"(one per class), got {setting!r}"
        )
    return [float(value) for value in setting]


class CrossEntropy(nn.Module):
    """Cross entropy over K classes with label smoothing and class weights.

    Args:
        label_smoothing: share of the target spread over all classes, 0 to below 1.
        class_weight: K weights or None.
    """

    weight: Tensor | None

    def __init__(self, *, label_smoothing: float = 0.0, class_weight: Sequence[float] | None = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        weight = torch.tensor(class_weight) if class_weight is not None else None
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """`(B, K)` logits and `(B,)` class indices -> scalar, computed in float32."""
        return nn.functional.cross_entropy(
            logits.float(), targets, weight=self.weight, label_smoothing=self.label_smoothing
        )


# A new loss is one class here and one YAML file in conf/loss/.
LOSSES = {"cross_entropy": CrossEntropy}
