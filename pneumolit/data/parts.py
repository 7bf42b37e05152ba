"""Which part of every batch a process takes, where several train one model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One of `count` processes that train one model; without arguments the only one.

    Attributes:
        index: from 0, below `count`; the first one writes.
        count: of the processes.
    """

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes, prints and scores."""
        return self.index == 0

    def bounds(self, size: int) -> tuple[int, int]:
        """(begin, end) of this process's rows among those of a batch.

        >>> [Part(index, 2).bounds(6) for index in (0, 1)]
        [(0, 3), (3, 6)]
        """
        assert size % self.count == 0, "refused where the batch is configured"
        own = size // self.count
        return self.index * own, (self.index + 1) * own


WHOLE = Part()
