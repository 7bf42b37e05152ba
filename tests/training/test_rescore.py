"""A run scored again from its folder alone: same numbers, the same images or a refusal."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from pneumolit.data.reader import READER_VERSION
from pneumolit.data.store import _content_key
from pneumolit.labels import LabelSet
from pneumolit.report.run_record import RunRecord
from pneumolit.rundir import RunDir, read_json, write_json
from pneumolit.training.record import refuse_other_images
from pneumolit.training.rescore import (
    _as_the_run_decides,
    _sides_of_the_run,
    load_model,
    reopen_data,
    score_other_set,
)

QUIET = Console(file=io.StringIO())


def stored_config(run: Path) -> dict[str, Any]:
    cfg: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    return cfg


def test_reopened_data_are_divided_as_the_run_divided_them(small_run: Path, cache_dir: Path) -> None:
    run = RunDir(small_run)
    data = reopen_data(run, stored_config(small_run), None, cache_dir, QUIET)
    assert [(r.path.as_posix(), r.split, r.label) for r in data.records] == [
        (row["path"], row["split"], row["label"]) for row in run.read_split()
    ]


def test_moved_images_are_found_where_the_caller_says(
    small_run: Path, demo_root: Path, cache_dir: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(demo_root, tmp_path / "moved")
    data = reopen_data(RunDir(small_run), stored_config(small_run), str(moved), cache_dir, QUIET)
    assert len(data.rows("val"))


def test_images_with_other_contents_are_refused(
    small_run: Path, demo_root: Path, cache_dir: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(demo_root, tmp_path / "other")
    first, second = sorted((other / "train" / "NORMAL").iterdir())[:2]
    first.write_bytes(second.read_bytes())
    with pytest.raises(ValueError, match=r"not those that the run was trained on: contents differ"):
        reopen_data(RunDir(small_run), stored_config(small_run), str(other), cache_dir, QUIET)
    second.unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 of the run's images .*{second.name}.*data\.root=FOLDER"):
        reopen_data(RunDir(small_run), stored_config(small_run), str(other), cache_dir, QUIET)


def test_a_run_of_an_earlier_reader_is_not_told_that_its_images_changed(copied_run: Path, cache_dir: Path) -> None:
    run, cfg = RunDir(copied_run), stored_config(copied_run)
    data = reopen_data(run, cfg, None, cache_dir, QUIET)
    key = _content_key(data.store.hashes, cfg["data"]["store_size"], READER_VERSION - 1)
    write_json(run.data_file, {**read_json(run.data_file), "store": key})
    words = f"the files are the same, but .* \\(reader {READER_VERSION - 1} then, {READER_VERSION} now\\)"
    with pytest.raises(ValueError, match=f"cannot be read as it read them: {words}"):
        reopen_data(run, cfg, None, cache_dir, QUIET)
    with pytest.raises(ValueError, match=f"cannot be read as it read them: {words}"):
        refuse_other_images(run, data)


def test_missing_checkpoint_is_named_with_the_state_of_the_run(copied_run: Path) -> None:
    (copied_run / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(FileNotFoundError, match=r"last\.ckpt does not exist \(the run is done\)"):
        load_model(RunDir(copied_run), stored_config(copied_run))


def test_a_run_that_was_cut_off_is_not_scored_as_a_finished_one(copied_run: Path) -> None:
    run = RunDir(copied_run)
    run.write_status("interrupted")
    rows = run.read_metrics()
    run.metrics_file.unlink()
    run.append_metrics(rows[0])
    with pytest.raises(FileNotFoundError, match=r"is interrupted after 1 of 2 epochs"):
        load_model(run, stored_config(copied_run))


def test_an_epoch_whose_numbers_are_there_and_whose_weights_are_not_was_not_trained(copied_run: Path) -> None:
    run = RunDir(copied_run)
    run.write_status("failed")
    load_model(run, stored_config(copied_run))  # the weights are whole, only what follows failed
    content = torch.load(run.checkpoint("last"), weights_only=True)
    content["stage"] |= {"epochs": 1, "is_over": False}  # as a full disk or a kill leaves it
    torch.save(content, run.checkpoint("last"))
    with pytest.raises(FileNotFoundError, match=r"is failed after 1 of 2 epochs"):
        load_model(run, stored_config(copied_run))
    run.checkpoint("last").rename(run.checkpoint("best"))  # where the best is judged, the last need not be there
    cfg = stored_config(copied_run)
    cfg["callbacks"]["checkpoint"]["use"] = "best"
    load_model(run, cfg)


def manifest_of(films: list[Path], folder: Path, *, name: str = "ward.csv") -> Path:
    lines = ["path,label", *(f"{film},{film.parent.name}" for film in films)]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def test_images_that_the_run_was_trained_on_are_no_other_set(
    copied_run: Path, demo_root: Path, cache_dir: Path, tmp_path: Path, compose_config: Callable[..., dict[str, Any]]
) -> None:
    films = sorted((demo_root / "train").rglob("*.jpeg"))
    overrides = ("run_dir=x", "data=manifest", f"data.manifest={manifest_of(films, tmp_path)}", "data.target=binary")
    cfg = compose_config(*overrides, f"cache_dir={cache_dir}", name="evaluate")
    with pytest.raises(ValueError, match=r"trained or calibrated on"):
        score_other_set(cfg, RunDir(copied_run), "again", QUIET)


@pytest.mark.parametrize("kept_as", ["dropped", "val"])
def test_a_training_image_with_a_copy_elsewhere_in_the_run_is_still_one(copied_run: Path, kept_as: str) -> None:
    run = RunDir(copied_run)
    rows = list(run.read_split())
    trained = next(row for row in rows if row["split"] == "train")
    rows.append({**trained, "path": "train/NORMAL/copy.jpeg", "split": kept_as, "is_copy": "1"})
    run.write_split(rows)
    assert _sides_of_the_run(run, [trained["sha256"] + "0" * 48]) == {"train", kept_as}


def test_a_set_with_the_run_s_classes_is_decided_as_the_run_was_trained() -> None:
    classes = ("NORMAL", "BACTERIA", "VIRUS")
    known, theirs = LabelSet(classes, ("VIRUS",)), LabelSet(classes, ("BACTERIA", "VIRUS"))
    assert _as_the_run_decides(theirs, known, None) == known == _as_the_run_decides(theirs, known, ["VIRUS"])
    with pytest.raises(ValueError, match=r"data\.positive=\['BACTERIA'\] is not what the run was trained"):
        _as_the_run_decides(LabelSet(classes, ("BACTERIA",)), known, ["BACTERIA"])


def test_test_images_under_another_name_are_a_look_and_other_images_are_refused_under_it(
    copied_run: Path, demo_root: Path, cache_dir: Path, tmp_path: Path, compose_config: Callable[..., dict[str, Any]]
) -> None:
    films = sorted((demo_root / "test").rglob("*.jpeg"))

    def score(chosen: list[Path]) -> dict[str, Any]:
        manifest = manifest_of(chosen, tmp_path)
        overrides = ("run_dir=x", "data=manifest", f"data.manifest={manifest}", "data.target=binary")
        cfg = compose_config(*overrides, f"cache_dir={cache_dir}", name="evaluate")
        return score_other_set(cfg, RunDir(copied_run), "ward7", QUIET)

    run = RunDir(copied_run)
    before = len(RunRecord.read(run).looks)
    # A part of the test split, under no other fingerprint than that of the whole: it counts with all other looks.
    assert f"look {before + 1} of" in score(films[1:])["context"]["look"]
    assert len(RunRecord.read(run).looks) == before + 1
    with pytest.raises(ValueError, match=r"name=ward7 already holds the numbers of other images"):
        score(films)


def test_set_that_tells_only_normal_from_pneumonia_is_scored_by_the_two_class_logit(
    copied_run: Path,
    demo_root: Path,
    cache_dir: Path,
    tmp_path: Path,
    compose_config: Callable[..., dict[str, Any]],
) -> None:
    films = sorted((demo_root / "test").rglob("*.jpeg"))
    for i, film in enumerate(films):  # names that tell no cause
        shutil.copy(film, tmp_path / f"film{i}.jpeg")
    lines = ["path,label", *(f"film{i}.jpeg,{film.parent.name}" for i, film in enumerate(films))]
    (tmp_path / "ward.csv").write_text("\n".join(lines) + "\n")
    cfg = compose_config(
        "run_dir=x",
        "data=manifest",
        f"data.manifest={tmp_path / 'ward.csv'}",
        f"cache_dir={cache_dir}",
        name="evaluate",
    )
    score_other_set(cfg, RunDir(copied_run), "ward7", QUIET)
    run = RunDir(copied_run)
    ward, test = run.read_predictions("ward7"), run.read_predictions("test")
    assert ward.labels.classes == ("NORMAL", "PNEUMONIA") and test.labels.num_classes == 3
    # The same films: the same two-class score, re-based alike.
    by_name = dict(zip((Path(p).name for p in test.paths), test.scores, strict=True))
    expected = [by_name[films[int(p.removeprefix("film").removesuffix(".jpeg"))].name] for p in ward.paths]
    np.testing.assert_allclose(ward.scores, expected, rtol=1e-4, atol=1e-4)


def test_set_with_classes_that_have_nothing_to_do_with_the_model_is_refused(
    copied_run: Path,
    demo_root: Path,
    cache_dir: Path,
    tmp_path: Path,
    compose_config: Callable[..., dict[str, Any]],
) -> None:
    films = sorted((demo_root / "test").rglob("*.jpeg"))
    lines = ["path,label", *(f"{film},{'cat' if i % 2 else 'dog'}" for i, film in enumerate(films[:6]))]
    (tmp_path / "pets.csv").write_text("\n".join(lines) + "\n")
    cfg = compose_config(
        "run_dir=x",
        "data=manifest",
        f"data.manifest={tmp_path / 'pets.csv'}",
        f"cache_dir={cache_dir}",
        name="evaluate",
    )
    with pytest.raises(ValueError, match=r"the set has the classes \['cat', 'dog'\], the model"):
        score_other_set(cfg, RunDir(copied_run), "pets", QUIET)
    assert not RunDir(copied_run).evaluation_folder("pets").exists()
