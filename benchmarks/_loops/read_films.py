"""One reader on one thread: a round is so many films, from bytes in memory."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks._common.arguments import read_arguments
from benchmarks._common.pace import Pace
from benchmarks._loops.readers import installed_readers

_COMPARED = 40  # films by which a reader's difference to plain Pillow is told


@dataclass(frozen=True)
class Reading:
    """Keys of this worker."""

    reader: str
    size: int
    data_root: Path = field(metadata={"key": "data.root"})


def main() -> None:
    asked = read_arguments(Reading, sys.argv[1:])
    if asked.reader == "torchvision_gray":
        import torch

        torch.set_num_threads(1)
    readers = installed_readers()
    read, plain = readers[asked.reader], readers["pillow"]
    films = [path.read_bytes() for path in sorted(asked.data_root.rglob("*.jpeg"))]
    sample = films[:: max(1, len(films) // _COMPARED)]
    difference = [np.abs(read(f, asked.size).astype(float) - plain(f, asked.size)).mean() for f in sample]
    pace = Pace.from_environment()
    pace.tell(difference=float(np.mean(difference)))
    while (count := pace.next_round()) is not None:
        start = time.perf_counter()
        for number in range(count):
            read(films[number % len(films)], asked.size)
        pace.tell(seconds=time.perf_counter() - start, images=count)


if __name__ == "__main__":
    main()
