"""Files written while the work goes on: one thread, one write under way, and what came since by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class BackgroundWriter:
    """Hands named contents to one thread that writes them.

    What comes while a write is under way waits; of the same name only the newest does. The thread is no daemon: an
    interpreter that ends waits for it. After an error nothing more is written, since a later content could stand on
    one that is missing.

    Args:
        write: gets all that waited, by name; called in the thread, one call at a time.

    Attributes:
        error: what `write` raised, None as long as all is well.
    """

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        self.error: BaseException | None = None
        self._write = write
        self._waiting: dict[str, Any] = {}
        self._lock = threading.Lock()  # around `_waiting`
        self._executor: ThreadPoolExecutor | None = None

    def put(self, contents: Mapping[str, Any]) -> None:
        """Have contents written soon; they must no longer change.

        Raises:
            BaseException: the error of an earlier write.
        """
        self.check()
        with self._lock:
            is_announced = bool(self._waiting)
            self._waiting |= contents
        if not is_announced:
            self._start()

    def check(self) -> None:
        """Raise the error of an earlier write, if there was one."""
        if self.error is not None:
            raise self.error

    def finish(self) -> None:
        """Wait until all is written, and let the thread go.

        Raises:
            BaseException: the error of a write.
        """
        if self._executor is not None or self._waiting:
            # Once more, even if nothing waits: an interrupt may have come between a put and its start, and the only
            # thread gets to this when it is done with everything before.
            self._start().result()
            executor, self._executor = self._executor, None
            if executor is not None:
                executor.shutdown()
        self.check()

    def _start(self) -> Future[None]:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="writer")
        return self._executor.submit(self._write_waiting)

    def _write_waiting(self) -> None:
        with self._lock:
            contents, self._waiting = self._waiting, {}
        if not contents or self.error is not None:
            return
        try:
            self._write(contents)
        except BaseException as error:  # raised where somebody waits for it
            self.error = error
