from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pneumolit.report.sweep import SweepRow
from pneumolit.rundir import RunDir, SweepDir, read_json, write_json, write_text
from pneumolit.sweep.results import Tables, collect_row, winner_commands

# val/auroc is best in the second epoch, val/loss in the third.
EPOCHS: list[dict[str, float]] = [
    {"epoch": 1, "val/loss": 0.5, "val/auroc": 0.90, "stress/auroc": 0.81, "seconds": 2.0},
    {"epoch": 2, "val/loss": 0.4, "val/auroc": 0.95, "stress/auroc": 0.82, "seconds": 2.0},
    {"epoch": 3, "val/loss": 0.3, "val/auroc": 0.92, "stress/auroc": 0.83, "seconds": 2.5},
]


def make_job(
    folder: Path,
    *,
    state: str | None = "done",
    job: Mapping[str, Any] | None = None,
    use: str = "last",
    monitor: str = "val/auroc",
    epochs: Sequence[Mapping[str, float]] = EPOCHS,
    metrics: Mapping[str, Any] | None = None,
    **status: Any,
) -> RunDir:
    """A job's folder with what a run of that state leaves."""
    run = RunDir(folder)
    cfg = {"callbacks": {"checkpoint": {"monitor": monitor, "use": use, "also": []}}}
    write_text(run.config_file, yaml.safe_dump(cfg))
    if state is not None:
        end = {"seconds": 9.5, "epochs": 3, "checkpoint": use} if state == "done" else {}
        run.write_status(state, **{**end, **status})
    if job is not None:
        write_json(run.job_file, job)
    for epoch in epochs:
        run.append_metrics(epoch)
    if metrics is not None:
        write_json(run.evaluation_metrics_file("val"), metrics)
    return run


# Which numbers


def test_the_numbers_of_a_finished_run_are_those_of_its_files(small_run: Path) -> None:
    run = RunDir(small_run)
    row, last, val = (
        collect_row(run, {"seed": 0}),
        run.read_metrics()[-1],
        read_json(run.evaluation_metrics_file("val")),
    )
    assert (row.name, row.state, row.reason, row.choices) == ("first", "done", "", {"seed": 0})
    assert (row.score, row.epochs) == (last["val/auroc"], 2)
    assert row.score == pytest.approx(val["ranking"]["auroc"], abs=1e-5)
    assert row.interval == tuple(val["intervals"]["ranking"]["auroc"])
    assert row.metrics["val/loss"] == last["val/loss"] and row.metrics["stress/auroc"] == last["stress/auroc"]
    assert row.metrics["val balanced accuracy"] == val["rules"]["primary"]["balanced_accuracy"]
    assert row.seconds == read_json(run.status_file)["seconds"]
    assert not any("test" in name for name in row.metrics)  # that split chooses nothing


@pytest.mark.parametrize(
    ("use", "monitor", "score", "stress"),
    [("last", "val/auroc", 0.92, 0.83), ("best", "val/auroc", 0.95, 0.82), ("best", "val/loss", 0.3, 0.83)],
)
def test_the_score_is_that_of_the_checkpoint_that_is_scored(
    use: str, monitor: str, score: float, stress: float, tmp_path: Path
) -> None:
    row = collect_row(make_job(tmp_path, use=use, monitor=monitor), {})
    assert (row.score, row.metrics["stress/auroc"]) == (score, stress)
    assert monitor not in row.metrics


def test_the_score_is_by_the_monitor_of_the_last_stage(tmp_path: Path) -> None:
    run = make_job(tmp_path, use="best")
    cfg = yaml.safe_load(run.config_file.read_text())
    cfg["stages"] = [{}, {"callbacks.checkpoint.monitor": "val/loss"}]
    write_text(run.config_file, yaml.safe_dump(cfg))
    assert collect_row(run, {}).score == 0.3


def test_another_metric_is_taken_from_the_epoch_that_the_run_chose(tmp_path: Path) -> None:
    row = collect_row(make_job(tmp_path, use="best"), {}, monitor="val/loss")
    assert (row.score, row.metrics["val/auroc"]) == (0.4, 0.95)


