"""pneumolit's data set with its store in place: a round scans, opens and divides it, as every command does."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benchmarks._common.arguments import read_arguments
from benchmarks._common.pace import Pace
from pneumolit.composition import register_resolvers
from pneumolit.config import CONFIG_DIR
from pneumolit.data.dataset import load_data, read_records
from pneumolit.data.store import open_store


@dataclass(frozen=True)
class Opening:
    """Keys of this worker."""

    cache_dir: Path
    data_root: Path = field(metadata={"key": "data.root"})


def main() -> None:
    asked = read_arguments(Opening, sys.argv[1:])
    register_resolvers()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        composed = OmegaConf.to_container(compose("train", overrides=[f"data.root='{asked.data_root}'"]), resolve=True)
    cfg = cast(dict[str, Any], composed)["data"]
    data = load_data(cfg, asked.cache_dir)  # builds the store
    pace = Pace.from_environment()
    pace.tell(images=len(data.records))
    while pace.next_round() is not None:
        start = time.perf_counter()
        data = load_data(cfg, asked.cache_dir)
        seconds = time.perf_counter() - start
        root, records = read_records(cfg, asked.cache_dir)
        paths = records.texts("path")
        start = time.perf_counter()
        open_store(root, paths, cache_dir=asked.cache_dir, store_size=cfg["store_size"])
        pace.tell(seconds=seconds, store_seconds=time.perf_counter() - start, images=len(data.records))


if __name__ == "__main__":
    main()
