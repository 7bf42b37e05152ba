"""`tune` from its command line: real runs on phantoms, what they leave, and what is refused before anything begins."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pneumolit.config import CONFIG_DIR, flatten
from pneumolit.rundir import read_json, write_json
from pneumolit.search.space import overrides_of, probing_points, read_space
from pneumolit.search.strategy import check_strategy
from pneumolit.stage_plan import check_run, expand_stages
from pneumolit.sweep.job import Outcome
from pneumolit.training.environment import source_hash

Command = Callable[..., Any]
SEARCHES = sorted(path.stem for path in (CONFIG_DIR / "search").glob("*.yaml"))
TINY = (
    "backbone=test_resnet", "model.pretrained=false", "model.image_size=32", "data.batch_size=16",
    "data.val_fraction=0.25", "data.store_size=64", "trainer.max_epochs=2", "trainer.accelerator=cpu",
    "trainer.progress_bar=false", "precision=float32", "data.stress=false",
)  # fmt: skip
QUICK = (
    "search.space.data.batch_size=null", "search.space.loss=null", "search.space.optim.weight_decay=null",
)  # fmt: skip


@pytest.fixture
def tune(command: Command, demo_root: Path) -> Command:
    def run(*arguments: str) -> Any:
        return command("tune", f"data.root={demo_root}", *TINY, *arguments)

    return run


@pytest.fixture
def one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials run in this process and take no time; their numbers are made up, their configurations are written."""

    class Place:
        count, words = 1, "one place"

        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            pass

        def run(self, target: Any, jobs: Any, look: Any = None) -> Iterator[Outcome]:
            for job in jobs:
                assert job is not None
                write_json(job.run.status_file, {"state": "done", "code": source_hash()})
                job.run.config_file.write_text(yaml.safe_dump(job.cfg))
                job.run.append_metrics({"epoch": 1, "val/auroc": (job.number * 7 % 4) / 10 + 0.5})
                yield Outcome(job, "done")

    monkeypatch.setattr("pneumolit.search.run.LocalPlaces", Place)


@pytest.mark.parametrize(
    "search", [name if name == "head" else pytest.param(name, marks=pytest.mark.slow) for name in SEARCHES]
)
def test_every_point_of_a_ready_search_is_a_sound_run(compose_config: Command, search: str) -> None:
    content = compose_config(f"search={search}", name="tune")["search"]
    check_strategy(content["sampler"], content["pruner"])
    axes = read_space(content["space"])
    for point in probing_points(axes):
        cfg = compose_config(f"search={search}", *overrides_of(axes, point), name="tune")
        own = ("search", "n_trials", "timeout", "name", "storage", "monitor", "max_failed", "accept_code_change")
        check_run({key: value for key, value in cfg.items() if key not in own})


@pytest.mark.parametrize("search", SEARCHES)
def test_a_ready_search_says_its_command(search: str) -> None:
    text = (CONFIG_DIR / "search" / f"{search}.yaml").read_text()
    header = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    command = "python -m pneumolit.tune" + ("" if search == "default" else f" search={search}")
    assert command in header


