"""A pool of devices: each job is a process of its own, a free device takes the next one, a failure is one row."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from typing import Any

from pneumolit.rundir import DONE, FAILED, INTERRUPTED, RUNNING
from pneumolit.sweep.devices import Device
from pneumolit.sweep.job import ORPHANED, Job, Outcome, Outcomes, Target, Waiting, attempts_of, note, run_in_process

FORKSERVER, SPAWN = "forkserver", "spawn"
_PRELOADED = "pneumolit.sweep.preloaded"
_LOOK_SECONDS = 0.25  # between two looks at memory and time
_GRACE_SECONDS = 30.0  # for a process that was asked to end: the checkpoint of an epoch may be being written


@dataclass(frozen=True)
class Limits:
    """What a job may use.

    Attributes:
        memory_gb: memory of its processes without mapped files, in GB (10^9 bytes); None: no limit.
        minutes: wall time of an attempt; None: no limit.
    """

    memory_gb: float | None = None
    minutes: float | None = None


class _Attempt:
    """A process at work on a job."""

    def __init__(self, context: Any, target: Target, job: Job, device: Device, limits: Limits) -> None:
        self.job, self.device, self.limits = job, device, limits
        self.start = time.monotonic()
        self.asked: tuple[str, str] | None = None  # state and reason that the pool has decided
        self._asked_at = 0.0
        note(job, RUNNING, device=device.name, attempts=attempts_of(job.run) + 1)
        self._answer, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=run_in_process, args=(target, job, device, theirs), daemon=False)
        self._process.start()
        theirs.close()

    @property
    def sentinel(self) -> int:
        """Ready when the process has ended."""
        return int(self._process.sentinel)

    def look(self) -> None:
        """Stop it where it is over a limit, and kill it where it did not stop."""
        now = time.monotonic()
        if self.asked is not None:
            if now - self._asked_at > _GRACE_SECONDS:
                self.kill()
            return
        if self.limits.minutes is not None and now - self.start > 60 * self.limits.minutes:
            self.stop(FAILED, f"took longer than hydra.launcher.job_minutes={self.limits.minutes:g}")
        elif self.limits.memory_gb is not None:
            used = tree_memory_gb(self._process.pid)
            if used > self.limits.memory_gb:
                limit = f"hydra.launcher.job_memory_gb={self.limits.memory_gb:g}"
                self.asked = FAILED, f"needed {used:.1f} GB of memory, more than {limit}"
                self.kill()  # asked to end, it could still take more

    def stop(self, state: str, reason: str) -> None:
        """Ask it to end, with what it has; the state is what is written down then."""
        if self.asked is None:
            self.asked, self._asked_at = (state, reason), time.monotonic()
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and whatever it started."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            try:
                os.killpg(self._process.pid, number) if number == signal.SIGKILL else os.kill(self._process.pid, number)
            except ProcessLookupError:  # it has not yet made the group of its own
                os.kill(self._process.pid, number)

    def outcome(self) -> Outcome:
        """How it went; the process has ended."""
        said = None
        with contextlib.suppress(EOFError, OSError):
            said = self._answer.recv() if self._answer.poll() else None
        self._process.join()
        code = self._process.exitcode
        if said is not None and said[0] == DONE:  # even where it was asked to stop: it had come to its end
            state, reason = DONE, ""
        elif self.asked is not None:
            state, reason = self.asked
        elif said is not None:
            state, reason = said
        else:
            state, reason = FAILED, _ending(code)
        with contextlib.suppress(ProcessLookupError):  # workers that it left behind
            os.killpg(self._process.pid, signal.SIGKILL)
        self._answer.close()
        seconds = time.monotonic() - self.start
        note(self.job, state, reason=reason, seconds=round(seconds, 1))
        return Outcome(self.job, state, reason, seconds, self.device.name)


class Pool:
    """Runs jobs on devices, one per device at a time.

    Args:
        devices: the places.
        target: what a job's process does.
        limits: of each job.
        start: "forkserver" (a process that has imported torch, Lightning and timm, and never touched CUDA, forks
            one per job) or "spawn" (each imports everything anew: three seconds more).
        deadline: `time.monotonic()` after which running jobs are stopped and no further ones begin; None: never.
        on_look: called some times per second with what runs: (job, device, seconds since its start).
    """

    def __init__(
        self,
        devices: Iterable[Device],
        target: Target,
        limits: Limits | None = None,
        *,
        start: str = FORKSERVER,
        deadline: float | None = None,
        on_look: Callable[[list[tuple[Job, Device, float]]], None] | None = None,
    ) -> None:
        self.free = list(devices)
        self.target, self.limits, self.deadline = target, limits or Limits(), deadline
        self.on_look = on_look
        self._running: list[_Attempt] = []
        self._context = start_context(start)

    def run(self, jobs: Iterable[Job | None]) -> Outcomes:
        """Run jobs; outcomes come in the order in which they end.

        Args:
            jobs: read one by one when a device is free; None says that there is nothing to begin with now.

        Leaving the iteration early, Ctrl-C included, stops what runs.
        """
        waiting = Waiting(jobs)
        try:
            while True:
                is_late = self.deadline is not None and time.monotonic() > self.deadline
                if is_late:
                    self.stop("the time of the sweep was over (hydra.launcher.sweep_minutes)")
                while self.free and not is_late and (job := waiting.take()) is not None:
                    self._begin(job)
                if not self._running and (waiting.is_over or is_late):
                    return
                yield from self._ended(_LOOK_SECONDS)
        finally:
            self.stop("the sweep was stopped")
            while self._running:
                for _ in self._ended(_LOOK_SECONDS):
                    pass

    def stop(self, reason: str) -> None:
        """Ask all that runs to end; it can go on later."""
        for attempt in self._running:
            attempt.stop(INTERRUPTED, reason)

    def _begin(self, job: Job) -> None:
        device = self.free.pop(0)
        try:
            self._running.append(_Attempt(self._context, self.target, job, device, self.limits))
        except BaseException:
            self.free.append(device)
            raise

    def _ended(self, seconds: float) -> list[Outcome]:
        """Wait for a moment; the outcomes of processes that have ended."""
        if self._running:
            connection.wait([attempt.sentinel for attempt in self._running], timeout=seconds)
        else:
            time.sleep(seconds)
        ready = set(connection.wait([attempt.sentinel for attempt in self._running], timeout=0))
        outcomes = []
        for attempt in [a for a in self._running if a.sentinel in ready]:
            self._running.remove(attempt)
            self.free.append(attempt.device)
            outcomes.append(attempt.outcome())
        for attempt in self._running:
            attempt.look()
        if self.on_look is not None:
            now = time.monotonic()
            self.on_look([(a.job, a.device, now - a.start) for a in self._running])
        return outcomes


def run_one(target: Target, job: Job, device: Device, limits: Limits) -> Outcome:
    """Run one job here, wherever a cluster has sent it: the same process, limits and records as in a pool."""
    (outcome,) = Pool([device], target, limits, start=SPAWN).run([job])
    return outcome


def start_context(start: str) -> Any:
    """How processes begin."""
    if start == FORKSERVER and FORKSERVER in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context(FORKSERVER)
        context.set_forkserver_preload([_PRELOADED])
        return context
    return multiprocessing.get_context(SPAWN)


def warm_up(start: str) -> None:
    """Let the process that forks jobs begin with its imports, while this one still composes and checks them.

    It ends with this process, whether it was needed or not.
    """
    if start_context(start).get_start_method() == FORKSERVER:
        forkserver.ensure_running()


def tree_memory_gb(pid: int | None) -> float:
    """Memory of a process and all that it started, in GB, without mapped files; 0 where it has just ended."""
    import psutil

    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                memory = process.memory_info()
                total += memory.rss - getattr(memory, "shared", 0)  # no such number on macOS and Windows
    except psutil.Error:
        return 0.0
    return total / 1e9


def _ending(code: int | None) -> str:
    """Words for a process that ended without an answer."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        hint = ": from outside, or by the system for want of memory" if name == "SIGKILL" else ""
        return f"killed by {name}{hint}"
    if code == ORPHANED:
        return "the process of the sweep was gone"
    return f"its process ended with exit code {code} before it was done"
