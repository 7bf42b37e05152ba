"""A large set trains in about the memory of a small one: pixels stay in the mapped file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from pneumolit.allocator import allocator_environment
from pneumolit.composition import register_resolvers
from pneumolit.config import CONFIG_DIR
from pneumolit.data.datamodule import ChestXrayDataModule
from pneumolit.data.dataset import load_data

REPOSITORY = Path(__file__).resolve().parents[2]
SIDE = 64
BLOCK = 1000  # films of a folder
# Class, row and place in the order take about 40 bytes of an image, for a moment while loading 200. Its pixels would
# take 4,096, objects in place of a table of records 1,000, names outside of a file 130.
LIMIT, LIMIT_OF_A_RUN = 300, 100
LIMIT_OF_SCORES = 200  # a tenth of the images is validation: its predictions, resampled by patients, take 115 to 128


def write_films(root: Path, count: int) -> None:
    """So many PNG files, all different."""

    def write_block(block: int) -> None:
        (root / f"{block:03d}").mkdir()
        coarse = np.random.default_rng(block).integers(0, 256, (BLOCK, SIDE // 8, SIDE // 8), dtype=np.uint8)
        for number, film in enumerate(coarse.repeat(8, axis=1).repeat(8, axis=2), start=block * BLOCK):
            Image.fromarray(film).save(root / path_of(number), compress_level=1)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write_block, range(count // BLOCK)))


def write_manifest(root: Path, count: int) -> Path:
    """Name the first films, two of a patient."""
    rows = [f"{path_of(n)},{('NORMAL', 'PNEUMONIA')[n % 2]},patient-{n // 2}" for n in range(count)]
    manifest = root / f"{count}.csv"
    manifest.write_text("\n".join(["path,label,patient_id", *rows]))
    return manifest


def path_of(number: int) -> str:
    return f"{number // BLOCK:03d}/film-{number:06d}.png"


@pytest.mark.slow
def test_loading_a_set_and_reading_an_epoch_of_it_keeps_no_pixels(tmp_path: Path) -> None:
    few, many = BLOCK, 4 * BLOCK
    write_films(tmp_path, many)
    peaks: dict[int, int] = {}
    for count in (few, few, many, many):  # on the way Python may import modules, and make its list of names larger
        overrides = ["data=manifest", f"data.manifest={write_manifest(tmp_path, count)}", f"data.store_size={SIDE}"]
        register_resolvers()
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            composed = OmegaConf.to_container(compose("train", overrides=overrides), resolve=True)
        cfg = cast(dict[str, Any], composed)["data"]
        load_data(cfg, tmp_path / "cache")  # builds the store
        tracemalloc.start()
        module = ChestXrayDataModule(load_data(cfg, tmp_path / "cache"), batch_size=32, seed=0)
        read = sum(len(batch["image"]) for batch in module.train_dataloader())
        peaks[count] = min(tracemalloc.get_traced_memory()[1], peaks.get(count, sys.maxsize))
        tracemalloc.stop()
        assert read >= 0.85 * count
    assert (peaks[many] - peaks[few]) / (many - few) < LIMIT


@pytest.fixture(scope="module")
def many_films(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("many")
    write_films(root, 120_000)
    yield root
    shutil.rmtree(root)


def train(films: Path, count: int, attempt: int) -> dict[str, int]:
    """Anonymous memory in bytes in the phases of a short run on the first films, started as the command would be."""
    out = films / f"{count}-{attempt}.json"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PNEUMOLIT_", "GLIBC_", "MALLOC_"))}
    command = [
        sys.executable, str(Path(__file__).with_name("measured_run.py")), str(out),
        "data=manifest", f"data.manifest={write_manifest(films, count)}", f"data.store_size={SIDE}",
        f"model.image_size={SIDE}", "backbone=logistic", "model.pretrained=false", "trainer.limit_train_batches=30",
        "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress_bar=false",
        f"cache_dir={films / 'cache'}", f"output_dir={films / 'runs'}", f"hydra.run.dir={films / 'runs' / out.stem}",
    ]  # fmt: skip
    env |= allocator_environment(env) | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=films, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peaks: dict[str, int] = json.loads(out.read_text())
    return peaks


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="anonymous memory is read from /proc")
def test_anonymous_memory_of_a_run_does_not_grow_by_pixels(many_films: Path) -> None:
    few, many = 12_000, 120_000
    limits = {"load": LIMIT, "train": LIMIT_OF_A_RUN, "score": LIMIT_OF_SCORES, "end": LIMIT_OF_SCORES}
    lowest = dict.fromkeys(limits, float("inf"))
    # Threads that meet at another moment leave up to 20 MB more between them, of the larger set or of the smaller one;
    # what grows with the images is there each time.
    for attempt in range(3):
        peaks = {count: train(many_films, count, attempt) for count in (few, many)}
        slopes = {phase: (peaks[many][phase] - peaks[few][phase]) / (many - few) for phase in limits}
        print({phase: round(slope) for phase, slope in slopes.items()}, "bytes per image;", peaks)
        lowest = {phase: min(lowest[phase], slope) for phase, slope in slopes.items()}
        if all(lowest[phase] < limit for phase, limit in limits.items()):
            return
    raise AssertionError(f"bytes per image: {lowest}, at most {limits}")