def test_the_best_epoch_is_one_of_the_last_stage(tmp_path: Path) -> None:
    staged = [{**epoch, "stage": 1 + (i == 2)} for i, epoch in enumerate(EPOCHS)]
    assert collect_row(make_job(tmp_path, use="best", epochs=staged), {}).score == 0.92


def test_the_first_of_equally_good_epochs_is_the_best_as_for_the_checkpoint(tmp_path: Path) -> None:
    epochs = [{**epoch, "val/auroc": 1.0} for epoch in EPOCHS]
    assert collect_row(make_job(tmp_path, use="best", epochs=epochs), {}).metrics["stress/auroc"] == 0.81


def test_a_set_without_a_two_class_view_has_its_accuracy(tmp_path: Path) -> None:
    metrics = {"class_view": {"accuracy": 0.75}, "intervals": {"class_view": {"accuracy": [0.7, 0.8]}}}
    row = collect_row(make_job(tmp_path, monitor="val/accuracy", metrics=metrics), {})
    assert (row.score, row.interval, row.metrics["val accuracy"]) == (None, None, 0.75)
    assert row.state == "done"


def test_numbers_that_are_undefined_are_left_out(tmp_path: Path) -> None:
    metrics = {
        "rules": {"primary": {"balanced_accuracy": None, "sensitivity": 1.0, "specificity": None}},
        "intervals": {"ranking": {"auroc": None}},
        "class_view": {"accuracy": 1.0},
    }
    epochs = [{"epoch": 1, "val/auroc": float("nan"), "val/loss": float("nan"), "stress/auroc": 0.5}]
    row = collect_row(make_job(tmp_path, metrics=metrics, epochs=epochs), {})
    assert (row.score, row.interval) == (None, None)
    assert dict(row.metrics) == {"stress/auroc": 0.5, "val sensitivity": 1.0}


@pytest.mark.parametrize("missing", ["metrics.csv", "config.yaml", "evaluation"])
def test_a_finished_run_that_lost_files_is_done_with_empty_numbers(
    small_run: Path, tmp_path: Path, missing: str
) -> None:
    run = RunDir(tmp_path / "job")
    shutil.copytree(small_run, run.path, ignore=shutil.ignore_patterns(missing, "checkpoints", "tensorboard", "*.png"))
    row = collect_row(run, {})
    assert (row.state, row.epochs) == ("done", 2)
    assert (row.score is None) == (missing != "evaluation")
    assert (row.interval is None) == (missing == "evaluation")
    Tables(SweepDir(tmp_path), "val/auroc").write_all([row])


# How it ended


@pytest.mark.parametrize(
    ("status", "job", "state", "reason"),
    [
        ("failed", {"state": "failed", "reason": "killed by signal 9"}, "failed", "killed by signal 9"),
        ("running", {"state": "failed", "reason": "out of memory"}, "failed", "out of memory"),
        (None, {"state": "failed", "reason": "ValueError: lr"}, "failed", "ValueError: lr"),
        ("failed", {"state": "failed", "reason": ""}, "failed", "of the run"),
        ("interrupted", {"state": "interrupted"}, "interrupted", "of the run"),
        ("failed", {"state": "running"}, "failed", "of the run"),
        ("pruned", {"state": "done"}, "pruned", "of the run"),
        ("failed", None, "failed", "of the run"),
        ("done", {"state": "failed", "reason": "of an earlier attempt"}, "done", ""),
        (None, None, "waiting", ""),
    ],
)
def test_the_state_is_how_the_job_ended_and_its_own_reason_comes_first(
    status: str | None, job: dict[str, Any] | None, state: str, reason: str, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"reason": "of the run"} if status in ("failed", "interrupted", "pruned") else {}
    row = collect_row(make_job(tmp_path, state=status, job=job, epochs=[], **given), {})
    assert (row.state, row.reason) == (state, reason)


@pytest.mark.parametrize(
    ("job", "state", "reason"), [("running", "interrupted", "was killed"), ("done", "failed", "without a finished run")]
)
def test_a_job_whose_end_nobody_wrote_down_is_not_done(job: str, state: str, reason: str, tmp_path: Path) -> None:
    row = collect_row(make_job(tmp_path, state="running", job={"state": job}), {})
    assert row.state == state and reason in row.reason


