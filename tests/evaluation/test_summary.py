from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from pneumolit.evaluation.calibration import Calibration, fit_calibration
from pneumolit.evaluation.calibration_check import check_calibration
from pneumolit.evaluation.clustered import mean_recall_interval
from pneumolit.evaluation.intervals import patient_intervals
from pneumolit.evaluation.operating_point import OperatingPoint, fit_operating_points, point_at_prevalence
from pneumolit.evaluation.prevalence import PREVALENCES
from pneumolit.evaluation.summary import FORMAT_VERSION, decide_by_rule, summarise
from pneumolit.labels import LabelSet
from pneumolit.predictions import Predictions

CAUSES = np.array(["", "bacteria", "virus"], dtype=object)
THREE = LabelSet(("NORMAL", "BACTERIA", "VIRUS"), ("BACTERIA", "VIRUS"))


def predictions_of(targets: np.ndarray, seed: int = 0, labels: LabelSet = THREE) -> Predictions:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(targets), labels.num_classes))
    logits[np.arange(len(targets)), targets] += 1.5
    is_copy = np.zeros(len(targets), dtype=bool)
    is_copy[1::7] = True
    return Predictions(
        labels,
        np.array([f"{i}.jpeg" for i in range(len(targets))], dtype=object),
        np.array([f"{t}-{i // 3}" for i, t in enumerate(targets)], dtype=object),
        targets,
        logits,
        prior_log_odds=0.8,
        causes=CAUSES[targets] if labels is THREE else np.empty(0),
        is_copy=is_copy,
        series=np.where(targets == 0, np.array(["IM", "NORMAL2-IM"])[np.arange(len(targets)) % 2], "").astype(object),
        sharpness=rng.gamma(3, size=len(targets)),
    )


def fitted(predictions: Predictions) -> tuple[Calibration, list[OperatingPoint]]:
    calibration = fit_calibration(predictions.scores, predictions.positives)
    probs = calibration.probs(predictions.scores, prevalence=0.5)
    return calibration, fit_operating_points(probs, predictions.positives)


@pytest.fixture(scope="module")
def val_and_test() -> tuple[Predictions, Predictions]:
    rng = np.random.default_rng(7)
    return predictions_of(rng.integers(0, 3, 200), 1), predictions_of(rng.integers(0, 3, 150), 2)


@pytest.fixture(scope="module")
def summary(val_and_test: tuple[Predictions, Predictions]) -> dict[str, Any]:
    calibration, points = fitted(val_and_test[0])
    return summarise(val_and_test[1], calibration, points, num_resamples=50)


def test_every_rule_decides_as_its_definition_says(
    summary: dict[str, Any], val_and_test: tuple[Predictions, Predictions]
) -> None:
    val, test = val_and_test
    calibration, points = fitted(val)
    two_class = np.log(test.probs[:, 1] + test.probs[:, 2]) - np.log(test.probs[:, 0])
    # Written out again from the definition: odds under prevalence one half.
    odds = np.exp(calibration.slope * (two_class - 0.8) + calibration.intercept)
    odds *= (1 - calibration.prevalence) / calibration.prevalence
    expected = {"argmax": test.logits.argmax(axis=1) > 0, "half": two_class >= 0.8, "primary": odds >= 1}
    expected |= {p.name: odds / (1 + odds) >= p.threshold for p in points if p.name != "primary"}
    assert list(summary["rules"]) == list(expected)
    for name, preds in expected.items():
        confusion = reference.confusion_matrix(test.positives, preds)
        assert summary["rules"][name]["confusion"] == confusion.tolist()
        assert summary["rules"][name]["ppv"] == pytest.approx(reference.precision_score(test.positives, preds))


def test_probability_scores_use_the_validation_prevalence(
    summary: dict[str, Any], val_and_test: tuple[Predictions, Predictions]
) -> None:
    val, test = val_and_test
    calibration, _ = fitted(val)
    calibrated = expit(calibration.slope * test.scores + calibration.intercept)
    found = summary["probability"]
    assert found["brier"] == pytest.approx(reference.brier_score_loss(test.positives, calibrated))
    as_trained = test.probs[:, test.labels.positive_mask].sum(axis=1)  # the softmax itself, training prior and all
    assert found["brier_uncalibrated"] == pytest.approx(reference.brier_score_loss(test.positives, as_trained))


