"""What scores films: the model of a run or of a bundle, or the several models of an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pneumolit.data.augment import resize_batch
from pneumolit.data.datamodule import EVAL_BATCH
from pneumolit.data.reader import READER_VERSION
from pneumolit.data.sending import send
from pneumolit.evaluation.calibration import Calibration
from pneumolit.evaluation.operating_point import OperatingPoint
from pneumolit.labels import LabelSet, log_softmax, two_class_logit
from pneumolit.model.cut import NoCutError
from pneumolit.model.features import inference
from pneumolit.model.gathered import Gathered
from pneumolit.prediction.views import VIEWS

if TYPE_CHECKING:
    from pneumolit.model.classifier import PneumoniaClassifier
    from pneumolit.prediction.reference import Reference


_FEW = 8  # films that are not worth a whole batch


@dataclass(frozen=True)
class ScoringModel:
    """One model, ready to score.

    Attributes:
        model: in eval mode, on its device.
        stored_side: side in pixels that films are read at, as those were that the model was trained on.
        precision: "float32", "bf16" or "fp16".
        calibration: of its two-class logit; None where no class means pneumonia.
        weight: in the mean over models.
        reader: version of the reader that its training films were read by.
    """

    model: PneumoniaClassifier
    stored_side: int
    precision: str
    calibration: Calibration | None
    weight: float = 1.0
    reader: int = READER_VERSION

    @property
    def labels(self) -> LabelSet:
        """Its classes."""
        return self.model.labels

    @cached_property
    def has_features(self) -> bool:
        """Whether the model can be taken apart before its head."""
        try:
            self.model.take_apart()
        except NoCutError:
            return False
        return True

    def logits(self, images: np.ndarray, tta: str = "none") -> np.ndarray:
        """`(N, K)` float64 of `(N, S, S)` uint8 images; a row's logits do not depend on the other rows.

        Args:
            images: at the stored side.
            tta: one of `VIEWS`; the mean of the logits over the views.
        """
        return self.look(images, tta, with_features=False)[0]

    def look(
        self, images: np.ndarray, tta: str = "none", *, with_features: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Logits, and on the same way through the backbone what the head sees of the images as they are.

        Returns:
            (`(N, K)` float64, `(N, D)` float32; None where they are not asked for or the model has none)
        """
        model, logits, features = self.model.eval(), Gathered(), Gathered()
        with_features = with_features and self.has_features
        with inference(model.device, self.precision):
            for start in range(0, len(images), EVAL_BATCH):
                part = images[start : start + EVAL_BATCH]
                batch = send(torch.from_numpy(_padded(part))[:, None], model.device)
                plain, *others = VIEWS[tta](resize_batch(batch, int(model.settings["image_size"])))
                if with_features:
                    seen = model.features(plain)
                    views = [model.logits_of({"features": seen})]
                    features.add(_pooled(seen)[: len(part)].cpu())
                else:
                    views = [model(plain).float()]
                views += [model(view).float() for view in others]
                logits.add(torch.stack(views).mean(0)[: len(part)].cpu())
            return logits.rows().double().numpy(), features.rows().numpy() if with_features else None

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """`(N,)` two-class logit re-based to prevalence one half."""
        shift = float(self.model.settings["prior_log_odds"])
        return np.asarray(two_class_logit(logits, self.labels.positive_mask) - shift)


@dataclass(frozen=True)
class Scored:
    """What a scorer says of N films.

    Attributes:
        probs: `(N, K)` class probabilities as the model gives them; of an ensemble those of its two classes.
        scores: `(N,)` two-class logit at prevalence one half, not calibrated; NaN where no class means pneumonia.
        log_odds: `(N,)` calibrated log odds of pneumonia at prevalence one half; NaN likewise.
        features: `(N, D)` float32, what the head of the first model sees; None where nobody asked, or it has none.
    """

    probs: np.ndarray
    scores: np.ndarray
    log_odds: np.ndarray
    features: np.ndarray | None = None


