from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from pneumolit.report.may_i_use import failures, may_i_use_page, natural_frequencies, predictive_values
from pneumolit.report.run_record import RunRecord
from pneumolit.report.run_tables import epochs_sentence

# What a run of the default recipe found on 234 and 390 images: specificity .829, sensitivity .987.
RULE = {"sensitivity": 0.987, "specificity": 0.829, "threshold": 0.5, "confusion": [[194, 40], [5, 385]]}
RANGES = {"sensitivity": [0.970, 0.995], "specificity": [0.775, 0.872]}


def metrics_of(**changes: Any) -> dict[str, Any]:
    return {"rules": {"primary": {**RULE, **changes}}, "intervals": {"rules": {"primary": RANGES}}, "num_images": 624}


def with_rule(record: RunRecord, **changes: Any) -> RunRecord:
    name = record.main_set
    metrics = record.evaluations[name]
    rules = {**metrics["rules"], "primary": {**metrics["rules"]["primary"], **changes}}
    return dataclasses.replace(record, evaluations={**record.evaluations, name: {**metrics, "rules": rules}})


def test_whole_people_add_up_and_are_those_of_the_rates() -> None:
    table = natural_frequencies(metrics_of())
    # At .10: 98.7 of 100 found, 746.1 of 900 spared.
    assert table.rows[1] == ("0.10", "100", "253", "99", "154", "1", "746")
    for _, ill, flagged, right, wrong, missed, spared in table.rows:
        assert int(right) + int(missed) == int(ill)
        assert int(right) + int(wrong) == int(flagged)
        assert int(flagged) + int(missed) + int(spared) == 1000


def test_predictive_values_follow_bayes() -> None:
    rows = predictive_values(metrics_of()).rows
    assert [row[0] for row in rows] == ["0.05", "0.10", "0.20", "0.40"]
    ppv = 0.05 * 0.987 / (0.05 * 0.987 + 0.95 * 0.171)
    assert rows[0][1].startswith(f"{ppv:.3f} [") and rows[0][2].startswith("0.999 [")


def test_without_one_of_the_classes_nothing_is_claimed(record: RunRecord) -> None:
    assert natural_frequencies(metrics_of(specificity=None)).rows == ()
    metrics = {**record.main, "prevalences": {}}
    found = dataclasses.replace(record, evaluations={record.main_set: metrics})
    assert "Images of one of the two classes are missing" in may_i_use_page(found, "en")


def test_a_specificity_below_the_promise_is_said_in_people(record: RunRecord) -> None:
    promised = {"sensitivity": 0.98, "specificity": 0.978}
    texts = list(failures(with_rule(record, specificity=0.829, sensitivity=0.987, promised=promised)))
    assert (
        "Validation promised a specificity of 0.978, and 0.829 was found: of 1,000 images without pneumonia, 149 more "
        "are decided wrongly than promised."
    ) in texts
    assert not [text for text in texts if "sensitivity" in text and "promised" in text]  # kept: no failure
    slightly = list(failures(with_rule(record, specificity=0.97, sensitivity=0.98, promised=promised)))
    assert "Validation promised a specificity of 0.978, and 0.970 was found." in slightly


def test_where_patients_are_not_known_none_are_counted(record: RunRecord) -> None:
    page = may_i_use_page(dataclasses.replace(record, has_patients=False), "en")
    assert re.search(r"It was trained on \d+ images \(", page) and "Patients are not known: every image counts" in page


def test_distorted_copies_are_those_of_the_scored_epoch(record: RunRecord) -> None:
    rows = [{"epoch": float(n), "val/auroc": auroc, "val/balanced_accuracy": 0.9, "stress/balanced_accuracy": stress}
            for n, auroc, stress in ((1, 0.95, 0.81), (2, 0.9, 0.82))]  # fmt: skip
    for use, epoch, stress in (("last", 2, 0.82), ("best", 1, 0.81)):
        checkpoint = {"use": use, "monitor": "val/auroc"}
        callbacks = {**record.config["callbacks"], "checkpoint": checkpoint}
        found = dataclasses.replace(
            record, epochs=rows, status={**record.status, "checkpoint": use},
            config={**record.config, "callbacks": callbacks},
        )  # fmt: skip
        assert found.scored_epoch["epoch"] == epoch
        assert any(f"by the largest logit is {stress:.3f} instead of 0.900" in text for text in failures(found))
        words = epochs_sentence(found)
        assert words == (
            "2 epochs; AUROC on validation after epoch 1, whose weights were scored, 0.9500."
            if use == "best"
            else "2 epochs; AUROC on validation after the last one 0.9000."
        )


def test_the_lowest_subgroup_is_named_with_its_interval(record: RunRecord) -> None:
    groups = [
        {"kind": "sharpness", "name": name, "num_images": 99, "sensitivity": rate, "specificity": None,
         "intervals": {"sensitivity": [rate - 0.1, rate + 0.05]}}
        for name, rate in (("blurred third", 0.9), ("sharp third", 0.8))
    ]  # fmt: skip
    metrics = {**record.main, "subgroups": groups}
    found = list(failures(dataclasses.replace(record, evaluations={record.main_set: metrics})))
    lowest = "The lowest sensitivity of a subgroup is 0.800 [0.700, 0.850], on 99 images (sharpness: sharp third)."
    assert lowest in found
    counted = [{**group, "num_positives": 60} for group in groups]  # of the ill alone, where it is known
    metrics = {**record.main, "subgroups": counted}
    found = list(failures(dataclasses.replace(record, evaluations={record.main_set: metrics})))
    assert lowest.replace("99 images", "60 images") in found
    assert not [text for text in found if "lowest specificity" in text]


def test_where_test_was_not_scored_the_page_says_to_expect_less(record: RunRecord) -> None:
    validation_only = dataclasses.replace(record, evaluations={"val": record.evaluations["val"]})
    page = may_i_use_page(validation_only, "en")
    assert "The test split was not scored in this run." in page and "promised" not in page
    assert "expect less of others" not in may_i_use_page(record, "en")


@pytest.mark.parametrize(("source", "people"), [("kaggle", "people"), ("demo", "phantoms"), ("manifest", "people")])
def test_only_those_that_were_imaged_are_spoken_of(record: RunRecord, source: str, people: str) -> None:
    config = {**record.config, "data": {**record.config["data"], "source": source}}
    page = may_i_use_page(dataclasses.replace(record, config=config), "en")
    assert f"Of 1,000 {people}" in page
    assert "children" not in page.lower() and "Guangzhou" not in page


def test_the_page_says_no_and_what_to_do_first(record: RunRecord) -> None:
    page = may_i_use_page(record, "en")
    assert "To decide anything about a person: no." in page
    assert "python -m pneumolit.evaluate run_dir=FOLDER data=manifest data.manifest=ward7.csv name=ward7" in page
    assert "FOLDER: the folder of the run, not of a bundle exported from it." in page
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "What it has seen", "What a result would mean", "Known failures of this run", "About whom it says nothing",
        "What would have to be done first",
    ]  # fmt: skip
