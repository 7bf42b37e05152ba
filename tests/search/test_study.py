"""A study that several processes share: counting, liveness, restart, reproducibility, pruning."""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from rich.console import Console

from pneumolit.rundir import TuneDir, is_locked
from pneumolit.search.plan import accepted_codes
from pneumolit.search.space import read_space, suggest_point
from pneumolit.search.storage import mend_last_line, open_storage
from pneumolit.search.strategy import build_sampler, quiet_optuna
from pneumolit.search.study import DIED, SharedStudy, shared_study
from tests.conftest import let_go

HELPER = Path(__file__).with_name("quick_search.py")


@pytest.fixture(scope="module")
def quick() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quick_search", HELPER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_optuna():
        yield


def states(trials: Sequence[Any]) -> Counter[str]:
    return Counter(trial.state.name for trial in trials)


def finished(trials: Sequence[Any]) -> int:
    return states(trials)["COMPLETE"] + states(trials)["PRUNED"]


def start(folder: Path, n_trials: int, **arguments: Any) -> subprocess.Popen[str]:
    line = json.dumps({"folder": str(folder), "n_trials": n_trials, **arguments})
    return subprocess.Popen(
        [sys.executable, str(HELPER), line],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_ended(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def test_a_restart_continues_to_the_total_and_not_beyond(quick: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    assert quick.search_quickly(str(folder), 4).is_reached
    assert quick.search_quickly(str(folder), 7).is_reached
    assert states(quick.trials_of(folder)) == {"COMPLETE": 7}
    assert quick.search_quickly(str(folder), 5).is_reached
    assert states(quick.trials_of(folder)) == {"COMPLETE": 7}


def test_the_same_seed_gives_the_same_study_also_in_two_calls(quick: ModuleType, tmp_path: Path) -> None:
    quick.search_quickly(str(tmp_path / "whole"), 14)
    quick.search_quickly(str(tmp_path / "parts"), 6)
    quick.search_quickly(str(tmp_path / "parts"), 14)
    quick.search_quickly(str(tmp_path / "other"), 14, seed=1)
    points = {name: [t.params for t in quick.trials_of(tmp_path / name)] for name in ("whole", "parts", "other")}
    assert points["whole"] == points["parts"] != points["other"]
    assert len({json.dumps(point) for point in points["whole"]}) == 14


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_a_trial_that_is_cut_off_changes_no_draw_of_those_behind_it(
    quick: ModuleType, tmp_path: Path, name: str
) -> None:
    sampler = {"name": name, **({"n_startup_trials": 8} if name == "tpe" else {})}
    quick.search_quickly(str(tmp_path / "whole"), 6, sampler=sampler)
    quick.search_quickly(str(tmp_path / "parts"), 2, sampler=sampler)
    study = SharedStudy(TuneDir(tmp_path / "parts"), None, "min")
    trial = study.claim(6)
    assert trial is not None
    study.study.sampler = build_sampler({**sampler, "seed": 0}, study.rank(trial.number))
    suggest_point(read_space(quick.SPACE), trial)
    study.end(trial.number, TrialState.FAIL, reason="stopped", cut_off=True)
    study.again(trial.number)
    study.close()
    quick.search_quickly(str(tmp_path / "parts"), 6, sampler=sampler)
    points = {
        folder: [t.params for t in quick.trials_of(tmp_path / folder) if t.state.name == "COMPLETE"]
        for folder in ("whole", "parts")
    }
    assert points["parts"] == points["whole"] and len(points["whole"]) == 6


def test_code_that_changed_before_any_trial_was_finished_is_the_studys_code(quick: ModuleType, tmp_path: Path) -> None:
    folder = str(tmp_path / "study")
    quick.search_quickly(folder, 1, code="before", seconds=0.0)
    assert finished(quick.trials_of(tmp_path / "study")) == 0
    assert quick.search_quickly(folder, 2, code="after").is_reached
    assert quick.search_quickly(folder, 3, code="after").is_reached


@pytest.mark.parametrize("name", ["random", "gp", "qmc", "nsgaii"])
def test_every_sampler_draws_anew_for_every_trial_and_the_same_again(
    quick: ModuleType, tmp_path: Path, name: str
) -> None:
    for run in ("one", "two"):
        quick.search_quickly(str(tmp_path / run), 6, sampler={"name": name})
    one, two = ([t.params for t in quick.trials_of(tmp_path / run)] for run in ("one", "two"))
    assert one == two
    assert len({point["x"] for point in one}) == 6


def test_two_processes_finish_exactly_the_total_and_no_point_twice(quick: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    processes = [start(folder, 17, is_started_with_others=True) for _ in range(2)]
    let_go(processes)
    for process in processes:
        assert_ended(process)
    trials = quick.trials_of(folder)
    assert finished(trials) == 17
    assert not [trial for trial in trials if not trial.state.is_finished()]
    done = [trial for trial in trials if trial.state.name == "COMPLETE"]
    assert len({trial.user_attrs["worker"] for trial in done}) == 2
    assert len({trial.user_attrs["run"] for trial in done}) == 17
    assert list((folder / "workers").iterdir()) == []
    # Given up are trials that both took in the same moment only.
    assert sum(bool(trial.user_attrs.get("excess")) for trial in trials) <= 3


@pytest.mark.slow
def test_processes_share_a_study_in_a_database_too(quick: ModuleType, tmp_path: Path) -> None:
    folders = [tmp_path / machine / "study" for machine in ("here", "there")]
    address = f"sqlite:///{tmp_path / 'studies.db'}"
    for process in [start(folder, 5, storage=address) for folder in folders]:
        assert_ended(process)
    trials = quick.trials_of(folders[0], address)
    assert finished(trials) == 5
    assert not [trial for trial in trials if not trial.state.is_finished()]


def claims(tune: TuneDir, count: int) -> list[SharedStudy]:
    return [SharedStudy(tune, None, "min") for _ in range(count)]


def test_of_processes_that_claim_at_once_the_last_ones_give_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = claims(TuneDir(tmp_path / "study"), 2)
    seen: list[Any] = []
    # Both looked before either had taken a trial.
    ask = first.study.ask

    def ask_late() -> Any:
        seen.append(second.claim(1))
        return ask()

    with monkeypatch.context() as patch:
        patch.setattr(first.study, "ask", ask_late)
        late = first.claim(1)
    early = seen[0]
    assert early is not None and early.number == 0 and late is None
    gone = first.trials()[1]
    assert gone.state.name == "FAIL" and gone.user_attrs["excess"] is True
    assert first.claim(1) is None
    for study in (first, second):
        study.close()


def test_a_trial_whose_process_has_died_is_failed_and_its_point_tried_again(quick: ModuleType, tmp_path: Path) -> None:
    dead, alive = claims(TuneDir(tmp_path / "study"), 2)
    trial, running = dead.claim(5), alive.claim(5)
    assert trial is not None and running is not None
    x = trial.suggest_float("x", -1, 1)
    assert alive.bury() == []
    dead._lock.release()  # as the system does when it kills a process
    assert alive.bury() == [trial.number]
    assert alive.bury() == []
    found = alive.trials()
    assert found[trial.number].state.name == "FAIL" and found[trial.number].user_attrs["reason"] == DIED
    assert found[running.number].state.name == "RUNNING"
    again = alive.claim(5)
    assert again is not None and again.number == 2
    assert again.suggest_float("x", -1, 1) == x
    # What the dead one still says, should it live, does not count.
    assert not dead.end(trial.number, _complete(), 1.0)
    assert alive.trials()[trial.number].state.name == "FAIL"
    alive.close()


def _complete() -> Any:
    from optuna.trial import TrialState

    return TrialState.COMPLETE


def test_a_point_that_kills_its_process_is_not_tried_for_ever(tmp_path: Path) -> None:
    tune = TuneDir(tmp_path / "study")
    tried = 0
    for _ in range(10):
        dead, alive = claims(tune, 2)
        waiting = [trial for trial in alive.trials() if trial.state.name == "WAITING"]
        if tried and not waiting:
            break
        trial = dead.claim(99)
        assert trial is not None
        trial.suggest_float("x", -1, 1)
        tried += 1
        dead._lock.release()
        alive.bury()
        alive.close()
    assert tried == 3


def test_a_process_on_another_machine_counts_as_dead_when_it_gives_no_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"sqlite:///{tmp_path / 'studies.db'}"
    far = SharedStudy(TuneDir(tmp_path / "far" / "study"), address, "min")
    near = SharedStudy(TuneDir(tmp_path / "near" / "study"), address, "min")
    trial = far.claim(2)
    assert trial is not None
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    far._last_beat = 0.0
    assert near.bury() == []
    clock[0] = 500.0
    far.beat()
    clock[0] = 900.0
    assert near.bury() == []  # its sign of life is 400 seconds old at most
    clock[0] = 1499.0
    assert near.bury() == []
    clock[0] = 1501.0
    assert near.bury() == [trial.number]
    for study in (far, near):
        study.close()


def test_a_process_that_just_took_a_trial_is_given_time_to_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = SharedStudy(TuneDir(tmp_path / "study"), None, "min")
    nameless = study.study.ask()
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    assert study.bury() == []
    clock[0] = 109.0
    assert study.bury() == []
    clock[0] = 111.0
    assert study.bury() == [nameless.number]
    study.close()


def test_trials_that_fail_do_not_count_and_are_replaced(quick: ModuleType, tmp_path: Path) -> None:
    ending = quick.search_quickly(str(tmp_path / "study"), 6, job="odd")
    trials = quick.trials_of(tmp_path / "study")
    assert ending.is_reached and ending.failed == states(trials)["FAIL"] == 3
    assert finished(trials) == 6
    assert {t.user_attrs["reason"] for t in trials if t.state.name == "FAIL"} == {"one of three"}


def test_a_search_stops_after_too_many_failures_and_says_so(quick: ModuleType, tmp_path: Path) -> None:
    ending = quick.search_quickly(str(tmp_path / "study"), 6, job="failing", max_failed=3)
    assert not ending.is_reached and ending.failed == 3
    assert "3 trials have failed (max_failed=3): 0 of 6 trials are finished" in ending.reason
    assert states(quick.trials_of(tmp_path / "study")) == {"FAIL": 3}


def test_a_bad_trial_is_pruned_and_counts(quick: ModuleType, tmp_path: Path) -> None:
    # With random points some are worse than the median of those before them after the first epoch.
    pruner = {"name": "median", "n_startup_trials": 2, "n_warmup_steps": 0}
    quick.search_quickly(str(tmp_path / "study"), 20, pruner=pruner, sampler={"name": "random"})
    trials = quick.trials_of(tmp_path / "study")
    found = states(trials)
    assert found["PRUNED"] >= 3 and found["COMPLETE"] >= 3 and sum(found.values()) == 20
    for trial in trials:
        epochs = list(trial.intermediate_values)
        assert epochs == ([1, 2, 3] if trial.state.name == "COMPLETE" else epochs[:2])
        if trial.state.name == "PRUNED":
            before = [t.intermediate_values for t in trials[: trial.number] if t.state.name == "COMPLETE"]
            values = sorted(v[epochs[-1]] for v in before)
            assert trial.intermediate_values[epochs[-1]] > values[len(values) // 2 - 1]
            assert trial.user_attrs["reason"] == f"behind other trials after epoch {epochs[-1]} of 3"


def test_tpe_finds_the_better_half_of_a_simple_space(quick: ModuleType, tmp_path: Path) -> None:
    quick.search_quickly(str(tmp_path / "study"), 40)
    trials = quick.trials_of(tmp_path / "study")
    assert min(trial.value for trial in trials) < 0.02
    assert Counter(trial.params["y"] for trial in trials[20:]).most_common(1)[0][0] == "a"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"monitor": "val/other/loss"}, "monitor=val/other/loss instead of val/loss"),
        ({"space": {"x": {"low": -1.0, "high": 2.0}, "y": {"choices": ["a", "b", "c"]}}}, r"search\.space\.x differs"),
        ({"space": {"x": {"low": -1.0, "high": 1.0}}}, r"search\.space\.y is gone"),
        ({"code": "later"}, "run by other code .* accept_code_change=true"),
        ({"monitor": "val/auroc"}, "in this storage minimizes, and this search maximizes; give another name"),
    ],
)
def test_another_search_does_not_enter_a_study(
    quick: ModuleType, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = str(tmp_path / "study")
    quick.search_quickly(folder, 2)
    with pytest.raises(ValueError, match=message):
        quick.search_quickly(folder, 4, **changes)
    assert finished(quick.trials_of(tmp_path / "study")) == 2
    if "code" in changes:
        assert quick.search_quickly(folder, 4, **changes, accept_code_change=True).is_reached
        assert quick.search_quickly(folder, 5, **changes).is_reached  # it is the study's code from now on


def test_runs_of_code_that_was_accepted_once_count_from_then_on(quick: ModuleType, tmp_path: Path) -> None:
    folder = str(tmp_path / "study")
    quick.search_quickly(folder, 2, code="first")
    quick.search_quickly(folder, 3, code="second", accept_code_change=True)
    quick.search_quickly(folder, 4, code="third", accept_code_change=True)
    with quiet_optuna(), shared_study(TuneDir(folder), None, "min") as study:
        assert sorted(accepted_codes(study)) == ["first", "second", "third"]


def test_a_database_that_no_longer_answers_ends_the_search_in_one_sentence_and_a_missed_sign_of_life_does_not(
    quick: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*arguments: Any, **keywords: Any) -> Any:
        try:
            raise OSError("server closed the connection\nmore of it")
        except OSError as error:  # as Optuna does, in these words for whatever has happened
            raise StorageInternalError("An exception is raised during the commit.") from error

    address = f"sqlite:///{tmp_path}/studies.db"
    with quiet_optuna(), shared_study(TuneDir(tmp_path / "beating"), address, "min") as study:
        assert study.claim(5) is not None
        study._last_beat = -1e9
        with monkeypatch.context() as broken:
            broken.setattr(study, "note", lost)
            study.beat()
    monkeypatch.setattr(SharedStudy, "claim", lost)
    with pytest.raises(ValueError, match=r"storage=sqlite:.* failed during .* server closed the connection\. What"):
        quick.search_quickly(str(tmp_path / "study"), 2, storage=address)


def test_a_storage_that_cannot_be_opened_leaves_no_worker_behind(tmp_path: Path) -> None:
    tune = TuneDir(tmp_path / "search")
    tune.path.mkdir()
    with pytest.raises(ValueError):
        SharedStudy(tune, f"sqlite:///{tmp_path}/nowhere/x.db", "min")
    SharedStudy(tune, None, "min").close()
    with pytest.raises(ValueError, match="give another name"):
        SharedStudy(tune, None, "max")
    assert not list((tune.path / "workers").iterdir())


def test_half_a_line_at_the_end_of_the_journal_is_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    tune = TuneDir(tmp_path / "study")
    study = SharedStudy(tune, None, "min")
    assert study.claim(3) is not None
    with tune.journal_file.open("ab") as handle:
        handle.write(b'{"op_code":4,"wor')
    assert study.claim(3) is not None
    study.close()
    fresh = open_storage(None, tune.journal_file)
    assert len(fresh.get_all_trials(fresh.get_study_id_from_name("study"))) == 2


@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b"a\nb\n", b"a\nb\n"), (b"a\nb", b"a\n"), (b"ab", b"")])
def test_whole_lines_of_a_journal_stay(tmp_path: Path, before: bytes, after: bytes) -> None:
    (tmp_path / "log").write_bytes(before)
    mend_last_line(tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == after


def test_a_lock_is_seen_from_outside_as_long_as_it_is_held(tmp_path: Path) -> None:
    study = SharedStudy(TuneDir(tmp_path / "study"), None, "min")
    lock = study.tune.worker_file(study.worker)
    assert is_locked(lock)
    study.close()
    assert not is_locked(lock)


@pytest.mark.parametrize("line", ["[]", "[" * 100_000, '{"op_code": 99, "worker_id": "x"}', "3"], ids=range(4))
def test_a_journal_of_something_else_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "study.log").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"study\.log is no journal of a search"):
        open_storage(None, tmp_path / "study.log")


