"""A search from its checked settings to its tables: trials are asked for, run on a pool of devices, and told."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from pneumolit.config import monitor_mode
from pneumolit.interrupts import RunInterruptedError
from pneumolit.report.sweep_tables import duration
from pneumolit.rundir import DONE, INTERRUPTED, PRUNED, read_json, shortest
from pneumolit.search.display import SearchDisplay
from pneumolit.search.plan import Search, accepted_codes, check_record
from pneumolit.search.space import overrides_of, suggest_point
from pneumolit.search.storage import first_line, hide_password, storage_errors
from pneumolit.search.strategy import build_sampler, quiet_optuna
from pneumolit.search.study import SharedStudy, shared_study
from pneumolit.search.trial import is_done, scored_value, tune_job
from pneumolit.sweep.job import Job, Outcome, Target
from pneumolit.sweep.places import LocalPlaces, Places
from pneumolit.training.resume import is_begun

_LOOK_SECONDS = 1.0  # between two looks for processes that have died


@dataclass(frozen=True)
class Ending:
    """How a call of a search ended.

    Attributes:
        is_reached: whether there are as many finished trials as were asked for.
        failed: trials of this call that failed.
        reason: why it ended before, for people.
    """

    is_reached: bool
    failed: int
    reason: str = ""


def run_search(
    search: Search,
    console: Console,
    close: Callable[[SharedStudy], None],
    *,
    target: Target = tune_job,
    places: Places | None = None,
) -> Ending:
    """Run trials until there are enough, time is over or too many have failed.

    Args:
        search: what to do.
        console: for people.
        close: called at the end, also of a search that was stopped; writes tables.
        target: what the process of a trial does.
        places: where trials run; None: as the launcher's settings say.

    Raises:
        ValueError: the study is another search's, other code has run a part of it, or its database is gone.
        RunInterruptedError: stopped by Ctrl-C or SIGTERM; the same command goes on.
    """
    settings, mode = search.settings, monitor_mode(search.settings.monitor)
    minutes = None if settings.timeout is None else settings.timeout / 60
    launcher = replace(search.launcher, sweep_minutes=minutes)
    only_cpu = search.base["trainer"]["accelerator"] == "cpu"
    with quiet_optuna(), shared_study(search.tune, settings.storage, mode) as study:
        check_record(search, study)
        buried = study.bury()
        finished = len(study.finished())
        if places is None:
            places = LocalPlaces(launcher, settings.n_trials - finished, only_cpu=only_cpu)
        before = f", {finished} finished before" if finished else ""
        display = SearchDisplay(console, total=settings.n_trials, places=places.count, monitor=settings.monitor)
        display.say(
            f"search {search.tune.path.name}: {settings.n_trials} trials{before}, on {places.words}; "
            f"{settings.monitor} {'down' if mode == 'min' else 'up'}; folder {shortest(search.tune.path)}"
        )
        if buried:
            display.say(f"cut off when their process died, and tried again: trials {', '.join(map(str, buried))}")
        display.begin(study)
        work = _Work(search, study, display)
        try:
            running = places.run(target, work.jobs(), work.look)
            with display.shown(), contextlib.closing(running) as outcomes:
                for outcome in outcomes:
                    work.ended(outcome)
        except storage_errors() as error:
            address = settings.storage or ""
            said = first_line(error.__cause__ or error, address)  # Optuna's own words are the same for every cause
            raise ValueError(
                f"storage={hide_password(address)} failed during the search: {said}. What has begun is kept, and the "
                "same command goes on with it (trials that ran are tried again when nothing was heard of them for ten "
                "minutes)"
            ) from error
        except KeyboardInterrupt as stop:
            # The storage in memory may have been interrupted in the middle of reading: a new one says what is true.
            with shared_study(search.tune, settings.storage, mode) as fresh:
                work.give_back(fresh)
                close(fresh)
            raise RunInterruptedError(
                "the search was stopped; finished trials count, others are tried again, and the same command goes on",
                getattr(stop, "exit_code", 130),
            ) from None
        close(study)
        return work.ending()


class _Work:
    """The trials of this process."""

    def __init__(self, search: Search, study: SharedStudy, display: SearchDisplay) -> None:
        self.search, self.study, self.display = search, study, display
        self.running: dict[int, Job] = {}
        self.failed, self._looked, self._has_waited = 0, -math.inf, False
        timeout = search.settings.timeout
        self._end = math.inf if timeout is None else time.monotonic() + timeout

    def jobs(self) -> Iterator[Job | None]:
        """Trials to begin, one by one; None while there is none to begin now."""
        settings = self.search.settings
        while self.failed < settings.max_failed and len(self.study.finished()) < settings.n_trials:
            self._bury()
            yield self._next()

    def look(self, running: Any) -> None:
        """Draw, look for processes that have died, and show that this one has not."""
        self.study.beat()
        self.display.look(running)

    def ended(self, outcome: Outcome) -> None:
        """Tell the study how a trial ended."""
        job, states = outcome.job, _states()
        number = job.number
        del self.running[number]
        facts = _facts(job) | {"seconds": round(outcome.seconds, 1)}
        state, value, reason = states.FAIL, None, " ".join(outcome.reason.split())
        if outcome.state == DONE:
            value = scored_value(job.run, job.cfg, self.search.settings.monitor)
            state = states.COMPLETE if math.isfinite(value) else states.FAIL
            reason = "" if math.isfinite(value) else f"{self.search.settings.monitor} is {value}"
        elif outcome.state == PRUNED:
            state = states.PRUNED
        elif outcome.state == INTERRUPTED and time.monotonic() >= self._end:
            self._put_back(self.study, number)
            self.display.say(f"trial {number} was stopped, since the time was over; its point is tried again")
            return
        is_ours = self.study.end(number, state, value if state == states.COMPLETE else None, reason=reason, **facts)
        if not is_ours:
            reason = "another process has taken this one for dead and given the trial up"
        self.failed += state == states.FAIL
        self.display.told(self.study, outcome, state.name if is_ours else "FAIL", value, reason)

    def give_back(self, study: SharedStudy) -> None:
        """End what ran when the search was stopped: what had come to its end counts, the rest is tried again."""
        for number, job in list(self.running.items()):
            if is_done(job.run):
                value = scored_value(job.run, job.cfg, self.search.settings.monitor)
                if math.isfinite(value) and study.end(number, _states().COMPLETE, value, **_facts(job)):
                    continue
            self._put_back(study, number)

    def ending(self) -> Ending:
        """How this call ended, where it was not stopped."""
        settings, finished = self.search.settings, len(self.study.finished())
        if finished >= settings.n_trials:
            return Ending(True, self.failed)
        if self.failed >= settings.max_failed:
            reason = f"stopped, since {self.failed} trials have failed (max_failed={settings.max_failed})"
        else:
            reason = f"timeout={settings.timeout} was over ({duration(settings.timeout or 0)})"
        return Ending(False, self.failed, f"{reason}: {finished} of {settings.n_trials} trials are finished")

    def _next(self) -> Job | None:
        search, study = self.search, self.study
        trial = study.claim(search.settings.n_trials)
        if trial is None:
            if not self.running and not self._has_waited:
                self._has_waited = True
                self.display.say("all trials that are still wanted run in other processes; waiting for them")
            return None
        self._has_waited = False
        study.study.sampler = build_sampler(search.sampler, study.rank(trial.number))
        overrides: list[str] = []
        try:
            point = suggest_point(search.axes, trial)
            overrides = overrides_of(search.axes, point)
            cfg = search.compose(overrides)
            name = search.name_run(cfg)
            run = search.tune.trial(name)
            study.note(trial.number, run=name, point=point)
            if is_begun(run) and not search.settings.accept_code_change:
                self._refuse_other_code(run)
        except (ValueError, OSError) as error:
            self.failed += 1
            reason = " ".join(str(error).split())
            study.end(trial.number, _states().FAIL, reason=reason)
            self.display.say(f"trial {trial.number} failed: {reason}")
            return None
        extra = {
            "storage": search.settings.storage, "journal": str(search.tune.journal_file),
            "study": search.tune.path.name, "trial": trial.number, "pruner": dict(search.pruner),
            "monitor": search.settings.monitor,
        }  # fmt: skip
        # A trial of the same point, or a process that is about to end, may hold the folder: then it is waited for.
        job = Job(trial.number, str(run.path), cfg, tuple(overrides), point, lock_seconds=None, extra=extra)
        self.running[trial.number] = job
        return job

    def _refuse_other_code(self, run: Any) -> None:
        if read_json(run.status_file).get("code") not in accepted_codes(self.study):
            raise ValueError(
                f"the run in {run.path} was made by other code; delete it, or give accept_code_change=true to count it"
            )

    def _put_back(self, study: SharedStudy, number: int) -> None:
        if study.end(number, _states().FAIL, reason="stopped; the point is tried again", cut_off=True):
            with contextlib.suppress(ValueError):
                study.again(number)

    def _bury(self) -> None:
        now = time.monotonic()
        if now - self._looked > _LOOK_SECONDS:
            self._looked = now
            buried = self.study.bury()
            if buried:
                self.display.say(f"the process of trials {', '.join(map(str, buried))} has died; they are tried again")


def _facts(job: Job) -> dict[str, Any]:
    """What the tables say of a trial; its folder may lie on another machine."""
    return {"epochs": len(job.run.read_metrics())}


def _states() -> Any:
    from optuna.trial import TrialState

    return TrialState
