"""Classes, which of them mean pneumonia, and how K logits become the one two-class logit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NORMAL = "NORMAL"
PNEUMONIA = "PNEUMONIA"
BACTERIA = "BACTERIA"
VIRUS = "VIRUS"
NOT_PNEUMONIA = "no pneumonia"  # what a film is called that may be of another disease


@dataclass(frozen=True)
class LabelSet:
    """The classes of a task, in logit order, and those among them that mean pneumonia.

    Attributes:
        classes: K >= 2 distinct names; position is the class index and the logit column.
        positive: the names that count as pneumonia; empty where the task has no two-class view.
    """

    classes: tuple[str, ...]
    positive: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError(
                f"a classifier needs at least two classes, found {len(self.classes)}: {list(self.classes)}; "
                "check data.root and data.target"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"class names must be distinct, found {list(self.classes)}")
        unknown = [name for name in self.positive if name not in self.classes]
        if unknown:
            raise ValueError(
                f"data.positive names {unknown}, which are no classes of this data; choose from {list(self.classes)}"
            )
        if self.positive and len(set(self.positive)) == len(self.classes):
            raise ValueError(
                f"data.positive names every class ({list(self.classes)}); at least one class must stay negative"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.classes)

    @property
    def is_two_class_view(self) -> bool:
        """Whether some classes mean pneumonia, so that a two-class score exists."""
        return bool(self.positive)

    @property
    def positive_mask(self) -> np.ndarray:
        """`(K,)` bool, True for the classes that mean pneumonia."""
        return np.array([name in self.positive for name in self.classes], dtype=bool)

    def index(self, name: str) -> int:
        """Position of a class name.

        Raises:
            ValueError: no such class.
        """
        if name not in self.classes:
            raise ValueError(f"unknown class {name!r}; the classes are {list(self.classes)}")
        return self.classes.index(name)

    def to_dict(self) -> dict[str, list[str]]:
        """Plain form for JSON and checkpoints."""
        return {"classes": list(self.classes), "positive": list(self.positive)}

    @classmethod
    def from_dict(cls, plain: dict[str, Sequence[str]]) -> LabelSet:
        """Inverse of `to_dict`."""
        return cls(tuple(plain["classes"]), tuple(plain["positive"]))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithm of the class probabilities of `(N, K)` logits, in float64, without overflow."""
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def two_class_logit(logits: np.ndarray, positive_mask: np.ndarray) -> np.ndarray:
    """Log odds of pneumonia under the softmax of K logits.

    Args:
        logits: `(N, K)` float, any range.
        positive_mask: `(K,)` bool, True for classes that mean pneumonia; neither all nor none.

    Returns:
        `(N,)` float64: logsumexp of the positive logits minus that of the others; 0 means probability one half.
    """
    logits = np.asarray(logits, dtype=np.float64)
    return np.asarray(logsumexp(logits[:, positive_mask]) - logsumexp(logits[:, ~positive_mask]))


def prior_log_odds(class_prior: Sequence[float] | np.ndarray, positive_mask: np.ndarray) -> float:
    """Log odds of pneumonia in a class prior; subtracting it re-bases a logit to prevalence one half.

    Args:
        class_prior: `(K,)` non-negative, need not sum to one; both sides must have mass.
        positive_mask: `(K,)` bool.
    """
    prior = np.asarray(class_prior, dtype=np.float64)
    return float(np.log(prior[positive_mask].sum()) - np.log(prior[~positive_mask].sum()))


def logsumexp(values: np.ndarray) -> np.ndarray:
    """Logarithm of the summed exponentials of every row: `(N, K)` -> `(N,)`, without overflow."""
    peak = values.max(axis=1)
    return np.asarray(peak + np.log(np.exp(values - peak[:, None]).sum(axis=1)))


def negative_word(labels: LabelSet) -> str:
    """What a film is called that is not called pneumonia: "normal" where no other class is left than NORMAL."""
    left = [name.upper() for name in labels.classes if name not in labels.positive]
    return "normal" if left == [NORMAL] else NOT_PNEUMONIA
