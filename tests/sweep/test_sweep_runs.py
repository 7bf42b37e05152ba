"""Whole sweeps as a user starts them: bad jobs, kills at any moment, Ctrl-C, the same command again."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pneumolit.rundir import read_json

TINY = (
    "backbone=test_resnet", "model.pretrained=false", "model.image_size=32", "data.batch_size=16",
    "data.val_fraction=0.25", "data.store_size=64", "trainer.accelerator=cpu", "precision=float32",
    "data.stress=false", "callbacks.ema.decay=null",
)  # fmt: skip
TWO_SHARES = ("hydra.launcher.cpu_jobs=2",)
MARK = "SWEEP_TEST_MARK"

pytestmark = pytest.mark.slow


class Sweep:
    """A sweep of seeds that is started, killed and started again."""

    def __init__(self, folder: Path, demo_root: Path, cache_dir: Path, *arguments: str) -> None:
        self.out, self.mark = folder, uuid.uuid4().hex
        script = Path(__file__).parent / "sweeping.py"
        places = (f"data.root={demo_root}", f"cache_dir={cache_dir}", f"output_dir={folder}", "sweep.name=s")
        self.command = [sys.executable, str(script), "--multirun", *TINY, *TWO_SHARES, *places, *arguments]

    @property
    def folder(self) -> Path:
        return self.out / "sweeps" / "s"

    def start(self, **environment: str) -> subprocess.Popen[str]:
        env = os.environ | {MARK: self.mark} | environment
        return subprocess.Popen(
            self.command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.out
        )

    def run(self, **environment: str) -> tuple[int, str, str]:
        process = self.start(**environment)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def processes(self) -> list[psutil.Process]:
        """All that is alive of it, by a variable that its processes inherit."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_alive = process.status() != psutil.STATUS_ZOMBIE
                if is_alive and process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def table(self) -> list[dict[str, str]]:
        with (self.folder / "sweep.csv").open(newline="") as handle:
            return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(handle)]

    def begun(self) -> list[int]:
        """Numbers of the jobs in the order in which their processes began."""
        file = self.folder / "begun.txt"
        return [int(line) for line in file.read_text().split()] if file.is_file() else []


@pytest.fixture
def sweep(tmp_path: Path, demo_root: Path, cache_dir: Path) -> Callable[..., Sweep]:
    """`sweep(*arguments)`: each in a folder of its own."""

    def made(*arguments: str) -> Sweep:
        folder = tmp_path / uuid.uuid4().hex[:6]
        folder.mkdir()
        return Sweep(folder, demo_root, cache_dir, *arguments)

    return made


def gone_within(seconds: float, alive: Callable[[], list[psutil.Process]]) -> bool:
    end = time.monotonic() + seconds
    while alive() and time.monotonic() < end:
        time.sleep(0.05)
    return not alive()


def test_twelve_jobs_of_which_four_end_badly_and_those_alone_run_again(sweep: Callable[..., Sweep]) -> None:
    twelve = sweep(f"seed={','.join(map(str, range(12)))}", "trainer.max_epochs=1", "hydra.launcher.job_memory_gb=2.5")
    causes = {"2": "raise", "5": "exit", "7": "kill", "10": "hoard"}
    code, out, _ = twelve.run(SWEEP_TEST_CAUSES=json.dumps(causes))
    assert code == 1
    assert out.splitlines()[-1] == "12 runs: 8 done, 4 failed"
    rows = {int(row["seed"]): row for row in twelve.table()}
    assert {seed for seed, row in rows.items() if row["state"] == "failed"} == {2, 5, 7, 10}
    assert {seed for seed, row in rows.items() if row["state"] == "done"} == set(range(12)) - {2, 5, 7, 10}
    assert rows[2]["reason"] == "RuntimeError: boom"
    assert "SystemExit: 3" in rows[5]["reason"]
    assert "SIGKILL" in rows[7]["reason"]
    assert "hydra.launcher.job_memory_gb=2.5" in rows[10]["reason"]
    assert gone_within(5, twelve.processes)

    (twelve.folder / "begun.txt").unlink()
    code, out, _ = twelve.run()
    assert (code, out.splitlines()[-1]) == (0, "12 runs: 12 done")
    assert sorted(twelve.begun()) == [2, 5, 7, 10]
    assert {row["state"] for row in twelve.table()} == {"done"}


def test_sweep_that_is_killed_at_random_moments_ends_with_the_table_of_an_undisturbed_one(
    sweep: Callable[..., Sweep],
) -> None:
    arguments = ("seed=0,1,2,3,4,5", "trainer.max_epochs=4")
    undisturbed, killed = sweep(*arguments), sweep(*arguments)
    assert undisturbed.run()[0] == 0
    rng = random.Random(0)
    done: set[str] = set()
    for _ in range(5):
        process, before = killed.start(), killed.begun()
        while process.poll() is None and killed.begun() == before:  # imports take what the machine lets them
            time.sleep(0.02)
        end = time.monotonic() + rng.uniform(0.0, 6.0)
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert gone_within(5, killed.processes), "jobs outlive their sweep"
        done = {path.parent.name for path in killed.folder.glob("*/report.html")}
        begun_before = {name: read_json(killed.folder / name / "job.json")["attempts"] for name in done}
        last = begun_before
    code, _, err = killed.run()
    assert code == 0, err
    assert killed.table() == undisturbed.table()
    assert {name: read_json(killed.folder / name / "job.json")["attempts"] for name in done} == last


def test_ctrl_c_stops_all_jobs_and_the_same_command_goes_on(sweep: Callable[..., Sweep]) -> None:
    stopped = sweep("seed=0,1,2", "trainer.max_epochs=40")
    process = stopped.start()
    while not list(stopped.folder.glob("*/metrics.csv")):
        time.sleep(0.1)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip().splitlines()[-1].startswith("pneumolit: the sweep was stopped")
    assert "Traceback" not in out + err
    assert gone_within(5, stopped.processes)
    states = [row["state"] for row in stopped.table()]
    assert set(states) <= {"interrupted", "waiting", "done"} and "interrupted" in states
    epochs = {path.parent.name: path.read_text().count("\n") - 1 for path in stopped.folder.glob("*/metrics.csv")}

    code, _, err = stopped.run()
    assert code == 0, err
    for name, before in epochs.items():
        resumed = read_json(stopped.folder / name / "environment.json").get("resumed", [])
        assert not before or resumed, "a job that was stopped began anew"


def test_sigterm_stops_the_sweep_as_ctrl_c_does(sweep: Callable[..., Sweep]) -> None:
    stopped = sweep("seed=0,1", "trainer.max_epochs=200")
    process = stopped.start()
    while not list(stopped.folder.glob("*/metrics.csv")):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert gone_within(5, stopped.processes)
