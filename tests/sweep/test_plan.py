"""What of a sweep runs: done jobs are skipped, failed ones come again unless told not to, other code stops it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pneumolit.rundir import FAILED, RUNNING, RunDir, SweepDir, read_json
from pneumolit.sweep.job import Job, note
from pneumolit.sweep.plan import SweepSettings, choose_jobs, held_sweep, standing
from pneumolit.training.environment import source_hash
from pneumolit.training.resume import held

MakeJob = Callable[..., Job]


@pytest.fixture
def jobs(job: MakeJob, small_run: Path) -> dict[str, Job]:
    """One job of each kind: done, cut off, failed before and after its record, new."""
    found = {name: job(number) for number, name in enumerate(["done", "cut off", "failed", "failed early", "new"])}
    for name in ("done", "cut off", "failed"):
        shutil.copytree(small_run, found[name].folder)
    RunDir(found["cut off"].folder).write_status(RUNNING)
    RunDir(found["failed"].folder).write_status(RUNNING)
    note(found["cut off"], RUNNING)
    note(found["failed"], FAILED, reason="boom")
    note(found["failed early"], FAILED, reason="no weights")
    return found


def chosen(jobs: dict[str, Job], tmp_path: Path, code: str | None = None, **settings: bool) -> list[str]:
    names = {job.number: name for name, job in jobs.items()}
    sweep = SweepDir(tmp_path)
    left = choose_jobs(sweep, list(jobs.values()), SweepSettings(**settings), code or source_hash())
    return [names[job.number] for job in left]


def test_done_jobs_are_skipped_and_all_else_runs(jobs: dict[str, Job], tmp_path: Path) -> None:
    assert {name: standing(job.run) for name, job in jobs.items()} == {
        "done": "done", "cut off": "cut off", "failed": "failed", "failed early": "failed", "new": "new",
    }  # fmt: skip
    assert chosen(jobs, tmp_path) == ["cut off", "failed", "failed early", "new"]


def test_failed_jobs_stay_so_where_asked(jobs: dict[str, Job], tmp_path: Path) -> None:
    assert chosen(jobs, tmp_path, retry_failed=False) == ["cut off", "new"]


def test_run_that_was_killed_while_its_page_was_drawn_is_not_done(jobs: dict[str, Job], tmp_path: Path) -> None:
    jobs["done"].run.page_file.unlink()
    assert "done" in chosen(jobs, tmp_path)


def test_other_code_stops_with_a_choice(jobs: dict[str, Job], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"3 of the 5 jobs .*sweep\.accept_code_change=true .* or sweep\.rerun=true"):
        chosen(jobs, tmp_path, code="other")


def test_accepted_code_counts_what_is_done(jobs: dict[str, Job], tmp_path: Path) -> None:
    assert chosen(jobs, tmp_path, code="other", accept_code_change=True) == ["cut off", "failed", "failed early", "new"]


def test_rerun_does_all_of_other_code_again_and_keeps_the_old_folders(jobs: dict[str, Job], tmp_path: Path) -> None:
    assert chosen(jobs, tmp_path, code="other", rerun=True) == list(jobs)
    assert not Path(jobs["done"].folder).exists()
    kept = sorted(path.name.partition("_")[0] for path in (tmp_path / "superseded").iterdir())
    assert kept == ["job0", "job1", "job2"]


def test_rerun_leaves_what_the_present_code_has_done(jobs: dict[str, Job], tmp_path: Path) -> None:
    assert "done" not in chosen(jobs, tmp_path, rerun=True)


def test_rerun_does_not_take_a_folder_from_under_a_process(jobs: dict[str, Job], tmp_path: Path) -> None:
    with held(jobs["done"].run), pytest.raises(ValueError, match="another process is working"):
        chosen(jobs, tmp_path, code="other", rerun=True)


def test_failure_of_a_run_that_has_begun_stands_in_its_status_too(jobs: dict[str, Job]) -> None:
    assert read_json(jobs["failed"].run.status_file)["reason"] == "boom"
    assert not jobs["failed early"].run.status_file.exists()  # it would say that the record of the run is whole


def test_settings_that_are_none_are_named() -> None:
    with pytest.raises(ValueError, match=r"sweep\.rerun must be true or false, got 'yes'"):
        SweepSettings(rerun="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="contradict"):
        SweepSettings(rerun=True, accept_code_change=True)


def test_second_process_on_a_sweep_is_refused(tmp_path: Path) -> None:
    first, second = held_sweep(SweepDir(tmp_path)), held_sweep(SweepDir(tmp_path))
    with first, pytest.raises(ValueError, match=r"another process .* sweep\.name"), second:
        pass
