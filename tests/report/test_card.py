from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pneumolit.report.card import card_entries, card_markdown, card_page
from pneumolit.report.card_entry import AUTHORS, OPEN
from pneumolit.report.card_model import changing_augmentations
from pneumolit.report.provenance import KAGGLE, PHANTOMS, provenance
from pneumolit.report.run_record import RunRecord, Side

# Tejani et al. 2024 and Collins et al. 2024, whose items have these numbers.
CLAIM = list(range(1, 45))
# Letters of the items that have parts.
_PARTS = {3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc", 23: "ab", 27: "abc"}
TRIPOD_AI = [f"{n}{part}" for n in range(1, 28) for part in _PARTS.get(n, [""])]
FILES = ("config.yaml", "data.json", "split.csv", "metrics.json", "metrics.csv", "environment.json", "freeze_plan.json",
         "calibration.json", "status.json", "predictions.csv", "test_looks.jsonl", "checkpoints/", "evaluation/",
         "explanation/", "may_i_use.html", "README", "Mendeley Data")  # fmt: skip


def of_source(record: RunRecord, source: str, **data: Any) -> RunRecord:
    config = {**record.config, "data": {**record.config["data"], "source": source, **data}}
    return dataclasses.replace(record, config=config)


def as_kaggle(record: RunRecord) -> RunRecord:
    sides = {
        "train": Side(4673, frozenset({"a", "b"}), {"NORMAL": 1200, "BACTERIA": 2250, "VIRUS": 1223}),
        "val": Side(559, frozenset({"c"}), {"NORMAL": 149, "BACTERIA": 288, "VIRUS": 122}),
        "test": Side(624, frozenset({"b"}), {"NORMAL": 234, "BACTERIA": 242, "VIRUS": 148}),
    }
    return dataclasses.replace(record, sides=sides)


def test_every_item_of_both_guidelines_is_there_once(record: RunRecord) -> None:
    entries = card_entries(record)
    assert sorted(n for entry in entries for n in entry.claim) == CLAIM
    assert sorted(n for entry in entries for n in entry.tripod) == sorted(TRIPOD_AI)


@pytest.mark.parametrize("source", ["kaggle", "folder", "manifest", "demo"])
def test_every_entry_answers_and_says_from_where_or_why_it_cannot(record: RunRecord, source: str) -> None:
    for entry in card_entries(of_source(record, source)):
        assert entry.answer or entry.tables
        if entry.state == OPEN:
            assert entry.answer[-1].startswith("Cannot be answered from this data: ")
        elif entry.state == AUTHORS:
            assert entry.answer[-1].startswith("Not in the record of a run; whoever publishes the model must add it: ")
        else:
            assert entry.source.startswith(FILES) or source == "demo", entry.title


def test_the_kaggle_set_is_known_by_its_counts_and_other_images_in_its_layout_are_not_taken_for_it(
    record: RunRecord,
) -> None:
    assert provenance(as_kaggle(record)) is KAGGLE
    for other in (record, of_source(as_kaggle(record), "folder"), of_source(as_kaggle(record), "manifest")):
        assert "Guangzhou" not in card_markdown(other, "en") and "children" not in card_markdown(other, "en").lower()
    assert "Guangzhou Women and Children's Medical Center" in card_markdown(as_kaggle(record), "en")
    assert provenance(of_source(record, "demo")) is PHANTOMS


def test_age_sex_device_and_agreement_of_readers_stand_as_open(record: RunRecord) -> None:
    open_claims = {n for entry in card_entries(as_kaggle(record)) for n in entry.claim if entry.state == OPEN}
    assert {15, 18} <= open_claims  # rationale of the reference standard; agreement of the readers
    open_tripod = {n for entry in card_entries(as_kaggle(record)) for n in entry.tripod if entry.state == OPEN}
    assert {"3c", "5b", "6c", "8c", "12d", "14", "23b"} <= open_tripod
    text = card_markdown(as_kaggle(record), "en")
    assert (
        "Cannot be answered from this data: age, sex, ethnicity, device, dates and clinical state are not in it."
        in text
    )


def test_patients_on_both_sides_are_counted(record: RunRecord) -> None:
    text = card_markdown(as_kaggle(record), "en")
    assert "Patients that training shares with other sides: Validation 0, Test 1." in text


def test_answers_come_from_this_run(record: RunRecord, finished: Path) -> None:
    text = card_markdown(record, "en")
    test = record.evaluations["test"]
    assert (
        f"Test ({test['num_images']} images, {test['num_patients']} patients): AUROC {test['ranking']['auroc']:.3f}"
        in text
    )
    assert f"{record.num_parameters:,} parameters" in text
    slope = record.calibration["calibration"]["slope"]
    assert f"Calibration on validation: slope {slope:.3f}" in text
    assert "AdamW, learning rate 0.001" in text and "batches of 16, at most 2 epochs" in text
    assert (finished / "model_card.md").read_text() == text
    assert (finished / "model_card.html").read_text() == card_page(record, "en")


def test_a_table_cell_cannot_break_the_markdown(record: RunRecord) -> None:
    for line in card_markdown(record, "en").splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_only_augmentations_that_change_an_image_are_named(compose_config: Callable[..., dict[str, Any]]) -> None:
    assert changing_augmentations(compose_config("augment=none")["augment"]) == []
    strong = changing_augmentations(compose_config("augment=strong")["augment"])
    assert "crop_scale=[0.25, 1.0]" in strong and "hflip=0.5" in strong and "blur_sigma=[0.1, 1.5]" in strong
    assert not [text for text in strong if text.startswith(("noise", "erase", "zoom", "mixup"))]


def test_a_run_without_a_class_that_means_pneumonia_has_a_card(record: RunRecord) -> None:
    two_class = (
        "rules",
        "ranking",
        "probability",
        "prevalence",
        "prevalences",
        "calibration",
        "subgroups",
        "without_copies",
    )
    plain = {name: {k: v for k, v in m.items() if k not in two_class} for name, m in record.evaluations.items()}
    found = dataclasses.replace(
        record, evaluations=plain, calibration={"calibration": None}, data={**record.data, "positive": []}
    )
    text = card_markdown(found, "en")
    assert "accuracy over all classes" in text and "No class means pneumonia" in text


def test_stages_are_described_one_by_one(record: RunRecord, tiny_config: Callable[..., dict[str, Any]]) -> None:
    stages = "stages=[{freeze: head, epochs: 3}, {freeze: none, optim: sgd, epochs: 1}]"
    staged = dataclasses.replace(record, config=tiny_config(stages))
    text = card_markdown(staged, "en")
    assert "Stage 1 of 2: AdamW" in text and "at most 3 epochs" in text
    assert "Stage 2 of 2: SGD" in text and "freeze=none." in text
