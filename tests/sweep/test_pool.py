"""A pool: every job in a process of its own on a device of its own, whatever becomes of the others."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pneumolit.cores import available_cores
from pneumolit.rundir import RunDir, read_json
from pneumolit.sweep.devices import Device, cpu_devices, gpu_devices
from pneumolit.sweep.job import Job, Outcome, Target, configuration_of, refuse_absent_gpu
from pneumolit.sweep.pool import FORKSERVER, SPAWN, Limits, Pool

MakeJob = Callable[..., Job]
Facts = Callable[[Job], dict[str, Any]]
CPU = [Device("cpu 0", None, (available_cores()[0],))]


def by_number(outcomes: list[Outcome]) -> dict[int, tuple[str, str]]:
    return {outcome.job.number: (outcome.state, outcome.reason) for outcome in outcomes}


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def is_job(process: psutil.Process) -> bool:
    """Whether a process is alive and leads a group of its own, as jobs do and the process that forks them does not."""
    with contextlib.suppress(ProcessLookupError):
        return is_alive(process.pid) and os.getpgid(process.pid) == process.pid
    return False


def within_seconds(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


@pytest.mark.parametrize(
    ("accelerator", "gpu", "is_fine"),
    [("auto", "8", False), ("gpu", "8", False), ("cpu", "8", True), ("auto", None, True)],
)
def test_a_training_that_was_given_a_gpu_does_not_go_to_the_cpu_in_silence(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, gpu: str | None, is_fine: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpu or "")
    with contextlib.nullcontext() if is_fine else pytest.raises(ValueError, match=r"cannot use GPU 8, which this job"):
        refuse_absent_gpu({"trainer": {"accelerator": accelerator}})


def test_a_begun_job_is_not_gone_on_with_in_silence_on_another_kind_of_device(small_run: Path) -> None:
    cfg = RunDir(small_run).read_config()
    begun = cfg["trainer"]["accelerator"]
    other = {**cfg, "trainer": {**cfg["trainer"], "accelerator": "gpu" if begun == "cpu" else "cpu"}}
    assert configuration_of(Job(0, str(small_run), cfg))["trainer"]["accelerator"] == begun
    with pytest.raises(ValueError, match=f"was begun with trainer.accelerator={begun} and goes on so"):
        configuration_of(Job(0, str(small_run), other))


def test_job_that_ends_badly_has_failed_with_its_reason_and_the_others_go_on(act: Target, job: MakeJob) -> None:
    ends = ["raise", "", "value", "exit", "", "leave", "kill", "prune", "hoard", ""]
    jobs = [job(number, how) for number, how in enumerate(ends)]
    found = by_number(list(Pool(cpu_devices(2), act, Limits(memory_gb=1)).run(jobs)))
    assert [number for number, (state, _) in found.items() if state == "done"] == [1, 4, 9] or set(found) == set(
        range(10)
    )
    assert {n for n, (state, _) in found.items() if state == "done"} == {1, 4, 9}
    assert found[7] == ("pruned", "others were better")
    failed = {n: reason for n, (state, reason) in found.items() if state == "failed"}
    assert failed[0] == "RuntimeError: boom"
    assert failed[2] == "optim.lr must be small, got 7"
    assert failed[3] == "ended itself (SystemExit: 3)"
    assert failed[5] == "its process ended with exit code 5 before it was done"
    assert failed[6].startswith("killed by SIGKILL")
    assert "GB of memory, more than hydra.launcher.job_memory_gb=1" in failed[8]
    for number, (state, reason) in found.items():
        record = read_json(jobs[number].run.job_file)
        assert (record["state"], record["reason"], record["attempts"]) == (state, reason, 1)
    assert "boom" in jobs[0].run.log_file.read_text() and "Traceback" in jobs[0].run.log_file.read_text()


def test_every_job_has_its_own_process_and_its_device_alone(act: Target, job: MakeJob, facts: Facts) -> None:
    jobs = [job(number, seconds=0.05 * (1 + number % 3)) for number in range(8)]
    devices = gpu_devices(["3", "GPU-5a"], 1)
    assert {o.state for o in Pool(devices, act).run(jobs)} == {"done"}
    found = [facts(j) for j in jobs]
    assert len({fact["pid"] for fact in found}) == len(jobs)
    assert {fact["gpu"] for fact in found} == {"3", "GPU-5a"}
    for gpu in ("3", "GPU-5a"):
        spans = sorted((fact["begin"], fact["end"]) for fact in found if fact["gpu"] == gpu)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


def test_process_that_forks_jobs_has_imported_all_and_never_asked_for_cuda(
    act: Target, job: MakeJob, facts: Facts
) -> None:
    first = job(0)
    list(Pool(CPU, act).run([first]))
    fact = facts(first)
    assert {"torch", "pytorch_lightning", "timm", "pneumolit.training.fit"} <= set(fact["modules"])
    assert fact["counted"] is None  # torch remembers here how many GPUs there are once anybody has asked
    assert "libcuda.so" not in fact["maps"]  # the driver, which is loaded by the first touch


def test_job_has_the_cores_of_its_share_and_no_gpu(act: Target, job: MakeJob, facts: Facts) -> None:
    jobs = [job(number, seconds=0.3) for number in range(2)]
    devices = cpu_devices(2)
    list(Pool(devices, act).run(jobs))
    assert sorted(tuple(facts(j)["cores"]) for j in jobs) == sorted(device.cores for device in devices)
    assert all(facts(j)["threads"] == len(facts(j)["cores"]) and facts(j)["gpu"] == "" for j in jobs)


def test_jobs_are_read_one_by_one_and_none_means_nothing_to_begin_now(act: Target, job: MakeJob) -> None:
    read: list[int] = []

    def jobs() -> Any:
        for number in range(3):
            read.append(number)
            yield job(number)
            yield None

    ended = []
    for outcome in Pool(CPU, act).run(jobs()):
        ended.append(outcome.job.number)
        assert len(read) <= len(ended) + 1
    assert ended == [0, 1, 2]


def test_job_over_its_time_has_failed(act: Target, job: MakeJob) -> None:
    slow = job(0, "hang")
    (outcome,) = Pool(CPU, act, Limits(minutes=0.01)).run([slow])
    assert (outcome.state, outcome.reason) == ("failed", "took longer than hydra.launcher.job_minutes=0.01")


def test_job_that_does_not_listen_is_killed_with_its_children(
    act: Target, job: MakeJob, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumolit.sweep.pool._GRACE_SECONDS", 0.5)
    deaf = job(0, "deaf")
    (outcome,) = Pool(CPU, act, Limits(minutes=0.1)).run([deaf])  # time enough to have stopped its ears
    assert outcome.state == "failed"
    child = facts(deaf)["child"]
    assert within_seconds(5, lambda: not is_alive(child))


def test_time_of_the_sweep_ends_running_jobs_as_interrupted_and_begins_no_others(act: Target, job: MakeJob) -> None:
    jobs = [job(0, "hang"), job(1)]
    outcomes = list(Pool(CPU, act, deadline=time.monotonic() + 1).run(jobs))
    assert [(o.job.number, o.state) for o in outcomes] == [(0, "interrupted")]
    assert "sweep_minutes" in outcomes[0].reason
    assert not jobs[1].run.job_file.exists()


def test_whoever_leaves_early_leaves_no_process_behind(act: Target, job: MakeJob) -> None:
    jobs = [job(0), job(1, "hang")]
    pool = Pool(cpu_devices(2), act)
    others = set(psutil.Process().children(recursive=True))  # such as a decoder of films that another test has started
    for outcome in pool.run(jobs):
        assert outcome.job.number == 0
        break
    else:
        pytest.fail("no outcome")
    assert read_json(jobs[1].run.job_file)["state"] == "interrupted"
    assert within_seconds(
        5, lambda: not [p for p in psutil.Process().children(recursive=True) if p not in others and is_job(p)]
    )


@pytest.mark.slow
def test_jobs_that_are_spawned_do_the_same(act: Target, job: MakeJob, facts: Facts) -> None:
    jobs = [job(0), job(1, "raise")]
    found = by_number(list(Pool(cpu_devices(1), act, start=SPAWN).run(jobs)))
    assert found == {0: ("done", ""), 1: ("failed", "RuntimeError: boom")}
    assert facts(jobs[0])["gpu"] == ""


def test_environment_of_the_sweep_itself_stays_as_it_was(act: Target, job: MakeJob) -> None:
    before = dict(os.environ)
    list(Pool(gpu_devices(["7"], 1), act, start=FORKSERVER).run([job(0)]))
    assert dict(os.environ) == before
    assert Path(job(0).folder, "log.txt").is_file()