def test_an_unfinished_run_shows_how_far_it_came_and_no_score(tmp_path: Path) -> None:
    row = collect_row(make_job(tmp_path, state="running", job={"state": "failed", "reason": "x"}), {})
    assert (row.epochs, row.seconds, row.score, dict(row.metrics)) == (3, 6.5, None, {})


def test_a_folder_that_does_not_exist_is_a_job_that_waits(tmp_path: Path) -> None:
    assert collect_row(RunDir(tmp_path / "none"), {"a": 1}) == SweepRow("none", {"a": 1}, "waiting")


# What is written


def rows_of(sweep: SweepDir) -> list[SweepRow]:
    better = [{**epoch, "val/auroc": epoch["val/auroc"] + 0.01} for epoch in EPOCHS]
    jobs = {
        "aa": (make_job(sweep.job("aa").path), {"optim.lr": 1e-3}),
        "bb": (make_job(sweep.job("bb").path, epochs=better), {"optim.lr": 1e-2}),
        "cc": (make_job(sweep.job("cc").path, state="failed", reason="no <b>memory</b>"), {"optim.lr": 1e-1}),
    }
    return [collect_row(run, choices) for run, choices in jobs.values()]


def test_csv_markdown_and_page_are_written_and_name_the_winner_s_command(tmp_path: Path) -> None:
    sweep = SweepDir(tmp_path / "my sweep")
    rows = rows_of(sweep)
    Tables(sweep, "val/auroc", again="python -m x -m", notes=["a note"]).write_all(rows)
    with sweep.csv_file.open(newline="") as handle:
        read = list(csv.DictReader(handle))
    assert [(row["rank"], row["folder"]) for row in read] == [("1", "bb"), ("2", "aa"), ("", "cc")]
    command = f"python -m pneumolit.evaluate run_dir='{tmp_path}/my sweep/bb' split=test"
    text = sweep.markdown_file.read_text()
    assert command in text and "(once, at the end)" in text and "python -m x -m" in text and "a note" in text
    page = sweep.page_file.read_text()
    assert "no &lt;b&gt;memory&lt;/b&gt;" in page and command.replace("'", "&#x27;") in page and "a note" in page
    assert {p.name for p in sweep.path.iterdir()} == {"aa", "bb", "cc", "sweep.csv", "sweep.md", "sweep.html"}


def test_where_all_is_done_nothing_is_to_be_run_again(tmp_path: Path) -> None:
    sweep = SweepDir(tmp_path)
    Tables(sweep, "val/auroc", again="python -m x -m").write_all(rows_of(sweep)[:2])
    assert "python -m x" not in sweep.markdown_file.read_text()


def test_every_seed_of_the_best_choices_is_scored_on_test_and_no_failed_one() -> None:
    rows = [
        SweepRow(f"{lr}-{seed}", {"optim.lr": lr, "seed": seed}, "done", score=lr + seed / 100)
        for lr in (0.1, 0.2)
        for seed in (1, 0)
    ]
    rows.append(SweepRow("0.2-2", {"optim.lr": 0.2, "seed": 2}, "failed", "x"))
    ((what, lines),) = winner_commands(SweepDir("out"), rows, "val/auroc")
    assert lines.split("\n") == [f"python -m pneumolit.evaluate run_dir=out/0.2-{s} split=test" for s in (0, 1)]
    assert "all 2 runs" in what
    ((_, lines),) = winner_commands(SweepDir("out"), rows, "val/loss")
    assert "out/0.1-0 " in lines and "out/0.2" not in lines


def test_where_nothing_has_a_score_nothing_is_to_be_tested(tmp_path: Path) -> None:
    sweep = SweepDir(tmp_path)
    rows = [SweepRow("a", {"k": 1}, "failed", "x"), SweepRow("b", {"k": 2}, "done")]
    assert winner_commands(sweep, rows, "val/auroc") == winner_commands(sweep, [], "val/auroc") == []
    Tables(sweep, "val/auroc").write_all(rows)
    assert "split=test" not in sweep.page_file.read_text()


def test_tables_are_made_without_torch() -> None:
    code = (
        "import sys, pneumolit.sweep.results; "
        "print([m for m in ('torch', 'pytorch_lightning', 'timm', 'matplotlib.pyplot') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
