"""Ray and Slurm: another hand chooses the place; processes, devices, reasons and records are those of the pool."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pneumolit.rundir import read_json
from pneumolit.sweep.devices import Device
from pneumolit.sweep.job import Job, Target
from pneumolit.sweep.places import Places, places_for
from pneumolit.sweep.pool import Limits
from pneumolit.sweep.ray_places import RayPlaces, _run_here
from pneumolit.sweep.settings import CommonSettings, DevicesSettings, RaySettings, SlurmSettings

MakeJob = Callable[..., Job]
Facts = Callable[[Job], dict[str, Any]]
BOTH = ("0", "1")
LAUNCHERS = [
    pytest.param(DevicesSettings(gpus=BOTH), id="devices"),
    pytest.param(RaySettings(total_cpus=2, total_gpus=2), id="ray"),
    pytest.param(SlurmSettings(cluster="local", gpus=BOTH), id="submitit"),
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", LAUNCHERS)
def test_no_two_jobs_are_on_one_gpu_at_a_time_and_all_are_used_each_by_processes_of_its_own(
    settings: CommonSettings, act: Target, job: MakeJob, facts: Facts
) -> None:
    jobs = [job(number, seconds=0.6) for number in range(4)]
    places = places_for(settings, jobs)
    assert places.count == 2
    assert sorted(o.job.number for o in places.run(act, jobs) if o.state == "done") == [0, 1, 2, 3]
    found = [facts(j) for j in jobs]
    assert len({fact["pid"] for fact in found}) == 4
    assert {fact["gpu"] for fact in found} == {"0", "1"}
    for gpu in BOTH:
        spans = sorted((fact["begin"], fact["end"]) for fact in found if fact["gpu"] == gpu)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(RaySettings(total_cpus=2, total_gpus=0, job_memory_gb=1.5), id="ray"),
        pytest.param(SlurmSettings(cluster="local", at_once=2, job_memory_gb=1.5), id="submitit"),
    ],
)
def test_bad_ends_have_their_reasons_and_the_others_go_on(
    settings: CommonSettings, act: Target, job: MakeJob, facts: Facts
) -> None:
    jobs = [job(number, how) for number, how in enumerate(["raise", "", "exit", "kill", "hoard"])]
    outcomes = {o.job.number: (o.state, o.reason) for o in places_for(settings, jobs).run(act, jobs)}
    assert outcomes[1] == ("done", "") and facts(jobs[1])["gpu"] == ""
    assert outcomes[0] == ("failed", "RuntimeError: boom")
    assert outcomes[2] == ("failed", "ended itself (SystemExit: 3)")
    assert outcomes[3][1].startswith("killed by SIGKILL")
    assert "job_memory_gb=1.5" in outcomes[4][1]
    assert all(read_json(j.run.job_file)["attempts"] == 1 for j in jobs)  # what failed is not tried again


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(RaySettings(total_cpus=1, total_gpus=0, sweep_minutes=0.5), id="ray"),
        pytest.param(SlurmSettings(cluster="local", at_once=1, sweep_minutes=0.3), id="submitit"),
    ],
)
def test_time_of_the_sweep_ends_what_runs_and_begins_nothing_else(
    settings: CommonSettings, act: Target, job: MakeJob
) -> None:
    jobs = [job(0, "hang"), job(1)]
    places: Places = places_for(settings, jobs)
    outcomes = list(places.run(act, jobs))
    assert [(outcome.job.number, outcome.state) for outcome in outcomes] == [(0, "interrupted")]
    assert "sweep_minutes" in outcomes[0].reason
    assert read_json(jobs[0].run.job_file)["state"] == "interrupted"
    assert not jobs[1].run.job_file.exists()


@pytest.mark.slow
def test_needs_that_ray_cannot_meet_are_refused_instead_of_waited_for(job: MakeJob) -> None:
    with pytest.raises(ValueError, match=r"num_gpus=1, but Ray has 0.*hydra\.launcher\.total_gpus"):
        places_for(RaySettings(total_cpus=1, total_gpus=0, num_gpus=1), [job(0)])


@pytest.mark.slow
def test_ray_jobs_that_need_nothing_are_refused(job: MakeJob) -> None:
    with pytest.raises(ValueError, match=r"give num_cpus or num_gpus above 0"):
        places_for(RaySettings(total_cpus=1, total_gpus=0, num_cpus=0), [job(0)])


@pytest.mark.parametrize(("extra", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_launcher_whose_package_is_absent_says_how_to_install_it(
    extra: str, package: str, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    settings = RaySettings() if extra == "ray" else SlurmSettings()
    with pytest.raises(ValueError, match=rf"needs the package {package}: .*pneumolit\[{extra}\]"):
        places_for(settings, [job(0)])


@pytest.mark.slow
def test_cluster_of_ray_that_is_there_is_used_and_left_running(
    act: Target, job: MakeJob, facts: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"  # where the cluster was started; paths are relative to where the sweep is
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    ray = Path(sys.executable).with_name("ray")
    start = [str(ray), "start", "--head", "--port=0", "--num-cpus=1", "--num-gpus=1", "--include-dashboard=false"]
    subprocess.run([*start, "--disable-usage-stats"], check=True, capture_output=True, timeout=120, cwd=elsewhere)
    try:
        for number in range(2):
            one = replace(job(number), folder=f"job{number}")
            (outcome,) = places_for(RaySettings(address="auto"), [one]).run(act, [one])
            assert outcome.state == "done" and facts(one)["gpu"] == "0"
            assert (tmp_path / f"job{number}").is_dir() and not list(elsewhere.iterdir())
    finally:
        subprocess.run([str(ray), "stop", "--force"], check=True, capture_output=True, timeout=120)


def test_slurm_s_settings_tried_on_this_machine_begin_no_more_jobs_than_it_has_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pneumolit.sweep.slurm_places.count_shares", lambda jobs: min(jobs, 3))
    jobs = [Job(number, f"job{number}", {"trainer": {"accelerator": "auto"}}, (), {}) for number in range(24)]
    less = "(as many as cores and memory take)"
    for at_once, given, count, room in ((32, 24, 3, less), (2, 24, 2, "at once"), (32, 3, 3, "at once")):
        places = places_for(SlurmSettings(cluster="local", at_once=at_once), jobs[:given])
        assert places.count == count and places.words.endswith(room)


def test_a_machine_of_a_cluster_without_the_sweep_s_folder_says_so_and_the_job_has_failed(
    job: MakeJob, tmp_path: Path
) -> None:
    gone = str(tmp_path / "gone")
    outcome = _run_here(None, job(0), Limits(), Device("Ray", None), gone)  # type: ignore[arg-type]
    assert outcome.state == "failed" and f"{gone}, which is not on this machine" in outcome.reason

    class Ray:
        def wait(self, references: list[int], timeout: float) -> tuple[list[int], list[int]]:
            return references, []

        def get(self, reference: int) -> Any:
            return outcome

    places = object.__new__(RayPlaces)
    places._ray = Ray()
    assert places._ended({7: (outcome.job, 0.0)}) == [outcome]
    assert read_json(outcome.job.run.job_file)["state"] == "failed"
