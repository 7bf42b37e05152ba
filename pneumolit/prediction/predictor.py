"""Films become predictions: the loop that the command and Python programs share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pneumolit.data.datamodule import EVAL_BATCH
from pneumolit.evaluation.operating_point import PRIMARY
from pneumolit.labels import negative_word
from pneumolit.prediction.appearance import Appearance, describe
from pneumolit.prediction.decision import ABSTAIN, PNEUMONIA, DecisionRule, make_rule
from pneumolit.prediction.films import ReadFilm, read_films
from pneumolit.prediction.opening import open_scorer
from pneumolit.prediction.out_of_range import file_checks, image_checks
from pneumolit.prediction.scorer import Scorer
from pneumolit.prediction.views import VIEWS

ON_ERROR = ("skip", "stop")


@dataclass(frozen=True)
class Prediction:
    """What is said of one file.

    Attributes:
        path: as it was named.
        run: name of the run, bundle or ensemble that says it.
        probability: calibrated, of pneumonia, at the prevalence that was asked for (one half where none was); None
            where the file could not be read, or no class means pneumonia.
        decision: "pneumonia", "normal" (only where NORMAL is all that is no pneumonia; else "no pneumonia") or
            "abstain"; the likeliest class where none means pneumonia; "" where the file could not be read.
        warnings: why the film may not be of the kind that the model knows, from `out_of_range.WORDS`.
        score: two-class logit at prevalence one half, not calibrated, as in predictions.csv.
        probs: class -> probability, as the model gives it.
        sharpness: of the film at the model's stored side, from `data.sharpness`.
        width: pixels of the file.
        height: likewise.
        kind: "JPEG", "PNG" or "DICOM".
        reason: why the file could not be read; "" where it was.
        heat: `(S, S)` float32 heat map where it was asked for, for the side that was decided.
        image: `(S, S)` uint8, the film as the heat map lies over it; there with the heat.
    """

    path: str
    run: str
    probability: float | None = None
    decision: str = ""
    warnings: tuple[str, ...] = ()
    score: float | None = None
    probs: dict[str, float] = field(default_factory=dict)
    sharpness: float | None = None
    width: int | None = None
    height: int | None = None
    kind: str = ""
    reason: str = ""
    heat: np.ndarray | None = None
    image: np.ndarray | None = None

    @property
    def is_read(self) -> bool:
        """Whether the file could be read."""
        return not self.reason


_NO_NUMBER = "the model gives no number for this film: fp16 overflows where bf16 and float32 do not, so train in those"


class Predictor:
    """One or several models that score image files; `pneumolit.load` makes one.

    Args:
        scorers: of which each says its own about every film.
        rules: as many.
        tta: views that are averaged: one of `views.VIEWS`.
        with_checks: whether films are compared with those that the model was trained on.
        with_heat: whether every film gets a heat map.
    """

    def __init__(
        self,
        scorers: Sequence[Scorer],
        rules: Sequence[DecisionRule] | None = None,
        *,
        tta: str = "none",
        with_checks: bool = True,
        with_heat: bool = False,
    ) -> None:
        check_tta(tta)
        self.scorers = tuple(scorers)
        self.rules = tuple(rules) if rules is not None else tuple(make_rule(scorer.points) for scorer in scorers)
        self.tta, self.with_checks, self.with_heat = tta, with_checks, with_heat

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes of all models, each once, in their order."""
        return tuple(dict.fromkeys(name for scorer in self.scorers for name in scorer.labels.classes))

    def with_rule(
        self,
        mode: str | float = PRIMARY,
        *,
        prevalence: float | None = None,
        abstain: float | Sequence[float] | None = None,
    ) -> Predictor:
        """The same models, deciding in another way; arguments and errors as of `decision.make_rule`."""
        rules = [
            make_rule(one.points, mode=mode, prevalence=prevalence, abstain=abstain, validation=one.validation)
            for one in self.scorers
        ]
        return Predictor(self.scorers, rules, tta=self.tta, with_checks=self.with_checks, with_heat=self.with_heat)

    def predict(self, paths: Iterable[str | Path] | str | Path, *, on_error: str = "skip") -> list[Prediction]:
        """Score files.

        Args:
            paths: one or several JPEG, PNG or DICOM files.
            on_error: `skip` gives a file that cannot be read a prediction with a `reason`; `stop` raises.

        Returns:
            One prediction per file (and per model, of several), in order.

        Raises:
            ValueError: a file cannot be read, and `on_error` is `stop`.
            TypeError: something else than names of files.
        """
        named = [paths] if isinstance(paths, str | Path) else paths
        if not isinstance(named, Iterable):
            raise TypeError(f"paths must be names of files, got {type(paths).__name__}")
        return list(self.stream((_as_name(path) for path in named), on_error=on_error))

    def stream(self, paths: Iterable[str], *, on_error: str = "skip") -> Iterator[Prediction]:
        """As `predict`, one after the other, for any number of files in the same memory."""
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, got {on_error!r}")
        sides = tuple(dict.fromkeys(side for scorer in self.scorers for side in scorer.sides))
        films = read_films(paths, sides)
        while batch := list(islice(films, EVAL_BATCH)):
            broken = next((film for film in batch if film.reason), None)
            if broken is not None and on_error == "stop":
                raise ValueError(
                    f"{broken.path} cannot be read: {broken.reason}; on_error=skip gives it a row with this reason"
                )
            yield from self._predict_batch(batch)

    def _predict_batch(self, batch: Sequence[ReadFilm]) -> Iterator[Prediction]:
        read = [film for film in batch if not film.reason]
        said = [self._by_scorer(scorer, rule, read) for scorer, rule in zip(self.scorers, self.rules, strict=True)]
        place = 0
        for film in batch:
            for scorer, own in zip(self.scorers, said, strict=True):
                yield Prediction(film.path, scorer.name, reason=film.reason) if film.reason else own[place]
            place += not film.reason

    def _by_scorer(self, scorer: Scorer, rule: DecisionRule, films: Sequence[ReadFilm]) -> list[Prediction]:
        if not films:
            return []
        images = {side: np.stack([film.images[side] for film in films]) for side in scorer.sides}
        has_reference = self.with_checks and scorer.reference is not None
        scored = scorer.score(images, self.tta, with_features=has_reference)
        probs = rule.probs(scored.log_odds)
        if scorer.labels.is_two_class_view:
            decisions = rule.decide(probs, negative_word(scorer.labels))
        else:
            decisions = [scorer.labels.classes[k] for k in scored.probs.argmax(axis=1)]
        first = images[scorer.sides[0]]
        warnings, sharp = self._warnings(scorer, films, describe(first, scored.features))
        heat = _heat(scorer, first, decisions) if self.with_heat else None
        has_score = scorer.labels.is_two_class_view
        found = []
        for row, read in enumerate(films):
            film = read.film
            assert film is not None
            if np.isnan(scored.probs[row]).any() or (has_score and np.isnan(probs[row])):
                # Below every threshold, so that it would be called normal.
                found.append(Prediction(read.path, scorer.name, reason=_NO_NUMBER))
                continue
            found.append(
                Prediction(
                    path=read.path,
                    run=scorer.name,
                    probability=float(probs[row]) if has_score else None,
                    decision=decisions[row],
                    warnings=warnings[row],
                    score=float(scored.scores[row]) if has_score else None,
                    probs=dict(zip(scorer.labels.classes, scored.probs[row].tolist(), strict=True)),
                    sharpness=float(sharp[row]),
                    width=film.width,
                    height=film.height,
                    kind=film.kind,
                    heat=None if heat is None else heat[row],
                    image=None if heat is None else first[row],
                )
            )
        return found

    def _warnings(
        self, scorer: Scorer, films: Sequence[ReadFilm], looks: Appearance
    ) -> tuple[list[tuple[str, ...]], np.ndarray]:
        if not self.with_checks:
            return [()] * len(films), looks.sharpness
        reference = scorer.reference
        by_image = image_checks(looks, reference) if reference is not None else [()] * len(films)
        by_file = [file_checks(read.film, reference) for read in films if read.film is not None]
        return [own + other for own, other in zip(by_file, by_image, strict=True)], looks.sharpness


