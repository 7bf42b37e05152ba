"""Disks that are read only or full: what was there stays whole, one line says which file, and room mends it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.rundir import read_json, read_looks, record_look, write_json
from tests.tables import assert_same_table

Command = Callable[..., Any]
TINY = (
    "backbone=test_resnet", "model.pretrained=false", "model.image_size=32", "data.batch_size=16",
    "data.val_fraction=0.25", "trainer.max_epochs=2", "trainer.accelerator=cpu", "data.stress=false",
    "precision=float32", "logger=none",
)  # fmt: skip
FULL = "No space left on device"


def seen(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of all that a folder holds."""
    return [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in [folder, *sorted(folder.rglob("*"))]]


# Read only


def test_data_on_a_read_only_disk_is_trained_on_scored_and_audited_and_stays_as_it_was(
    command: Command, demo_root: Path, tmp_path: Path, read_only: Callable[[Path], Path]
) -> None:
    root, run = read_only(Path(shutil.copytree(demo_root, tmp_path / "films"))), tmp_path / "out" / "run"
    before, cache = seen(root), f"cache_dir={tmp_path / 'cache'}"
    for name, *arguments in (
        ("train", f"data.root={root}", *TINY, f"hydra.run.dir={run}", cache),
        ("predict", f"run_dir={run}", f"input={root / 'test'}", f"output={tmp_path / 'o.csv'}", cache),
        ("evaluate", f"run_dir={run}", "split=val", cache),
        ("audit", "data=image_folder", f"data.root={root}", cache),
    ):
        done = command(name, *arguments)
        assert done.code == 0, done.err
    assert seen(root) == before


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("train", ("data.root=DATA", *TINY, "cache_dir=THERE/cache"), "cache_dir=THERE/cache"),
        ("train", ("data.root=DATA", *TINY, "hydra.run.dir=THERE/run"), "THERE/run"),
        ("predict", ("run_dir=RUN", "input=DATA/test", "checks=false", "output=THERE/o.csv"), "THERE/"),
        ("evaluate", ("run_dir=THERE/first", "split=val"), "THERE/first"),
        ("export", ("run_dir=RUN", "output=THERE/bundle"), "THERE/bundle"),
        ("audit", ("data=chest_xray", "data.root=DATA", "output_dir=THERE/audits"), "THERE/audits"),
        ("audit", ("data=chest_xray", "data.root=DATA", "cache_dir=THERE/cache"), "cache_dir=THERE/cache"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_named_in_one_line(
    command: Command, demo_root: Path, copied_run: Path, tmp_path: Path, read_only: Callable[[Path], Path],
    is_one_line: Callable[[str], bool], name: str, arguments: tuple[str, ...], named: str,
) -> None:  # fmt: skip
    (tmp_path / "disk").mkdir()
    shutil.copytree(copied_run, tmp_path / "disk" / "first")
    place = read_only(tmp_path / "disk")
    words = {"DATA": str(demo_root), "THERE": str(place), "RUN": str(copied_run)}

    def filled(text: str) -> str:
        for word, path in words.items():
            text = text.replace(word, path)
        return text

    done = command(name, *map(filled, arguments))
    assert done.code == 2 and is_one_line(done.err), done.err
    assert filled(named) in done.err and "Read-only file system" in done.err


def test_a_run_on_a_read_only_disk_predicts_and_says_what_it_cannot_keep(
    command: Command, demo_root: Path, copied_run: Path, tmp_path: Path, read_only: Callable[[Path], Path]
) -> None:
    (copied_run / "reference.json").unlink(missing_ok=True)
    place = read_only(copied_run)
    done = command("predict", f"run_dir={place}", f"input={demo_root / 'test'}", f"output={tmp_path / 'o.csv'}")
    assert done.code == 0, done.err
    assert "what the run's films look like cannot be kept" in done.out and (tmp_path / "o.csv").is_file()
    assert "not found" not in done.out and "only what files say" not in done.out


# Full


def test_training_on_a_full_disk_keeps_the_last_epoch_and_ends_with_the_same_weights(
    command: Command, demo_root: Path, tmp_path: Path, small_disk: Any, monkeypatch: pytest.MonkeyPatch,
    is_one_line: Callable[[str], bool],
) -> None:  # fmt: skip
    arguments = ("train", f"data.root={demo_root}", *TINY)
    straight, folder = tmp_path / "out" / "straight", small_disk.path / "run"
    assert command(*arguments, f"hydra.run.dir={straight}").code == 0
    monkeypatch.setattr("pneumolit.training.checkpoints.SECONDS_BETWEEN", 0.0)
    whole = PneumoniaClassifier.training_step
    first: list[bytes] = []

    def step(self: PneumoniaClassifier, batch: Any, batch_idx: int) -> Any:
        last = folder / "checkpoints" / "last.ckpt"
        if self.current_epoch == 1 and not first:
            deadline = time.monotonic() + 60
            while not last.is_file() and time.monotonic() < deadline:  # written by a thread
                time.sleep(0.01)
            first.append(last.read_bytes())
            small_disk.fill(leave=3)
        return whole(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(PneumoniaClassifier, "training_step", step)
        stopped = command(*arguments, f"hydra.run.dir={folder}")
    assert stopped.code == 2 and is_one_line(stopped.err), stopped.err
    assert FULL in stopped.err and str(folder) in stopped.err
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == first[0]
    assert not [path for path in folder.rglob("*") if path.suffix in (".tmp", ".new")]
    small_disk.make_room()
    resumed = command(*arguments, f"hydra.run.dir={folder}", "resume=true")
    assert resumed.code == 0 and "after epoch 1 of 2" in resumed.out, resumed.err
    assert read_json(folder / "status.json")["state"] == "done"
    states = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for f in (straight, folder)]
    assert all(torch.equal(states[1][key], value) for key, value in states[0].items())


@pytest.mark.parametrize(
    "leave", [pytest.param(0, marks=pytest.mark.slow), 6, pytest.param(20, marks=pytest.mark.slow)]
)
def test_a_store_on_a_full_disk_is_told_by_the_key_and_made_when_there_is_room(
    command: Command, demo_root: Path, tmp_path: Path, small_disk: Any, is_one_line: Callable[[str], bool], leave: int
) -> None:
    cache = small_disk.path / "cache"
    other = cache / "store" / "other" / "index.json"
    write_json(other, {"of": "another set"})
    arguments = ("train", f"data.root={demo_root}", *TINY, f"cache_dir={cache}", f"hydra.run.dir={tmp_path / 'run'}")
    small_disk.fill(leave=leave)
    stopped = command(*arguments)
    assert stopped.code == 2 and is_one_line(stopped.err), stopped.err
    assert f"cache_dir={cache}" in stopped.err and FULL in stopped.err
    small_disk.make_room()
    assert read_json(other) == {"of": "another set"}
    done = command(*arguments)
    assert done.code == 0, done.err
    assert not list(cache.rglob("*.building")) and not list(cache.rglob("*.tmp"))


@pytest.mark.parametrize("moment", ["before", "in the middle"])
def test_features_on_a_full_disk_are_told_and_made_when_there_is_room(
    command: Command, demo_root: Path, tmp_path: Path, small_disk: Any, is_one_line: Callable[[str], bool], moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    cache = small_disk.path / "cache"
    assert (
        command("audit", "data=chest_xray", f"data.root={demo_root}", f"cache_dir={cache}").code == 0
    )  # makes the store
    arguments = (
        "train", f"data.root={demo_root}", *TINY, f"cache_dir={cache}", "freeze=head", "augment=none",
        "trainer.cache_features=true", f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    small_disk.fill(leave=4)
    with monkeypatch.context() as patched:
        if moment == "in the middle":  # somebody else takes the room that was there
            patched.setattr("pneumolit.model.features.free_bytes", lambda folder: 1 << 40)
        stopped = command(*arguments)
    assert stopped.code == 2 and is_one_line(stopped.err), stopped.err
    assert str(cache) in stopped.err and (moment == "before" or FULL in stopped.err), stopped.err
    assert not list(cache.rglob("*.building"))
    small_disk.make_room()
    done = command(*arguments, "resume=true")
    assert done.code == 0, done.err


@pytest.mark.parametrize("leave", [0, 1, 2])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_table_on_a_full_disk_is_gone_on_with_and_the_earlier_one_stays(
    command: Command, demo_root: Path, copied_run: Path, tmp_path: Path, small_disk: Any,
    is_one_line: Callable[[str], bool], leave: int, kind: str,
) -> None:  # fmt: skip
    arguments = ("predict", f"run_dir={copied_run}", f"input={demo_root}", "checks=false")
    assert command(*arguments, f"output={tmp_path / f'o.{kind}'}").code == 0
    table = small_disk.path / f"o.{kind}"
    earlier = {"csv": "path,probability,decision\nearlier.png,,\n", "jsonl": '{"path": "earlier.png", "reason": "?"}\n'}
    table.write_text(earlier[kind])
    small_disk.fill(leave=leave)
    stopped = command(*arguments, f"output={table}")
    assert stopped.code == 2 and is_one_line(stopped.err), stopped.err
    assert FULL in stopped.err and str(small_disk.path) in stopped.err and table.name in stopped.err
    assert table.read_text() == earlier[kind]
    small_disk.make_room()
    done = command(*arguments, f"output={table}")
    assert done.code == 0, done.err
    assert_same_table(table, tmp_path / f"o.{kind}")


@pytest.mark.parametrize("leave", [pytest.param(0, marks=pytest.mark.slow), 3, pytest.param(8, marks=pytest.mark.slow)])
def test_pages_on_a_full_disk_leave_the_earlier_ones_whole(
    command: Command, demo_root: Path, small_run: Path, small_disk: Any, is_one_line: Callable[[str], bool], leave: int
) -> None:
    run = Path(shutil.copytree(small_run, small_disk.path / "train" / "run"))
    audit = ("audit", "data=chest_xray", f"data.root={demo_root}", f"output_dir={small_disk.path}")
    evaluate = ("evaluate", f"run_dir={run}", "split=val", f"data.root={demo_root}")
    assert command(*audit).code == command(*evaluate).code == 0
    before = small_disk.files()
    for arguments in (audit, evaluate):
        small_disk.fill(leave=leave)
        stopped = command(*arguments)
        assert stopped.code == 2 and is_one_line(stopped.err), stopped.err
        assert FULL in stopped.err and str(small_disk.path) in stopped.err
        after = small_disk.files()
        assert set(after) == set(before) and all(after[name] for name in after)
        small_disk.make_room()
        pictures = [name for name in before if name.endswith((".png", ".html"))]
        assert all(after[name].rstrip()[-8:] == before[name].rstrip()[-8:] for name in pictures)
        assert command(*arguments).code == 0


@pytest.mark.parametrize("leave", [0, 1, 30])
def test_an_export_on_a_full_disk_leaves_no_bundle_that_is_taken_for_whole(
    command: Command, copied_run: Path, small_disk: Any, is_one_line: Callable[[str], bool], leave: int
) -> None:
    folder = small_disk.path / "bundle"
    small_disk.fill(leave=leave)
    stopped = command("export", f"run_dir={copied_run}", f"output={folder}")
    assert stopped.code == 2 and is_one_line(stopped.err), stopped.err
    assert FULL in stopped.err and str(folder) in stopped.err
    assert not (folder / "bundle.json").exists()
    small_disk.make_room()
    done = command("export", f"run_dir={copied_run}", f"output={folder}")
    assert done.code == 0, done.err


def test_a_ledger_on_a_full_disk_loses_no_look_and_goes_on(small_disk: Any) -> None:
    look = {"run": "r" * 900, "configuration": "c", "test_set": "t", "purpose": "p"}
    ledger = small_disk.path / "test_looks.jsonl"
    for _ in range(3):
        record_look(small_disk.path, **look)
    small_disk.fill()
    with pytest.raises(OSError, match=rf"{FULL}.*test_looks\.jsonl"):
        for _ in range(9):
            record_look(small_disk.path, **look)
    kept = len(read_looks(small_disk.path))
    assert kept >= 3
    small_disk.make_room()
    assert record_look(small_disk.path, **look) == (kept + 1, 1)
    assert len(read_looks(small_disk.path)) == kept + 1 and ledger.read_bytes().endswith(b"\n")
