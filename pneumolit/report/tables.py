"""The numbers of metrics.json as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_UNDEFINED = "n/a"
_MOST_DIGITS = 6
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
        sort_keys: a number or a text for every cell, by which a page sorts the table; none: it cannot be sorted.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_labels: int = 1
    sort_keys: tuple[tuple[float | str, ...], ...] = ()

    def markdown(self) -> str:
        """A GitHub table, numbers to the right, ending in a newline."""
        rule = ["---"] * self.num_labels + ["---:"] * (len(self.header) - self.num_labels)
        lines = [self.header, tuple(rule), *self.rows]  # a line break in a cell becomes a space
        return "".join("| " + " | ".join(_cell(text) for text in line) + " |\n" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """A rate with fixed digits, "n/a" where it is undefined."""
    return _UNDEFINED if value is None else f"{value:.{digits}f}"


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """`0.942 [0.921, 0.960]`; the value alone where there is no interval.

    More digits where three would print an interval as a point: no model is right for certain.
    """
    if value is None or interval is None:
        return number(value)
    low, high = interval
    digits = 3
    while digits < _MOST_DIGITS and low < high and number(low, digits) == number(high, digits):
        digits += 1
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"


def share_text(value: float) -> str:
    """A prevalence: two digits where they tell it all; what a person asked for may be 0.001."""
    text = f"{value:.2f}"
    return text if float(text) == value else f"{value:g}"


def rule_label(name: str) -> str:
    """A decision rule's key as words: `sensitivity_95` is "sensitivity >= .95"."""
    kind, _, value = name.rpartition("_")
    if kind == "prevalence":
        return f"prevalence {value}"
    return f"{kind} >= .{value}" if kind in ("sensitivity", "specificity") and value.isdigit() else name


def headline_rule(metrics: dict[str, Any]) -> str:
    """The rule whose numbers stand first: `primary`, or `half` where the run has no calibration."""
    return "primary" if "primary" in metrics["rules"] else "half"


def headline_table(metrics: dict[str, Any], *, has_patients: bool | None = None) -> Table:
    """Ranking, probability and the headline rule, with intervals.

    Args:
        metrics: metrics.json.
        has_patients: whether patients are known; else intervals are over images. None: as the metrics say.
    """
    intervals = metrics["intervals"]
    has_patients = metrics.get("has_patients", True) if has_patients is None else has_patients
    header = ("metric", _value_header(intervals, "patients" if has_patients else "images"))
    if "rules" not in metrics:
        accuracy = with_interval(metrics["class_view"]["accuracy"], intervals["class_view"]["accuracy"])
        return Table(header, (("accuracy (all classes)", accuracy),))
    rule = headline_rule(metrics)
    ranking = [
        (label, with_interval(metrics["ranking"][key], intervals["ranking"][key]))
        for key, label in (("auroc", "AUROC"), ("average_precision", "average precision"))
    ]
    found = metrics["rules"][rule]
    rates = [(label, with_interval(found[key], intervals["rules"][rule].get(key))) for key, label in _HEADLINE.items()]
    causes = {part["name"]: part for part in metrics.get("subgroups", []) if part["kind"] == "cause"}
    by_cause = [
        (
            f"sensitivity, {'bacterial' if cause == 'bacteria' else 'viral'}",
            with_interval(value, causes[cause]["intervals"]["sensitivity"] if cause in causes else None),
        )
        for cause, value in found["sensitivity_by_cause"].items()
    ]
    predictive = [
        (label, with_interval(found[key], intervals["rules"][rule].get(key)))
        for key, label in (("ppv", "PPV"), ("npv", "NPV"), ("f1", "F1"))
    ]
    macro = ("macro F1", with_interval(found["macro"]["f1"], intervals["rules"][rule].get("macro_f1")))
    probability = [
        (f"{label} ({state})", number(metrics["probability"][key + suffix]))
        for key, label in (("brier", "Brier score"), ("ece", "ECE"))
        for suffix, state in (("", "calibrated"), ("_uncalibrated", "as trained"))
        if metrics["probability"][key + suffix] is not None
    ]
    return Table(header, (*ranking, *rates, *by_cause, *predictive, macro, *probability))


