from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pneumolit.report.card import card_entries, card_markdown, card_page
from pneumolit.report.card_entry import AUTHORS, OPEN, PARTLY
from pneumolit.report.card_model import changing_augmentations
from pneumolit.report.provenance import KAGGLE, PHANTOMS, provenance
from pneumolit.report.run_record import RunRecord, Side
from pneumolit.rundir import RunDir, write_text

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


def test_the_counts_of_the_kaggle_set_with_another_test_side_are_not_taken_for_it(record: RunRecord) -> None:
    sides = as_kaggle(record).sides
    moved = {"train": dataclasses.replace(sides["train"], num_images=4683)}
    moved["test"] = dataclasses.replace(sides["test"], num_images=614)
    other = dataclasses.replace(record, sides={**sides, **moved})
    assert provenance(other) is not KAGGLE
    assert provenance(with_setting(other, "data", resplit=[0.7, 0.1, 0.2])) is KAGGLE  # the user's own test side


def test_how_images_were_assigned_is_that_of_the_run(record: RunRecord) -> None:
    for setting, said in (
        ({"folds": 5, "fold": 2}, "Validation is fold 3 of 5, by whole patients."),
        ({"stratify": False}, "Validation was drawn from the training side by whole patients, not stratified:"),
        ({"carve": "official"}, "The validation side is the one that the data set names."),
        ({"resplit": [0.64, 0.16, 0.2]}, "into train, validation and test by the shares 0.64, 0.16, 0.2."),
        (
            {"carve": "blocks", "val_fraction": 0.15},
            "a contiguous block of patient numbers, 15 % of the training side.",
        ),
    ):
        assert said in card_markdown(with_setting(record, "data", **setting), "en")


def test_what_else_a_run_was_trained_on_is_told_and_nothing_of_what_it_was_not(record: RunRecord) -> None:
    told = (
        ("model", {"mixstyle_prob": 0.5}, "(MixStyle), of each with a probability of 0.5."),
        (
            "distill",
            {"teacher": "a.csv", "share": 0.3},
            "A teacher's scores of the training images make 0.3 of the loss.",
        ),
        ("data", {"train_fraction": 0.25}, "A share of 0.25 of the training images trains, by whole patients."),
        ("data", {"val_augment": True}, "Validation images are augmented too while training"),
    )
    for group, setting, said in told:
        assert said in card_markdown(with_setting(record, group, **setting), "en")
        assert said not in card_markdown(record, "en")
        korean = card_markdown(with_setting(record, group, **setting), "ko")
        assert said not in korean and korean != card_markdown(record, "ko")


def test_nothing_is_said_of_shared_patients_where_no_sides_are_known(record: RunRecord) -> None:
    said = "Patients that training shares with other sides"
    assert said in card_markdown(record, "en")
    assert said not in card_markdown(dataclasses.replace(record, sides={}), "en")


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
    hostile = dataclasses.replace(record, data={**record.data, "classes": ["A|B\nC"]})
    text = card_markdown(hostile, "en")
    assert "| A\\|B C |" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    for lines in tables:
        assert all(line.startswith("|") and line.endswith("|") for line in lines)
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


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


def test_augmentation_and_weights_that_differ_between_stages_are_told_of_each(
    record: RunRecord, tiny_config: Callable[..., dict[str, Any]]
) -> None:
    stages = (
        "stages=[{augment: strong, epochs: 2}, "
        "{augment: none, loss: {name: cross_entropy, label_smoothing: 0.0, class_weight: balanced}, epochs: 1}]"
    )
    text = card_markdown(dataclasses.replace(record, config=tiny_config(stages)), "en")
    assert "Stage 1 of 2: Augmentation of training images: " in text
    assert "Stage 2 of 2: Training images are not augmented." in text
    assert "Stage 1 of 2: Balancing of the training images: data.balance=sampler, loss.class_weight=none." in text
    assert "Stage 2 of 2: Balancing of the training images: data.balance=sampler, loss.class_weight=balanced." in text
    assert "Stage 1 of 2: Augmentation" not in card_markdown(record, "en")