def test_the_space_of_the_random_search_is_that_of_the_default(compose_config: Command) -> None:
    random, default = (compose_config(f"search={name}", name="tune")["search"] for name in ("random", "default"))
    assert random["space"] == default["space"] and random["sampler"]["name"] == "random"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["n_trials=0"], "n_trials must be a whole number of at least 1, got 0"),
        (["n_trails=3"], r"unknown key n_trails; did you mean n_trials\?"),
        (["timeout=-1"], "timeout must be null or seconds above 0, got -1"),
        (["max_failed=none"], "max_failed must be a whole number of at least 1, got 'none'"),
        (["accept_code_change=1"], "accept_code_change must be true or false, got 1"),
        (["name=a", "hydra.run.dir=b"], r"name and hydra\.run\.dir both name the folder of the search"),
        (["name=a/b"], r"name must be the name of a folder, such as name=resnet50, got 'a/b'"),
        (["storage=study.db"], r"storage must be null .* such as postgresql://user@host/studies .* got 'study\.db'"),
        (["storage=postgresql://ann:secret@h/x"], r"storage=postgresql://ann:\*\*\*@h/x cannot be opened"),
        (["monitor=val/aucroc"], r"monitor=val/aucroc is no number of a validation set; did you mean val/auroc\?"),
        (["monitor=train/loss"], "monitor=train/loss is no number of a validation set"),
        (["search=defalt"], r"search=defalt is no option; did you mean default\?"),
        (["search.sampler.name=tpr"], r"search\.sampler\.name must be .* got 'tpr'; did you mean tpe\?"),
        (
            ["+search.sampler.startup=3"],
            r"search\.sampler\.startup is no argument of tpe; did you mean n_startup_trials",
        ),
        (["search.pruner.n_warmup_steps=-0.5"], r"search\.pruner\.n_warmup_steps must be a whole number, got -0\.5"),
        (["search.pruner=null"], r"search\.pruner must be a mapping with a name"),
        (["search.space.optim.lr.high=a"], r"search\.space\.optim\.lr\.high must be a number, got 'a'"),
        (["search.space.optim.lr.high=1e-5"], r"search\.space\.optim\.lr\.high must be above low=0\.0001, got 1e-05"),
        (["+search.space.data.seed.choices=[0,1]"], r"data\.seed would change the images that trials are scored on"),
        (["+search.space.model.hiden.choices=[8,9]"], r"nothing was begun.*unknown key model\.hiden; did you mean mod"),
        (["+search.space.model.hidden.choices=[8,9]"], r"nothing was begun.*model\.hidden=8 has no effect because"),
        (["search.space.model.drop_rate.high=1.2"], r"nothing was begun.*model\.drop_rate must be .* got 1\.2"),
        (["optim.lr=1e-3"], r"optim\.lr is varied by the search.* or take it .* by search\.space\.optim\.lr=null"),
        (["stages=[{freeze: none, lr: 1e-3}]"], r"nothing was begun.*optim\.lr has no effect because every stage sets"),
        (["test=true"], r"test=true would score the test split in every trial"),
        (["resume=true"], "resume has no place in a search"),
        (["run_dir=x"], "run_dir has no place in a search"),
        (
            ["monitor=val/loss", "+search.space.loss.choices=[cross_entropy,binary_cross_entropy]"],
            r"monitor=val/loss is of two classes under loss=binary_cross_entropy .* give monitor=val/auroc",
        ),
        (["data.holdout_fraction=0.1", "data.holdout_blocks=2.0"], r"data\.holdout_blocks must be .* got 2\.0"),
        (["~data.stress"], r"data\.stress"),
        (["sweep.name=x"], r"sweep\.name has no place in a search"),
        (["hydra/launcher=slurm"], "hydra/launcher=slurm has no effect here.*the same command on several machines"),
        (["hydra.launcher.sweep_minutes=3"], r"hydra\.launcher\.sweep_minutes has no effect.* give timeout=SECONDS"),
        (
            ["+hydra.launcher.cpu_job=1"],
            r"hydra\.launcher\.cpu_job is no key that does .*did you mean .*cpu_jobs",
        ),
        (["hydra.launcher.cpu_jobs=0"], r"hydra\.launcher\.cpu_jobs must be a whole number of at least 1, got 0"),
        (["--multirun"], "--multirun has no place in a search"),
        (["--multirun", "seed=0,1"], "--multirun has no place in a search"),
        (["data.root=/nowhere"], "/nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tune: Command, arguments: list[str], message: str) -> None:
    result = tune(*QUICK, *arguments)
    assert result.code == 2, result
    assert re.search(message, result.err), result.err
    assert result.err.count("\n") == 1 and "Traceback" not in result.err and "secret" not in result.err
    assert [path for path in result.left if path.is_file() and path.suffix != ".lock" and path.name != ".lock"] == []


def test_a_value_in_place_of_a_group_is_told_in_the_words_of_a_run(tune: Command) -> None:
    result = tune(*QUICK, "callbacks.checkpoint=best")
    assert result.code == 2 and "Traceback" not in result.err
    assert "callbacks.checkpoint.use is missing" in result.err


OWN_OPTIMIZER = """_target_: torch.optim.NAdam
lr: 1.0e-3
weight_decay: 0.0
backbone_lr_scale: 1.0
layer_decay: null
"""
RICH = (
    "freeze=groups", "freeze.last=2", "augment=light", "+optim.foreach=false", "search.space.model.drop_rate=null",
    "model.drop_rate=0.25", "+search.space.optim.choices=[adamw,sgd]", "callbacks.checkpoint.also=[val/loss]",
    "+search.space.augment.gamma.choices=[[0.8,1.2],[0.5,1.5]]", "+search.space.scheduler.choices=[cosine,one_cycle]",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "further"),
    [
        pytest.param("plain", [], marks=pytest.mark.slow),
        ("rich", RICH),
        pytest.param("own", ["optim=mine"], marks=pytest.mark.slow),
        pytest.param("less", ["~optim.weight_decay"], marks=pytest.mark.slow),
        pytest.param("stages", ["experiment=two_stages", "search.space.optim=null"], marks=pytest.mark.slow),
    ],
)
def test_the_recipe_of_the_winner_composes_to_its_configuration(
    command: Command, demo_root: Path, one_place: None, tmp_path: Path, name: str, further: list[str]
) -> None:
    (tmp_path / "conf" / "optim").mkdir(parents=True)
    (tmp_path / "conf" / "optim" / "mine.yaml").write_text(OWN_OPTIMIZER)
    # Stages set their own rates and epochs.
    fixed = [a for a in (*TINY, *QUICK) if name != "stages" or not a.startswith(("trainer.max", "search.space.optim"))]
    folders = (f"data.root={demo_root}", "--config-dir", str(tmp_path / "conf"))
    result = command("tune", *folders, *fixed, *further, f"name={name}", "n_trials=2")
    assert result.code == 0, result.err
    folder = tmp_path / "out" / "tune" / name
    with (folder / "trials.csv").open() as handle:
        best = max(csv.DictReader(handle), key=lambda row: float(row["val/auroc"]))
    stored = flatten(yaml.safe_load((folder / "trials" / best["run"] / "config.yaml").read_text()))
    words = next(line for line in result.out.splitlines() if line.startswith("  again")).split("train ")[1].split()
    printed = command("train", *words, "--cfg", "job", "--resolve")
    assert printed.code == 0, printed.err
    composed = flatten(expand_stages(yaml.safe_load(printed.out), lambda *names: {}))
    apart = ("output_dir", "cache_dir", "run_dir", "resume", "sweep.")
    assert {k: v for k, v in composed.items() if not k.startswith(apart)} == {
        k: v for k, v in stored.items() if not k.startswith(apart)
    }
    assert (folder / "experiment" / f"{name}_best.yaml").read_text().startswith("# @package _global_\n# Trial ")
    assert (folder / "optim").is_dir() == (name in ("own", "less"))


