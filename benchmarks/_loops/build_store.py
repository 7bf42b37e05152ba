"""pneumolit's store: a round builds it anew from all films of a folder, in a process that keeps its peak memory."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._common.arguments import read_arguments
from benchmarks._common.pace import Pace
from benchmarks._common.restart import restart_as_commands_do
from pneumolit.data.store import open_store


@dataclass(frozen=True)
class Building:
    """Keys of this worker."""

    size: int
    data_root: Path = field(metadata={"key": "data.root"})


def main() -> None:
    asked = read_arguments(Building, sys.argv[1:])
    paths = sorted(p.relative_to(asked.data_root).as_posix() for p in asked.data_root.rglob("*.jpeg"))
    pace = Pace.from_environment()
    pace.tell(images=len(paths))
    while pace.next_round() is not None:
        with tempfile.TemporaryDirectory(dir=asked.data_root) as cache:
            start = time.perf_counter()
            open_store(asked.data_root, paths, cache_dir=Path(cache), store_size=asked.size)
            seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        pace.tell(seconds=seconds, images=len(paths), peak_mb=round(peak))


if __name__ == "__main__":
    restart_as_commands_do()
    main()
