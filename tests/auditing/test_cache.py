"""The cache folder: what it holds is told, what was not used goes, what is in use stays."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from rich.console import Console

from pneumolit.auditing.cache import audit_cache, prune_cache, read_prune
from pneumolit.auditing.cache_entries import list_cache
from pneumolit.data.store import ImageStore, open_store

NAMES = {"a": ["1.png", "2.png"], "b": ["3.png"]}
PATHS = ["a/1.png", "a/2.png", "b/3.png"]


@pytest.fixture
def cache(write_films: Callable[..., Path], tmp_path: Path) -> Path:
    """A cache with a store, features and phantoms that were last used 40 days ago."""
    base = tmp_path / "cache"
    opened(base, write_films(tmp_path / "set", NAMES))
    features = base / "features" / "f00"
    features.mkdir(parents=True)
    np.save(features / "features.npy", np.zeros((5, 7), dtype=np.float32))
    (features / "index.json").write_text('{"architecture": "resnet18"}')
    demo = base / "demo" / "v1-seed0"
    demo.mkdir(parents=True)
    (demo / ".pneumolit_demo.json").write_text("{}")
    old = time.time() - 40 * 86400
    for path in base.rglob("*"):
        os.utime(path, (old, old))
    return base


def opened(base: Path, root: Path) -> ImageStore:
    return open_store(root, PATHS, cache_dir=base)


def kinds(base: Path) -> list[str]:
    return sorted(entry.kind for entry in list_cache(base))


def test_everything_is_listed_with_size_age_and_content(cache: Path) -> None:
    found = {entry.kind: entry for entry in list_cache(cache)}
    assert found["store"].what == "3 images of 24 x 24 pixels"
    assert found["features"].what == "features of 5 images by resnet18"
    assert found["demo"].what == "phantoms"
    assert found["features"].num_bytes == sum(p.stat().st_size for p in (cache / "features/f00").iterdir())
    assert all(39.9 < (time.time() - entry.last_used) / 86400 < 40.1 for entry in found.values())
    assert not any(entry.is_in_use for entry in found.values())
    again = {entry.kind: entry for entry in list_cache(cache)}
    assert again == found  # to look is not to use


def test_only_what_was_not_used_for_so_long_goes(cache: Path) -> None:
    os.utime(cache / "features/f00/features.npy")
    assert prune_cache(cache, list_cache(cache), older_than_days=41) == []
    removed = prune_cache(cache, list_cache(cache), older_than_days=30)
    assert sorted(folder.parent.name for folder in removed) == ["demo", "store"]
    assert kinds(cache) == ["features"]


def test_a_store_that_was_removed_is_built_anew(cache: Path, tmp_path: Path) -> None:
    prune_cache(cache, list_cache(cache), older_than_days=0)
    assert kinds(cache) == []
    assert not [p for p in (cache / "store/by_stat").iterdir() if p.suffix in (".txt", ".sizes")]
    assert opened(cache, tmp_path / "set").images.shape == (3, 24, 24)


@pytest.mark.parametrize("kind", ["features", "store"])
def test_what_another_process_has_locked_stays(cache: Path, kind: str) -> None:
    folder = next(entry.folder for entry in list_cache(cache) if entry.kind == kind)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        entries = list_cache(cache)
        assert [entry.kind for entry in entries if entry.is_in_use] == [kind]
        assert folder not in prune_cache(cache, entries, older_than_days=0)
    assert kinds(cache) == [kind]


def test_a_lock_taken_after_the_listing_is_respected_too(cache: Path) -> None:
    entries = [entry for entry in list_cache(cache) if entry.kind == "features"]
    with FileLock(cache / "features/f00.lock"):
        assert prune_cache(cache, entries, older_than_days=0) == []


def test_a_store_that_is_being_built_stays(cache: Path) -> None:
    folder = cache / "store" / "abc.building"
    folder.mkdir()
    with FileLock(cache / "store/by_stat/abc.lock"):
        entries = [entry for entry in list_cache(cache) if entry.folder == folder]
        assert [entry.is_in_use for entry in entries] == [True]
        assert prune_cache(cache, entries, older_than_days=0) == []
    assert prune_cache(cache, list_cache(cache), older_than_days=0) and not folder.exists()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells which files a process has mapped")
def test_a_store_that_another_process_reads_stays(cache: Path) -> None:
    images = next(cache.glob("store/*/images.npy"))
    code = f"import numpy; a = numpy.load({str(images)!r}, mmap_mode='r'); print(len(a), flush=True); input()"
    reader = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None and reader.stdin is not None
    with reader, reader.stdin:
        assert reader.stdout.readline() == "3\n"
        entries = list_cache(cache)
        prune_cache(cache, entries, older_than_days=0)
    assert [entry.kind for entry in entries if entry.is_in_use] == kinds(cache) == ["store"]


def test_a_link_in_the_cache_is_left_alone(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.txt").write_text("mine")
    (cache / "store" / "linked").symlink_to(tmp_path / "elsewhere")
    prune_cache(cache, list_cache(cache), older_than_days=0)
    assert (tmp_path / "elsewhere" / "mine.txt").read_text() == "mine"


def test_the_table_says_what_was_removed(cache: Path) -> None:
    out = io.StringIO()
    audit_cache(str(cache), 30, Console(file=out, width=200))
    assert out.getvalue().count("removed") == 4  # three folders and the sum
    out = io.StringIO()
    audit_cache(str(cache), None, Console(file=out, width=200))
    assert f"cache_dir={cache} holds nothing." in out.getvalue()


@pytest.mark.parametrize("value", ["old", 0, -1, True, float("inf")])
def test_a_number_of_days_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="prune must be a number of days above 0, or all, got"):
        read_prune(value)
    assert (read_prune(None), read_prune("all"), read_prune(7)) == (None, 0.0, 7.0)
