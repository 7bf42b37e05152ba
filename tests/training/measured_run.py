"""A training command that notes its anonymous memory: python measured_run.py FILE.json [key=value ...]."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from benchmarks._loops.with_callback import train_with

_INTERVAL = 0.005  # seconds


def anonymous_bytes() -> int:
    """Memory of this process that no file stands behind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


class PhasePeaks(threading.Thread):
    """Most memory in use while data are loaded, while the net is trained and validated, and after that."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.phase = "load"
        self.peaks = {"load": 0, "train": 0, "score": 0}
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.wait(_INTERVAL):
            phase, found = self.phase, anonymous_bytes()
            self.peaks[phase] = max(self.peaks[phase], found)


def main() -> None:
    out = Path(sys.argv.pop(1))
    watch = PhasePeaks()

    def make_callback() -> Any:
        from pytorch_lightning import Callback

        class Phases(Callback):
            def on_train_start(self, *arguments: Any) -> None:
                watch.phase = "train"

            def on_train_end(self, *arguments: Any) -> None:
                watch.phase = "score"

        return Phases()

    watch.start()
    train_with(make_callback)
    watch.is_over.set()
    watch.join()
    out.write_text(json.dumps(watch.peaks | {"end": anonymous_bytes()}))


if __name__ == "__main__":
    main()