def test_what_a_stage_leaves_alone_is_that_of_the_run_and_callbacks_are_those_of_the_last(record: RunRecord) -> None:
    first = {"freeze": {"policy": "head"}, "model.image_size": 96, "callbacks.ema.decay": 0.9}
    last = {"callbacks.checkpoint.monitor": "block/auroc", "callbacks.swa.start_fraction": 0.5}
    callbacks = {**record.config["callbacks"], "ema": {"decay": None}, "swa": {"start_fraction": None}}
    callbacks["checkpoint"] = {"use": "best", "monitor": "val/loss"}
    config = {**record.config, "callbacks": callbacks, "stages": [first, last]}
    rows = [{"epoch": float(n), "stage": 2.0, "val/loss": n / 9, "block/auroc": n / 9} for n in (1, 2)]
    staged = with_setting(
        dataclasses.replace(record, config=config, epochs=rows, status={**record.status, "checkpoint": "best"}),
        "data", holdout_fraction=0.15,
    )  # fmt: skip
    assert staged.settings["model.image_size"] == record.config["model"]["image_size"] != 96
    assert staged.settings["freeze.policy"] == record.config["freeze"]["policy"] != "head"
    assert staged.choosing_metric == "block/auroc" and staged.scored_epoch["epoch"] == 2
    text = card_markdown(staged, "en")
    assert "The weights of the epoch with the best block/auroc are scored." in text
    assert "Its weights are a mean over epochs (callbacks.swa)." in text
    assert "chooses checkpoints and ranks sweeps (block/auroc)" in text


def with_setting(record: RunRecord, group: str, **values: Any) -> RunRecord:
    """The record with `config[group]` changed; the checkpoint of the callbacks as a whole."""
    return dataclasses.replace(record, config={**record.config, group: {**record.config[group], **values}})


def test_where_every_image_counts_as_a_patient_the_card_says_so_and_answers_in_part(
    finished: Path, tmp_path: Path
) -> None:
    run = RunDir(shutil.copytree(finished, tmp_path / "run"))
    run.write_split([{**row, "patient_id": row["path"]} for row in run.read_split()])
    unknown = RunRecord.read(run)
    states = {n: entry.state for entry in card_entries(unknown) for n in entry.claim}
    assert states[20] == states[29] == PARTLY
    text = card_markdown(unknown, "en")
    assert "Patients are not known: every image counts as its own, so images of one patient may lie on both" in text
    assert not re.search(r"\d patients\b", "\n".join(line for line in text.splitlines() if line[:1] not in "|-"))
    assert "intervals over patients" not in text and "Patients that training shares" not in text


def test_patient_key_image_leaves_patients_unknown_but_for_a_manifest_which_has_its_own(
    finished: Path, tmp_path: Path
) -> None:
    run = RunDir(shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("*.png")))
    config = yaml.safe_load(run.config_file.read_text())
    config["data"]["patient_key"] = "image"
    run.config_file.write_text(yaml.safe_dump(config))
    assert not RunRecord.read(run).has_patients
    config["data"]["source"] = "manifest"
    run.config_file.write_text(yaml.safe_dump(config))
    assert RunRecord.read(run).has_patients


def test_what_is_said_of_the_sets_own_test_images_is_not_said_of_a_test_side_drawn_anew(record: RunRecord) -> None:
    official = card_markdown(as_kaggle(record), "en")
    own = ("A third expert checked the evaluation set", "come from different blocks of patient numbers")
    assert all(text in official for text in own)
    for setting, said in (
        ({"resplit": [0.8, 0.1, 0.1]}, "The test side was drawn anew from the whole set."),
        ({"split_file": "split.csv"}, "The test side is the one of a given split file, which need not be that of the"),
    ):
        redrawn = with_setting(as_kaggle(record), "data", **setting)
        text = card_markdown(redrawn, "en")
        assert provenance(redrawn) is KAGGLE and said in text and said not in official
        assert not [sentence for sentence in own if sentence in text]


