"""audit.md and audit.html from the content of audit.json: every finding has its words, every table its rows."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pneumolit.report.data_audit import audit_markdown, findings, headline, write_audit_page
from pneumolit.report.data_audit_tables import MOST_ROWS, near_table, reading_table, size_table, stretch_table


def side_counts(shared: int) -> list[dict[str, Any]]:
    return [{"sides": ["train", "test"], "shared": shared, "images": [2 * shared, shared], "examples": []}]


def copied(*paths: str, splits: bool = False, classes: bool = False, patients: bool = False) -> dict[str, Any]:
    return {
        "paths": list(paths),
        "is_across_splits": splits,
        "is_across_classes": classes,
        "is_across_patients": patients,
    }


@pytest.fixture
def found() -> dict[str, Any]:
    """An audit that found something of everything."""
    limits = {"auroc": [0.8, 0.95], "sensitivity": [0.7, 0.9], "specificity": None}
    rates = {"auroc": 0.9, "sensitivity": 0.8, "specificity": 0.7, "balanced_accuracy": 0.75, "intervals": limits}
    names = ("number", "class_number", "prefix", "full")
    view = {
        "classes": ["no pneumonia", "pneumonia"],
        "thresholds": [0.9, 0.8],
        "confident": [[5, 1], [0, 4]],
        "expected": 1.2,
        "images": [
            {
                "path": "train/A/7.png",
                "label": "no pneumonia",
                "suggested": "pneumonia",
                "probability_of_label": 0.01,
                "probability_of_suggested": 0.99,
            }
        ],
    }
    return {
        "name": "ward",
        "made": "2026-01-01T00:00:00Z",
        "root": "/data/ward",
        "source": "kaggle",
        "num_images": 1234,
        "num_patients": 1000,
        "knows_patients": True,
        "seconds": 5.0,
        "counts": {"train": {"NORMAL": 1000, "PNEUMONIA": 200}, "test": {"NORMAL": 4, "PNEUMONIA": 30}},
        "known": {
            "total": 1234,
            "known_total": 5856,
            "claimed_total": 5863,
            "differences": ["train/NORMAL: 1,000 images, 1,341 are known"],
        },
        "files": {
            "unreadable": [{"path": "train/A/1.png", "reason": "not a JPEG, PNG or DICOM image"}],
            "odd": [
                {"path": "train/A/2.png", "kind": "tiny", "what": "tiny: 30 x 30 pixels"},
                {"path": "train/A/2.png", "kind": "color", "what": "not gray: channels 9.0 levels apart"},
            ],
            "strays": [{"path": "train/notes.txt", "reason": "not named as an image"}],
            "names": [{"path": "train/A/<b>&.png", "reason": "tells no patient"}],
        },
        "copies": {
            "num_extra": 3,
            "exact": [copied("train/A/3.png", "test/A/4.png", splits=True, patients=True), copied("a.png", "b.png")],
            "near": [{**copied("train/A/5.png", "train/B/6.png", classes=True), "kind": "mirrored", "detail": 0.9}],
        },
        "patients": {
            "readings": {n: {"patients": 9, "between": side_counts(3 - i)} for i, n in enumerate(names)},
            "stretches": [{"series": "virus", "split": "train", "numbers": 5, "stretches": [[1, 3], [7, 7]]}],
        },
        "split": {
            "file": "split.csv",
            "unnamed": 4,
            "absent": 5,
            "sides": {"train": 9, "val": 2},
            "readings": {
                "full": {
                    "patients": 9,
                    "between": [{"sides": ["train", "val"], "shared": 1, "images": [2, 1], "examples": []}],
                }
            },
            "exact": [{**copied("train/A/3.png", "test/A/4.png"), "sides": ["train", "val"]}],
            "near": [],
        },
        "mix": [
            {"split": "train", "class": "NORMAL", "cause": "", "series": "IM", "images": 3, "patients": 2, "share": 0.5}
        ],
        "sizes": [
            {
                "split": "train",
                "class": "NORMAL",
                "images": 3,
                "width": [9, 10, 11, 12, 13],
                "height": [10] * 5,
                "aspect": [0.9, 1.0, 1.1, 1.2, 1.3],
            }
        ],
        "sharpness": [{"split": "train", "class": "NORMAL", "images": 3, "sharpness": [0.1, 0.2, 0.3, 0.4, 0.5]}],
        "floor": {
            "validation": "patients",
            "features": {"mean": "mean gray level"},
            "num_train": 50,
            "weights": {"mean": -1.25},
            "single": {"mean": 0.2},
            "val": {"num_images": 40, "num_positive": 20, "num_patients": 30, **rates},
            "test": {"num_images": 30, "num_positive": 20, "num_patients": 30, **rates},
            "look": "look 3 of this test set, configuration 2",
        },
        "label_errors": {
            "runs": 5,
            "folds": 5,
            "missing_folds": [2],
            "num_images": 10,
            "auroc": 0.97,
            "views": [view],
            "strangers": 0,
        },
    }


def test_every_finding_is_one_sentence_the_gravest_first(found: dict[str, Any]) -> None:
    assert findings(found) == [
        "1 file cannot be read.",
        "split.csv: Patients on two sides (series and number): 1 in both train and val.",
        "split.csv: 1 film on two sides as copies.",
        "In the data set's own split: No patient is on two sides (series and number, the plausible reading).",
        "In the data set's own split: Between train and test the coarser readings would share 3 by the bare number, 2 "
        "by class and number, 1 by prefix and number; see below why.",
        "3 further exact copies in 2 groups: 1 across splits, none across classes, 1 across patients.",
        "1 film is there more than once in other bytes: none across splits, 1 across classes, none across patients.",
        "Counts differ from the known ones of the Kaggle set: 1,234 images, 5,856 are known.",
        "1 odd file: 1 tiny, 1 not gray.",
        "1 thing beside the images, which no run reads.",
        "One odd name: train/A/<b>&.png tells no patient.",
        "Crude statistics alone, without a look at a lung: AUROC 0.900 [0.800, 0.950], sensitivity 0.800 [0.700, "
        "0.900], specificity 0.700 on validation.",
        "On test: AUROC 0.900 [0.800, 0.950], sensitivity 0.800 [0.700, 0.900], specificity 0.700 (look 3 of this test "
        "set, configuration 2).",
        "1 label to review of 10 images with out-of-fold predictions; the method expects about 1 wrong. A hard film is "
        "not a wrong label.",
    ]
    assert headline(found) == "ward: 1,234 images of 1,000 patients (train 1,200, test 34)"


def test_a_set_without_findings_says_so_and_has_no_empty_sections(found: dict[str, Any]) -> None:
    found["files"] = {"unreadable": [], "odd": [], "strays": [], "names": []}
    found["copies"] = {"num_extra": 0, "exact": [], "near": []}
    found |= {"known": None, "split": None, "label_errors": None, "knows_patients": False}
    found["patients"] = {"readings": {}, "stretches": []}
    found["floor"] = {"reason": "the validation images are all of one kind"}
    assert findings(found) == [
        "Every file can be read.",
        "Patients are not known: neither names nor a manifest tell them, so no split can be checked for them.",
        "No two files have the same bytes.",
        "No film is there twice in other bytes, as far as hash and detail tell.",
        "No crude-feature floor: the validation images are all of one kind.",
    ]
    text = audit_markdown(found)
    assert re.findall(r"^## (.*)$", text, re.M) == [
        "What was found",
        "Images",
        "Copies",
        "Class, cause and series",
        "Size and sharpness",
        "The crude-feature floor",
        "How the numbers were made",
    ]
    assert "of 1,000 patients" not in text


def test_where_patients_are_not_known_no_table_counts_them_and_no_interval_is_over_them(found: dict[str, Any]) -> None:
    assert text_of_tables(found).count("| patients |") == 4 and "over patients" in audit_markdown(found)
    found |= {"knows_patients": False, "split": None, "label_errors": None}
    found["patients"] = {"readings": {}, "stretches": []}
    found["floor"]["validation"] = "images"
    text = audit_markdown(found)
    assert "drawn from train image by image" in text
    assert "| patients |" not in text_of_tables(found)
    assert "over images" in text and "over patients" not in text and "by patients" not in text


def text_of_tables(found: dict[str, Any]) -> str:
    return "\n".join(line for line in audit_markdown(found).splitlines() if line.startswith("|"))


def test_the_text_holds_every_table(found: dict[str, Any]) -> None:
    text = audit_markdown(found)
    for line in (
        "| all | 1,004 | 230 | 1,234 |",
        "- train/NORMAL: 1,000 images, 1,341 are known",
        "| train/A/1.png | not a JPEG, PNG or DICOM image |",
        "| 2 | splits, patients | train/A/3.png test/A/4.png |",
        "| 0.900 | mirrored | classes | train/A/5.png train/B/6.png |",
        "| series and number | full | 9 | 0 |",
        "| virus | train | 1 to 3, 7 | 5 |",
        "| train, val | same bytes | train/A/3.png test/A/4.png |",
        "| mean | mean gray level | -1.25 | 0.200 |",
        "| train/A/7.png | no pneumonia | pneumonia | 0.010 | 0.990 |",
        "It does not name 4 images of the data set.",
        "Folds without a finished run: 2.",
        "a hard film is not a wrong label",
    ):
        assert line in text
    assert text.endswith("Research software, not a medical device.\n")


def test_the_page_stands_alone_with_pictures_and_escapes_names(found: dict[str, Any], tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "1.jpg")
    pictures = {key: [(tmp_path / "1.jpg", f"picture of {key}")] for key in ("copies", "odd", "labels")}
    page = write_audit_page(tmp_path / "audit.html", found, pictures).read_text()
    assert page.count('src="data:image/jpeg;base64,') == 3
    assert all(f"picture of {key}" in page for key in pictures)
    assert "&lt;b&gt;&amp;.png" in page and "<b>" not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_what_a_reading_means_is_claimed_of_the_kaggle_set_only(found: dict[str, Any]) -> None:
    assert "It is a plausible reading, not a proof" not in audit_markdown(found)  # other counts than the known ones
    found["known"]["differences"] = []
    assert "It is a plausible reading, not a proof" in audit_markdown(found)
    shared = copy.deepcopy(found)
    shared["patients"]["readings"]["full"]["between"] = side_counts(2)
    assert "It is a plausible reading, not a proof" not in audit_markdown(shared)
    shared["split"] = None
    told = findings(shared)
    assert "Patients on two sides (series and number, the plausible reading): 2 in both train and test." in told


def test_long_lists_are_cut_and_say_so(found: dict[str, Any]) -> None:
    found["copies"]["near"] = [
        {**copied(*(f"{n}-{i}.png" for i in range(9))), "kind": "mirrored", "detail": 0.9} for n in range(MOST_ROWS + 2)
    ]
    assert f"The first {MOST_ROWS} of {MOST_ROWS + 2}; audit.json has all." in audit_markdown(found)
    table = near_table(found["copies"]["near"])
    assert len(table.rows) == MOST_ROWS and table.rows[0][-1].endswith("0-5.png\nand 3 more")


def test_numbers_in_tables_are_short_where_they_are_all_the_same(found: dict[str, Any]) -> None:
    assert size_table(found["sizes"], found["sharpness"]).rows == (
        ("train", "NORMAL", "3", "11 [10, 12]", "10", "1.10 [1.00, 1.20]", "0.90 to 1.30", "0.300 [0.200, 0.400]"),
    )
    many = [{"series": "IM", "split": "", "numbers": 9, "stretches": [[n, n] for n in range(9)]}]
    assert stretch_table(many).rows == (("IM", "-", "0 to 8, in 9 stretches", "9"),)
    assert reading_table(found["patients"]["readings"]).rows[0] == (
        "the bare number",
        "number",
        "9",
        "3\n(6 + 3 images)",
    )


def test_what_is_drawn_is_what_json_holds(found: dict[str, Any]) -> None:
    assert audit_markdown(json.loads(json.dumps(found))) == audit_markdown(found)
