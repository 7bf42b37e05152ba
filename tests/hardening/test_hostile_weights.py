"""Files of weights, checkpoints and caches that try to run code are refused in one line, and nothing runs."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import TINY

Command = Callable[..., Any]


class Touch:
    """When unpickled, makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def _pickle(path: Path, evil: Touch) -> None:
    path.write_bytes(pickle.dumps(evil, protocol=2))


def _torch(path: Path, evil: Touch) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}, "more": evil}, path)


def _legacy(path: Path, evil: Touch) -> None:
    torch.save({"conv1.weight": torch.zeros(1), "more": evil}, path, _use_new_zipfile_serialization=False)


def _zip(path: Path, evil: Touch) -> None:
    """torch's layout, put together by hand."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({"x": [evil]}, protocol=2))
        file.writestr("archive/version", "3\n")


def _script(path: Path, evil: Touch) -> None:
    """A TorchScript archive brings code of its own."""
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)


WRITERS = [_pickle, _torch, _legacy, _zip, _script]


@pytest.fixture
def evil(tmp_path: Path) -> Touch:
    return Touch(tmp_path / "it ran")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_weights_that_would_run_code_are_refused(
    write: Callable[[Path, Touch], None], suffix: str, evil: Touch, command: Command, demo_root: Path, tmp_path: Path
) -> None:
    file = tmp_path / f"weights{suffix}"
    write(file, evil)
    settings = [setting for setting in TINY if not setting.startswith("model.pretrained")]
    outcome = command("train", f"data.root={demo_root}", *settings, f"model.weights={file}")
    assert not evil.marker.exists()
    assert outcome.code == 2 and outcome.err.startswith(f"pneumolit: {file} is not a weights file"), outcome.err
    assert outcome.err.count("\n") == 1 and "weights_only" not in outcome.err


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("write", [_pickle, _torch, _legacy])
@pytest.mark.parametrize(
    ("name", "further"),
    [("evaluate", ["split=test", "rescore=true"]), ("predict", ["input={films}"]), ("export", [])],
)
def test_checkpoint_that_would_run_code_is_refused_by_every_command_that_scores(
    write: Callable[[Path, Touch], None], name: str, further: list[str], evil: Touch, command: Command,
    copied_run: Path, demo_root: Path,
) -> None:  # fmt: skip
    for which in ("last", "best"):
        write(copied_run / "checkpoints" / f"{which}.ckpt", evil)
    outcome = command(name, f"run_dir={copied_run}", *(f.format(films=demo_root / "test") for f in further))
    assert not evil.marker.exists()
    assert outcome.code == 2 and outcome.err.startswith(
        f"pneumolit: {copied_run}/checkpoints/last.ckpt is no checkpoint"
    )
    assert outcome.err.count("\n") == 1 and "weights_only" not in outcome.err


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_run_that_is_gone_on_with_does_not_run_what_its_checkpoint_holds(
    evil: Touch, command: Command, copied_run: Path
) -> None:
    status = copied_run / "status.json"
    status.write_text(status.read_text().replace('"done"', '"interrupted"'))
    for which in ("last", "best"):
        _torch(copied_run / "checkpoints" / f"{which}.ckpt", evil)
    outcome = command("train", f"run_dir={copied_run}")
    assert not evil.marker.exists() and "Traceback" not in outcome.err


@pytest.mark.parametrize("name", ["images.npy", "hashes.npy"])
def test_stored_images_are_never_unpickled(
    name: str, evil: Touch, command: Command, demo_root: Path, small_run: Path, tmp_path: Path, cache_dir: Path
) -> None:
    cache = Path(shutil.copytree(cache_dir, tmp_path / "own cache"))
    arrays = list(cache.rglob(name))
    assert arrays
    for array in arrays:
        content = io.BytesIO()
        np.save(content, np.array([evil], dtype=object), allow_pickle=True)
        array.unlink()
        array.write_bytes(content.getvalue())
    run = shutil.copytree(small_run, tmp_path / "out" / "train" / "run")
    outcome = command("evaluate", f"run_dir={run}", "split=test", "rescore=true", f"cache_dir={cache}")
    assert not evil.marker.exists() and outcome.code == 0, outcome.err


def test_stored_features_are_never_unpickled(
    evil: Touch, command: Command, demo_root: Path, tmp_path: Path, cache_dir: Path
) -> None:
    cache = Path(shutil.copytree(cache_dir, tmp_path / "own cache"))
    arguments = [
        f"data.root={demo_root}", *TINY, "freeze=head", "augment=none", "trainer.cache_features=true",
        f"cache_dir={cache}",
    ]  # fmt: skip
    assert command("train", *arguments).code == 0
    stored = list((cache / "features").rglob("*.npy"))
    assert stored
    for file in stored:
        np.save(file, np.array([evil], dtype=object), allow_pickle=True)
    assert command("train", *arguments).code == 0
    assert not evil.marker.exists()
