"""The benchmark's end: a contender lives in a process of its own and works only when it is its turn."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks._common.machine import REPOSITORY
from benchmarks._common.pace import PIPES

_END_SECONDS = 10


def clean_environment() -> dict[str, str]:
    """The environment without settings of the memory allocator: a contender that wants any sets them itself."""
    return {
        key: value
        for key, value in os.environ.items()
        if key not in {"GLIBC_TUNABLES", "LD_PRELOAD"} and not key.startswith("MALLOC_")
    }


class Contender:
    """A module of this folder that runs rounds in a process of its own.

    Args:
        name: in the results.
        module: started with `python -m`.
        arguments: of its command line.
        environment: further variables.
    """

    def __init__(
        self, name: str, module: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        read, self._orders = os.pipe()
        self._answers, write = os.pipe()
        self._log = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115  lives as long as the process
        env = clean_environment() | {PIPES: f"{read},{write}"} | dict(environment or {})
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=env,
            pass_fds=(read, write),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        os.close(read)
        os.close(write)
        self._reader = os.fdopen(self._answers, "r")
        self.facts = self._hear()

    def run(self, steps: int) -> dict[str, Any]:
        """One round; what the worker tells of it, `seconds` among it.

        Raises:
            SystemExit: the process has ended; the message holds the end of what it printed.
        """
        try:
            os.write(self._orders, f"{steps}\n".encode())
        except BrokenPipeError:
            self._fail()
        return self._hear()

    def close(self) -> None:
        """Let the process end; stop it where it does not."""
        os.close(self._orders)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.close()
        self._log.close()

    def _hear(self) -> dict[str, Any]:
        line = self._reader.readline()
        if not line:
            self._fail()
        values: dict[str, Any] = json.loads(line)
        return values

    def _fail(self) -> None:
        code = self._process.wait()
        self._log.seek(0)
        tail = "".join(self._log.readlines()[-30:])
        raise SystemExit(f"benchmark: the contender {self.name} ended with code {code}:\n{tail}")


@contextlib.contextmanager
def lineup() -> Iterator[Callable[..., Contender]]:
    """Starts contenders by `start(name, module, arguments, environment=None)` and ends all of them at its own end.

    The module is one of benchmarks/_loops.
    """
    started: list[Contender] = []

    def start(
        name: str, module: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Contender:
        started.append(Contender(name, f"benchmarks._loops.{module}", arguments, environment))
        return started[-1]

    try:
        yield start
    finally:
        for contender in started:
            contender.close()
