"""Rows of the result table: what was published, what the records say, and how the two stand to each other."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._results.records import Record, Scored
from pneumolit.evaluation.seeds import mean_over_runs

REPRODUCED, BETTER, WORSE = "reproduced", "better", "worse"
_TEST_SPLITS = ("test", "own test, 20 %")
_PRINTED = ("accuracy", "specificity", "sensitivity", "auroc", "macro_recall", "macro_f1")
Estimate = tuple[float, float | None, float | None]  # value, and its 95 % interval


@dataclass(frozen=True)
class Published:
    """What the authors printed for a row, on the test split.

    Attributes:
        texts: accuracy, specificity, sensitivity, auroc, macro_recall, macro_f1, as far as printed, with the digits
            that were; a specificity that only the printed matrix tells, to three digits.
        ranges: by the same names, what was found may have been before it was rounded; of an accuracy whose right and
            wrong images are counted, that quotient.
        epochs: that were trained, where it is said.
    """

    texts: Mapping[str, str]
    ranges: Mapping[str, tuple[float, float]]
    epochs: int | None = None


@dataclass(frozen=True)
class Row:
    """A recipe with all its records.

    Attributes:
        name: of the recipe, `study_a/two_layer_cnn`.
        records: by seed.
        estimates: of test (`accuracy`, `specificity`, `sensitivity`, `auroc`, `macro_recall`, `macro_f1`), and
            `block_auroc`; means over seeds, intervals over patients and seeds; decisions by `rule_of`.
    """

    name: str
    records: Sequence[Record]
    estimates: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def minutes(self) -> float:
        """Of a run, the median over seeds."""
        return float(np.median([record.metrics["seconds"] for record in self.records])) / 60

    @property
    def looks(self) -> int:
        """Sets of predictions of the test split."""
        return sum(len(record.metrics["looks"]) for record in self.records)


def read_published(path: Path) -> dict[str, Published]:
    """By recipe what was published of it on a test split; the first line of a recipe counts."""
    found: dict[str, Published] = {}
    with path.open(newline="", encoding="utf-8") as handle:
        for line in csv.DictReader(handle):
            recipe = line["recipe"]
            if recipe and line["split"] in _TEST_SPLITS:
                texts = {key: line[key] for key in _PRINTED if line[key]}
                ranges = {key: _range(text) for key, text in texts.items()}
                if line["right"] and line["wrong"]:
                    share = int(line["right"]) / (int(line["right"]) + int(line["wrong"]))
                    ranges["accuracy"] = (share, share)
                if line["matrix"] and not line["specificity"]:
                    kept, called = map(int, line["matrix"].split("/")[:2])
                    ranges["specificity"] = (kept / (kept + called), kept / (kept + called))
                    texts["specificity"] = f"{ranges['specificity'][0]:.3f}".removeprefix("0")
                told = re.search(r"(\d+) epochs", line["protocol"])
                found.setdefault(recipe, Published(texts, ranges, int(told[1]) if told else None))
    return found


def _range(text: str) -> tuple[float, float]:
    """What a printed number may have been: half a unit of its last digit to either side, with a + that unit above.

    >>> _range(".91")
    (0.905, 0.915)
    >>> _range(".84+")
    (0.84, 0.85)
    """
    digits = len(text.rstrip("+").partition(".")[2])
    half = 0.5 * 10.0**-digits
    if text.endswith("+"):
        return float(text.rstrip("+")), round(float(text.rstrip("+")) + 2 * half, digits)
    return round(float(text) - half, digits + 1), round(float(text) + half, digits + 1)


def make_rows(records: Sequence[Record]) -> list[Row]:
    """Records of one recipe together."""
    by_name: dict[str, list[Record]] = {}
    for record in records:
        by_name.setdefault(record.row, []).append(record)
    return [Row(name, sorted(own, key=lambda record: record.seed), estimates_of(own)) for name, own in by_name.items()]


def rule_of(row: str) -> str:
    """The decision rule of a row's numbers: as published, or the one that was fixed for recipes of our own."""
    return "argmax" if row.startswith("study_") else "primary"


def estimates_of(records: Sequence[Record]) -> dict[str, Estimate]:
    """Numbers of one recipe: of a single run its own, of several their mean with both parts of the interval."""
    found: dict[str, Estimate] = {}
    for name, prefix in (("test", ""), ("block", "block_")):
        scored = [record.scored[name] for record in records if name in record.scored]
        if len(scored) < len(records):
            continue
        if len(records) == 1 and records[0].config["data"]["patient_key"] != "image":
            found |= {f"{prefix}{key}": value for key, value in _of_one(records[0], name).items()}
        else:
            calls = [one.decided(rule_of(records[0].row)) for one in scored]
            found |= {f"{prefix}{key}": value for key, value in _of_several(scored, calls).items()}
        if records[0].row.startswith("study_d/") and name == "test":  # published were numbers of three classes
            found |= _of_classes(records, scored)
    return found


def _of_one(record: Record, name: str) -> dict[str, Estimate]:
    numbers = record.metrics["sets"][name]
    rule = numbers["rules"][rule_of(record.row)]
    return {
        "auroc": _estimate(numbers["auroc"]),
        **{key: _estimate(rule[key]) for key in ("accuracy", "balanced_accuracy", "sensitivity", "specificity")},
    }


def _of_several(scored: Sequence[Scored], calls: Sequence[np.ndarray]) -> dict[str, Estimate]:
    """Over patients, also where a run took every film for a patient of its own."""
    first = scored[0]
    if any(list(one.films) != list(first.films) for one in scored):
        raise ValueError("the seeds of a row were scored on different films; collect runs of one data set only")
    found = mean_over_runs(
        first.positives,
        np.column_stack([one.scores for one in scored]),
        np.column_stack(calls),
        first.patient_ids,
    )
    return {key: _estimate([value["mean"], *(value["interval"] or (None, None))]) for key, value in found.items()}


def _of_classes(records: Sequence[Record], scored: Sequence[Scored]) -> dict[str, Estimate]:
    views = [record.metrics["sets"]["test"]["class_view"] for record in records]
    means = {key: float(np.mean([view[key] for view in views])) for key in ("macro_recall", "macro_f1")}
    first = scored[0]
    # The accuracy of calls that are right where the class is right.
    calls = np.column_stack([np.where(one.correct, one.positives, 1 - one.positives) for one in scored])
    found = mean_over_runs(first.positives, np.column_stack([s.scores for s in scored]), calls, first.patient_ids)
    value = found["accuracy"]
    return {
        "accuracy": _estimate([value["mean"], *(value["interval"] or (None, None))]),
        **{key: (mean, None, None) for key, mean in means.items()},
    }


def _estimate(values: Sequence[Any]) -> Estimate:
    value, low, high = values
    return float(value), low, high


def verdict(published: tuple[float, float], ours: Estimate) -> str:
    """`reproduced` where the published value lies in our interval, else on which side of it we are.

    Args:
        published: the least and the most that it can have been before it was rounded.
        ours: value and interval.
    """
    _, low, high = ours
    if low is None or high is None:
        return ""
    if low <= published[1] and published[0] <= high:
        return REPRODUCED
    return BETTER if low > published[1] else WORSE
