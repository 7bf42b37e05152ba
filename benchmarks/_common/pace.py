"""The worker's end: it waits until it is told to run a round, and tells what the round took.

Pipes of its own, not standard output, which belongs to the libraries; their numbers lie in the environment, so that
they are still known after a command has re-executed itself.
"""

from __future__ import annotations

import json
import os
from typing import Any

PIPES = "BENCHMARK_PIPES"  # "READ,WRITE"


class Pace:
    """Rounds as the benchmark calls for them.

    Args:
        read: file descriptor on which orders arrive.
        write: file descriptor on which answers go.
    """

    def __init__(self, read: int, write: int) -> None:
        self._orders = os.fdopen(read, "r")
        self._answers = os.fdopen(write, "w")

    @classmethod
    def from_environment(cls) -> Pace:
        """The pipes of the benchmark that started this process."""
        if PIPES not in os.environ:
            raise SystemExit(
                "this is a part of a benchmark, which starts it itself; see python -m benchmarks.training --help"
            )
        read, write = os.environ[PIPES].split(",")
        return cls(int(read), int(write))

    def tell(self, **values: Any) -> None:
        """Say that this process is ready, or what a round took; plain values."""
        print(json.dumps(values), file=self._answers, flush=True)

    def next_round(self) -> int | None:
        """Wait for the next round; its number of steps, None at the end."""
        line = self._orders.readline()
        return int(line) if line else None
