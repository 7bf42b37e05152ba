"""Decode once: found again without opening a file, never half-written, every fault named."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumolit.data import store as store_module
from pneumolit.data.reader import read_gray
from pneumolit.data.store import open_store
from tests.data.conftest import WriteImages

NAMES = [f"{i}.png" for i in range(6)]


def paths() -> list[Path]:
    return [Path(name) for name in NAMES]


@pytest.fixture
def never_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("an image was decoded although a store of it exists")

    monkeypatch.setattr(store_module, "read_gray", refuse)


def test_rows_are_the_images_in_the_order_of_the_paths(write_images: WriteImages, tmp_path: Path) -> None:
    root = write_images(*NAMES)
    store = open_store(root, paths()[::-1], cache_dir=tmp_path / "cache")
    assert not store.images.flags.writeable
    for row, path in enumerate(paths()[::-1]):
        assert np.array_equal(store.images[row], read_gray(root / path))


def test_a_second_opening_decodes_nothing(
    write_images: WriteImages, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root = write_images(*NAMES)
    first = open_store(root, paths(), cache_dir=tmp_path / "cache")
    request.getfixturevalue("never_decode")
    assert open_store(root, paths(), cache_dir=tmp_path / "cache").key == first.key


def test_a_moved_folder_of_the_same_content_uses_the_same_store(
    write_images: WriteImages, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root = write_images(*NAMES)
    first = open_store(root, paths(), cache_dir=tmp_path / "cache")
    moved = Path(shutil.copytree(root, tmp_path / "moved"))
    request.getfixturevalue("never_decode")
    assert open_store(moved, paths(), cache_dir=tmp_path / "cache").key == first.key


def test_a_changed_file_gets_another_store(write_images: WriteImages, tmp_path: Path) -> None:
    root = write_images(*NAMES)
    first = open_store(root, paths(), cache_dir=tmp_path / "cache")
    Image.new("L", (20, 20), 7).save(root / NAMES[0])
    second = open_store(root, paths(), cache_dir=tmp_path / "cache")
    assert second.key != first.key and (second.images[0] == 7).all()


def test_images_are_shrunk_to_the_store_size_but_never_enlarged(write_images: WriteImages, tmp_path: Path) -> None:
    root = write_images(*NAMES, size=40)
    assert open_store(root, paths(), cache_dir=tmp_path / "cache", store_size=32).images.shape == (6, 32, 32)
    assert open_store(root, paths(), cache_dir=tmp_path / "cache", store_size=64).images.shape == (6, 40, 40)


def test_unreadable_files_are_all_reported_with_their_reasons(write_images: WriteImages, tmp_path: Path) -> None:
    root = write_images(*NAMES)
    (root / NAMES[1]).write_bytes(b"")
    (root / NAMES[4]).unlink()
    store = open_store(root, paths(), cache_dir=tmp_path / "cache")
    assert store.errors == {1: "not a JPEG or PNG image", 4: "file not found"}
    assert store.images[1].max() == 0 and store.images[0].max() > 0


_KILLED = """
import os, sys, threading
from pathlib import Path
from pneumolit.data import store as s
real, lock, count = s.read_gray, threading.Lock(), [0]
def read(path, size=None):
    with lock:
        count[0] += 1
        if count[0] == 4:
            os._exit(9)
    return real(path, size)
s.read_gray = read
s.open_store(Path(sys.argv[1]), [Path(f"{i}.png") for i in range(6)], cache_dir=Path(sys.argv[2]))
"""


def test_a_kill_half_way_leaves_nothing_that_is_taken_for_whole(write_images: WriteImages, tmp_path: Path) -> None:
    root, cache = write_images(*NAMES), tmp_path / "cache"
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(root), str(cache)], check=False)
    assert killed.returncode == 9
    assert list((cache / "store").glob("*.building"))
    store = open_store(root, paths(), cache_dir=cache)
    assert all(np.array_equal(store.images[i], read_gray(root / p)) for i, p in enumerate(paths()))
    assert not list((cache / "store").glob("*.building"))


_TWO = """
import sys
from pathlib import Path
from pneumolit.data.store import open_store
store = open_store(Path(sys.argv[1]), [Path(f"{i}.png") for i in range(6)], cache_dir=Path(sys.argv[2]))
print(store.key, int(store.images.sum()))
"""


def test_two_processes_at_once_end_with_one_whole_store(write_images: WriteImages, tmp_path: Path) -> None:
    root, cache = write_images(*NAMES), tmp_path / "cache"
    command = [sys.executable, "-c", _TWO, str(root), str(cache)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0] and len(said) == 1
    assert len([p for p in (cache / "store").iterdir() if (p / "index.json").is_file()]) == 1


def test_a_cache_that_cannot_be_written_is_named(write_images: WriteImages, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"cache_dir=.*file.*PNEUMOLIT_CACHE"):
        open_store(write_images(*NAMES), paths(), cache_dir=tmp_path / "file")


def test_names_with_odd_characters_are_only_names(write_images: WriteImages, tmp_path: Path) -> None:
    odd = ["a b=c,d[1].png", "quote'\".png", "日本.png", "new\nline.png"]
    root = write_images(*odd)
    store = open_store(root, [Path(n) for n in odd], cache_dir=tmp_path / "cache")
    assert store.errors == {} and len(set(store.hashes)) == 4


def test_opening_the_store_of_the_real_set_is_fast(shared: Path, tmp_path: Path) -> None:
    root = shared / "data" / "chest_xray"
    films = sorted(p.relative_to(root) for p in root.rglob("*.jpeg"))
    first = open_store(root, films, cache_dir=tmp_path)
    start = time.process_time()
    again = open_store(root, films, cache_dir=tmp_path)
    assert time.process_time() - start < 0.5
    assert again.key == first.key and first.errors == {} and first.images.shape == (5856, 224, 224)
    assert len(first.hashes) - len(set(first.hashes)) == 32
    assert (first.folder / "images.npy").stat().st_size > first.images.size
