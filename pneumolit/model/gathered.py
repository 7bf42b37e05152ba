"""Results of many batches in one tensor, so that what is kept does not break up the memory that each batch frees."""

from __future__ import annotations

import torch

_FEWEST = 4096  # rows of the first tensor


class Gathered:
    """Rows that come batch by batch, written one behind the other into a tensor that doubles when it is full.

    A list of the batches' own tensors costs far more than they hold: each is a small block between large ones that
    are freed, the next batch's no longer fit there, and glibc's heap grows with every batch (64 px: by 0.9 MB).
    """

    def __init__(self) -> None:
        self._rows: torch.Tensor | None = None
        self._count = 0

    def add(self, batch: torch.Tensor) -> None:
        """Put `(B, ...)` rows behind those that are there, of the same further shape, dtype and device."""
        needed = self._count + len(batch)
        if self._rows is None or needed > len(self._rows):
            larger = batch.new_empty((max(2 * needed, _FEWEST), *batch.shape[1:]))
            if self._rows is not None:
                larger[: self._count] = self._rows[: self._count]
            self._rows = larger
        self._rows[self._count : needed] = batch
        self._count = needed

    def rows(self) -> torch.Tensor:
        """All rows so far, `(N, ...)`, of at least one batch."""
        assert self._rows is not None
        return self._rows[: self._count]
