"""Patients under every reading of the names, and who is on two sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pneumolit.auditing.counts import class_mix, compare_with_known, count_images
from pneumolit.auditing.patients import GIVEN, all_readings, number_stretches, odd_names, shared_between
from pneumolit.data.records import parse_name
from pneumolit.data.table import ImageRecord, RecordTable


def table(*paths: str) -> RecordTable:
    records = []
    for path in paths:
        series, number, cause = parse_name(path) or ("", None, "")
        split, label, _ = path.split("/")
        records.append(ImageRecord(Path(path), label, path, cause, split, series, number))
    return RecordTable.of(records)


SET = table(
    "train/NORMAL/IM-0001-0001.jpeg",
    "train/PNEUMONIA/person1_bacteria_2.jpeg",
    "train/PNEUMONIA/person1_bacteria_3.jpeg",
    "train/PNEUMONIA/person7_virus_921_1.jpeg",
    "train/PNEUMONIA/unnamed.jpeg",
    "test/NORMAL/IM-0007-0001.jpeg",
    "test/PNEUMONIA/person1_virus_6.jpeg",
)


def test_the_finer_the_reading_the_fewer_patients_are_on_two_sides() -> None:
    sides, paths = list(SET.texts("split")), list(SET.texts("path"))
    readings = all_readings(SET, has_patients=False)
    found = {name: shared_between(keys, sides, paths)[0] for name, keys in readings.items()}
    assert {name: told["shared"] for name, told in found.items()} == {
        "number": 2, "class_number": 1, "prefix": 1, "full": 0,
    }  # fmt: skip
    assert found["number"]["images"] == [4, 2]
    assert found["prefix"]["examples"] == [
        ["train/PNEUMONIA/person1_bacteria_2.jpeg", "test/PNEUMONIA/person1_virus_6.jpeg"]
    ]


def test_a_manifest_that_names_patients_comes_first_and_names_without_numbers_give_no_reading() -> None:
    assert next(iter(all_readings(SET, has_patients=True))) == GIVEN
    assert all_readings(table("train/A/x.png", "test/A/y.png"), has_patients=False) == {}


def test_what_is_on_no_side_is_shared_with_nobody() -> None:
    keys = np.array([1, 1, 1, 2, 2])
    sides = ["train", "dropped", "val", "", "train"]
    (only,) = shared_between(keys, sides, list("abcde"))
    assert (only["sides"], only["shared"], only["examples"]) == (["train", "val"], 1, [["a", "c"]])


def test_odd_names_are_those_that_tell_no_patient_or_have_a_number_too_many() -> None:
    assert odd_names(SET) == [
        ("train/PNEUMONIA/person7_virus_921_1.jpeg", "has a further number at its end, which is read over"),
        ("train/PNEUMONIA/unnamed.jpeg", "tells no patient"),
    ]
    assert odd_names(table("train/A/x.png", "train/A/y.png")) == []


def test_numbers_of_a_series_are_told_by_stretches_of_one_split() -> None:
    names = [f"{split}/PNEUMONIA/person{n}_bacteria_{n}.jpeg" for split, numbers in
             (("train", (1, 2, 9, 30)), ("test", (5, 6))) for n in numbers]  # fmt: skip
    assert number_stretches(table(*names)) == [
        {"series": "bacteria", "split": "train", "numbers": 4, "stretches": [[1, 2], [9, 30]]},
        {"series": "bacteria", "split": "test", "numbers": 2, "stretches": [[5, 6]]},
    ]


def test_counts_that_differ_from_the_known_ones_are_named() -> None:
    counts = count_images(SET)
    assert counts == {"train": {"NORMAL": 1, "PNEUMONIA": 4}, "test": {"NORMAL": 1, "PNEUMONIA": 1}}
    known = compare_with_known(counts)
    assert (known["total"], known["known_total"], known["claimed_total"]) == (7, 5856, 5863)
    assert "train/PNEUMONIA: 4 images, 3,875 are known" in known["differences"] and len(known["differences"]) == 6


def test_the_mix_of_a_split_adds_up_to_all_of_it() -> None:
    mix = class_mix(SET, np.array([0, 1, 1, 2, 3, 4, 5]))
    assert [m["split"] for m in mix] == ["train"] * 4 + ["test"] * 2
    assert sum(m["share"] for m in mix if m["split"] == "train") == 1
    bacteria = next(m for m in mix if m["cause"] == "bacteria")
    assert (bacteria["images"], bacteria["patients"]) == (2, 1)
