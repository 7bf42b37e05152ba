"""A comparison as rows: methods with their numbers, pairs with their tests, and both as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pneumolit.evaluation.paired import Difference, Interval

NUMBERS = (
    "accuracy", "balanced_accuracy", "sensitivity", "specificity", "macro_f1", "auroc", "average_precision",
)  # fmt: skip
RESAMPLED = ("auroc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")


@dataclass(frozen=True)
class MethodRow:
    """One method of a comparison.

    Attributes:
        number: that stands for it in pictures and tables, from 1.
        name: short, different for every method.
        distinction: what of the name is neither the model nor what trained.
        kind: "run", "file" or "ensemble".
        source: its folder or file, as one would type it.
        rule: the decision rule.
        num_images: that it was scored on.
        num_patients: of whom.
        right: images decided rightly.
        numbers: of `NUMBERS`, those that are defined.
        intervals: 95 % over patients, by the same names, where there is one.
        counts: TN, FP, FN, TP; None without a two-class view.
        is_reference: whether the others are tested against it.
        facts: model, trained, epochs, seed, parameters, trainable, seconds, machine, configuration, val_auroc,
            train_accuracy, train_loss, where known.
        is_loss_logged: whether the training loss was only logged while training, with augmentation.
        notes: what has to be assumed to read it.
        look: which look at the test split its predictions were.
        reason: why it is not compared with the others; empty where it is.
    """

    number: int
    name: str
    kind: str
    source: str
    rule: str
    num_images: int
    num_patients: int
    right: int
    numbers: Mapping[str, float]
    intervals: Mapping[str, Interval]
    distinction: str = ""
    counts: tuple[int, int, int, int] | None = None
    is_reference: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    is_loss_logged: bool = False
    notes: Sequence[str] = ()
    look: str = ""
    reason: str = ""

    @property
    def title(self) -> str:
        """Number and name."""
        return f"{self.number}  {self.name}"


@dataclass(frozen=True)
class AbsentRow:
    """A run or a file without numbers to compare.

    Attributes:
        name: of its folder or file.
        source: as one would type it.
        reason: why.
        command: that would help; "" where none does.
    """

    name: str
    source: str
    reason: str
    command: str


@dataclass(frozen=True)
class PairRow:
    """One method against another on the same images; differences are the first minus the second.

    Attributes:
        first: title of a method.
        second: title of the one that it is tested against.
        accuracy: by patients; its p-value is `sign_flip_p` where `is_sign_flip`.
        accuracy_holm: its p-value, corrected for all pairs of the comparison.
        only_first: images that the first alone decides rightly.
        only_second: images that the second alone decides rightly.
        both_wrong: images that neither does.
        sign_flip_p: of the accuracies, by patients: mid-p over all signs of their gains.
        is_sign_flip: whether the methods differ on so few patients that it is the p-value of `accuracy`.
        mcnemar_exact: as if images were independent.
        mcnemar_mid_p: likewise.
        kappa: agreement of the decisions beyond chance.
        auroc: by patients; None without scores.
        auroc_holm: its p-value, corrected.
        delong: as if images were independent.
        resampled: by name of `RESAMPLED` the difference and its interval from resampled patients, if any varies.
    """

    first: str
    second: str
    accuracy: Difference
    accuracy_holm: float | None
    only_first: int
    only_second: int
    both_wrong: int
    sign_flip_p: float
    mcnemar_exact: float
    mcnemar_mid_p: float
    kappa: float
    auroc: Difference | None = None
    auroc_holm: float | None = None
    delong: Difference | None = None
    resampled: Mapping[str, tuple[float, Interval | None]] = field(default_factory=dict)
    is_sign_flip: bool = False


def comparison_csv(rows: Sequence[MethodRow], absent: Sequence[AbsentRow]) -> str:
    """One line per method with every digit; what was not compared comes last, with its reason."""
    facts = (
        "model", "trained", "epochs", "seed", "configuration", "val_auroc", "train_accuracy", "train_loss",
        "parameters", "trainable", "seconds", "machine",
    )  # fmt: skip
    ends = [f"{name}{end}" for name in NUMBERS for end in ("", "_low", "_high")]
    columns = [
        "number", "name", "kind", "is_reference", "rule", "num_images", "num_patients", "right", "wrong", *ends, "tn",
        "fp", "fn", "tp", *facts, "train_loss_is", "look", "notes", "reason", "command", "source",
    ]  # fmt: skip
    lines = [_method_line(row, facts) for row in rows]
    lines += [{"name": row.name, "reason": row.reason, "command": row.command, "source": row.source} for row in absent]
    return _csv(columns, lines)


def pairs_csv(rows: Sequence[PairRow]) -> str:
    """One line per pair with every digit."""
    columns = [
        "first", "second", "auroc_difference", "auroc_low", "auroc_high", "auroc_p", "auroc_p_holm",
        "accuracy_difference", "accuracy_low", "accuracy_high", "accuracy_p", "accuracy_p_holm", "accuracy_p_is",
        "accuracy_sign_flip_mid_p", "only_first_right", "only_second_right", "both_wrong", "kappa",
        *(f"bootstrap_{name}{end}" for name in RESAMPLED for end in ("", "_low", "_high")),
        "delong_p_if_images_were_independent", "mcnemar_exact_p_if_images_were_independent",
        "mcnemar_mid_p_if_images_were_independent",
    ]  # fmt: skip
    return _csv(columns, [_pair_line(row) for row in rows])


def _method_line(row: MethodRow, facts: Iterable[str]) -> dict[str, Any]:
    line: dict[str, Any] = {
        "number": row.number, "name": row.name, "kind": row.kind, "is_reference": int(row.is_reference),
        "rule": row.rule, "num_images": row.num_images, "num_patients": row.num_patients, "right": row.right,
        "wrong": row.num_images - row.right, "look": row.look, "notes": "; ".join(row.notes), "reason": row.reason,
        "source": row.source,
    }  # fmt: skip
    for name in NUMBERS:
        line[name] = row.numbers.get(name)
        line[f"{name}_low"], line[f"{name}_high"] = row.intervals.get(name) or (None, None)
    line |= dict(zip(("tn", "fp", "fn", "tp"), row.counts or (None,) * 4, strict=True))
    line |= {name: row.facts.get(name) for name in facts}
    if row.facts.get("train_loss") is not None:
        line["train_loss_is"] = "logged while training" if row.is_loss_logged else "measured without augmentation"
    return line


def _pair_line(row: PairRow) -> dict[str, Any]:
    line: dict[str, Any] = {
        "first": row.first, "second": row.second, "accuracy_p_holm": row.accuracy_holm,
        "auroc_p_holm": row.auroc_holm,
        "accuracy_p_is": "sign-flip mid-p" if row.is_sign_flip else "McNemar by patients",
        "accuracy_sign_flip_mid_p": row.sign_flip_p, "only_first_right": row.only_first,
        "only_second_right": row.only_second, "both_wrong": row.both_wrong, "kappa": row.kappa,
        "delong_p_if_images_were_independent": row.delong.p_value if row.delong else None,
        "mcnemar_exact_p_if_images_were_independent": row.mcnemar_exact,
        "mcnemar_mid_p_if_images_were_independent": row.mcnemar_mid_p,
    }  # fmt: skip
    for name, found in (("auroc", row.auroc), ("accuracy", row.accuracy)):
        if found is not None:
            line |= {f"{name}_difference": found.value, f"{name}_p": found.p_value}
            line[f"{name}_low"], line[f"{name}_high"] = found.interval or (None, None)
    for name, (value, interval) in row.resampled.items():
        line[f"bootstrap_{name}"] = value
        line[f"bootstrap_{name}_low"], line[f"bootstrap_{name}_high"] = interval or (None, None)
    return line


def _csv(columns: Sequence[str], lines: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({key: _cell(value) for key, value in line.items()})
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return repr(value)
    if not isinstance(value, str):
        return value
    # A line break or a bare carriage return would end the row for simple readers of CSV, and spreadsheets take a name
    # that begins as a formula for one.
    text = " ".join(value.split())
    return f"'{text}" if text[:1] in tuple("=+-@") else text
