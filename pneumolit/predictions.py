"""What a model said about a set of images: one row per image, the source of every number and picture."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field

import numpy as np

from pneumolit.labels import LabelSet, log_softmax, two_class_logit
from pneumolit.rundir import LineFeeds

_FIXED_COLUMNS = ("path", "patient_id", "target", "pred", "score")
_KNOWN_COLUMNS = ("cause", "is_copy", "series", "sharpness")  # of the image
_LOGIT = "logit_"
_PROB = "prob_"


@dataclass(frozen=True)
class Predictions:
    """Logits of N images beside what is known of them.

    Attributes:
        labels: the classes, in logit order.
        paths: `(N,)` paths relative to the data root, with forward slashes.
        patient_ids: `(N,)` who was imaged; rows of one patient are not independent.
        targets: `(N,)` int64 class index.
        logits: `(N, K)` float64, as the model gave them.
        prior_log_odds: log odds of pneumonia in the class prior that training saw; the score is re-based by it.
        causes: `(N,)` "bacteria", "virus" or "" where the name does not tell.
        is_copy: `(N,)` bool, True for every further byte-identical copy of an image in the same set.
        series: `(N,)` which numbering a film belongs to, such as "IM" and "NORMAL2-IM" of the normal ones; "" where
            the name does not tell.
        sharpness: `(N,)` float from `data.sharpness`, NaN where unknown.
    """

    labels: LabelSet
    paths: np.ndarray
    patient_ids: np.ndarray
    targets: np.ndarray
    logits: np.ndarray
    prior_log_odds: float = 0.0
    causes: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=str))
    is_copy: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=bool))
    series: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=str))
    sharpness: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.float64))

    def __post_init__(self) -> None:
        count = len(self.paths)
        unknown = {"causes": "", "is_copy": False, "series": "", "sharpness": np.nan}
        for name, value in unknown.items():
            if not len(getattr(self, name)):
                dtype = object if isinstance(value, str) else type(value)
                object.__setattr__(self, name, np.full(count, value, dtype=dtype))
        for name in ("patient_ids", "targets", "logits", *unknown):
            if len(getattr(self, name)) != count:
                raise ValueError(f"{name} has {len(getattr(self, name))} rows, paths has {count}")
        if self.logits.shape != (count, self.labels.num_classes):
            raise ValueError(f"logits must be ({count}, {self.labels.num_classes}), got {self.logits.shape}")

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def has_patients(self) -> bool:
        """Whether patients are known; else every image counts as its own, by its path."""
        return bool((self.patient_ids != self.paths).any())

    @property
    def probs(self) -> np.ndarray:
        """`(N, K)` softmax of the logits."""
        return np.asarray(np.exp(log_softmax(self.logits)))

    @property
    def preds(self) -> np.ndarray:
        """`(N,)` class index with the largest logit."""
        return np.asarray(self.logits.argmax(axis=1))

    @property
    def scores(self) -> np.ndarray:
        """`(N,)` two-class logit re-based to prevalence one half: above 0 the image speaks for pneumonia."""
        return np.asarray(two_class_logit(self.logits, self.labels.positive_mask) - self.prior_log_odds)

    @property
    def positives(self) -> np.ndarray:
        """`(N,)` int64, 1 where the target means pneumonia."""
        return np.asarray(self.labels.positive_mask[self.targets], dtype=np.int64)

    @property
    def positive_preds(self) -> np.ndarray:
        """`(N,)` int64, 1 where the class with the largest logit means pneumonia."""
        return np.asarray(self.labels.positive_mask[self.preds], dtype=np.int64)

    def take(self, rows: np.ndarray) -> Predictions:
        """The rows chosen by a bool mask or by indices."""
        return Predictions(
            self.labels,
            self.paths[rows],
            self.patient_ids[rows],
            self.targets[rows],
            self.logits[rows],
            self.prior_log_odds,
            self.causes[rows],
            self.is_copy[rows],
            self.series[rows],
            self.sharpness[rows],
        )

    def to_csv(self) -> str:
        """The table as CSV text; floats with nine digits, enough to give float32 back exactly."""
        names = self.labels.classes
        out = io.StringIO()
        writer = csv.writer(LineFeeds(out), lineterminator="\r\n")
        writer.writerow([*_FIXED_COLUMNS, *(_LOGIT + n for n in names), *(_PROB + n for n in names), *_KNOWN_COLUMNS])
        has_scores = self.labels.is_two_class_view
        scores = self.scores if has_scores else np.zeros(len(self))
        probs, preds = self.probs, self.preds
        for i in range(len(self)):
            writer.writerow(
                [
                    self.paths[i],
                    self.patient_ids[i],
                    names[self.targets[i]],
                    names[preds[i]],
                    f"{scores[i]:.9g}" if has_scores else "",
                    *(f"{v:.9g}" for v in self.logits[i]),
                    *(f"{v:.9g}" for v in probs[i]),
                    self.causes[i],
                    int(self.is_copy[i]),
                    self.series[i],
                    "" if np.isnan(self.sharpness[i]) else f"{self.sharpness[i]:.6g}",
                ]
            )
        return out.getvalue()

    def as_stored(self) -> Predictions:
        """The same as predictions.csv gives them back, rounded to nine digits.

        A threshold is the probability of an image, and must call the image likewise when the file is read.
        """
        return Predictions.from_csv(self.to_csv(), self.labels.positive, self.prior_log_odds)

    @classmethod
    def from_csv(cls, text: str, positive: tuple[str, ...], prior_log_odds: float) -> Predictions:
        """Inverse of `to_csv`; which classes mean pneumonia and the prior come from the run's record.

        Raises:
            ValueError: a column is missing or a class is unknown.
        """
        rows = csv.DictReader(io.StringIO(text))
        header = list(rows.fieldnames or [])
        missing = [name for name in _FIXED_COLUMNS if name not in header]
        if missing:
            raise ValueError(f"predictions lack the columns {missing}; found {header}")
        names = tuple(c.removeprefix(_LOGIT) for c in header if c.startswith(_LOGIT))
        labels = LabelSet(names, positive)
        # Row by row into tuples: all rows as they come from the file would take five times the memory.
        kept = [
            (
                row["path"],
                row["patient_id"],
                labels.index(row["target"]),
                tuple(float(row[_LOGIT + name]) for name in names),
                row.get("cause", ""),
                row.get("is_copy", "0") == "1",
                row.get("series", ""),
                float(row.get("sharpness") or np.nan),
            )
            for row in rows
        ]
        columns = zip(*kept, strict=True) if kept else ((),) * 8
        paths, patient_ids, targets, logits, causes, is_copy, series, sharpness = columns
        return cls(
            labels=labels,
            paths=np.array(paths, dtype=object),
            patient_ids=np.array(patient_ids, dtype=object),
            targets=np.array(targets, dtype=np.int64),
            logits=np.array(logits).reshape(-1, len(names)),
            prior_log_odds=prior_log_odds,
            causes=np.array(causes, dtype=object),
            is_copy=np.array(is_copy, dtype=bool),
            series=np.array(series, dtype=object),
            sharpness=np.array(sharpness, dtype=np.float64),
        )
