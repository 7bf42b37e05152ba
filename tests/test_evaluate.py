"""The command `evaluate`: from the run folder alone; a look is a prediction, drawing again is none."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pneumolit.report.card_study import headline_sentence
from pneumolit.report.evaluation import PATIENTS_UNKNOWN
from pneumolit.report.run_record import RunRecord, set_title
from pneumolit.report.run_sections import set_sections
from pneumolit.report.run_tables import sets_table
from pneumolit.rundir import RunDir, read_json, read_looks
from pneumolit.scoring import read_calibration

Command = Callable[..., Any]


@pytest.fixture
def fresh_run(other_run: Path, tmp_path: Path) -> Path:
    """A copy of the run whose test split nobody has looked at."""
    return Path(shutil.copytree(other_run, tmp_path / "runs" / "fresh"))


def refused(outcome: Any, message: str) -> None:
    assert outcome.code == 2
    assert re.search(message, outcome.err, re.S), outcome.err
    assert outcome.err.count("pneumolit: ") == 1
    assert "Traceback" not in outcome.err and "Error executing" not in outcome.err
    assert outcome.left == []


def test_test_split_costs_a_look_and_drawing_again_costs_none(
    command: Command, fresh_run: Path, tmp_path: Path
) -> None:
    first = command("evaluate", f"run_dir={fresh_run}", "split=test")
    assert first.code == 0, first.err
    assert "look 1 of this test set, configuration 1" in first.out
    looks = read_looks(tmp_path / "out")
    assert [look["purpose"] for look in looks] == ["evaluate split=test"]
    numbers = read_json(RunDir(fresh_run).evaluation_metrics_file("test"))

    again = command("evaluate", f"run_dir={fresh_run}", "split=test")
    assert again.code == 0, again.err
    assert "nothing is predicted again" in again.out and "look 1 of this test set" in again.out
    assert read_looks(tmp_path / "out") == looks
    assert read_json(RunDir(fresh_run).evaluation_metrics_file("test")) == numbers

    third = command("evaluate", f"run_dir={fresh_run}", "split=test", "rescore=true")
    assert "look 2 of this test set, configuration 1" in third.out
    assert len(read_looks(tmp_path / "out")) == 2


def test_validation_is_no_look_and_repeats_the_numbers_of_the_run(
    command: Command, copied_run: Path, tmp_path: Path
) -> None:
    file = RunDir(copied_run).evaluation_metrics_file("val")
    before = read_json(file)
    outcome = command("evaluate", f"run_dir={copied_run}", "split=val", "rescore=true")
    assert outcome.code == 0, outcome.err
    after = read_json(file)
    for key in ("ranking", "rules", "class_view", "intervals"):
        assert json.dumps(after[key], sort_keys=True) == json.dumps(before[key], sort_keys=True)
    assert read_looks(tmp_path / "out") == []


def test_images_that_moved_are_scored_and_other_images_are_refused(
    command: Command, fresh_run: Path, demo_root: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(demo_root, tmp_path / "now here")
    outcome = command("evaluate", f"run_dir={fresh_run}", "split=test", f"data.root={moved}")
    assert outcome.code == 0, outcome.err
    film = sorted((moved / "test" / "NORMAL").iterdir())[0]
    film.write_bytes(film.read_bytes() + b"\0")
    shutil.rmtree(tmp_path / "out")
    refused(
        command("evaluate", f"run_dir={fresh_run}", "split=train", f"data.root={moved}"),
        r"are not those that the run was trained on",
    )


def test_numbers_and_pictures_are_drawn_again_without_the_images(
    command: Command, copied_run: Path, cache_dir: Path
) -> None:
    folder = RunDir(copied_run).evaluation_folder("test")
    for picture in folder.glob("*.png"):
        picture.unlink()
    outcome = command("evaluate", f"run_dir={copied_run}", "split=test", "data.root=/gone")
    assert outcome.code == 0, outcome.err
    assert (folder / "roc.png").is_file()


def test_a_prevalence_adds_its_rule_and_its_row_to_numbers_report_and_page(command: Command, copied_run: Path) -> None:
    outcome = command("evaluate", f"run_dir={copied_run}", "split=test", "prevalence=0.15")
    assert outcome.code == 0, outcome.err
    run = RunDir(copied_run)
    metrics = read_json(run.evaluation_metrics_file("test"))
    rule = metrics["rules"]["prevalence_0.15"]
    assert rule["threshold"] == pytest.approx(0.85)
    # What it promises comes from validation, what it found from this set.
    calibration, _ = read_calibration(run)
    assert calibration is not None
    for split, found in (("val", rule["promised"]), ("test", rule)):
        predictions = run.read_predictions(split)
        called = calibration.probs(predictions.scores, 0.15) >= 0.5
        assert found["sensitivity"] == pytest.approx(called[predictions.positives == 1].mean())
        assert found["specificity"] == pytest.approx(1 - called[predictions.positives == 0].mean())
    assert [row["prevalence"] for row in metrics["prevalences"]["primary"]] == [0.05, 0.1, 0.15, 0.2, 0.4]
    report = run.evaluation_report_file("test").read_text(encoding="utf-8")
    assert "- prevalence 0.15: probability at prevalence 0.15 at least one half" in report
    assert "| 0.15 |" in report and "prevalence 0.15" in run.page_file.read_text(encoding="utf-8")


def test_another_set_is_scored_under_its_own_name(
    command: Command, copied_run: Path, demo_root: Path, tmp_path: Path
) -> None:
    films = sorted((demo_root / "test").rglob("*.jpeg"))
    lines = ["path,label", *(f"{film.relative_to(demo_root)},{film.parent.name}" for film in films)]
    manifest = tmp_path / "ward 7, east=wing.csv"
    manifest.write_text("\n".join(lines) + "\n")
    arguments = ("data=manifest", f"data.manifest={manifest}", f"data.root={demo_root}", "name=ward7")
    outcome = command("evaluate", f"run_dir={copied_run}", *arguments)
    assert outcome.code == 0, outcome.err
    run = RunDir(copied_run)
    metrics = read_json(run.evaluation_metrics_file("ward7"))
    assert metrics["num_images"] == len(films) and "split" not in metrics["context"]
    # The list names no patients, though the run's own data do.
    assert "intervals over images" in outcome.out and not metrics["has_patients"]
    record = RunRecord.read(run)
    assert not record.knows_patients("ward7") and record.knows_patients("val")
    rows = {row[0]: row for row in sets_table(record).rows}
    assert rows["ward7"][2] == "n/a" and rows[set_title("val")][2] == f"{record.evaluations['val']['num_patients']:,}"
    assert "patients" not in headline_sentence(record, "ward7")
    assert "patients" in headline_sentence(record, "val")
    result = set_sections(record, "ward7")[0]
    assert "over images" in result.tables[0].header[1] and result.note == PATIENTS_UNKNOWN
    # Its names tell the cause, so that the model's three classes are known here too.
    assert run.read_predictions("ward7").labels.classes == ("NORMAL", "BACTERIA", "VIRUS")


def test_part_that_is_scored_of_a_set_with_splits_is_told(
    command: Command, copied_run: Path, demo_root: Path, tmp_path: Path
) -> None:
    films = sorted((demo_root / "test").rglob("*.jpeg"))
    splits = ["val" if number % 3 == 0 else "train" for number in range(len(films))]
    lines = ["path,label,split,patient_id"]
    lines += [
        f"{film.relative_to(demo_root)},{film.parent.name},{split},p{number // 2}"
        for number, (film, split) in enumerate(zip(films, splits, strict=True))
    ]
    manifest = tmp_path / "ward7.csv"
    manifest.write_text("\n".join(lines) + "\n")
    arguments = ("data=manifest", f"data.manifest={manifest}", f"data.root={demo_root}", "name=ward7")
    outcome = command("evaluate", f"run_dir={copied_run}", *arguments)
    assert outcome.code == 0, outcome.err
    told = f"val, {splits.count('val')} of {len(films)} images; split= chooses another part"
    assert f"Scored: {told}." in outcome.out and "intervals over patients" in outcome.out
    assert told in (RunDir(copied_run).evaluation_folder("ward7") / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["split=tset"],
            r"split must be one of val, test, block, block2, block3, train, got 'tset'; did you mean test",
        ),
        (["split=block"], r"split=block: this run's data have no such images \(they have .*test, train, val"),
        (["name=other"], r"name=other has no effect without another data set"),
        (["data=manifest", "data.manifest=x.csv"], r"another data set needs a name of its own, such as name=ward7"),
        (["data=manifest", "data.manifest=x.csv", "name=test"], r"another data set needs a name of its own"),
        (["data=manifest", "data.manifest=/gone.csv", "name=w"], r"data\.manifest=/gone\.csv is not a file"),
        (["data=manifest", "name=w"], r"data=manifest needs data\.manifest=FILE\.csv"),
        (
            ["data=manifest", "name=w", "data.on_bad_image=skipp"],
            r"on_bad_image must be one of stop, skip, got 'skipp'",
        ),
        (["rescor=true"], r"unknown key rescor; did you mean rescore"),
        (["rescore=maybe"], r"rescore must be true or false, got 'maybe'"),
        (["prevalence=10"], r"prevalence must lie strictly between 0 and 1, got 10; 0\.1 means 1 in 10"),
        (["prevalence=often"], r"prevalence must lie strictly between 0 and 1, got 'often'"),
        (["data=demo", "name=[a]"], r"name must be the name of a folder, such as name=ward7, got \['a'\]"),
        (["data=demo", "name=../../x"], r"name must be the name of a folder.*got '\.\./\.\./x'"),
    ],
)
def test_wrong_argument_is_refused_and_named(
    command: Command, small_run: Path, arguments: list[str], message: str
) -> None:
    refused(command("evaluate", f"run_dir={small_run}", *arguments), message)


def test_folder_that_is_no_run_is_refused(command: Command, tmp_path: Path) -> None:
    refused(command("evaluate", f"run_dir={tmp_path / 'gone'}"), r"run_dir=.*gone is not a folder")
    (tmp_path / "empty").mkdir()
    refused(command("evaluate", f"run_dir={tmp_path / 'empty'}"), r"holds no run: config\.yaml .* found nothing")
    for arguments in ([], ["run_dir=null"]):
        refused(command("evaluate", *arguments), r"run_dir is empty; give the folder")
