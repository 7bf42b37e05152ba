"""The command that audits a data set: what it writes, what it finds, and one message per mistake."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from pneumolit.predictions import Predictions
from pneumolit.rundir import read_looks
from tests.comparison.made_runs import BINARY, write_run
from tests.conftest import SMALL_KAGGLE
from tests.malformed import write_malformed


class Outcome(NamedTuple):
    """Exit code, standard output and error, and content of audit.json by the name of its folder."""

    code: int
    out: str
    err: str
    found: dict[str, Any]


@pytest.fixture
def audited(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, cache_dir: Path
) -> Callable[..., Outcome]:
    """`audited("data=demo")`: run the command in this process, in a folder of its own."""
    from pneumolit.audit import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PNEUMOLIT_CACHE", str(cache_dir))

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["audit", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        files = sorted((tmp_path / "outputs/audit").glob("*/audit.json"))
        return Outcome(code, said.out, said.err, {f.parent.name: json.loads(f.read_text()) for f in files})

    return run


@pytest.fixture
def small_set(write_films: Callable[..., Path], tmp_path: Path) -> Path:
    """The small Kaggle layout with a copy across splits, an odd name and a file that is no image."""
    root = write_films(tmp_path / "ward 7")
    shutil.copy(root / "train/NORMAL/IM-0115-0001.jpeg", root / "test/NORMAL/IM-0003-0001.jpeg")
    (root / "train/PNEUMONIA/person3_bacteria_903.jpeg").write_bytes(b"no image")
    shutil.copy(root / "train/NORMAL/IM-0116-0001.jpeg", root / "train/NORMAL/film 5.jpeg")
    return root


def test_a_data_set_is_audited_into_a_folder_of_its_name(audited: Callable[..., Outcome], small_set: Path) -> None:
    result = audited("data=chest_xray", f"data.root={small_set}")
    assert (result.code, result.err) == (0, "")
    found = result.found["ward_7"]
    assert found["files"]["unreadable"] == [
        {"path": "train/PNEUMONIA/person3_bacteria_903.jpeg", "reason": "not a JPEG, PNG or DICOM image"}
    ]
    assert [name["path"] for name in found["files"]["names"]] == [
        "train/NORMAL/film 5.jpeg", "train/PNEUMONIA/person459_virus_921_1.jpeg",
    ]  # fmt: skip
    first, second = found["copies"]["exact"]
    assert first["paths"] == ["train/NORMAL/IM-0115-0001.jpeg", "test/NORMAL/IM-0003-0001.jpeg"]
    assert first["is_across_splits"] and first["is_across_patients"] and not first["is_across_classes"]
    assert not second["is_across_splits"] and second["is_across_patients"]
    assert found["copies"]["num_extra"] == 2 and found["copies"]["near"] == []
    assert {kind["kind"] for kind in found["files"]["odd"]} == {"tiny"}
    assert "1 file cannot be read." in result.out and "2 further exact copies in 2 groups" in result.out
    assert "page  outputs/audit/ward_7/audit.html" in result.out
    folder = Path("outputs/audit/ward_7")
    assert sorted(p.name for p in folder.iterdir()) == ["audit.html", "audit.json", "audit.md"]
    assert "Two splits" not in (page := (folder / "audit.html").read_text()) and page.count("data:image/jpeg") == 2 + 24


def test_the_folder_of_the_environment_is_taken_and_a_name_can_be_given(
    audited: Callable[..., Outcome], demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PNEUMOLIT_DATA", str(demo_root))
    assert list(audited("data=chest_xray", "name=mine").found) == ["mine"]
    assert "This replaces" not in audited("data=chest_xray", "name=mine").out
    elsewhere = shutil.copytree(demo_root, tmp_path / "elsewhere")
    again = audited("data=chest_xray", f"data.root={elsewhere}", "name=mine")
    assert f"This replaces the audit of {demo_root}; name=NAME keeps both." in again.out


def test_a_set_without_splits_or_with_other_classes_is_audited(
    audited: Callable[..., Outcome], write_films: Callable[..., Path], tmp_path: Path
) -> None:
    root = write_films(tmp_path / "cats", {"cat": ["1.png", "2.png"], "dog": ["3.png"]}, side=130)
    shutil.copy(root / "cat/1.png", root / "dog" / os.fsdecode(b"\xff.png"))
    (root / "dog" / os.fsdecode(b"\xfe.txt")).write_text("a name that is no UTF-8")
    result = audited("data=image_folder", f"data.root={root}")
    assert result.code == 0
    assert result.found["cats"]["counts"] == {"(no split)": {"cat": 2, "dog": 2}}
    assert "no class means pneumonia" in result.out and "Patients are not known" in result.out
    assert "1 further exact copy in 1 group: none across splits, 1 across classes.\n" in result.out
    assert result.found["cats"]["files"]["odd"] == result.found["cats"]["files"]["names"] == []


def test_a_manifest_tells_the_patients(
    audited: Callable[..., Outcome], write_films: Callable[..., Path], tmp_path: Path
) -> None:
    write_films(tmp_path, {"films": ["1.png", "2.png", "3.png"]})
    rows = ["path,label,patient_id,split", "films/1.png,NORMAL,ann,train", "films/2.png,PNEUMONIA,bob,train"]
    (tmp_path / "list.csv").write_text("\n".join([*rows, "films/3.png,PNEUMONIA,bob,test"]))
    result = audited("data=manifest", f"data.manifest={tmp_path / 'list.csv'}")
    assert "Patients on two sides (as the manifest says): 1 in both train and test." in result.out
    assert list(result.found["list"]["patients"]["readings"]) == ["given"]


def test_what_a_split_file_leaks_is_told(audited: Callable[..., Outcome], small_set: Path, tmp_path: Path) -> None:
    sides = {f"{folder}/{name}": folder.partition("/")[0] for folder, names in SMALL_KAGGLE.items() for name in names}
    sides |= {"train/NORMAL/film 5.jpeg": "val", "val/PNEUMONIA/person1946_bacteria_4875.jpeg": "train"}
    del sides["test/NORMAL/IM-0001-0001.jpeg"]
    with (tmp_path / "mine.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("path", "split"), *sides.items(), ("gone.jpeg", "train")])
    result = audited("data=chest_xray", f"data.root={small_set}", "data.split_file=mine.csv")
    split = result.found["ward_7"]["split"]
    assert (split["unnamed"], split["absent"]) == (1, 1)
    shared = {tuple(b["sides"]): b["shared"] for b in split["readings"]["full"]["between"]}
    assert shared == {("train", "val"): 1, ("train", "test"): 0, ("val", "test"): 0}
    assert [copy["sides"] for copy in split["exact"]] == [["train", "test"], ["train", "val"]]
    assert "mine.csv: Patients on two sides (series and number): 1 in both train and val." in result.out
    (tmp_path / "mine.csv").write_text("path,split\na.jpeg,train\n")
    other = audited("data=chest_xray", f"data.root={small_set}", "data.split_file=mine.csv")
    assert other.code == 2 and "mine.csv names no image of" in other.err


def test_a_film_of_test_that_was_saved_anew_into_train_is_told_though_a_plain_copy_of_it_is_dropped(
    audited: Callable[..., Outcome], write_films: Callable[..., Path], tmp_path: Path
) -> None:
    root = write_films(tmp_path / "ward", SMALL_KAGGLE, side=96)
    shutil.copy(root / "test/NORMAL/IM-0001-0001.jpeg", root / "train/NORMAL/IM-0100-0001.jpeg")
    with Image.open(root / "test/NORMAL/IM-0001-0001.jpeg") as film:
        film.save(root / "train/NORMAL/IM-0101-0001.jpeg", quality=70)
    sides = {f.relative_to(root).as_posix(): f.relative_to(root).parts[0] for f in root.rglob("*.jpeg")}
    sides["train/NORMAL/IM-0100-0001.jpeg"] = "dropped"
    with (tmp_path / "run.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("path", "split"), *sides.items()])
    found = audited("data=chest_xray", f"data.root={root}", "data.split_file=run.csv").found["ward"]
    (near,) = found["copies"]["near"]
    assert near["is_across_splits"] and len(near["paths"]) == 3
    assert [copy["sides"] for copy in found["split"]["near"]] == [["train", "test"]]


@pytest.mark.parametrize("target", ["cause", "binary"])
def test_the_floor_stands_on_the_validation_of_a_run_on_the_same_data(
    audited: Callable[..., Outcome], demo_root: Path, compose_config: Callable[..., dict[str, Any]], cache_dir: Path,
    target: str,
) -> None:  # fmt: skip
    from pneumolit.data.dataset import load_data

    chosen = ("data=chest_xray", f"data.root={demo_root}", f"data.target={target}", "data.seed=3")
    floor = audited(*chosen, "name=mine").found["mine"]["floor"]
    data = load_data(compose_config(*chosen)["data"], cache_dir)
    assert floor["val"]["num_images"] == len(data.rows("val")) and floor["num_train"] == len(data.rows("train"))
    assert floor["validation"] == "patients"


def test_the_floor_on_test_is_fitted_on_none_of_its_films(
    audited: Callable[..., Outcome], demo_root: Path, compose_config: Callable[..., dict[str, Any]], cache_dir: Path
) -> None:
    from pneumolit.data.dataset import load_data

    chosen = ("data=chest_xray", f"data.root={demo_root}", "data.resplit=[0.6,0.2,0.2]", "data.stratify=false")
    floor = audited(*chosen, "name=mine", "floor_on_test=true").found["mine"]["floor"]
    data = load_data(compose_config(*chosen)["data"], cache_dir)
    found = (floor["num_train"], floor["val"]["num_images"], floor["test"]["num_images"])
    assert found == tuple(len(data.rows(name)) for name in ("train", "val", "test"))


def test_a_split_without_validation_has_no_floor_and_says_so(
    audited: Callable[..., Outcome], demo_root: Path, tmp_path: Path
) -> None:
    films = [f.relative_to(demo_root) for f in demo_root.rglob("*.jpeg")]
    with (tmp_path / "two.csv").open("w", newline="") as handle:
        rows = [(f.as_posix(), "test" if f.parts[0] == "test" else "train") for f in films]
        csv.writer(handle).writerows([("path", "split"), *rows])
    chosen = ("data=chest_xray", f"data.root={demo_root}", "data.split_file=two.csv")
    assert "No crude-feature floor: no image that can be read is on the validation side." in audited(*chosen).out
    refused = audited(*chosen, "floor_on_test=true")
    assert refused.code == 2 and "floor_on_test=true, but no image that can be read is on the validation" in refused.err


def test_the_floor_stands_on_validation_that_the_data_set_names(
    audited: Callable[..., Outcome], demo_root: Path, tmp_path: Path
) -> None:
    films = sorted(f.relative_to(demo_root) for f in (demo_root / "train").rglob("*.jpeg"))
    rows = [(f, f.parts[1], "val" if n % 5 == 0 else "train") for n, f in enumerate(films)]
    with (tmp_path / "list.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("path", "label", "split"), *rows])
    result = audited("data=manifest", f"data.manifest={tmp_path / 'list.csv'}", f"data.root={demo_root}")
    floor = result.found["list"]["floor"]
    assert floor["validation"] == "named" and floor["val"]["num_images"] == sum(row[2] == "val" for row in rows)
    assert "validation, as the data set names it" in Path("outputs/audit/list/audit.html").read_text()
    assert "The manifest names no patients, so that a run takes every image for a patient of its own" in result.out


def test_a_split_that_names_an_image_twice_is_refused(
    audited: Callable[..., Outcome], small_set: Path, tmp_path: Path
) -> None:
    name = "test/NORMAL/IM-0001-0001.jpeg"
    (tmp_path / "twice.csv").write_text(f"path,split\n{name},test\n{name},train\n")
    result = audited("data=chest_xray", f"data.root={small_set}", "data.split_file=twice.csv")
    assert result.code == 2 and f"twice.csv names {name} twice; name every image once" in result.err


def test_the_split_of_a_run_leaks_no_patient(audited: Callable[..., Outcome], small_run: Path) -> None:
    result = audited(f"run_dir={small_run}", "name=run")
    assert (result.code, result.err) == (0, "")
    readings = result.found["run"]["split"]["readings"]
    assert {b["shared"] for name in ("full", "prefix") for b in readings[name]["between"] if "val" in b["sides"]} == {0}
    assert "No patient is on two sides" in result.out


def test_test_is_looked_at_only_where_asked_and_the_look_is_entered(
    audited: Callable[..., Outcome], demo_root: Path, tmp_path: Path
) -> None:
    plain = audited("data=demo", f"data.root={demo_root}", "name=demo")
    assert (
        set(plain.found["demo"]["floor"]) >= {"val", "weights", "single"} and "test" not in plain.found["demo"]["floor"]
    )
    assert read_looks(tmp_path / "outputs") == []
    seen = audited("data=demo", f"data.root={demo_root}", "name=demo", "floor_on_test=true")
    floor = seen.found["demo"]["floor"]
    assert floor["look"] == "look 1 of this test set, configuration 1"
    assert floor["test"]["num_images"] == len(list(demo_root.glob("test/*/*.jpeg")))
    assert [look["purpose"] for look in read_looks(tmp_path / "outputs")] == ["audit floor_on_test=true"]


def test_labels_that_a_sweep_of_folds_doubts_are_listed_with_pictures(
    audited: Callable[..., Outcome], demo_root: Path, tmp_path: Path
) -> None:
    paths = sorted(p.relative_to(demo_root).as_posix() for p in demo_root.glob("train/*/*.jpeg"))
    wrong = paths[3]
    for fold in range(2):
        run = write_run(tmp_path / f"sweep/{fold}", labels=BINARY, data={"folds": 2, "fold": fold}, sets={"val": 4})
        own = np.array(paths[fold::2], dtype=object)
        looks = np.array([("PNEUMONIA" in path) != (path == wrong) for path in own], dtype=np.int64)
        targets = np.array(["PNEUMONIA" in path for path in own], dtype=np.int64)
        run.write_predictions("val", Predictions(BINARY, own, own, targets, np.stack([1.0 - looks, looks], axis=1) * 3))
    result = audited("data=demo", f"data.root={demo_root}", "name=demo", "folds=sweep")
    (view,) = result.found["demo"]["label_errors"]["views"]
    assert [image["path"] for image in view["images"]] == [wrong]
    assert "1 label to review" in result.out
    assert f"{Path(wrong).name}: labelled no pneumonia" in Path("outputs/audit/demo/audit.html").read_text()
    other = audited("data=chest_xray", f"data.root={tmp_path / 'sweep'}", "folds=absent")
    assert other.code == 2 and "folds=absent is not a folder" in other.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.root=/x"], "data.root=/x tells where the images are but not how they lie; add data=chest_xray"),
        (["data=chest_xray"], "no data set: data.root is not set"),
        (["data=chest_xray", "data.root=/absent"], "data.root=/absent is not a folder"),
        (["data=demo", "run_dir=x"], "run_dir names the data set of a run, and data= another one"),
        (["run_dir=absent"], "run_dir=absent is not a folder"),
        (["data=demo", "cache=true"], "cache and data are given"),
        (["data=demo", "output=x.json"], "output=x.json has no effect with data"),
        (["cache=true", "folds=x"], "folds=x has no effect with cache"),
        (["claim=n=5 acc=.8", "prune=3"], "prune=3 has no effect with claim"),
        (["data=demo", "name=a/b"], "name must be the name of a folder"),
        (["data=demo", "floor_on_test=yes please"], "floor_on_test must be true or false"),
        (["cache=true", "prune=old"], "prune must be a number of days above 0, or all"),
        (["data=demo", "data.val_fraction=2"], "data.val_fraction must be strictly between 0 and 1"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    audited: Callable[..., Outcome], arguments: list[str], message: str, tmp_path: Path
) -> None:
    result = audited(*arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err and result.err.startswith("pneumolit: ") and result.err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_the_cache_is_listed_from_the_command(audited: Callable[..., Outcome], tmp_path: Path) -> None:
    result = audited("cache=true", f"cache_dir={tmp_path / 'none'}")
    assert (result.code, result.err) == (0, "") and "holds nothing" in result.out


def test_an_audit_needs_neither_torch_nor_figures(demo_root: Path, cache_dir: Path, tmp_path: Path) -> None:
    asked = (
        f"import sys; sys.argv = ['audit', 'data=demo', 'data.root={demo_root}', 'cache_dir={cache_dir}']\n"
        "from pneumolit.audit import main\n"
        "main()\n"
        "print([name for name in ('torch', 'matplotlib', 'timm') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_the_real_set_is_as_it_is_known(audited: Callable[..., Outcome], shared: Path) -> None:
    result = audited("data=chest_xray", f"data.root={shared / 'data/chest_xray'}")
    assert (result.code, result.err) == (0, "")
    found = result.found["chest_xray"]
    assert found["num_images"] == 5856 and found["known"]["differences"] == []
    copies = found["copies"]
    assert (copies["num_extra"], len(copies["exact"]), copies["near"]) == (32, 30, [])
    assert not any(copy["is_across_splits"] or copy["is_across_classes"] for copy in copies["exact"])
    readings = found["patients"]["readings"]
    shared_keys = {
        name: next(b["shared"] for b in reading["between"] if b["sides"] == ["train", "test"])
        for name, reading in readings.items()
    }
    assert shared_keys == {"number": 291, "class_number": 264, "prefix": 170, "full": 0}
    assert [name["path"] for name in found["files"]["names"]] == ["train/PNEUMONIA/person447_virus_921_1.jpeg"]
    assert found["files"]["unreadable"] == found["files"]["odd"] == found["files"]["strays"] == []
    assert found["floor"]["val"]["auroc"] == pytest.approx(0.945, abs=0.005)
    assert found["floor"]["val"]["num_images"] == 518  # of a run by the defaults
    assert found["seconds"] < 60


def test_malformed_files_of_every_kind_are_counted_and_stop_nothing(
    audited: Callable[..., Outcome], demo_root: Path, tmp_path: Path
) -> None:
    broken = write_malformed(tmp_path / "odd" / "PNEUMONIA", special=True)
    os.mkfifo(tmp_path / "odd" / "PNEUMONIA" / "pipe")
    for name in ("NORMAL", "PNEUMONIA"):
        shutil.copytree(demo_root / "train" / name, tmp_path / "odd" / name, dirs_exist_ok=True)
    done = audited("data=image_folder", f"data.root={tmp_path / 'odd'}", "name=odd")
    assert done.code == 0 and done.err == "", done.err
    assert "\x1b" not in done.out  # of a file that is named in colors
    unreadable = {Path(row["path"]).name for row in done.found["odd"]["files"]["unreadable"]}
    refused = {file.path.name for file in broken if file.expected == "refused" and not file.path.is_dir()}
    read = {file.path.name for file in broken if file.expected == "read"}
    listed = {name for name in refused if name.lower().endswith((".jpeg", ".jpg", ".png", ".dcm"))}
    assert len(listed) > 60 and not unreadable & read
    assert {os.fsdecode(os.fsencode(name)) for name in listed} - unreadable <= {
        file.path.name for file in broken if file.path.is_symlink() or file.path.is_fifo()
    }
