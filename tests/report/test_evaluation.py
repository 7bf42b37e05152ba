from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pneumolit.evaluation.summary import summarise
from pneumolit.predictions import Predictions
from pneumolit.report.evaluation import PATIENTS_UNKNOWN, evaluation_report
from pneumolit.report.tables import calibration_table, prevalence_table, subgroup_table


def test_the_report_says_rule_counts_context_and_that_it_is_no_medical_device(
    metrics: dict[str, Any],
) -> None:
    text = evaluation_report(metrics, title="Test split", context={"Look": "look 3 of this test set"})
    assert text.startswith("# Test split\n")
    assert text.endswith("Research software, not a medical device.\n")
    assert "- Look: look 3 of this test set" in text
    assert f"- Images: 300 of {metrics['num_patients']} patients" in text
    assert "primary rule" in text and "## What validation promised and what was found" in text
    assert "nan" not in text.lower().replace("nance", "")
    widths = [re.sub(r"\\\|", "", line).count("|") for line in text.splitlines() if line.startswith("|")]
    assert min(widths) >= 3


def test_where_every_image_counts_as_a_patient_nothing_is_said_to_be_over_patients(predictions: Predictions) -> None:
    known, unknown = (
        evaluation_report(summarise(found, None, [], num_resamples=20), title="t", context={})
        for found in (predictions, replace(predictions, patient_ids=predictions.paths.copy()))
    )
    assert "patients\n" in known and "interval over patients" in known and PATIENTS_UNKNOWN not in known
    assert "- Images: 300\n" in unknown and "95 % interval over images" in unknown
    assert "over patients" not in unknown and PATIENTS_UNKNOWN in unknown


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_prevalence_calibration_and_parts_of_the_set_are_told_with_a_sentence_how_to_read_them(
    metrics: dict[str, Any],
) -> None:
    found = sections(evaluation_report(metrics, title="t", context={}))
    for heading, table, words in (
        (
            "At other prevalences",
            prevalence_table,
            "By the primary rule, with this set's sensitivity and specificity",
        ),
        (
            "Are the probabilities honest?",
            calibration_table,
            "a slope below 1 means probabilities that are too extreme",
        ),
        ("Parts of the set", subgroup_table, "A cause is ranked against all films that do not"),
    ):
        assert table(metrics).markdown().strip() in found[heading]
        assert words in found[heading]
    assert "calling nobody ill has net benefit 0" in found["At other prevalences"]


def test_on_the_images_of_the_fit_nothing_is_checked_against_itself(metrics: dict[str, Any]) -> None:
    """There a promise is what was found, and the class mix is that of validation."""
    found = sections(evaluation_report(metrics | {"name": "val"}, title="t", context={}))
    assert "What validation promised and what was found" not in found
    honest = found["Are the probabilities honest?"]
    assert "Slope, intercept and thresholds were fitted on these images." in honest
    assert "class mix of this set" not in honest and "at this class mix" not in honest
    other = sections(evaluation_report(metrics | {"name": "test"}, title="t", context={}))
    assert "What validation promised and what was found" in other
    assert "at this class mix" in other["Are the probabilities honest?"]


def test_numbers_of_another_program_are_not_taken_for_validation_by_their_name(
    make_predictions: Callable[..., Predictions],
) -> None:
    metrics = summarise(make_predictions(np.arange(60) % 3), None, [], is_prior_known=False, num_resamples=5)
    text = evaluation_report(metrics | {"name": "val"}, title="val.csv", context={})
    assert "There is no calibration from validation" in text and "were fitted on these images" not in text


def test_the_report_names_the_method_of_every_interval(metrics: dict[str, Any]) -> None:
    headline = sections(evaluation_report(metrics, title="t", context={}))["Headline"]
    for words in ("95 % confidence over patients", "Obuchowski 1997", "Wilson with the design effect", "50 bootstrap"):
        assert words in headline


def test_without_calibration_the_report_says_so_and_promises_nothing(
    make_predictions: Callable[..., Predictions],
) -> None:
    foreign = make_predictions(np.arange(60) % 3)
    text = evaluation_report(summarise(foreign, None, [], num_resamples=5), title="t", context={})
    assert "There is no calibration from validation" in text
    assert "What validation promised" not in text
    assert "calibrated, at this class mix" not in text and "| as trained |" in text
    assert "By the half rule, with this set's sensitivity" in text
    assert "which the last row takes out" not in text  # there is no such row


def test_one_class_has_no_table_of_prevalences_and_a_set_without_known_parts_none_of_parts(
    make_predictions: Callable[..., Predictions],
) -> None:
    normals = make_predictions(np.zeros(9, dtype=int))
    found = sections(evaluation_report(summarise(normals, None, [], num_resamples=5), title="t", context={}))
    assert "At other prevalences" not in found and "Parts of the set" not in found
    assert "n/a" in found["Are the probabilities honest?"]