def prevalence_table(metrics: dict[str, Any]) -> Table:
    """Predictive values and net benefit of the headline rule at other prevalences than that of the set."""
    header = ("prevalence", "PPV", "NPV", "net benefit", "of calling all ill", "at probability")
    rows = []
    for found in metrics.get("prevalences", {}).get(headline_rule(metrics), []):
        limits = found["intervals"]
        cells = [with_interval(found[key], limits[key]) for key in ("ppv", "npv", "net_benefit")]
        rows.append(
            (
                share_text(found["prevalence"]),
                *cells,
                number(found["net_benefit_all"]),
                number(found["threshold_probability"]),
            )
        )
    return Table(header, tuple(rows))


def is_fitted_on(metrics: dict[str, Any]) -> bool:
    """Whether calibration and thresholds were fitted on these very images: those of a run's validation.

    Numbers that another program made may be called "val" too; they have no rule from validation.
    """
    return metrics.get("name") == "val" and "primary" in metrics.get("rules", {})


def calibration_table(metrics: dict[str, Any]) -> Table:
    """Slope, intercepts, ECE and Brier score before and after calibration, and at the class mix of this set.

    The set that calibration was fitted on has no other class mix, and no such row.
    """
    labels = {"as_trained": "as trained", "calibrated": "calibrated"}
    if not is_fitted_on(metrics):
        labels["rebased"] = "calibrated, at this class mix"
    header = ("probability", "slope", "intercept", "in the large", "mean", "observed", "ECE", "Brier score")
    rows = []
    for name, label in labels.items():
        found = metrics.get("calibration", {}).get(name)
        if found is not None:
            limits = found["intervals"]
            cells = [with_interval(found[key], limits[key]) for key in ("slope", "intercept", "in_the_large")]
            brier = with_interval(found["brier"], limits["brier"])
            rows.append((label, *cells, *(number(found[k]) for k in ("expected", "observed", "ece")), brier))
    return Table(header, tuple(rows))


def subgroup_table(metrics: dict[str, Any]) -> Table:
    """Sensitivity, specificity and AUROC of parts of the set, by the headline rule."""
    kinds = {"cause": "cause", "series": "series", "sharpness": "sharpness"}
    rows = []
    for found in metrics.get("subgroups", []):
        cells = [
            with_interval(found[key], found["intervals"][key]) if found[key] is not None else "-"
            for key in ("sensitivity", "specificity", "auroc")
        ]
        patients = str(found["num_patients"]) if metrics.get("has_patients", True) else "-"
        counts = (str(found["num_images"]), patients)
        rows.append((kinds.get(found["kind"], found["kind"]), found["name"], *counts, *cells))
    return Table(("part", "", "images", "patients", "sensitivity", "specificity", "AUROC"), tuple(rows), num_labels=2)


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
        if promised is not None and any(value is not None for value in promised.values()):
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
    whole = {"auroc": metrics["ranking"]["auroc"], **metrics["rules"][rule]}
    whole_limits = {"auroc": metrics["intervals"]["ranking"]["auroc"], **metrics["intervals"]["rules"][rule]}
    limits = without.get("intervals", {"auroc": None, "rules": {}})
    rest_limits = {"auroc": limits["auroc"], **limits["rules"].get(rule, {})}
    rest = {"auroc": without["auroc"], **without["rules"][rule]}
    rows = [
        (label, str(count), *(with_interval(found[key], of.get(key)) for key in ("auroc", *_HEADLINE)))
        for label, count, found, of in (
            ("all images", metrics["num_images"], whole, whole_limits),
            ("without copies", without["num_images"], rest, rest_limits),
        )
    ]
    return Table(("set", "images", "AUROC", *_HEADLINE.values()), tuple(rows))


def _value_header(intervals: dict[str, Any], over: str) -> str:
    return f"value [{100 * intervals['level']:g} % interval over {over}]"


def _threshold(value: float | None) -> str:
    # Near 0 and 1 three digits would print every threshold alike.
    return "-" if value is None else f"{value:.4g}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