def test_calibration_is_checked_as_trained_as_calibrated_and_at_the_class_mix_of_the_set(
    summary: dict[str, Any], val_and_test: tuple[Predictions, Predictions]
) -> None:
    val, test = val_and_test
    calibration, _ = fitted(val)
    softmax = test.probs[:, test.labels.positive_mask].sum(axis=1)
    calibrated = calibration.probs(test.scores)
    odds = calibrated / (1 - calibrated) * (1 - calibration.prevalence) / calibration.prevalence
    odds *= test.positives.mean() / (1 - test.positives.mean())
    expected = {"as_trained": softmax / (1 - softmax), "calibrated": calibrated / (1 - calibrated), "rebased": odds}
    assert set(summary["calibration"]) == set(expected)
    for name, values in expected.items():
        alone = check_calibration(np.log(values), test.positives, test.patient_ids)
        found = dict(summary["calibration"][name])
        assert found.pop("intervals") == {
            key: pytest.approx(limits, abs=1e-6) for key, limits in alone.pop("intervals").items()
        }
        assert found == pytest.approx(alone, abs=1e-6)


def test_predictive_values_at_stated_prevalences_follow_from_the_rates_of_each_rule(summary: dict[str, Any]) -> None:
    assert set(summary["prevalences"]) == set(summary["rules"])
    for name, rows in summary["prevalences"].items():
        rates = summary["rules"][name]
        assert [row["prevalence"] for row in rows] == list(PREVALENCES)
        for row in rows:
            ill, healthy = row["prevalence"], 1 - row["prevalence"]
            true, false = ill * rates["sensitivity"], healthy * (1 - rates["specificity"])
            assert row["ppv"] == pytest.approx(true / (true + false), abs=1e-12)
            true, false = healthy * rates["specificity"], ill * (1 - rates["sensitivity"])
            assert row["npv"] == pytest.approx(true / (true + false), abs=1e-12)
            low, high = row["intervals"]["ppv"]
            assert low < row["ppv"] < high
    assert {row["net_benefit"] is None for row in summary["prevalences"]["argmax"]} == {True}
    # Threshold one half: a needless treatment weighs the odds of the prevalence.
    row, rates = summary["prevalences"]["primary"][1], summary["rules"]["primary"]
    assert row["net_benefit"] == pytest.approx(0.1 * (rates["sensitivity"] + rates["specificity"] - 1), abs=1e-12)


def test_given_prevalences_and_their_rule_take_their_place_beside_the_others(
    val_and_test: tuple[Predictions, Predictions],
) -> None:
    val, test = val_and_test
    calibration, points = fitted(val)
    own = point_at_prevalence(0.03, calibration.probs(val.scores, 0.5), val.positives)
    found = summarise(test, calibration, [*points, own], prevalences=(0.03, 0.5), num_resamples=5)
    assert list(found["rules"])[-1] == "prevalence_0.03"
    rule = found["rules"]["prevalence_0.03"]
    assert rule["threshold"] == 0.97 and rule["promised"]["sensitivity"] == own.promised_sensitivity
    called = calibration.probs(test.scores, 0.03) >= 0.5
    assert rule["sensitivity"] == pytest.approx(reference.recall_score(test.positives, called))
    assert [row["prevalence"] for row in found["prevalences"]["prevalence_0.03"]] == [0.03, 0.5]


def test_parts_of_the_set_are_judged_by_the_headline_rule(
    summary: dict[str, Any], val_and_test: tuple[Predictions, Predictions]
) -> None:
    test = val_and_test[1]
    called = decide_by_rule(test, *fitted(val_and_test[0]))["primary"]
    assert not np.array_equal(called, decide_by_rule(test, None, [])["half"])
    parts = {row["name"]: row for row in summary["subgroups"]}
    assert list(parts) == [
        *("bacteria", "virus", "IM", "NORMAL2-IM"),
        *("blurred third", "middle third", "sharp third"),
    ]
    for cause in ("bacteria", "virus"):
        assert parts[cause]["sensitivity"] == pytest.approx(called[test.causes == cause].mean())
        assert parts[cause]["sensitivity"] == summary["rules"]["primary"]["sensitivity_by_cause"][cause]
    for series in ("IM", "NORMAL2-IM"):
        assert parts[series]["specificity"] == pytest.approx(1 - called[test.series == series].mean())
    sharp = test.sharpness > np.quantile(test.sharpness, 2 / 3)
    expected = reference.roc_auc_score(test.positives[sharp], test.scores[sharp])
    assert parts["sharp third"]["auroc"] == pytest.approx(expected)


def test_intervals_are_those_over_patients_by_formula(
    summary: dict[str, Any], val_and_test: tuple[Predictions, Predictions]
) -> None:
    test = val_and_test[1]
    rules = decide_by_rule(test, *fitted(val_and_test[0]))
    expected = patient_intervals(test.positives, test.scores, rules, test.patient_ids, num_resamples=50)
    found = dict(summary["intervals"])
    right = test.preds == test.targets
    accuracy = mean_recall_interval(right, test.targets, test.patient_ids, weights="images")
    assert found.pop("class_view") == {"accuracy": accuracy}
    assert found == expected
    assert summary["format_version"] == FORMAT_VERSION == 2


