"""The further processes of a run as the first one sees them: started, heard, missed when they are gone, and ended."""

from __future__ import annotations

import contextlib
import os
import pickle
import shlex
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context
from typing import Any

import torch.distributed as dist

from pneumolit.interrupts import hold_interrupts
from pneumolit.rundir import FAILED, RunDir

READY, DONE = "ready", "done"  # what a process says before it joins the others, and when it has trained to the end
_LOST_CONTACT = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe")
_SECONDS_TO_LEAVE = 30.0  # after which a first process that still waits for a lost one is ended
_SECONDS_TO_STOP = 3.0  # after Ctrl-C or SIGTERM, if the first process waits for one that does not answer


@dataclass(frozen=True)
class Failure:
    """Why a process did not train to the end.

    Attributes:
        index: of the process.
        text: for people, in one line.
        error: what it raised, where that is a message for people.
        trace: where it was raised, for who looks for a bug.
        is_cause: whether it is more than that another process was gone.
    """

    index: int
    text: str
    error: Exception | None = None
    trace: str = ""
    is_cause: bool = True

    @classmethod
    def of(cls, index: int, error: BaseException) -> Failure:
        """What an exception says."""
        told = error if isinstance(error, ValueError | OSError) and _travels(error) else None
        text = f"failed: {type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))
        return cls(index, text, told, trace, is_cause=not is_lost_contact(error))

    def as_error(self, count: int) -> Exception:
        """The error to raise in the first process."""
        if self.error is not None:
            return self.error
        text = f"process {self.index + 1} of {count} {self.text}"
        if not self.trace:
            return ValueError(text)
        error = RuntimeError(text)
        error.add_note(self.trace)
        return error


class Others:
    """The further processes of a run, as the first one sees them.

    Args:
        run: that they train.
        work: what each of them does; gets its orders, and the pipe that takes READY, DONE or a `Failure`.
        orders: one for each.
        break_off: makes the first process no longer wait for the others; called once one has failed.
    """

    def __init__(
        self,
        run: RunDir,
        work: Callable[[Any, connection.Connection], None],
        orders: Sequence[Any],
        break_off: Callable[[], None],
    ) -> None:
        self._run = run
        self._work = work
        self._orders = orders
        self._break_off = break_off
        self._count = len(orders) + 1
        self._processes: list[tuple[Any, connection.Connection]] = []
        self._changed = threading.Condition()  # around the four below
        self._ready = 0
        self._done: set[int] = set()
        self._failures: list[Failure] = []
        self._is_over = False
        self._watcher = threading.Thread(target=self._watch, name="ranks", daemon=True)
        self._timers: list[threading.Timer] = []
        # The main thread hears of no signal as long as it waits for another process.
        self._signals, self._wake = socket.socketpair()
        self._woken_before: int | None = None

    def start(self) -> None:
        """Start them and wait until all of them have read the data; returns early where one fails."""
        self._wake.setblocking(False)
        if threading.current_thread() is threading.main_thread():
            self._woken_before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        context = get_context("spawn")  # a fork would share locks and threads that torch holds
        for orders in self._orders:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=self._work, args=(orders, theirs))
            hold_interrupts(True)  # Ctrl-C goes to all of the terminal, and the first process answers for all
            try:
                process.start()
            finally:
                hold_interrupts(False)
            theirs.close()
            self._processes.append((process, ours))
        self._watcher.start()
        with self._changed:
            self._changed.wait_for(lambda: self._failures or self._ready == len(self._processes))
            if self._failures:
                raise (self.cause(0.0) or self._failures[0]).as_error(self._count)

    def leave(self) -> None:
        """Wait for the end of processes that have trained to the end."""
        self._watcher.join(_SECONDS_TO_LEAVE)

    def cause(self, wait: float) -> Failure | None:
        """Why one of them failed, of all reasons the first; None where none failed by itself.

        Args:
            wait: seconds for a process to say so, or to be seen to be gone.
        """

        def causes() -> list[Failure]:
            return [failure for failure in self._failures if failure.is_cause]

        with self._changed:
            self._changed.wait_for(causes, wait)
            return next(iter(causes()), None)

    def kill(self) -> None:
        """End those that are left."""
        with self._changed:
            self._is_over = True
        self._end_them()  # first of all: a second signal may cut off what follows
        if self._woken_before is not None:
            signal.set_wakeup_fd(self._woken_before)
        for timer in self._timers:
            timer.cancel()
        if self._watcher.ident is not None:
            self._watcher.join()
        self._signals.close()
        self._wake.close()
        for _, pipe in self._processes:
            pipe.close()

    def _end_them(self) -> None:
        for process, _ in self._processes:
            process.kill()

    def _watch(self) -> None:
        """Hear what the processes say until all of them are gone."""
        left = dict(enumerate(self._processes, start=1))
        while left:
            speakers = [w for process, pipe in left.values() for w in (pipe, process.sentinel)]
            heard = connection.wait([self._signals, *speakers])
            if self._signals in heard and {signal.SIGINT, signal.SIGTERM} & set(self._signals.recv(64)):
                self._after(_SECONDS_TO_STOP, self._end_them)
            for index, (process, pipe) in list(left.items()):
                is_gone = process.sentinel in heard and not pipe.poll()
                if pipe in heard and not is_gone:
                    is_gone = not self._hear(index, pipe)
                if is_gone:
                    process.join()
                    self._miss(index, process.exitcode)
                    del left[index]

    def _hear(self, index: int, pipe: connection.Connection) -> bool:
        """Take in what a process says; whether it can say more."""
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            return False
        with self._changed:
            if message == READY:
                self._ready += 1
            elif message == DONE:
                self._done.add(index)
            self._changed.notify_all()
        if isinstance(message, Failure):
            self._fail(message)
        return True

    def _miss(self, index: int, exit_code: int | None) -> None:
        with self._changed:
            is_known = self._is_over or index in self._done or any(f.index == index for f in self._failures)
        if not is_known:
            way = f"go on with run_dir={shlex.quote(str(self._run.path))}"
            self._fail(Failure(index, f"{_how_it_ended(exit_code)}. The last whole epoch is kept; {way}"))

    def _fail(self, failure: Failure) -> None:
        with self._changed:
            self._failures.append(failure)
            self._changed.notify_all()
            is_first = len(self._failures) == 1 and not self._is_over
        if is_first:
            self._break_off()
            self._after(_SECONDS_TO_LEAVE, self._give_up)

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, act)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _give_up(self) -> None:
        """End the first process where it waits for one that is gone: nothing else gets it out of a GPU's kernel."""
        with self._changed:
            if self._is_over:
                return
            error = (self.cause(0.0) or self._failures[0]).as_error(self._count)
            self._run.write_status(FAILED, reason=f"{type(error).__name__}: {error}")
            print(f"pneumolit: {error}", file=sys.stderr, flush=True)
            self._end_them()
            os._exit(1)


def is_lost_contact(error: BaseException) -> bool:
    """Whether an error only says that another process is gone."""
    is_kind = isinstance(error, dist.DistError) or type(error) is RuntimeError
    return is_kind and any(words in str(error).lower() for words in _LOST_CONTACT)


def _travels(error: Exception) -> bool:
    """Whether an exception comes out of a pipe as it went in."""
    with contextlib.suppress(Exception):
        return str(pickle.loads(pickle.dumps(error))) == str(error)
    return False


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code} before the training did"
    name = signal.Signals(-exit_code).name
    hint = " (as the system does where memory runs out)" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint} before the training did"
