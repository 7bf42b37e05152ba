"""The sections of report.html about one evaluated set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from pneumolit.evaluation.calibration import Calibration
from pneumolit.labels import negative_word
from pneumolit.predictions import Predictions
from pneumolit.report import tables
from pneumolit.report.evaluation import (
    PATIENTS_UNKNOWN,
    SUBGROUP_SENTENCE,
    TITLES,
    calibration_sentence,
    interval_sentence,
    prevalence_sentence,
    rule_sentence,
)
from pneumolit.report.explanations import find_pictures, read_words
from pneumolit.report.html import Section
from pneumolit.report.run_record import RunRecord, set_title
from pneumolit.report.tables import Table, headline_rule, number, rule_label

MOST_ERRORS = 10
_PATIENTS_ONLY = 2  # format of metrics.json since which intervals are what `interval_sentence` says
_ALTS = {
    "roc.png": "ROC curve with the decision rules",
    "pr.png": "precision and recall with the decision rules",
    "scores.png": "distribution of the scores by class",
    "confusion.png": "confusion matrix of the headline rule",
    "confusion_classes.png": "confusion matrix of all classes, by the largest logit",
    "reliability.png": "reliability before and after calibration",
}
_RANKING = ("roc.png", "pr.png", "scores.png")
_MATRICES = ("confusion.png", "confusion_classes.png")


def set_sections(record: RunRecord, name: str) -> list[Section]:
    """Everything about one set, the headline first; what an older metrics.json does not hold is left out."""
    metrics = record.evaluations[name]
    title = set_title(name)
    is_known = "rules" in metrics and metrics["format_version"] >= _PATIENTS_ONLY
    note = interval_sentence(metrics) if is_known else ""
    if not record.knows_patients(name):
        note = PATIENTS_UNKNOWN
    headline = tables.headline_table(metrics, has_patients=record.knows_patients(name))
    found = [Section("Result", _first_words(metrics), [headline], label=title, note=note)]
    if "rules" in metrics:
        found += _two_class_sections(record, name, metrics)
    matrices = Section("Confusion matrices", images=_pictures(record, name, _MATRICES), label=title)
    found.append(matrices)
    found.append(Section("Every class by itself", tables=[tables.class_table(metrics)], label=title))
    if "rules" in metrics:
        found.append(_errors(record, name, metrics))
    return [section for section in found if section is not matrices or matrices.images]


def _first_words(metrics: dict[str, Any]) -> list[str]:
    return [rule_sentence(metrics)] if "rules" in metrics else []


def _two_class_sections(record: RunRecord, name: str, metrics: dict[str, Any]) -> list[Section]:
    title = set_title(name)
    first = headline_rule(metrics)  # as in the table
    names = [first, *(key for key in metrics["rules"] if key != first)]
    rules = [f"{rule_label(key)}: {metrics['rules'][key]['rule']}" for key in names]
    found = [Section("Curves", images=_pictures(record, name, _RANKING), label=title)]
    found.append(Section("Decision rules", tables=[tables.rule_table(metrics)], items=rules, label=title))
    transfer = tables.transfer_table(metrics)
    if transfer.rows and name != "val":
        gap = ["A gap below 0 means that the rule does worse here than it did on validation."]
        found.append(Section("What validation promised and what was found", gap, [transfer], label=title))
    for heading, key, make, say in _NEWER:
        if metrics.get(key):
            found.append(Section(heading, say(metrics), [make(metrics)], label=title))
    pictures = _pictures(record, name, ("reliability.png",))
    if pictures:
        is_checked = bool(metrics.get("calibration"))
        table = [tables.calibration_table(metrics)] if is_checked else []
        words = [_CALIBRATION, *([calibration_sentence(metrics)] if is_checked else [])]
        found.append(Section("Calibration", words, table, pictures, label=title))
    if metrics["num_copies"]:
        copies = [f"{metrics['num_copies']} images are byte-identical copies of another image of this set."]
        found.append(Section("With and without exact copies", copies, [tables.copies_table(metrics)], label=title))
    return [section for section in found if section.tables or section.images]


_CALIBRATION = "A calibrated model that says 0.8 is right in 80 of 100 such cases: points on the diagonal."
_Maker = Callable[[dict[str, Any]], Table]
_Words = Callable[[dict[str, Any]], list[str]]
# Heading, key of metrics.json, table, words before it.
_NEWER: tuple[tuple[str, str, _Maker, _Words], ...] = (
    ("At other prevalences", "prevalences", tables.prevalence_table, lambda m: [prevalence_sentence(m)]),
    ("Subgroups", "subgroups", tables.subgroup_table, lambda m: [SUBGROUP_SENTENCE]),
)


def _errors(record: RunRecord, name: str, metrics: dict[str, Any]) -> Section:
    """The most certain wrong decisions, with heat maps where `explain` was run."""
    title, pictures = set_title(name), find_pictures(record.run, name)
    table, total = worst_errors(record, name)
    rule = rule_label(headline_rule(metrics))
    words = [f"{total} of {metrics['num_images']} decisions by the {rule} rule are wrong."]
    if 0 < total == len(table.rows):
        words.append("The surest first, with the probability of pneumonia at prevalence one half:")
    elif total:
        words.append(
            f"The {len(table.rows)} of them that the model was most sure of, with the probability of pneumonia at "
            "prevalence one half:"
        )
    sheet = record.run.evaluation(name).errors_file
    # One of the sheets that `explain` made shows the same films.
    shown = [(sheet, f"{title}: {_ERRORS}")] if sheet.is_file() and not pictures else []
    found = Section("Worst errors", words, [table] if table.rows else [], shown, label=title)
    return replace(found, parts=[_heat_maps(record, name, pictures)])


_ERRORS = "films to which the model gave the least probability of the truth"


def _heat_maps(record: RunRecord, name: str, pictures: list[Path]) -> Section:
    """What `explain` found, or how to call it."""
    if not pictures and name not in TITLES:
        text = "Heat maps are made of the run's own sides, and of no set that was scored besides."
        return Section("Heat maps and their checks", [text])
    if not pictures:
        text = "Whether heat maps of this model can be trusted was not checked so far. This command does:"
        # Where the run lies is nobody's business, and from where the command is called is not known.
        code = f"python -m pneumolit.explain run_dir=FOLDER split={name}"
        return Section("Heat maps and their checks", [text], code=code, note="FOLDER: the folder of this page.")
    page = record.run.explanation(name).page_file
    links = [("Checks of the heat maps in full", page.relative_to(record.run.path).as_posix())]
    images = [(path, f"heat maps: {path.stem.replace('_', ' ')}") for path in pictures]
    words = read_words(record.run, name)
    return Section("Heat maps and their checks", items=words, images=images, links=links if page.is_file() else [])


def worst_errors(record: RunRecord, name: str) -> tuple[Table, int]:
    """Wrong decisions of the headline rule, the most certain first, and how many there are in all."""
    predictions = record.run.read_predictions(name)
    probs = _probabilities(record, predictions)
    wrong = np.flatnonzero((probs >= 0.5) != (predictions.positives == 1))
    order = wrong[np.argsort(-np.abs(probs[wrong] - 0.5), kind="stable")][:MOST_ERRORS]
    names, negative = predictions.labels.classes, negative_word(predictions.labels)
    rows = tuple(
        (
            str(predictions.paths[i]),
            names[predictions.targets[i]],
            "pneumonia" if probs[i] >= 0.5 else negative,
            number(float(probs[i])),
        )
        for i in order
    )
    return Table(("image", "label", "called", "probability"), rows, num_labels=3), len(wrong)


def _probabilities(record: RunRecord, predictions: Predictions) -> np.ndarray:
    """Of pneumonia, by the headline rule: calibrated and re-based, or what the softmax says."""
    fitted = record.calibration.get("calibration")
    if fitted:
        return Calibration.from_dict(fitted).probs(predictions.scores, 0.5)
    return np.asarray(expit(predictions.scores))


def _pictures(record: RunRecord, name: str, files: tuple[str, ...]) -> list[tuple[Any, str]]:
    folder, title = record.run.evaluation_folder(name), set_title(name)
    return [(folder / file, f"{title}: {_ALTS[file]}") for file in files if (folder / file).is_file()]
