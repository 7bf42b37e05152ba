"""Two processes at once, signals and clocks that jump: one of two is refused or both are right, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pneumolit.rundir import read_looks, record_look
from tests.conftest import TINY

Command = Callable[..., Any]
Start = Callable[..., subprocess.Popen[str]]
Wait = Callable[[subprocess.Popen[str], str], None]
# Lines for `start`: a function that says a word and waits the first time that it is called.
FIRST = (
    "told = []\n"
    "def first(word):\n"
    "    def changed(old):\n"
    "        def called(*args, **kwargs):\n"
    "            if not told:\n                told.append(1)\n                pause(word)\n"
    "            return old(*args, **kwargs)\n"
    "        return called\n"
    "    return changed\n"
)


def go_on(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Let a paused process end: exit code, standard output and error."""
    out, err = process.communicate("\n", timeout=120)
    return process.returncode, out, err


# Two at once


def test_of_two_predictions_into_one_table_the_second_is_refused_and_the_first_is_whole(
    start: Start, wait_for: Wait, command: Command, copied_run: Path, demo_root: Path, tmp_path: Path,
    is_one_line: Callable[[str], bool],
) -> None:  # fmt: skip
    arguments = (f"run_dir={copied_run}", f"input={demo_root / 'test'}", f"output={tmp_path / 'o.csv'}", "checks=false")
    before = FIRST + "patch('pneumolit.prediction.table.TableWriter.write', first('writing'))\n"
    process = start("predict", *arguments, before=before)
    wait_for(process, "writing")
    second = command("predict", *arguments)
    assert second.code == 2 and is_one_line(second.err) and "another process is writing" in second.err, second.err
    code, _, err = go_on(process)
    assert code == 0, err
    rows = (tmp_path / "o.csv").read_text().splitlines()
    assert len(rows) == 1 + len(list((demo_root / "test").rglob("*.jpeg")))
    assert command("predict", *arguments).code == 0
    assert sorted(p.name for p in tmp_path.glob("*o.*")) == ["o.csv", "o.csv.about.json"]  # no lock is left


def test_of_two_exports_into_one_folder_the_second_is_refused_and_the_first_is_whole(
    start: Start, wait_for: Wait, command: Command, copied_run: Path, tmp_path: Path,
    is_one_line: Callable[[str], bool],
) -> None:  # fmt: skip
    import pneumolit

    arguments = (f"run_dir={copied_run}", f"output={tmp_path / 'bundle'}")
    before = FIRST + "patch('pneumolit.exporting.run._check_bundle', first('checking'))\n"
    process = start("export", *arguments, before=before)
    wait_for(process, "checking")
    second = command("export", *arguments)
    assert second.code == 2 and is_one_line(second.err) and "another process is writing" in second.err, second.err
    code, _, err = go_on(process)
    assert code == 0, err
    assert pneumolit.load(tmp_path / "bundle").scorers[0].identity
    assert not (tmp_path / "bundle" / ".lock").exists()


