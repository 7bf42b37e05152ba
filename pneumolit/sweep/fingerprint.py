"""A job's name: the hash of all that its result follows from, whatever the machine, the folder and the logging."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pneumolit.config import job_hash
from pneumolit.data.dataset import content_fingerprint
from pneumolit.data.store import Progress
from pneumolit.rundir import fingerprint

# All of the group `data` that the content depends on; how it is divided and read are settings like any other.
_CONTENT = ("source", "root", "manifest", "demo_seed", "target", "positive", "patient_key", "store_size")


class Fingerprints:
    """Names the jobs of a sweep; each data set is looked at once.

    Args:
        cache_dir: folder of decoded images.
        progress: told while images are decoded for the first time.
    """

    def __init__(self, cache_dir: Path, progress: Progress | None = None) -> None:
        self.cache_dir, self.progress = cache_dir, progress
        self._known: dict[str, str] = {}

    def of(self, cfg: Mapping[str, Any]) -> str:
        """16 hexadecimal digits from a complete, checked `train` configuration.

        Raises:
            FileNotFoundError, ValueError: the data cannot be read.
        """
        data = cfg["data"]
        key = repr([data[name] for name in _CONTENT])
        if key not in self._known:
            self._known[key] = content_fingerprint(data, self.cache_dir, self.progress)
        return fingerprint([job_hash(cfg), self._known[key]])
