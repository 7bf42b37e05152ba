"""`--multirun`: what is asked for is checked whole before anything begins, and a refused sweep leaves nothing."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pneumolit.composition import _sweep_name as sweep_name
from pneumolit.rundir import RunDir, SweepDir, read_json
from pneumolit.sweep.run import varied

Command = Callable[..., Any]
TINY = (
    "backbone=test_resnet", "model.pretrained=false", "model.image_size=32", "data.batch_size=16",
    "data.val_fraction=0.25", "data.store_size=64", "trainer.max_epochs=1", "trainer.accelerator=cpu",
    "precision=float32",
)  # fmt: skip


@pytest.fixture
def multirun(command: Command, demo_root: Path) -> Command:
    def run(*arguments: str) -> Any:
        return command("train", "--multirun", f"data.root={demo_root}", *TINY, *arguments)

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=0,1", "hydra.launcher.cpu_job=2"], r"unknown key .*did you mean hydra\.launcher\.cpu_jobs"),
        (["seed=0,1", "hydra/launcher=device"], r"hydra/launcher=device is no option; did you mean devices"),
        (["seed=0,1", "optim.lr=-1,1"], r"(?s)nothing was begun.* 2 of 4 jobs.*job 0 .*optim\.lr.*job 2"),
        (["seed=0,1", "sweep.name=a/b"], r"sweep\.name must be the name of a folder, .*got 'a/b'"),
        (["seed=0,1", "sweep.name="], r"sweep\.name must be the name of a folder, .*got ''"),
        (["seed=0,1", "sweep.retry_failed=3"], r"sweep\.retry_failed must be true or false, got 3"),
        (["seed=0,1", "hydra.launcher.cpu_jobs=0"], r"cpu_jobs must be a whole number of at least 1, got 0"),
        (["seed=0,1", "hydra.launcher.gpus=[0,0]"], r"gpus must be a list that names every GPU once"),
        (["seed=0,1", "hydra.launcher.start=thread"], r"start must be forkserver or spawn, got 'thread'"),
        (["seed=0,1", "hydra.launcher.job_memory_gb=-1"], r"job_memory_gb must be null or a number above 0"),
        (["seed=0,1", "run_dir=x"], r"run_dir has no place in a sweep"),
        (["seed=0,1", "resume=true"], r"resume has no place in a sweep"),
        (["seed=0,1", "hydra.sweeper.max_batch_size=1"], r"max_batch_size has no effect"),
        (["seed=0,1", "hydra.sweep.subdir=x"], r"hydra\.sweep\.subdir has no effect on a sweep"),
        (["seed=0,1", "hydra.sweep.dir=x", "sweep.name=y"], r"both name the folder of the sweep"),
        (["seed=0,1", "hydra/launcher=slurm"], r"finds no Slurm here"),
        (
            ["seed=0,1", "hydra/launcher=slurm", "hydra.launcher.gpus=[0]"],
            r"gpus must be a list of GPUs for cluster=lo",
        ),
        (["seed=0,1", "trainer.devices=2"], r"trainer\.devices=2 cannot be inside a sweep, whose jobs have one device"),
        (["sweep=seeds,folds"], r"sweep=folds and sweep=seeds are several ready sweeps; start one after the other"),
        (["sweep=[seeds,folds]"], r"sweep=\[seeds,folds\] names several options; give one\n"),
        (["seed=0,1", "+sweep.retry_fail=false"], r"sweep\.retry_fail is no key .*did you mean sweep\.retry_failed\?"),
        (
            ["seed=0,1", "+hydra.launcher.x=1"],
            r"hydra\.launcher\.x is no key that does anything \(there are .*cpu_jobs",
        ),
        (["seed=0,1", "sweep=gird"], r"sweep=gird is no option; did you mean grid"),
        (["seed=0,1", "data.root=/nowhere"], r"data\.root=/nowhere is not a folder"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_mistake_is_one_message_and_leaves_nothing(multirun: Command, arguments: list[str], message: str) -> None:
    outcome = multirun(*arguments)
    assert outcome.code == 2
    assert re.search(message, outcome.err), outcome.err
    assert "Traceback" not in outcome.err and outcome.left == []


def test_a_refused_sweep_leaves_empty_folders_above_its_output_alone(multirun: Command, tmp_path: Path) -> None:
    place = tmp_path / "mine" / "study"
    place.mkdir(parents=True)
    assert multirun(f"output_dir={place / 'out'}", "seed=0,1", "optim.lr=-1").code == 2
    assert place.is_dir() and not list(place.iterdir())


@pytest.mark.parametrize("key", ["sweep=grid", "sweep.name=x", "sweep.rerun=true"])
def test_keys_of_a_sweep_are_refused_for_a_single_run(command: Command, key: str) -> None:
    outcome = command("train", key)
    assert outcome.code == 2 and "add --multirun" in outcome.err


def test_jobs_are_told_apart_by_what_their_overrides_change() -> None:
    cfgs: list[dict[str, Any]] = [{"optim": {"lr": lr}, "seed": seed} for lr in (0.1, 0.2) for seed in (0, 1)]
    overrides = [(f"optim.lr={c['optim']['lr']}", f"seed={c['seed']}", "optim=sgd") for c in cfgs]
    assert varied(cfgs, overrides)[1] == {"optim.lr": 0.1, "seed": 1}
    assert varied(cfgs[:1], overrides[:1]) == [{}]
    groups = varied([{"a": 1}, {"a": 1}], [("optim=sgd", "+optim.betas=[0,1]"), ("optim=adamw",)])
    assert groups == [{"optim": "sgd", "optim.betas": "[0,1]"}, {"optim": "adamw", "optim.betas": None}]


def test_name_of_a_sweep_is_its_own_or_a_hash_of_what_is_asked_for_in_any_order() -> None:
    assert sweep_name("grid", ["a=1"]) == "grid"
    assert sweep_name(None, ["a=1", "b=2"]) == sweep_name(None, ["b=2", "a=1", "sweep.rerun=true"])
    assert sweep_name(None, ["a=1"]) != sweep_name(None, ["a=2"])


@pytest.mark.slow
def test_sweep_ends_with_tables_and_the_same_command_again_has_nothing_to_do(multirun: Command, tmp_path: Path) -> None:
    arguments = ("seed=0,1", "optim.lr=1e-3,1e-3,1e-2", "sweep.name=s", "hydra.launcher.cpu_jobs=2")
    first = multirun(*arguments)
    assert first.code == 0, first.err
    assert "2 jobs are the same as others and run once" in first.out
    lines = first.out.strip().splitlines()
    assert lines[-1] == "4 runs: 4 done"
    assert sum("python -m pneumolit.evaluate run_dir=" in line for line in lines) == 2  # both seeds of the best
    sweep = SweepDir(tmp_path / "out" / "sweeps" / "s")
    with sweep.csv_file.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {(row["seed"], row["optim.lr"]) for row in rows} == {(s, lr) for s in "01" for lr in ("0.001", "0.01")}
    assert all(row["state"] == "done" and row["val/auroc"] for row in rows)
    assert sweep.page_file.stat().st_size > 10_000 and "0.001" in sweep.markdown_file.read_text()
    before = {path: path.stat().st_mtime_ns for path in sweep.path.glob("*/metrics.csv")}
    again = multirun(*arguments)
    assert again.code == 0 and "4 jobs, 4 ended before" in again.out
    assert {path: path.stat().st_mtime_ns for path in sweep.path.glob("*/metrics.csv")} == before
    for name in (row["folder"] for row in rows):
        assert read_json(RunDir(sweep.path / name).job_file)["attempts"] == 1

    columns = []
    for folder in sweep.path.glob("*/tensorboard"):
        events = EventAccumulator(str(folder))
        events.Reload()
        (session,) = (
            events.summary_metadata[tag].plugin_data.content
            for tag in events.summary_metadata
            if tag == "_hparams_/session_start_info"
        )
        columns.append(sorted(re.findall(rb"[a-z_.]+\.[a-z_.]+", session)))
    assert len(columns) == 4 and all(found == columns[0] for found in columns)