@pytest.mark.slow
def test_from_eight_complete_trials_on_the_page_shows_what_mattered(
    tune: Command, one_place: None, tmp_path: Path
) -> None:
    folder = tmp_path / "out" / "tune" / "default"
    for total, pictures in ((7, 2), (8, 3)):
        result = tune(*QUICK, f"n_trials={total}")
        assert result.code == 0, result.err
        page = (folder / "tune.html").read_text()
        assert page.count("data:image/png;base64,") == pictures
        assert ("as soon as 8 trials are complete" in page) == (pictures == 2)
    with (folder / "trials.csv").open() as handle:
        assert [row["trial"] for row in csv.DictReader(handle)] == [str(number) for number in range(8)]


@pytest.mark.slow
def test_a_search_trains_its_trials_and_leaves_tables_and_pictures(tune: Command, tmp_path: Path) -> None:
    arguments = ("n_trials=3", *QUICK, "+search.space.optim.choices=[adamw,sgd]", "hydra.launcher.cpu_jobs=2")
    result = tune(*arguments)
    assert result.code == 0, result.err
    folder = tmp_path / "out" / "tune" / "default"
    lines = result.out.splitlines()
    assert lines[-1] == "3 trials: 3 complete, 0 pruned"
    assert sum(" s on cpu " in line for line in lines) == 3
    with (folder / "trials.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["trial"] for row in rows] == ["0", "1", "2"] and {row["state"] for row in rows} == {"complete"}
    for row in rows:
        run = folder / "trials" / row["run"]
        with (run / "metrics.csv").open() as handle:
            assert float(list(csv.DictReader(handle))[-1]["val/auroc"]) == float(row["val/auroc"])
        assert read_json(run / "status.json")["state"] == "done"
        assert flatten(yaml.safe_load((run / "config.yaml").read_text()))["optim.lr"] == float(row["optim.lr"])
    page = (folder / "tune.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and "experiment=default_best" in page
    assert "| trial | val/auroc |" in (folder / "tune.md").read_text()
    # Started again there is nothing left to do, and the same is said.
    again = tune(*arguments)
    assert again.code == 0 and "3 finished before" in again.out and again.out.splitlines()[-1] == lines[-1]
    assert " s on cpu " not in again.out


def test_a_search_of_other_settings_under_the_same_name_is_refused(tune: Command, tmp_path: Path) -> None:
    # A study without trials is enough: the time is over before one has begun.
    first = tune("n_trials=1", "timeout=1e-9", *QUICK)
    assert first.code == 0, first.err
    assert "timeout=1e-09 was over (0.0 s): 0 of 1 trials are finished; the same command goes on" in first.out
    second = tune("n_trials=1", "timeout=1e-9", "augment=light", "trainer.max_epochs=3", *QUICK)
    assert second.code == 2
    assert "belongs to another search: " in second.err and "trainer.max_epochs=3 instead of 2" in second.err
    assert "give another name" in second.err


@pytest.mark.slow
def test_trials_that_fail_end_the_search_with_code_1_and_their_reasons(tune: Command, tmp_path: Path) -> None:
    result = tune("n_trials=3", "max_failed=2", *QUICK, "hydra.launcher.job_minutes=1e-4", "hydra.launcher.cpu_jobs=1")
    assert result.code == 1
    assert "stopped, since 2 trials have failed (max_failed=2): 0 of 3 trials are finished" in result.out
    assert result.out.count("took longer than hydra.launcher.job_minutes=0.0001") >= 2
    assert "0 trials: 0 complete, 0 pruned; 2 failed" in result.out
    assert "Trials without a result" in (tmp_path / "out" / "tune" / "default" / "tune.html").read_text()


@pytest.mark.slow
def test_a_run_that_diverges_is_pruned_and_counts(tune: Command, tmp_path: Path) -> None:
    rates = ("search.space.optim.lr.low=1e30", "search.space.optim.lr.high=1e31")
    result = tune("n_trials=2", *QUICK, "optim=sgd", *rates, "hydra.launcher.cpu_jobs=1")
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == "2 trials: 0 complete, 2 pruned"
    assert "pruned: diverged: " in result.out


@pytest.mark.slow
def test_processes_that_are_stopped_and_killed_go_on_to_the_same_total(demo_root: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PNEUMOLIT_OUT": str(tmp_path), "PNEUMOLIT_CACHE": str(tmp_path / "cache")}
    line = [sys.executable, "-m", "pneumolit.tune", f"data.root={demo_root}", *TINY, *QUICK, "n_trials=5",
            "trainer.max_epochs=4", "hydra.launcher.cpu_jobs=1"]  # fmt: skip
    folder = tmp_path / "tune" / "default"

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_for_epochs(process: subprocess.Popen[str], count: int) -> None:
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end:
            if sum(len(path.read_text().splitlines()) - 1 for path in folder.glob("trials/*/metrics.csv")) >= count:
                return
            time.sleep(0.05)

    process = start()
    wait_for_epochs(process, 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and err.count("\n") == 1 and "the same command goes on" in err
    process = start()
    wait_for_epochs(process, 6)
    process.kill()
    process.communicate(timeout=120)
    pair = [start(), start()]
    outputs = [process.communicate(timeout=300) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    with (folder / "trials.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    finished = [row for row in rows if row["state"] in ("complete", "pruned")]
    cut_off = [row for row in rows if row["state"] == "cut off"]
    assert len(finished) == len({row["run"] for row in finished}) == 5
    assert len(cut_off) == len(rows) - 5 == 2
    # The points that were cut off were tried again, in the folders where their checkpoints lie.
    assert {row["run"] for row in cut_off} <= {row["run"] for row in finished}
    logs = [(folder / "trials" / row["run"] / "log.txt").read_text() for row in cut_off]
    assert all("goes on" in log or "Going on" in log or log.count("== ") >= 2 for log in logs)