def test_a_password_in_an_address_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"storage=postgresql://ann:\*\*\*@nowhere/x cannot be opened") as error:
        open_storage("postgresql://ann:secret@nowhere/x", tmp_path / "log")
    assert "secret" not in str(error.value)


def test_every_ended_trial_is_a_line_with_the_best_so_far(quick: ModuleType, tmp_path: Path) -> None:
    said = io.StringIO()
    quick.search_quickly(str(tmp_path / "study"), 3, console=Console(file=said, width=300))
    lines = said.getvalue().splitlines()
    assert lines[0].startswith("search study: 3 trials, on one place; val/loss down; folder ")
    ended = [line for line in lines if "   trial " in line]
    assert [line.split()[0] for line in ended] == ["1/3", "2/3", "3/3"]
    values = [float(line.split("val/loss ")[1].split()[0]) for line in ended]
    bests = [float(line.split("best ")[1].split()[0]) for line in ended]
    assert bests == list(itertools.accumulate(values, min))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_after_kills_at_random_moments_the_total_is_right(quick: ModuleType, tmp_path: Path, workers: int) -> None:
    folder, rng = tmp_path / "study", random.Random(workers)
    for turn in range(8):
        # 60 trials take 2 s in one process: the kills have to come well before. The first dies in a trial for certain.
        moments = [rng.uniform(0.0, 0.15) if turn else 0.0 for _ in range(workers)]
        processes = [start(folder, 60, kill_after=moment) for moment in moments]
        for process in processes:
            process.communicate(timeout=120)
    for process in [start(folder, 60) for _ in range(workers)]:
        assert_ended(process)
    trials = quick.trials_of(folder)
    assert finished(trials) == 60
    assert not [trial for trial in trials if not trial.state.is_finished()]
    died = [trial for trial in trials if trial.user_attrs.get("cut_off")]
    assert died and all(trial.user_attrs["reason"] == DIED for trial in died)
    done = [trial for trial in trials if trial.state.name == "COMPLETE"]
    for trial in done:
        assert trial.value == pytest.approx(quick.value_of(trial.user_attrs["point"]), abs=1e-6)
    assert len({trial.user_attrs["run"] for trial in done}) == len(done)


def test_tables_that_another_process_makes_at_the_same_moment_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optuna import storages
    from sqlalchemy.exc import OperationalError

    real, calls = storages.get_storage, []

    def slower(address: str) -> object:
        calls.append(address)
        if len(calls) == 1:
            raise OperationalError("CREATE TABLE studies", {}, Exception("table studies already exists"))
        return real(address)

    monkeypatch.setattr(storages, "get_storage", slower)
    monkeypatch.setattr("pneumolit.search.storage._SECONDS_BETWEEN", 0.0)
    open_storage(f"sqlite:///{tmp_path / 'studies.db'}", tmp_path / "study.log")
    assert len(calls) == 2