def test_sensitivity_by_cause_is_the_recall_among_the_images_of_that_cause(
    summary: dict[str, Any], val_and_test: tuple[Predictions, Predictions]
) -> None:
    test = val_and_test[1]
    for cause in ("bacteria", "virus"):
        expected = test.positive_preds[test.causes == cause].mean()
        assert summary["rules"]["argmax"]["sensitivity_by_cause"][cause] == pytest.approx(expected)


def test_without_copies_leaves_out_the_copies_and_nothing_else(
    summary: dict[str, Any], val_and_test: tuple[Predictions, Predictions]
) -> None:
    originals = val_and_test[1].take(~val_and_test[1].is_copy)
    calibration, points = fitted(val_and_test[0])
    alone = summarise(originals, calibration, points, num_resamples=2)
    found = summary["without_copies"]
    assert found["num_images"] == len(originals) == summary["num_images"] - summary["num_copies"]
    assert found["auroc"] == alone["ranking"]["auroc"]
    assert found["intervals"]["auroc"] == alone["intervals"]["ranking"]["auroc"]
    assert found["rules"].keys() == found["intervals"]["rules"].keys() == summary["rules"].keys()
    for name, rates in found["rules"].items():
        assert rates == {key: alone["rules"][name][key] for key in rates}
        limits = found["intervals"]["rules"][name]
        assert limits == {key: alone["intervals"]["rules"][name][key] for key in rates}


def test_every_interval_holds_its_value(summary: dict[str, Any]) -> None:
    for key, (low, high) in summary["intervals"]["ranking"].items():
        assert low <= summary["ranking"][key] <= high
    for name, rates in summary["intervals"]["rules"].items():
        for key, (low, high) in rates.items():
            rule = summary["rules"][name]
            assert low <= (rule["macro"]["f1"] if key == "macro_f1" else rule[key]) <= high
    low, high = summary["intervals"]["class_view"]["accuracy"]
    assert low <= summary["class_view"]["accuracy"] <= high


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.booleans(), st.sampled_from([0, 1, 30, 1e3]))
def test_the_summary_of_any_mixture_of_classes_is_strict_json(
    targets: list[int], is_calibrated: bool, scale: float
) -> None:
    predictions = predictions_of(np.array(targets))
    predictions.logits[:] *= scale
    calibration = Calibration(1.2, 0.1, 0.7) if is_calibrated else None
    points = [OperatingPoint("youden", 0.4, "x")] if is_calibrated else []
    summary = summarise(predictions, calibration, points, num_resamples=5)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    has_both = len({t > 0 for t in targets}) == 2
    assert (summary["ranking"]["auroc"] is not None) == has_both
    assert set(summary["prevalences"]) == (set(summary["rules"]) if has_both else set())
    assert ("rebased" in summary["calibration"]) == (has_both and is_calibrated)
    assert (summary["class_view"]["macro_auroc"] is not None) == (len(set(targets)) == 3)


def test_only_copies_of_one_class_do_not_break_the_headline_without_copies() -> None:
    predictions = predictions_of(np.array([1, 0, 1, 2]))  # row 1, the only normal image, is marked as a copy
    summary = summarise(predictions, None, [], num_resamples=5)
    assert summary["ranking"]["auroc"] is not None
    without = summary["without_copies"]
    assert without["auroc"] is without["intervals"]["auroc"] is None
    assert without["rules"]["half"]["specificity"] is without["intervals"]["rules"]["half"]["specificity"] is None
    assert without["intervals"]["rules"]["half"]["balanced_accuracy"] is None


def test_without_positive_classes_there_is_only_the_class_view() -> None:
    labels = LabelSet(("A", "B", "C"))
    summary = summarise(predictions_of(np.arange(30) % 3, labels=labels), None, [], num_resamples=20)
    assert "rules" not in summary and "ranking" not in summary
    assert set(summary["intervals"]["class_view"]) == {"accuracy"}


def test_no_rows_and_points_without_calibration_are_refused() -> None:
    with pytest.raises(ValueError, match="no predictions to summarise"):
        summarise(predictions_of(np.array([0, 1])).take(np.zeros(2, dtype=bool)), None, [])
    with pytest.raises(ValueError, match=r"operating points \['youden'\] act on calibrated"):
        summarise(predictions_of(np.array([0, 1])), None, [OperatingPoint("youden", 0.4, "x")])