def test_heat_maps_of_any_evaluated_set_answer_the_item_and_their_warnings_are_known_failures(
    finished: Path, tmp_path: Path
) -> None:
    run = RunDir(shutil.copytree(finished, tmp_path / "run"))
    assert "python -m pneumolit.explain run_dir=..." in card_markdown(RunRecord.read(run), "en")
    folder = run.explanation("val")  # what `explain` takes unless it is told otherwise; the headline is of test
    write_text(folder.checks_file, json.dumps({"words": ["Good: fine.", "Warning: no heat at all in 3 images."]}))
    write_text(folder.picture_file("surest_wrong"), "")
    found = RunRecord.read(run)
    text = card_markdown(found, "en")
    assert found.main_set == "test" and "Heat maps with their checks are in the folder explanation/" in text
    assert "Heat maps (Validation): no heat at all in 3 images." in text and "Good: fine." not in text


@pytest.mark.parametrize(
    ("monitor", "use", "said"),
    [
        ("val/auroc", "best", "they take part in no choice."),
        (
            "block/auroc",
            "best",
            "the first chooses checkpoints and ranks sweeps (block/auroc); any further ones take part",
        ),
        (
            "block/auroc",
            "last",
            "drawn; the first ranks sweeps (block/auroc); any further ones take part in no choice.",
        ),
        ("block2/auroc", "best", "one of them chooses checkpoints and ranks sweeps (block2/auroc); the others take"),
        ("block2/auroc", "last", "drawn; one of them ranks sweeps (block2/auroc); the others take part in no choice."),
    ],
)
def test_a_block_that_chooses_is_not_said_to_take_part_in_no_choice(
    record: RunRecord, monitor: str, use: str, said: str
) -> None:
    checkpoint = {**record.config["callbacks"]["checkpoint"], "monitor": monitor, "use": use}
    found = with_setting(with_setting(record, "callbacks", checkpoint=checkpoint), "data", holdout_fraction=0.15)
    found = dataclasses.replace(found, status={**found.status, "checkpoint": use})
    text = card_markdown(found, "en")
    assert said in text and ("they take part in no choice" in text) == (monitor == "val/auroc")


def test_the_size_of_training_stands_beside_that_of_scoring_where_they_differ(record: RunRecord) -> None:
    assert "It was trained at" not in card_markdown(record, "en")
    text = card_markdown(with_setting(record, "model", train_size=24), "en")
    assert "It was trained at 24 pixels." in text
    assert "학습할 때의 크기는 한 변 24픽셀입니다." in card_markdown(with_setting(record, "model", train_size=24), "ko")


def test_where_other_diseases_are_no_pneumonia_none_is_called_normal(record: RunRecord) -> None:
    for known in (KAGGLE, PHANTOMS):
        assert known.negatives and known.negatives_of(record.data) == known.negatives
        data = {**record.data, "classes": ["BACTERIA", "NORMAL", "VIRUS"], "positive": ["BACTERIA"]}
        assert known.negatives_of(data) == ""


def test_nothing_is_claimed_of_a_test_side_that_is_not_there(record: RunRecord) -> None:
    sides = {name: side for name, side in record.sides.items() if name != "test"}
    alone = dataclasses.replace(record, sides=sides, evaluations={"val": record.evaluations["val"]})
    text = card_markdown(alone, "en")
    assert "There is no test side." in text
    for claim in ("internal testing", "Test images changed", "The test side is the one", "The test split was not"):
        assert claim in card_markdown(dataclasses.replace(alone, sides=record.sides), "en")
        assert claim not in text


def test_what_has_no_class_of_pneumonia_or_no_film_is_no_diagnosis_of_pneumonia(record: RunRecord) -> None:
    assert "Diagnostic: pneumonia against its absence" in card_markdown(record, "en")
    plain = dataclasses.replace(record, data={**record.data, "positive": []}, calibration={"calibration": None})
    for other in (of_source(record, "demo"), plain):
        text = card_markdown(other, "en")
        assert "Diagnostic" not in text and "diagnostic prediction model" not in text
    assert "two-class logit is moved" not in text and "slope and intercept of the score" not in text
    assert "of synthetic chest phantoms" in card_markdown(of_source(record, "demo"), "en")


def test_images_are_left_out_to_balance_only_where_the_balance_asks_for_it(record: RunRecord) -> None:
    for balance, said in (("sampler", "(exact copies)"), ("undersample", "(exact copies, or to balance the classes)")):
        text = card_markdown(with_setting(record, "data", balance=balance, duplicates="drop"), "en")
        assert f"images of the training side were left out {said}." in text