def check_tta(tta: str) -> None:
    """Refuse an unknown kind of test-time augmentation."""
    if tta not in VIEWS:
        raise ValueError(f"tta must be one of {', '.join(VIEWS)}, got {tta!r}")


def check_heat(scorer: Scorer) -> None:
    """Refuse heat maps where a model has none, before films are read.

    Raises:
        ValueError: an ensemble, no class that means pneumonia, or a model whose features have no places, or too few.
    """
    from pneumolit.model.heatmap import NoMapError, check_places

    if scorer.is_ensemble:
        raise ValueError(f"heatmaps: {scorer.name} is an ensemble, which has no map of its own; give one of its runs")
    if not scorer.labels.is_two_class_view:
        raise ValueError(
            f"heatmaps: no class of {list(scorer.labels.classes)} means pneumonia, so nothing is explained"
        )
    try:
        check_places(scorer.models[0].model)
    except NoMapError as error:
        raise ValueError(f"heatmaps: {error}") from error


def explained_side(decision: str) -> str:
    """Of which side a heat map is: of the one that was decided; where it was left open, of pneumonia."""
    return "pneumonia" if decision in (PNEUMONIA, ABSTAIN) else "normal"


def _heat(scorer: Scorer, images: np.ndarray, decisions: Sequence[str]) -> np.ndarray:
    """`(N, S, S)`, each of the side that its decision asks for."""
    import torch

    from pneumolit.model.heatmap import heatmaps

    model, out = scorer.models[0].model, np.zeros(images.shape, dtype=np.float32)
    sides = np.array([explained_side(decision) for decision in decisions])
    for side in ("normal", "pneumonia"):
        rows = np.flatnonzero(sides == side)
        if len(rows):
            pixels = torch.from_numpy(np.ascontiguousarray(images[rows]))[:, None].to(model.device)
            out[rows] = heatmaps(model, pixels, side=side)
    return out


def _as_name(path: object) -> str:
    if not isinstance(path, str | Path):
        raise TypeError(f"paths must be names of files, got {type(path).__name__}; save an image as PNG and name it")
    return str(path)


def load(run_dir: str | Path) -> Predictor:
    """Open a run, a bundle or an ensemble for prediction; see `pneumolit.load`.

    Raises:
        TypeError: something else than the name of a folder.
    """
    if not isinstance(run_dir, str | Path):
        raise TypeError(f"load takes the name of one folder, got {type(run_dir).__name__}; call it once for each")
    return Predictor([open_scorer(run_dir)])


def describe_rule(rule: DecisionRule) -> dict[str, Any]:
    """Plain values of a rule, for the file beside a table."""
    return {
        "mode": rule.name,
        "rule": rule.words,
        "prevalence": rule.prevalence,
        "threshold": rule.threshold,
        "abstain_between": None if rule.band is None else list(rule.band),
    }
