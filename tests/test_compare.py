"""The command `compare`: from folders alone, without torch, without a look at the test split."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumolit.compare import compare
from pneumolit.entry import run_command
from pneumolit.report.evaluation import PATIENTS_UNKNOWN
from pneumolit.rundir import LEDGER_NAME, CompareDir, RunDir, read_json
from tests.comparison import made_runs
from tests.processor_time import children_seconds, times_slower

Command = Callable[..., Any]
QUICK = "num_resamples=100"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three runs, one of which has not been scored on test; to be read only."""
    root = tmp_path_factory.mktemp("compared") / "out" / "train"
    made_runs.write_run(root / "a", settings={"backbone": "resnet18"})
    made_runs.write_run(root / "b", draw=1, noise=2.0, settings={"backbone": "mlp"}, policy="head")
    made_runs.write_run(root / "c", draw=2, sets={"val": 40})
    return root


@pytest.fixture
def called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """`called("key=value", ...)`: exit code, standard output and error; the folder is tmp_path/compare/t."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))  # run_command replaces it

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = 0
        try:
            run_command("compare", compare, ["name=t", QUICK, *arguments, f"output_dir={tmp_path}"])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_one_command_writes_page_text_and_tables_without_torch_and_without_touching_a_run(
    runs: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in runs.parent.rglob("*") if path.is_file()}
    line = [sys.executable, "-X", "importtime", "-m", "pneumolit.compare", f"runs={runs}", "name=t", QUICK]
    done = subprocess.run([*line, f"output_dir={tmp_path}"], capture_output=True, text=True, check=True, cwd=tmp_path)
    imported = {row.rpartition("|")[2].strip().split(".")[0] for row in done.stderr.splitlines()}
    assert "matplotlib" in imported
    assert not imported & {"torch", "pytorch_lightning", "timm", "torchvision", "sklearn", "pandas"}
    folder = CompareDir(tmp_path / "compare" / "t")
    names = {"comparison.html", "comparison.md", "comparison.csv", "pairs.csv"}
    assert {path.name for path in folder.path.iterdir()} == names
    assert {path: path.stat().st_mtime_ns for path in runs.parent.rglob("*") if path.is_file()} == before
    assert not list(tmp_path.rglob(LEDGER_NAME))  # no look was taken
    rows = list(csv.DictReader(folder.csv_file.open()))
    assert [row["name"] for row in rows[:2]] == ["resnet18.tv_in1k, everything", "mlp.tv_in1k, head"]
    assert rows[2]["reason"] == "test was not scored" and "split=test" in rows[2]["command"]
    assert "not compared" in done.stdout and "page  compare/t/comparison.html" in done.stdout


def test_runs_mix_with_predictions_of_other_programs(runs: Path, tmp_path: Path, called: Command) -> None:
    said = RunDir(runs / "a").read_predictions("test")
    theirs = tmp_path / "theirs.csv"
    lines = [f"{path},{score:.6f}" for path, score in zip(said.paths, said.probs[:, 1:].sum(axis=1), strict=True)]
    theirs.write_text("path,score\n" + "\n".join(lines))
    code, out, err = called(f"runs=[{runs}/a,{runs}/b]", f"predictions={theirs}")
    assert code == 0, err
    assert "theirs" in out
    pairs = list(csv.DictReader(CompareDir(tmp_path / "compare" / "t").pairs_file.open()))
    assert len(pairs) == 2
    (same,) = [row for row in pairs if "theirs" in row["first"] + row["second"]]
    assert float(same["auroc_difference"]) == pytest.approx(0, abs=1e-6)


def test_where_patients_are_not_known_nothing_is_said_to_be_over_patients(tmp_path: Path, called: Command) -> None:
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        rows = [f"{i}.png,{rng.uniform():.4f},{i % 2}" for i in range(60)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,score,target", *rows]))
    code, out, err = called(f"predictions=[{tmp_path}/one.csv,{tmp_path}/two.csv]")
    assert code == 0, err
    text = CompareDir(tmp_path / "compare" / "t").markdown_file.read_text()
    assert PATIENTS_UNKNOWN in text and "60 images, " in text and "95 % intervals over images" in text
    assert "of 60 patients" not in text and "images of one patient resemble" not in text
    assert "over patients" not in text and "resampled patients" not in text and "patients drawn" not in text
    assert "intervals over images" in out


def test_all_pairs_on_request_and_an_ensemble_is_a_method_more(runs: Path, tmp_path: Path, called: Command) -> None:
    code, _, err = called(f"runs={runs}", "split=val", "pairs=all", "ensemble=greedy")
    assert code == 0, err
    folder = CompareDir(tmp_path / "compare" / "t")
    assert len(list(csv.DictReader(folder.pairs_file.open()))) == 6  # of three runs and the ensemble
    text = folder.markdown_file.read_text()
    assert "## Ensemble" in text and "Its gain over the best single member" in text
    assert not (tmp_path / "ensembles").exists()  # save= was not given


def test_an_ensemble_of_the_same_name_as_another_method_is_told_apart(
    runs: Path, tmp_path: Path, called: Command
) -> None:
    for folders in (str(runs), f"[{runs},{tmp_path}/ensembles/pair]"):
        code, _, err = called(f"runs={folders}", "split=val", "ensemble=mean", "save=pair")
        assert code == 0, err
    rows = list(csv.DictReader(CompareDir(tmp_path / "compare" / "t").csv_file.open()))
    assert {"pair", "pair (2)"} <= {row["name"] for row in rows}
    text = CompareDir(tmp_path / "compare" / "t").markdown_file.read_text()
    assert re.search(r"pair \(2\): .*Calibrated on", text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), r"nothing to compare: give runs=FOLDER"),
        (("runs=nowhere",), r"runs=nowhere leads to no run"),
        (("runs=RUNS", "pairs=al"), r"pairs must be one of reference, all, got 'al'; did you mean all\?"),
        (("runs=RUNS", "ensemble=greed"), r"ensemble must be one of null, mean, greedy.*did you mean greedy\?"),
        (("runs=RUNS", "save=five"), r"save=five has no effect without an ensemble"),
        (("runs=RUNS", "split=block"), r"nothing can be compared on split=block:"),
        (("runs=RUNS", "num_resamples=3"), r"num_resamples must be a whole number of at least 100, got 3"),
        (("runs=RUNS", "rule=half", "reference=zz"), r"reference=zz is none of the 2 methods"),
        (("runs=RUNS", "ensemble=mean", "save=pair", "reference=zz"), r"reference=zz is none of the 3 methods"),
        (("predictions=none.csv",), r"predictions=none\.csv is no file"),
    ],
)
def test_a_mistake_is_answered_in_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], message: str, runs: Path, tmp_path: Path, called: Command
) -> None:
    code, _, err = called(*(a.replace("RUNS", str(runs)) for a in arguments))
    assert code == 2
    assert re.search(message, err, re.S), err
    assert err.count("pneumolit: ") == 1 and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_evaluate_takes_the_folder_of_an_ensemble(
    small_run: Path, called: Command, command: Command, tmp_path: Path
) -> None:
    """Draws again what is there; what is not there is scored by its members and combined."""
    members = tmp_path / "members"
    for name in ("one", "two"):
        shutil.copytree(small_run, members / name)
    assert called(f"runs={members}", "split=val", "ensemble=mean", "save=pair")[0] == 0
    ensemble = RunDir(tmp_path / "ensembles" / "pair")
    numbers = read_json(ensemble.evaluation_metrics_file("val"))
    again = command("evaluate", f"run_dir={ensemble.path}", "split=val")
    assert again.code == 0, again.err
    assert "nothing is predicted again" in again.out
    assert read_json(ensemble.evaluation_metrics_file("val")) == numbers
    fresh = command("evaluate", f"run_dir={ensemble.path}", "split=train")
    assert fresh.code == 0, fresh.err
    assert RunDir(members / "one").predictions_file("train").is_file()
    whole = read_json(ensemble.evaluation_metrics_file("train"))
    alone = read_json(RunDir(members / "one").evaluation_metrics_file("train"))
    assert whole["ranking"]["auroc"] == pytest.approx(alone["ranking"]["auroc"], abs=1e-9)  # its members are alike
    page = ensemble.page_file.read_text()
    assert "Training images" in page and page.count("<img ") == 18  # six of each set


@pytest.mark.slow
def test_fifty_runs_take_less_than_ten_seconds(tmp_path: Path) -> None:
    for number in range(50):
        made_runs.write_run(
            tmp_path / "runs" / f"run{number:02d}", draw=number, noise=0.3 + 0.05 * number,
            sets={"val": 260, "test": 312}, settings={"seed": number},
        )  # fmt: skip
    line = [sys.executable, "-m", "pneumolit.compare", f"runs={tmp_path / 'runs'}", f"output_dir={tmp_path}"]
    before = children_seconds()
    subprocess.run(line, capture_output=True, check=True, cwd=tmp_path)
    assert children_seconds() - before < 10 * times_slower()
