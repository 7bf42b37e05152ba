"""Many comparisons at once: p-values that stay honest about how many there were."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values, so that all those below a level together are wrong no more often than that.

    Args:
        p_values: in [0, 1]; None is no comparison, stays None and is not counted.

    Returns:
        In the same order, each at least as large as given and at most 1.

    Source:
        Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    known = [i for i, p in enumerate(p_values) if p is not None]
    values = np.array([p_values[i] for i in known], dtype=np.float64)
    order = np.argsort(values, kind="stable")
    raised = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(raised), 1.0) if len(values) else raised
    found: list[float | None] = [None] * len(p_values)
    for place, value in zip(order.tolist(), adjusted.tolist(), strict=True):
        found[known[place]] = value
    return found
