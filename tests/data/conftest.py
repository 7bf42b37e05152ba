"""Small image files for the data tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WriteImages = Callable[..., Path]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real films; tests that need it are skipped where it is not."""
    folder = Path(os.environ.get("PNEUMOLIT_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    if not (folder / "data" / "chest_xray").is_dir():
        pytest.skip(f"no real films: {folder}/data/chest_xray is absent (set PNEUMOLIT_SHARED)")
    return folder


@pytest.fixture
def write_images(tmp_path: Path) -> WriteImages:
    """`write_images("train/NORMAL/IM-0001-0001.jpeg", ..., size=20)`: distinct noise images; returns their root."""
    root = tmp_path / "set"

    def write(*names: str, size: int = 20) -> Path:
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(list(name.encode()))
            Image.fromarray(rng.integers(0, 256, (size, size), dtype=np.uint8)).save(path)
        return root

    return write
