"""One thread writes what it is given, while whoever gives it goes on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pneumolit.training.background import BackgroundWriter

PATIENCE = 30.0  # seconds until a test that hangs fails


class Gate:
    """A `write` that notes what it gets and ends only when it may, with an error where it has one."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def __call__(self, contents: dict[str, Any]) -> None:
        self.calls.append(contents)
        self.begun.set()
        assert self.may_end.wait(PATIENCE)
        if self.error is not None:
            raise self.error


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.may_end.set()


def test_what_comes_during_a_write_waits_and_the_newest_of_each_name_is_written(gate: Gate) -> None:
    writer = BackgroundWriter(gate)
    writer.put({"best": 1, "last": 1})
    assert gate.begun.wait(PATIENCE)
    for contents in ({"best": 2, "last": 2}, {"last": 3}, {"last": 4}):
        writer.put(contents)
    assert gate.calls == [{"best": 1, "last": 1}]
    gate.may_end.set()
    writer.finish()
    assert gate.calls == [{"best": 1, "last": 1}, {"best": 2, "last": 4}]


def test_nothing_is_written_after_an_error_which_everybody_hears_of(gate: Gate) -> None:
    writer, gate.error = BackgroundWriter(gate), OSError("disk full")
    writer.put({"last": 1})
    assert gate.begun.wait(PATIENCE)
    writer.put({"last": 2})
    gate.may_end.set()
    for heard in (writer.finish, writer.finish, writer.check, lambda: writer.put({"last": 3})):
        with pytest.raises(OSError, match="disk full") as caught:
            heard()
        assert caught.value is writer.error
    assert gate.calls == [{"last": 1}]


def test_interrupt_of_the_wait_loses_nothing_and_one_can_wait_again(gate: Gate) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    writer = BackgroundWriter(gate)
    writer.put({"last": 1})
    assert gate.begun.wait(PATIENCE)
    writer.put({"last": 2})
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            writer.finish()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert gate.calls == [{"last": 1}]
    gate.may_end.set()
    writer.finish()
    assert gate.calls == [{"last": 1}, {"last": 2}]


def test_finished_writer_leaves_no_thread_behind_and_begins_anew(gate: Gate) -> None:
    gate.may_end.set()
    writer, before = BackgroundWriter(gate), set(threading.enumerate())
    for number in (1, 2):
        writer.put({"last": number})
        writer.finish()
        assert set(threading.enumerate()) <= before
    writer.finish()
    assert gate.calls == [{"last": 1}, {"last": 2}]
