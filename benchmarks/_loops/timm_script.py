"""timm's own training script, one process per round; its log says how long every step took."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._common.contender import clean_environment
from benchmarks._common.films import training_folder
from benchmarks._common.task import WORKERS

_LINE = re.compile(r"Train: \d+ \[ *(?P<step>\d+)/.*?Time: (?P<seconds>[\d.]+)s")
UNTIMED = 2  # first steps, which build what is built once


def read_step_seconds(log: str) -> list[float]:
    """Seconds of every step that a log of the script tells of, in order.

    >>> read_step_seconds("Train: 0 [   1/4 ( 33%)]  Loss: 0.7 (0.7)  Time: 0.512s,   62.50/s  (0.6s, 53/s)")
    [0.512]
    """
    return [float(match["seconds"]) for match in _LINE.finditer(log)]


def link_films(root: Path, target: Path, count: int) -> None:
    """Class folders with links to this many training films, from all classes by turns."""
    classes = sorted(p for p in training_folder(root).iterdir() if p.is_dir())
    films = [sorted(p for p in folder.iterdir() if p.is_file()) for folder in classes]
    for number in range(count):
        source = films[number % len(films)]
        path = source[number // len(films) % len(source)]
        for split in ("train", "val"):
            folder = target / split / path.parent.name
            folder.mkdir(parents=True, exist_ok=True)
            if split == "train" or number < 2 * len(films):
                (folder / f"{number}{path.suffix}").symlink_to(path)


def run_script(
    script: Path, root: Path, *, backbone: str, device: str, batch_size: int, image_size: int, steps: int
) -> dict[str, Any]:
    """Train one epoch of some steps with the script.

    Raises:
        SystemExit: the script failed or its log is another one; the message holds its end.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        link_films(root, data, (steps + UNTIMED) * batch_size)
        command = [
            sys.executable, str(script), str(data), "--train-split", "train", "--val-split", "val",
            "--model", backbone, "--num-classes", str(len(list((data / "train").iterdir()))),
            "--img-size", str(image_size), "--batch-size", str(batch_size), "--opt", "adamw", "--epochs", "1",
            "--sched", "none", "--warmup-epochs", "0", "--cooldown-epochs", "0",
            "--workers", str(WORKERS), "--device", device, "--amp", "--amp-dtype", "bfloat16", "--channels-last",
            "--log-interval", "1", "--output", str(Path(folder) / "out"),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
    log = done.stdout + done.stderr
    seconds = read_step_seconds(log)[UNTIMED:]
    if done.returncode or not seconds:
        raise SystemExit(f"benchmark: timm_script={script} ended with code {done.returncode}:\n{log[-3000:]}")
    return {"seconds": sum(seconds), "images": len(seconds) * batch_size}