@dataclass(frozen=True)
class Scorer:
    """A run, a bundle or an ensemble, ready to score.

    Attributes:
        name: of the run.
        identity: changes when what it says could change; names what was done when work goes on.
        labels: the classes it tells; of an ensemble two.
        models: one, or the members of an ensemble.
        calibration: of the score; None where no class means pneumonia.
        points: operating points.
        validation: `(M,)` calibrated log odds of validation films at prevalence one half; None where unknown.
        reference: what its training films look like; None where it could not be made.
        facts: of the record, for people and for the file beside a table.
        is_ensemble: whether `calibration` is of the weighted mean of the models' calibrated log odds, also where a
            greedy ensemble kept one model alone, and not of the one model's own score.
    """

    name: str
    identity: str
    labels: LabelSet
    models: tuple[ScoringModel, ...]
    calibration: Calibration | None
    points: tuple[OperatingPoint, ...]
    validation: np.ndarray | None = None
    reference: Reference | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    is_ensemble: bool = False

    @property
    def reader_note(self) -> str:
        """What to say where training films were read by another version of the reader; or ""."""
        others = sorted({one.reader for one in self.models} - {READER_VERSION})
        if not others:
            return ""
        return (
            f"{self.name} was trained on films read by reader {', '.join(map(str, others))}, this one is "
            f"{READER_VERSION}: some kinds of files may give it other pixels"
        )

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides in pixels that a film has to be read at."""
        return tuple(dict.fromkeys(model.stored_side for model in self.models))

    def score(self, images: Mapping[int, np.ndarray], tta: str = "none", *, with_features: bool = False) -> Scored:
        """Score films.

        Args:
            images: side -> `(N, side, side)` uint8, for each of `sides`.
            tta: one of `VIEWS`.
            with_features: whether to tell what the head of the first model sees, at no further cost.
        """
        looks = [
            one.look(images[one.stored_side], tta, with_features=with_features and one is self.models[0])
            for one in self.models
        ]
        features = looks[0][1]
        if not self.is_ensemble:
            return self._by_one(self.models[0], looks[0][0], features)
        members = [self._member_log_odds(one, logits) for one, (logits, _) in zip(self.models, looks, strict=True)]
        weights = np.array([one.weight for one in self.models])
        scores = np.column_stack(members) @ (weights / weights.sum())
        assert self.calibration is not None
        two = np.column_stack([np.zeros(len(scores)), scores])
        return Scored(np.exp(log_softmax(two)), scores, self.calibration.log_odds(scores, 0.5), features)

    def _by_one(self, one: ScoringModel, logits: np.ndarray, features: np.ndarray | None) -> Scored:
        probs = np.exp(log_softmax(logits))
        if self.calibration is None:
            unknown = np.full(len(logits), np.nan)
            return Scored(probs, unknown, unknown, features)
        scores = one.scores(logits)
        return Scored(probs, scores, self.calibration.log_odds(scores, 0.5), features)

    @staticmethod
    def _member_log_odds(one: ScoringModel, logits: np.ndarray) -> np.ndarray:
        assert one.calibration is not None  # only those are members
        return one.calibration.log_odds(one.scores(logits), 0.5)


def _pooled(features: Tensor) -> Tensor:
    """`(B, D)` float32; of maps the mean over places, which would make distances of shifts."""
    features = features.float()
    return features.mean((2, 3)) if features.ndim == 4 else features.flatten(1)


def _padded(images: np.ndarray) -> np.ndarray:
    """Filled up with the last image to one of two numbers of rows: more shapes would be rounded in more ways."""
    count = _FEW if len(images) <= _FEW else EVAL_BATCH
    return np.concatenate([images, np.repeat(images[-1:], count - len(images), axis=0)])


def device_words(scorers: Sequence[Scorer]) -> str:
    """Where scoring happens, for people."""
    device = scorers[0].models[0].model.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def is_bundle(path: Path) -> bool:
    """Whether a folder was written by `export`."""
    return (path / "bundle.json").is_file()
