"""Budgets of processor time that hold on a slow machine too: what else a busy machine does is not counted."""

from __future__ import annotations

import resource
import subprocess
import sys

_IMPORT_SECONDS = 0.2  # `import hydra` on the machine whose seconds the budgets are


def children_seconds() -> float:
    """Processor time of the processes that this one has started and waited for, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def times_slower() -> float:
    """Seconds that this machine takes now for one of the budgets' machine; at least 1."""
    before = children_seconds()
    subprocess.run([sys.executable, "-c", "import hydra"], capture_output=True, check=True)
    return max(1.0, (children_seconds() - before) / _IMPORT_SECONDS)
