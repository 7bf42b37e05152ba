"""The numbers of metrics.json as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_UNDEFINED = "n/a"
_HEADLINE = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column is a label, all others are numbers.

    Attributes:
        header: one text per column.
        rows: each as long as the header.
        num_labels: how many of the first columns are texts.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_labels: int = 1

    def markdown(self) -> str:
        """A GitHub table, numbers to the right, ending in a newline."""
        rule = ["---"] * self.num_labels + ["---:"] * (len(self.header) - self.num_labels)
        lines = [self.header, tuple(rule), *self.rows]
        return "".join("| " + " | ".join(_cell(text) for text in line) + " |\n" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """A rate with fixed digits, "n/a" where it is undefined."""
    return _UNDEFINED if value is None else f"{value:.{digits}f}"


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """`0.942 [0.921, 0.960]`; the value alone where there is no interval."""
    if value is None or interval is None:
        return number(value)
    return f"{number(value)} [{number(interval[0])}, {number(interval[1])}]"


def rule_label(name: str) -> str:
    """A decision rule's key as words: `sensitivity_95` is "sensitivity >= .95"."""
    kind, _, percent = name.rpartition("_")
    return f"{kind} >= .{percent}" if kind in ("sensitivity", "specificity") and percent.isdigit() else name


def headline_rule(metrics: dict[str, Any]) -> str:
    """The rule whose numbers stand first: `primary`, or `half` where the run has no calibration."""
    return "primary" if "primary" in metrics["rules"] else "half"


def headline_table(metrics: dict[str, Any]) -> Table:
    """Ranking, probability and the headline rule, with intervals over patients."""
    intervals = metrics["intervals"]
    if "rules" not in metrics:
        accuracy = with_interval(metrics["class_view"]["accuracy"], intervals["class_view"]["accuracy"])
        return Table(_headline_header(intervals), (("accuracy (all classes)", accuracy),))
    rule = headline_rule(metrics)
    ranking = [
        (label, with_interval(metrics["ranking"][key], intervals["ranking"][key]))
        for key, label in (("auroc", "AUROC"), ("average_precision", "average precision"))
    ]
    found = metrics["rules"][rule]
    rates = [(label, with_interval(found[key], intervals["rules"][rule].get(key))) for key, label in _HEADLINE.items()]
    by_cause = [
        (f"sensitivity, {'bacterial' if cause == 'bacteria' else 'viral'}", number(value))
        for cause, value in found["sensitivity_by_cause"].items()
    ]
    predictive = [(key.upper(), number(found[key])) for key in ("ppv", "npv")] + [("F1", number(found["f1"]))]
    probability = [
        (f"{label} ({state})", number(metrics["probability"][key + suffix]))
        for key, label in (("brier", "Brier score"), ("ece", "ECE"))
        for suffix, state in (("", "calibrated"), ("_uncalibrated", "as trained"))
    ]
    return Table(_headline_header(intervals), (*ranking, *rates, *by_cause, *predictive, *probability))


def rule_table(metrics: dict[str, Any]) -> Table:
    """Every decision rule with its rates and counts, the headline rule first."""
    header = ("rule", "threshold", "accuracy", "balanced", "sensitivity", "specificity", "PPV", "NPV")
    first = headline_rule(metrics)
    names = [first, *(name for name in metrics["rules"] if name != first)]
    rows = []
    for name in names:
        found, (negative, positive) = metrics["rules"][name], metrics["rules"][name]["confusion"]
        rates = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv")
        rows.append(
            (
                rule_label(name),
                _threshold(found["threshold"]),
                *(number(found[key]) for key in rates),
                *(str(count) for count in (*negative, *positive)),
            )
        )
    return Table((*header, "TN", "FP", "FN", "TP"), tuple(rows))


def average_table(metrics: dict[str, Any]) -> Table:
    """Macro and weighted precision, recall and F1 of every rule, and of all classes."""
    views = {rule_label(name): found for name, found in metrics.get("rules", {}).items()}
    views["all classes, largest logit"] = metrics["class_view"]
    keys = ("precision", "recall", "f1")
    header = ("view", *(f"{kind} {key}" for kind in ("macro", "weighted") for key in keys))
    rows = [
        (name, *(number(found[kind][key]) for kind in ("macro", "weighted") for key in keys))
        for name, found in views.items()
    ]
    return Table(header, tuple(rows))


def class_table(metrics: dict[str, Any]) -> Table:
    """Precision, recall, F1 and images of every class, by the largest logit."""
    rows = [
        (name, *(number(found[key]) for key in ("precision", "recall", "f1")), str(found["support"]))
        for name, found in metrics["class_view"]["per_class"].items()
    ]
    return Table(("class", "precision", "recall", "F1", "images"), tuple(rows))


def transfer_table(metrics: dict[str, Any]) -> Table:
    """What validation promised of each operating point, what was found here, and the gap."""
    words = ("promised", "found", "gap")
    header = ("rule", *(f"{key} {word}" for key in ("sensitivity", "specificity") for word in words))
    rows = []
    for name, found in metrics["rules"].items():
        promised = found["promised"]
        if promised is not None:
            cells: list[str] = [rule_label(name)]
            for key in ("sensitivity", "specificity"):
                known = promised[key] is not None and found[key] is not None
                gap = f"{found[key] - promised[key]:+.3f}" if known else _UNDEFINED
                cells += [number(promised[key]), number(found[key]), gap]
            rows.append(tuple(cells))
    return Table(header, tuple(rows))


def copies_table(metrics: dict[str, Any]) -> Table:
    """The headline with and without further byte-identical copies."""
    rule, without = headline_rule(metrics), metrics["without_copies"]
    header = ("set", "images", "AUROC", *_HEADLINE.values())
    rows = (
        (
            "all images",
            str(metrics["num_images"]),
            number(metrics["ranking"]["auroc"]),
            *(number(metrics["rules"][rule][key]) for key in _HEADLINE),
        ),
        (
            "without copies",
            str(without["num_images"]),
            number(without["auroc"]),
            *(number(without["rules"][rule][key]) for key in _HEADLINE),
        ),
    )
    return Table(header, rows)


def _headline_header(intervals: dict[str, Any]) -> tuple[str, str]:
    return "metric", f"value [{100 * intervals['level']:g} % interval over patients]"


def _threshold(value: float | None) -> str:
    # Near 0 and 1 three digits would print every threshold alike.
    return "-" if value is None else f"{value:.4g}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
