"""A run folder from somebody else: records of another shape, paths that lead out of it, names that are code."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from pneumolit.rundir import RunDir

Command = Callable[..., Any]
RECORDS = ("status.json", "data.json", "environment.json", "freeze_plan.json", "calibration.json",
           "evaluation/val/metrics.json")  # fmt: skip


def lines_for(run: Path, films: Path, tmp_path: Path) -> list[tuple[str, ...]]:
    """A command of every kind that takes a run."""
    return [
        ("predict", f"run_dir={run}", f"input={films}", f"output={tmp_path / 'o.csv'}", "checks=false"),
        ("evaluate", f"run_dir={run}", "split=val"),
        ("evaluate", f"run_dir={run}", "split=val", "rescore=true"),
        ("export", f"run_dir={run}", f"output={tmp_path / 'bundle'}"),
        ("train", f"run_dir={run}"),
        ("audit", f"run_dir={run}"),
    ]


def is_refused(done: Any) -> bool:
    return bool(
        done.code == 2
        and done.err.startswith("pneumolit: ")
        and done.err.count("\n") == 1
        and "Traceback" not in done.err + done.out
    )


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("change", ["empty", pytest.param("numbers", marks=pytest.mark.slow), "not a number"])
def test_a_record_of_another_shape_is_named_by_every_command(
    command: Command, copied_run: Path, demo_root: Path, tmp_path: Path, name: str, change: str
) -> None:
    file = copied_run / name
    content = json.loads(file.read_text())
    if change == "empty":
        content = {}
    elif change == "numbers":
        content = dict.fromkeys(content, 3)
    else:
        key = next(iter(content))
        content[key] = float("nan")
    file.write_text(json.dumps(content))
    for line in lines_for(copied_run, demo_root / "test", tmp_path):
        done = command(*line)
        assert is_refused(done), (line[0], done.code, done.err)
        assert file.name in done.err, (line[0], done.err)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("callbacks", 3, "callbacks must be a group of keys, found 3"),
        ("callbacks.checkpoint.use", "../../../evil", "callbacks.checkpoint.use must be one of last, best"),
        ("data.root", [1], "data.root must be"),
        ("model.image_size", 10**9, "model.image_size must be"),
        ("backbone", None, "backbone must be a text"),
        ("precision", {"a": 1}, "lacks precision"),
    ],
)
def test_settings_that_no_run_has_are_named(
    command: Command, copied_run: Path, demo_root: Path, tmp_path: Path, key: str, value: Any, words: str
) -> None:
    file = copied_run / "config.yaml"
    content = yaml.safe_load(file.read_text())
    *path, leaf = key.split(".")
    place = content
    for part in path:
        place = place[part]
    place[leaf] = value
    file.write_text(yaml.safe_dump(content))
    for line in lines_for(copied_run, demo_root / "test", tmp_path):
        done = command(*line)
        assert is_refused(done) and words in done.err and str(file) in done.err, (line[0], done.err)


@pytest.mark.parametrize(
    "name", ["config.yaml", "training.png", "model_card.md", "checkpoints/last.ckpt", "evaluation/val", "export"]
)
def test_links_that_lead_out_of_a_run_are_neither_read_nor_written_through(
    command: Command, copied_run: Path, demo_root: Path, tmp_path: Path, name: str
) -> None:
    elsewhere = tmp_path / "of the user"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("the user's own")
    place = copied_run / name
    target = elsewhere if place.is_dir() or not place.suffix else elsewhere / "kept"
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(target)
    for line in lines_for(copied_run, demo_root / "test", tmp_path):
        done = command(*line)
        assert is_refused(done) and f"{place} is a link to {target}" in done.err, (line[0], done.err)
    done = command("compare", f"runs={copied_run}", "split=val")
    assert done.code == 2 and "is a link to" in done.err and "Traceback" not in done.err, done.err
    assert [(p.name, p.read_text()) for p in elsewhere.iterdir()] == [("kept", "the user's own")]


def test_links_within_a_run_and_to_a_run_are_followed(
    command: Command, copied_run: Path, demo_root: Path, tmp_path: Path
) -> None:
    (copied_run / "checkpoints" / "best.ckpt").unlink(missing_ok=True)
    (copied_run / "checkpoints" / "best.ckpt").symlink_to("last.ckpt")
    (tmp_path / "to it").symlink_to(copied_run)
    done = command(*lines_for(tmp_path / "to it", demo_root / "test", tmp_path)[0])
    assert done.code == 0, done.err


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    "text", [BOMB + "callbacks: *a39\n", "OWN" + BOMB, "#" * 2_000_000], ids=["alone", "below", "long"]
)
def test_a_configuration_that_unfolds_to_more_than_any_memory_is_refused_unread(
    command: Command, copied_run: Path, demo_root: Path, tmp_path: Path, text: str
) -> None:
    file = copied_run / "config.yaml"
    file.write_text(text.replace("OWN", file.read_text()))
    for line in lines_for(copied_run, demo_root / "test", tmp_path):
        done = command(*line)
        assert is_refused(done) and str(file) in done.err and len(done.err) < 1000, (line[0], done.err[:1000])


def test_a_comparison_names_metrics_that_are_hollow(command: Command, copied_run: Path) -> None:
    file = copied_run / "evaluation" / "val" / "metrics.json"
    content = json.loads(file.read_text())
    changes: list[dict[str, Any]] = [
        {"intervals": {**content["intervals"], "rules": {}}},
        {"class_view": {}},
        {"intervals": {"ranking": [1]}},
    ]
    for change in changes:
        file.write_text(json.dumps({**content, **change}))
        done = command("compare", f"runs={copied_run}", "split=val")
        assert done.code == 2 and f"{file.name} is damaged" in done.err and "Traceback" not in done.err, done.err


def test_a_ledger_and_checks_of_brackets_alone_end_in_no_traceback(
    command: Command, copied_run: Path, demo_root: Path
) -> None:
    (copied_run.parent.parent / "test_looks.jsonl").write_text("[" * 200_000 + "\n")
    checks = copied_run / "explanation" / "val" / "checks.json"
    checks.parent.mkdir(parents=True, exist_ok=True)
    checks.write_text("[" * 200_000)
    done = command("evaluate", f"run_dir={copied_run}", "split=val")
    assert done.code == 0, done.err


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../../etc/passwd", "train/../../secret.jpeg"])
def test_a_split_that_names_files_outside_of_the_data_opens_none(
    command: Command, copied_run: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = copied_run / "split.csv"
    header, first, *rest = file.read_text().splitlines()
    cells = first.split(",")
    file.write_text("\n".join([header, ",".join([path, *cells[1:]]), *rest]) + "\n")
    opened: list[str] = []
    real = os.open

    def told(name: Any, *args: Any, **kwargs: Any) -> int:
        opened.append(str(name))
        return real(name, *args, **kwargs)

    monkeypatch.setattr(os, "open", told)  # by which films are read
    done = command("evaluate", f"run_dir={copied_run}", "split=val", "rescore=true")
    assert is_refused(done) and "not below the data root" in done.err, done.err
    assert not [name for name in opened if "passwd" in name or "secret" in name]


@pytest.mark.parametrize("harm", ["a cell of a million letters", "no numbers", "two columns"])
def test_tables_that_a_run_never_wrote_are_named(command: Command, copied_run: Path, harm: str) -> None:
    file = copied_run / ("split.csv" if harm == "two columns" else "evaluation/val/predictions.csv")
    lines = file.read_text().splitlines()
    if harm == "a cell of a million letters":
        lines[1] = "x" * 1_000_000 + lines[1]
    elif harm == "no numbers":
        lines[1] = ",".join("abc" for _ in lines[1].split(","))
    else:
        lines = [",".join(line.split(",")[:2]) for line in lines]
    file.write_text("\n".join(lines) + "\n")
    line = ["evaluate", f"run_dir={copied_run}", "split=val"]
    done = command(*line, *(["rescore=true"] if harm == "two columns" else []))
    assert is_refused(done) and file.name in done.err, done.err


def test_an_ensemble_that_names_its_members_alone_is_refused(
    command: Command, copied_run: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(copied_run, tmp_path / "ensemble"))
    (folder / "config.yaml").write_text("ensemble: mean\nmembers: [a]\n")
    (folder / "ensemble.json").write_text(json.dumps({"members": ["a", "b"]}))
    for line in (("predict", f"run_dir={folder}", f"input={tmp_path}"), ("evaluate", f"run_dir={folder}")):
        done = command(*line)
        assert is_refused(done) and "ensemble.json" in done.err, done.err


def test_names_that_are_code_for_a_page_are_text_on_it(
    command: Command, copied_run: Path, demo_root: Path, tmp_path: Path
) -> None:
    evil = "<script>alert(1)<script>"  # a name holds no slash
    films = tmp_path / "films" / "NORMAL"
    films.mkdir(parents=True)
    (tmp_path / "films" / "PNEUMONIA").mkdir()
    sources = sorted((demo_root / "train").rglob("*.jpeg"))
    for number, source in enumerate(sources):
        kind = source.parent.name
        with Image.open(source) as film:  # other bytes than those that the run was trained on
            film.save(tmp_path / "films" / kind / f"{number} {evil} <img src=x>.jpeg", quality=60)
    shutil.copy(next(films.iterdir()), films / "again <b>.jpeg")
    done = command("audit", "data=image_folder", f"data.root={tmp_path / 'films'}", "name=evil")
    assert done.code == 0, done.err
    scored = command(
        "evaluate", f"run_dir={copied_run}", "data=image_folder", f"data.root={tmp_path / 'films'}", "name=evil"
    )
    assert scored.code == 0, scored.err
    pages = [path for path in tmp_path.rglob("*.html") if path.is_file()]
    assert len(pages) >= 3
    for page in pages:
        text = page.read_text()
        assert "<script>alert" not in text and "<img src=x>" not in text, page
    assert RunDir(copied_run).read_predictions("evil").paths.size == len(sources) + 1