def test_two_predictions_that_look_at_training_films_at_once_end_with_one_whole_reference(
    start: Start, wait_for: Wait, command: Command, copied_run: Path, demo_root: Path, tmp_path: Path
) -> None:
    from pneumolit.prediction.opening import open_scorer

    def arguments(name: str) -> tuple[str, ...]:
        return (f"run_dir={copied_run}", f"input={demo_root / 'test'}", f"output={tmp_path / name}")

    before = (  # held where its file is written and has not got its name yet
        FIRST + "from pathlib import Path\nown = Path.replace\nheld = first('saving')(own)\n"
        "Path.replace = lambda self, to: (held if Path(to).name.startswith('reference') else own)(self, to)\n"
    )
    process = start("predict", *arguments("a.csv"), before=before)
    wait_for(process, "saving")
    assert command("predict", *arguments("b.csv")).code == 0
    code, _, err = go_on(process)
    assert code == 0, err
    assert open_scorer(copied_run).reference is not None
    rows = [(tmp_path / name).read_text() for name in ("a.csv", "b.csv")]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_two_runs_that_compute_the_same_features_at_once_end_with_one_whole_set_of_them(
    start: Start, demo_root: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    common = (
        f"data.root={demo_root}", *TINY, "freeze=head", "augment=none", "trainer.cache_features=true",
        f"cache_dir={cache}", "logger=none",
    )  # fmt: skip
    runs = [start("train", *common, f"hydra.run.dir={tmp_path / name}") for name in ("a", "b")]
    for process in runs:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    states = [torch.load(tmp_path / n / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for n in "ab"]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    names = [path.name for path in (cache / "features").rglob("*")]
    assert names.count("features.npy") >= 1 and not [n for n in names if n.endswith((".building", ".tmp"))]


# Signals

# Command, arguments, where it is stopped.
STOPS = [
    ("evaluate", ("run_dir=RUN", "split=val", "rescore=true"), "pneumolit.scoring.predict_logits"),
    ("predict", ("run_dir=RUN", "input=DATA/test", "output=OUT/o.csv", "checks=false"),
     "pneumolit.prediction.scorer.Scorer.score"),
    ("export", ("run_dir=RUN", "output=OUT/bundle"), "pneumolit.exporting.run._check_bundle"),
    ("audit", ("data=chest_xray", "data.root=DATA", "output_dir=OUT/audits"), "pneumolit.auditing.run.exact_groups"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("name", "arguments", "where"), STOPS, ids=[stop[0] for stop in STOPS])
def test_a_signal_ends_a_command_with_one_line_and_the_same_command_does_the_rest(
    start: Start, wait_for: Wait, command: Command, copied_run: Path, demo_root: Path, tmp_path: Path,
    name: str, arguments: tuple[str, ...], where: str, number: signal.Signals,
) -> None:  # fmt: skip
    words = {"RUN": str(copied_run), "DATA": str(demo_root), "OUT": str(tmp_path / "there")}
    given = []
    for text in arguments:
        for word, path in words.items():
            text = text.replace(word, path)
        given.append(text)
    before = {p: p.read_bytes() for p in copied_run.rglob("*") if p.is_file()}
    process = start(name, *given, before=FIRST + f"patch({where!r}, first('here'))\n")
    wait_for(process, "here")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (143 if number == signal.SIGTERM else 130), err
    assert "Traceback" not in err and err.count("\n") == 1, err
    assert name != "predict" or "stopped after 0 rows; the same command goes on from there" in err, err
    assert all(path.read_bytes() == content for path, content in before.items())
    finals = {"o.csv", "bundle.json", "audit.json", "audit.html"} & {p.name for p in (tmp_path / "there").rglob("*")}
    assert not finals or name == "export"  # of which the record stands before the check
    done = command(name, *given)
    assert done.code == 0, done.err


# Clocks


@pytest.mark.parametrize("year", [1980, pytest.param(2040, marks=pytest.mark.slow)])
def test_files_of_another_time_are_the_same_films(command: Command, demo_root: Path, tmp_path: Path, year: int) -> None:
    root, cache = Path(shutil.copytree(demo_root, tmp_path / "films")), tmp_path / "cache"
    line = ("train", f"data.root={root}", *TINY, f"cache_dir={cache}", "logger=none", "data.stress=false")
    assert command(*line, f"hydra.run.dir={tmp_path / 'a'}").code == 0
    stores = sorted(p.name for p in (cache / "store").iterdir() if p.is_dir())
    when = time.mktime((year, 1, 1, 0, 0, 0, 0, 0, 0))
    for path in [*root.rglob("*"), *cache.rglob("*"), *(tmp_path / "a").rglob("*")]:
        os.utime(path, (when, when))
    done = command("evaluate", f"run_dir={tmp_path / 'a'}", "split=val", "rescore=true", f"cache_dir={cache}")
    assert done.code == 0, done.err
    assert sorted(p.name for p in (cache / "store").iterdir() if p.is_dir()) == stores
    done = command(*line, f"hydra.run.dir={tmp_path / 'a'}", "resume=true")
    assert done.code == 0 and "done" in done.out, done.err


@pytest.mark.parametrize("jump", [-3600 * 24 * 400, pytest.param(3600 * 24 * 400, marks=pytest.mark.slow)])
def test_a_clock_that_jumps_in_the_middle_of_a_run_changes_nothing_but_times(
    command: Command, demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    line = ("train", f"data.root={demo_root}", *TINY, "logger=none", "data.stress=false")
    straight = command(*line, f"hydra.run.dir={tmp_path / 'straight'}")
    own = time.time
    calls = iter(range(10**9))
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: own() + (jump if next(calls) % 2 else 0))
        jumped = command(*line, f"hydra.run.dir={tmp_path / 'jumped'}")
    assert straight.code == jumped.code == 0, jumped.err
    said = jumped.out[jumped.out.rindex("done in") :].split()
    assert float(said[2]) >= 0
    states = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("straight", "jumped")
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_the_ledger_counts_looks_by_their_order_and_not_by_their_times(tmp_path: Path) -> None:
    look = {"run": "r", "configuration": "c", "test_set": "t", "purpose": "p"}
    record_look(tmp_path, **look)
    ledger = tmp_path / "test_looks.jsonl"
    told = json.loads(ledger.read_text())
    ledger.write_text(json.dumps({**told, "time": "2099-01-01T00:00:00Z"}) + "\n")
    assert record_look(tmp_path, **look) == (2, 1)
    assert read_looks(tmp_path)[0]["time"].startswith("2099")
