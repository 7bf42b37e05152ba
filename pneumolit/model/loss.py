"""What training minimises, and which class prior the trained logits carry."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn

from pneumolit.labels import LabelSet

_LARGEST_TAU = 10.0  # at a class share of .001 the adjustment is e^69 already


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
        if not all(class_counts):
            raise ValueError(
                f"loss.class_weight=balanced, but a class has no training image (counts {list(class_counts)}); set "
                "loss.class_weight=none or leave the class out"
            )
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


class Loss(nn.Module):
    """A loss of K logits; its keyword arguments are the keys of the group `loss`.

    Args:
        labels: the classes, and which of them mean pneumonia.
        sampled_prior: share of every class among the images that training draws, before any weights.
        label_smoothing: share of the target spread over all classes, 0 to below 1.
        class_weight: K weights or None.

    Raises:
        ValueError: a value out of range; names `loss.<key>`.
    """

    # Whether only normal against pneumonia is learned, so that the other classes' logits mean nothing.
    is_two_class: ClassVar[bool] = False
    # Keys that this loss does not take, with the reason that a person who sets one should read.
    refused: ClassVar[Mapping[str, str]] = {}
    weight: Tensor | None

    def __init__(
        self,
        labels: LabelSet,
        sampled_prior: Sequence[float],
        *,
        label_smoothing: float = 0.0,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"loss.label_smoothing must be a number from 0 to below 1, got {label_smoothing}")
        self.labels = labels
        self.sampled_prior = np.asarray(sampled_prior, dtype=np.float64)
        self.label_smoothing = float(label_smoothing)
        weight = torch.tensor(class_weight, dtype=torch.float32) if class_weight is not None else None
        self.register_buffer("weight", weight, persistent=False)

    def carried_prior(self) -> np.ndarray:
        """`(K,)` class prior of the trained logits up to a factor: that of the smoothed targets, each weight times."""
        return self.weighted(self.smoothed_prior())

    def weighted(self, prior: np.ndarray) -> np.ndarray:
        """`(K,)` shares times the weights of their classes."""
        return prior if self.weight is None else np.asarray(prior * self.weight.double().cpu().numpy())

    def smoothed_prior(self) -> np.ndarray:
        """`(K,)` mean of the targets that training sees, not weighted."""
        return np.asarray(
            self.sampled_prior * (1 - self.label_smoothing) + self.label_smoothing / len(self.sampled_prior)
        )


class CrossEntropy(Loss):
    """Cross entropy over K classes with label smoothing and class weights."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """`(B, K)` logits and `(B,)` class indices -> scalar, computed in float32."""
        return F.cross_entropy(logits.float(), targets, weight=self.weight, label_smoothing=self.label_smoothing)


class BinaryCrossEntropy(Loss):
    """Cross entropy of the two-class logit: which of the positive classes it is does not count.

    Smoothed targets are `y * (1 - s) + s / 2`, as in Keras. The weight of an image is that of its class, and the
    mean is over the weights.

    Raises:
        ValueError: no class means pneumonia, so there is no two-class logit.
    """

    is_two_class = True
    positive_mask: Tensor
    positive: Tensor
    negative: Tensor

    def __init__(
        self,
        labels: LabelSet,
        sampled_prior: Sequence[float],
        *,
        label_smoothing: float = 0.0,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(labels, sampled_prior, label_smoothing=label_smoothing, class_weight=class_weight)
        if not labels.is_two_class_view:
            raise ValueError(
                f"loss.name=binary_cross_entropy needs classes that mean pneumonia, but of {list(labels.classes)} none "
                "does; name them in data.positive, or use loss=cross_entropy"
            )
        mask = torch.from_numpy(labels.positive_mask)
        self.register_buffer("positive_mask", mask, persistent=False)
        # By number: how many columns a mask leaves is known to the device alone, and the host would wait for it.
        self.register_buffer("positive", mask.nonzero()[:, 0], persistent=False)
        self.register_buffer("negative", (~mask).nonzero()[:, 0], persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """`(B, K)` logits and `(B,)` class indices -> scalar, computed in float32."""
        logits = logits.float()
        scores = logits[:, self.positive].logsumexp(1) - logits[:, self.negative].logsumexp(1)  # (B,)
        truths = self.positive_mask[targets].float() * (1 - self.label_smoothing) + self.label_smoothing / 2
        losses = F.binary_cross_entropy_with_logits(scores, truths, reduction="none")
        if self.weight is None:
            return losses.mean()
        weights = self.weight[targets]
        return (losses * weights).sum() / weights.sum()

    def carried_prior(self) -> np.ndarray:
        """`(K,)` class prior of the trained logits up to a factor: the two sides are smoothed, not the classes."""
        weighted = self.weighted(self.sampled_prior)
        mask, total = self.labels.positive_mask, weighted.sum()
        sides = np.where(mask, weighted[mask].sum(), weighted[~mask].sum())
        smoothed = sides * (1 - self.label_smoothing) + self.label_smoothing / 2 * total
        return np.asarray(np.divide(weighted * smoothed, sides, out=np.zeros_like(weighted), where=sides > 0))


def taught_loss(logits: Tensor, teacher: Tensor, is_positive: Sequence[bool], *, temperature: float) -> Tensor:
    """Cross entropy of the two-class logit with a teacher's probability of pneumonia in place of the label.

    Args:
        logits: `(B, K)`.
        teacher: `(B,)` log odds of pneumonia in the class prior that the logits are trained under.
        is_positive: K of them, True for the classes that mean pneumonia.
        temperature: divides both sides' log odds; the loss is times its square, so that gradients stay as large.

    Source:
        Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015.
    """
    columns = logits.float().unbind(1)  # a mask as an index would make a GPU wait
    positive = [column for column, is_own in zip(columns, is_positive, strict=True) if is_own]
    others = [column for column, is_own in zip(columns, is_positive, strict=True) if not is_own]
    odds = torch.stack(positive, 1).logsumexp(1) - torch.stack(others, 1).logsumexp(1)
    wanted = torch.sigmoid(teacher.float() / temperature)
    return temperature**2 * F.binary_cross_entropy_with_logits(odds / temperature, wanted)


class Focal(Loss):
    """Cross entropy in which a class term counts the less, the better its probability p: times (1 - p) ** gamma.

    Smoothing and weights act as in `CrossEntropy`, which is the case gamma = 0.

    Args:
        labels: as in `Loss`.
        sampled_prior: as in `Loss`.
        gamma: 0 or more.
        label_smoothing: as in `Loss`.
        class_weight: as in `Loss`.

    Source:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017; softmax in place of the sigmoid.
    """

    def __init__(
        self,
        labels: LabelSet,
        sampled_prior: Sequence[float],
        *,
        gamma: float = 2.0,
        label_smoothing: float = 0.0,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(labels, sampled_prior, label_smoothing=label_smoothing, class_weight=class_weight)
        self.gamma = _at_least_zero("gamma", gamma)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """`(B, K)` logits and `(B,)` class indices -> scalar, computed in float32."""
        log_probs = logits.float().log_softmax(1)
        # Below gamma = 1 the slope of the power at a probability of exactly 1 is infinite, and times 0 it is NaN.
        doubts = (-log_probs.expm1()).clamp_min(torch.finfo(torch.float32).tiny)
        terms = -(doubts**self.gamma) * log_probs  # (B, K)
        own_weights = torch.ones_like(terms[:, 0])
        if self.weight is not None:
            terms, own_weights = terms * self.weight, self.weight[targets]
        own = terms.gather(1, targets[:, None])[:, 0]
        losses = (1 - self.label_smoothing) * own + self.label_smoothing * terms.mean(1)
        return losses.sum() / own_weights.sum()

    def carried_prior(self) -> np.ndarray:
        """`(K,)` probabilities of the constant logits with the smallest loss: gamma draws them towards uniform."""
        weighted = super().carried_prior()
        if self.gamma == 0 or np.allclose(weighted, weighted[0]):
            return weighted

        def expected(free: np.ndarray) -> float:
            logits = np.array([0.0, *free])
            log_probs = logits - np.logaddexp.reduce(logits)
            return float(-(weighted * (-np.expm1(log_probs)) ** self.gamma * log_probs).sum())

        found = minimize(expected, np.log(weighted[1:] / weighted[0]), method="Nelder-Mead", options={"xatol": 1e-6})
        logits = np.array([0.0, *found.x])
        return np.asarray(np.exp(logits - np.logaddexp.reduce(logits)))


class LogitAdjusted(Loss):
    """Cross entropy of logits + tau * log(sampled prior), so that rare classes are not held down by the prior.

    With tau = 1 the trained logits carry a uniform prior.

    Args:
        labels: as in `Loss`.
        sampled_prior: as in `Loss`; no class may be without images.
        tau: 0 (plain cross entropy) to 10.
        label_smoothing: as in `Loss`.

    Raises:
        ValueError: a class has no training image.

    Source:
        Menon et al., Long-tail Learning via Logit Adjustment, ICLR 2021.
    """

    refused: ClassVar[Mapping[str, str]] = {"class_weight": "it corrects the class mix itself; leave one of them out"}
    offset: Tensor

    def __init__(
        self, labels: LabelSet, sampled_prior: Sequence[float], *, tau: float = 1.0, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(labels, sampled_prior, label_smoothing=label_smoothing)
        self.tau = _at_least_zero("tau", tau)
        if self.tau > _LARGEST_TAU:
            raise ValueError(f"loss.tau must be at most {_LARGEST_TAU}, got {tau!r}; 1 makes the classes even")
        empty = [name for name, share in zip(labels.classes, sampled_prior, strict=True) if share <= 0]
        if empty:
            raise ValueError(
                f"loss.name=logit_adjusted needs training images of every class, but {', '.join(empty)} has none; "
                "use loss=cross_entropy, or check data.root and the split"
            )
        offset = self.tau * np.log(self.sampled_prior)
        self.register_buffer("offset", torch.from_numpy(offset.astype(np.float32)), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """`(B, K)` logits and `(B,)` class indices -> scalar, computed in float32."""
        return F.cross_entropy(logits.float() + self.offset, targets, label_smoothing=self.label_smoothing)

    def carried_prior(self) -> np.ndarray:
        """`(K,)` class prior of the trained logits up to a factor: what the adjustment left of the sampled one."""
        return np.asarray(self.smoothed_prior() * self.sampled_prior**-self.tau)


# A new loss is one class here and one YAML file in conf/loss/.
LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "focal": Focal,
    "logit_adjusted": LogitAdjusted,
}


def build_loss(settings: Mapping[str, Any], labels: LabelSet, sampled_prior: Sequence[float]) -> Loss:
    """The loss that the group `loss` names.

    Args:
        settings: `name` and the arguments of that loss; `class_weight` as `class_weights` resolved it.
        labels: the classes of the data.
        sampled_prior: `(K,)` share of every class among the images that training draws.

    Raises:
        ValueError: an unknown loss or key, a value out of range, or data that the loss does not fit.
    """
    kind = _find_loss(settings)
    return kind(labels, sampled_prior, **{key: value for key, value in settings.items() if key != "name"})


def check_loss(settings: Mapping[str, Any]) -> None:
    """Refuse a group `loss` that cannot be built, before there are data; class weights may be words still.

    Raises:
        ValueError: an unknown loss or key, or a value out of range; names `loss.<key>`.
    """
    resolved = dict(settings)
    if "class_weight" in resolved:
        resolved["class_weight"] = None  # how many there must be is known with the data
    build_loss(resolved, _stand_in(2), [0.5, 0.5])


def effective_prior(settings: Mapping[str, Any], labels: LabelSet, sampled_prior: Sequence[float]) -> list[float]:
    """Class prior that the trained logits carry; sums to 1.

    Args:
        settings: as for `build_loss`.
        labels: the classes of the data.
        sampled_prior: `(K,)` share of every class among the images that training draws.
    """
    prior = build_loss(settings, labels, sampled_prior).carried_prior()
    return [float(share) for share in prior / prior.sum()]


def _find_loss(settings: Mapping[str, Any]) -> type[Loss]:
    name = settings["name"]
    if name not in LOSSES:
        raise ValueError(f"loss.name must be one of {', '.join(LOSSES)}, got {name!r}")
    kind = LOSSES[name]
    known = [k for k, p in inspect.signature(kind).parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    unknown = [key for key in settings if key not in {"name", *known}]
    if unknown:
        reason = kind.refused.get(unknown[0])
        raise ValueError(
            f"loss.{unknown[0]} is no key of loss={name}"
            + (f": {reason}" if reason else "")
            + f" (its keys are {', '.join(known)})"
        )
    return kind


def _stand_in(classes: int) -> LabelSet:
    """Labels for questions that do not depend on which classes there are."""
    names = tuple(f"class {k}" for k in range(classes))
    return LabelSet(names, names[1:])


def _at_least_zero(key: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"loss.{key} must be a number of at least 0, got {value!r}")
    return float(value)
