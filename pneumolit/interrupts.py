"""Ctrl-C and SIGTERM end a command with one line, from its first import to its last."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

INTERRUPTED = 130  # as shells count Ctrl-C: 128 + SIGINT
STOPPED = "stopped before the end"


class RunInterruptedError(KeyboardInterrupt):
    """A run was stopped from outside; what it has is kept.

    Args:
        message: what is kept and how to go on.
        exit_code: of the process: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RunPrunedError(Exception):
    """A run was ended because others were better at this epoch; raised by whoever watches its epochs.

    Args:
        reason: why, for the record.
    """


def leave_at_once() -> None:
    """From here on Ctrl-C ends the process where it stands; for a command that has nothing to lose yet.

    An exception would come out of the middle of an import: a long traceback, or lost in a callback of Python's own.
    Nothing changes where Ctrl-C is ignored (a job in the background) or already somebody's.
    """
    is_main = threading.current_thread() is threading.main_thread()  # signals are the main thread's
    if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, f"pneumolit: {STOPPED}\n".encode())  # print could be in the middle of printing
    os._exit(INTERRUPTED)


def hold_interrupts(is_held: bool) -> None:
    """Let Ctrl-C wait, or let it through; what is held stays so when the process starts another program in its place.

    Without it, a Ctrl-C in the second start of a command would end in a traceback of Python's own initialisation.
    """
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_BLOCK if is_held else signal.SIG_UNBLOCK, {signal.SIGINT})


@contextlib.contextmanager
def raised_as_exceptions() -> Iterator[None]:
    """In here SIGTERM and Ctrl-C raise KeyboardInterrupt, so that no empty folder is left behind."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise RunInterruptedError(STOPPED, 128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, stop)
    if before[signal.SIGINT] is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
