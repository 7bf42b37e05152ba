"""report.md: one evaluation in words and tables, readable without anything else."""

from __future__ import annotations

from typing import Any

from pneumolit.report.tables import (
    average_table,
    calibration_table,
    class_table,
    copies_table,
    headline_rule,
    headline_table,
    is_fitted_on,
    prevalence_table,
    rule_label,
    rule_table,
    subgroup_table,
    transfer_table,
)

DISCLAIMER = "Research software, not a medical device."
_PERFECT = (
    "Slope 1 and intercept 0 are perfect; a slope below 1 means probabilities that are too extreme, an intercept in "
    "the large above 0 that pneumonia is more frequent than predicted."
)
FITTED_SENTENCE = "Slope, intercept and thresholds were fitted on these images."
# Of an ensemble whose members share no validation images: stands in its context.
CALIBRATED_APART = "every member is calibrated on its own validation images, their mean is left as it is"
CALIBRATION_SENTENCE = (
    f"{_PERFECT} Where the class mix of this set differs from that of validation, the row at this class mix takes that "
    "out."
)
SUBGROUP_SENTENCE = (
    "By the headline rule. A cause is ranked against all films that do not count as pneumonia, a series of these "
    "against all that do; thirds of sharpness are of this set."
)
PATIENTS_UNKNOWN = (
    "Patients are not known: every image counts as its own, so images of one patient may lie on both sides and "
    "intervals may be too narrow."
)
TITLES = {
    "val": "Validation",
    "test": "Test",
    "block": "Held-out block of patient numbers",
    "block2": "Second held-out block",
    "block3": "Third held-out block",
    "train": "Training images",
}


def evaluation_report(metrics: dict[str, Any], *, title: str, context: dict[str, str]) -> str:
    """Write the report of one evaluation.

    Args:
        metrics: what `evaluation.summary.summarise` returned, or metrics.json read back.
        title: heading of the page.
        context: label -> text, such as run, weights, "look" (look n of this test set, configuration m).

    Returns:
        Markdown, ending in the disclaimer and a newline.
    """
    blocks = [f"# {_inline(title)}", _context_list(metrics, context)]
    if "rules" in metrics:
        blocks += _two_class_blocks(metrics)
    else:
        blocks += [
            "No class of this data means pneumonia (data.positive is empty), so there is no two-class view.",
            headline_table(metrics).markdown(),
        ]
    blocks += [
        "## All classes, by the largest logit",
        class_table(metrics).markdown(),
        "## Means over classes",
        average_table(metrics).markdown(),
        DISCLAIMER,
    ]
    return "\n\n".join(block.strip("\n") for block in blocks) + "\n"


def rule_sentence(metrics: dict[str, Any]) -> str:
    """Which decision rule the headline numbers use, and why it could not be chosen to please."""
    if headline_rule(metrics) == "primary":
        if metrics.get("context", {}).get("calibration") == CALIBRATED_APART:
            return (
                "Decisions in the headline use the primary rule: an image is called pneumonia where the probability, "
                "re-based to prevalence one half, is at least 0.5. Every member of the ensemble is calibrated on its "
                "own validation images, and nothing is fitted to their mean. All other rules are secondary."
            )
        return (
            "Decisions in the headline use the primary rule: an image is called pneumonia where the "
            "calibrated probability, re-based to prevalence one half, is at least 0.5. Slope and intercept "
            "of the calibration come from validation; the threshold was fixed before any data were seen. All "
            "other rules are secondary."
        )
    return (
        "There is no calibration from validation, so decisions in the headline use the rule half: an image "
        "is called pneumonia where the uncalibrated score probability is at least 0.5."
    )


def interval_sentence(metrics: dict[str, Any]) -> str:
    """What the intervals are."""
    if not metrics.get("has_patients", True):
        return PATIENTS_UNKNOWN
    intervals = metrics["intervals"]
    return (
        f"Intervals hold with {100 * intervals['level']:g} % confidence over patients. AUROC: logit scale, variance "
        "between patients (Obuchowski 1997). Sensitivity and specificity: Wilson with the design effect of patients; "
        "accuracy, balanced accuracy, PPV and NPV are put together from these. Average precision and F1: percentiles "
        f"of {intervals['num_resamples']} bootstrap resamples of whole patients, each class drawn by itself."
    )


def set_prevalence_sentence(metrics: dict[str, Any]) -> str:
    """Which numbers of the headline hang on a class mix, and on which."""
    words = (
        "PPV, NPV, F1 and average precision hold at the prevalence of this set "
        f"({metrics['prevalence']:.3f}) and would differ at another."
    )
    if metrics["probability"]["ece"] is None:
        return words
    return f"{words} Brier score and ECE of calibrated probabilities are taken at the prevalence of the validation set."


def prevalence_sentence(metrics: dict[str, Any]) -> str:
    """How to read the table of prevalences."""
    return (
        f"By the {rule_label(headline_rule(metrics))} rule, with this set's sensitivity and specificity. Net benefit: "
        "true positives per patient less false positives weighted by the odds of the probability from which on the "
        "rule calls pneumonia at that prevalence; calling nobody ill has net benefit 0."
    )


def calibration_sentence(metrics: dict[str, Any]) -> str:
    """How to read the table of calibration."""
    if is_fitted_on(metrics):
        return f"{FITTED_SENTENCE} {_PERFECT}"
    return CALIBRATION_SENTENCE if "rebased" in metrics["calibration"] else _PERFECT


def _two_class_blocks(metrics: dict[str, Any]) -> list[str]:
    blocks = [
        "## Headline",
        rule_sentence(metrics),
        headline_table(metrics).markdown(),
        interval_sentence(metrics),
        set_prevalence_sentence(metrics),
        "## Decision rules",
        rule_table(metrics).markdown(),
        _rule_list(metrics),
    ]
    prevalences = prevalence_table(metrics)
    if prevalences.rows:
        blocks += ["## At other prevalences", prevalences.markdown(), prevalence_sentence(metrics)]
    calibration = calibration_table(metrics)
    if calibration.rows:
        blocks += ["## Are the probabilities honest?", calibration.markdown(), calibration_sentence(metrics)]
    if metrics["subgroups"]:
        blocks += ["## Parts of the set", subgroup_table(metrics).markdown(), SUBGROUP_SENTENCE]
    transfer = transfer_table(metrics)
    if transfer.rows and not is_fitted_on(metrics):
        blocks += [
            "## What validation promised and what was found",
            transfer.markdown(),
            "A gap below 0 means that the rule does worse here than it did on validation.",
        ]
    if metrics["num_copies"]:
        blocks += [
            "## With and without exact copies",
            f"{metrics['num_copies']} images are byte-identical copies of another image of this set.",
            copies_table(metrics).markdown(),
        ]
    return blocks


def _context_list(metrics: dict[str, Any], context: dict[str, str]) -> str:
    of_patients = f" of {metrics['num_patients']} patients" if metrics.get("has_patients", True) else ""
    known = {"Images": f"{metrics['num_images']}{of_patients}"}
    if "prevalence" in metrics:
        known["Pneumonia"] = f"{100 * metrics['prevalence']:.1f} % of the images"
    known["Classes"] = ", ".join(metrics["classes"])
    return "\n".join(f"- {_inline(label)}: {_inline(text)}" for label, text in (context | known).items())


def _rule_list(metrics: dict[str, Any]) -> str:
    return "\n".join(f"- {rule_label(name)}: {found['rule']}" for name, found in metrics["rules"].items())


def _inline(text: str) -> str:
    return " ".join(text.split())
