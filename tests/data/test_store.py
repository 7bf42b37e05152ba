"""The store: decoded once, found again, never taken for whole when it is not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumolit.data import decoding, reader, store
from pneumolit.data.reader import PassingError, read_file, read_gray
from pneumolit.data.records import read_kaggle_folder
from pneumolit.data.store import ImageStore, open_store
from pneumolit.rundir import fingerprint
from tests.conftest import let_go
from tests.processor_time import times_slower

NAMES = [f"IM-{n:04d}-0001.png" for n in range(12)]
PATHS = [f"a/{name}" for name in NAMES]


class Opened:
    """A store with the steps ("hashing" alone, "decoding" with hashing) that opening it took."""

    def __init__(self, root: Path, cache_dir: Path, paths: Sequence[str] = PATHS, store_size: int = 16) -> None:
        self.steps: list[str] = []
        self.store: ImageStore = open_store(
            root, paths, cache_dir=cache_dir, store_size=store_size, progress=lambda what, *_: self.steps.append(what)
        )


@pytest.fixture
def films(tmp_path: Path, write_films: Callable[..., Path]) -> Path:
    return write_films(tmp_path / "films", {"a": NAMES})


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def expected(root: Path, side: int = 16) -> np.ndarray:
    return np.stack([read_gray(root / path, side) for path in PATHS])


def folders(cache: Path) -> list[str]:
    return sorted(p.name for p in (cache / "store").iterdir() if p.is_dir() and p.name != "by_stat")


def in_another_process(code: str, root: Path, cache: Path) -> subprocess.Popen[str]:
    """Run code in which `store` is the module and `open_it()` opens these films."""
    start = (
        "import os, sys; from pathlib import Path; from pneumolit.data import decoding, store\n"
        "root, cache, paths = Path(sys.argv[1]), Path(sys.argv[2]), [Path(p) for p in sys.argv[3:]]\n"
        "def open_it(): return store.open_store(root, paths, cache_dir=cache, store_size=16)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start + code, str(root), str(cache), *map(str, PATHS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


# What is in it


def test_every_row_is_the_film_of_its_path(films: Path, cache: Path) -> None:
    opened = Opened(films, cache)
    assert opened.store.errors == {}
    np.testing.assert_array_equal(opened.store.images, expected(films))
    backwards = Opened(films, cache, PATHS[::-1]).store
    np.testing.assert_array_equal(backwards.images, opened.store.images[::-1])
    assert backwards.hashes == opened.store.hashes[::-1]


def test_equal_files_have_equal_hashes_and_only_those(films: Path, cache: Path) -> None:
    shutil.copy(films / PATHS[3], films / PATHS[7])
    hashes = Opened(films, cache).store.hashes
    assert hashes[3] == hashes[7] and len(set(hashes)) == len(PATHS) - 1


@pytest.mark.parametrize(("sizes", "side"), [([(9, 30), (12, 11)], 11), ([(9, 30), (40, 50)], 16), ([(300, 200)], 16)])
def test_a_set_of_small_films_is_not_enlarged(
    tmp_path: Path, cache: Path, sizes: list[tuple[int, int]], side: int
) -> None:
    paths = [f"{i}.png" for i in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        Image.new("L", size, 77).save(tmp_path / path)
    images = Opened(tmp_path, cache, paths).store.images
    assert images.shape == (len(sizes), side, side) and (images == 77).all()


@pytest.mark.parametrize("place", [0, 1, 149])
def test_the_one_larger_film_decides_the_side_wherever_it_stands(tmp_path: Path, cache: Path, place: int) -> None:
    # The side is guessed from some of the headers.
    paths = [f"{i:03d}.png" for i in range(150)]
    for path in paths:
        Image.new("L", (9, 9), 50).save(tmp_path / path)
    Image.new("L", (12, 15), 99).save(tmp_path / paths[place])
    images = Opened(tmp_path, cache, paths).store.images
    assert images.shape == (150, 12, 12)
    assert [row for row, image in enumerate(images) if (image == 99).all()] == [place]
    assert (np.delete(images, place, axis=0) == 50).all()


def test_hashes_are_those_of_the_files(films: Path, cache: Path) -> None:
    (films / PATHS[6]).unlink()
    hashes = Opened(films, cache).store.hashes
    for path, value in zip(PATHS, hashes, strict=True):
        is_there = (films / path).is_file()
        assert value == (hashlib.sha256((films / path).read_bytes()).hexdigest() if is_there else "unreadable")


def test_every_file_is_read_once(films: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(path: Path) -> bytes:
        read.append(path)
        return read_file(path)

    monkeypatch.setattr(decoding, "read_file", counted)
    Opened(films, cache)
    assert sorted(read) == [films / path for path in PATHS]


def test_a_file_larger_than_any_film_is_not_read(films: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (films / PATHS[3]).write_bytes((films / PATHS[3]).read_bytes() + bytes(2_000_000))
    monkeypatch.setattr(reader, "MAX_BYTES", 1_500_000)
    assert Opened(films, cache).store.errors == {3: "2 MB, the limit is 2 MB"}


def test_images_are_mapped_and_cannot_be_changed(films: Path, cache: Path) -> None:
    images = Opened(films, cache).store.images
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_all_unreadable_files_are_told_at_once_and_their_rows_are_black(films: Path, cache: Path) -> None:
    data = (films / PATHS[1]).read_bytes()
    (films / PATHS[1]).write_bytes(data[: len(data) // 2])
    (films / PATHS[4]).write_bytes(b"")
    (films / PATHS[9]).unlink()
    store = Opened(films, cache).store
    assert list(store.errors) == [1, 4, 9]
    assert ["truncated" in store.errors[1], store.errors[4], store.errors[9]] == [
        True,
        "not a JPEG, PNG or DICOM image: the file is empty",
        "file not found",
    ]
    assert not store.images[[1, 4, 9]].any()
    assert all(image.any() for row, image in enumerate(store.images) if row not in store.errors)
    assert Opened(films, cache).store.errors == store.errors


def test_a_fingerprint_is_that_of_the_hashes_in_order_whatever_order_the_rows_have(films: Path, cache: Path) -> None:
    (films / PATHS[3]).unlink()
    hashes = Opened(films, cache).store.hashes
    rows = [7, 3, 5, 0]
    expected_of = fingerprint(sorted(hashes[row] for row in rows))
    assert hashes[3] == "unreadable"
    assert {hashes.fingerprint(np.array(order)) for order in (rows, sorted(rows))} == {expected_of}


def test_a_set_of_unreadable_files_alone_is_still_told(films: Path, cache: Path) -> None:
    for path in PATHS:
        (films / path).write_bytes(b"")
    assert len(Opened(films, cache).store.errors) == len(PATHS)


# When it is used again


def test_the_second_opening_opens_no_file(films: Path, cache: Path) -> None:
    first = Opened(films, cache)
    assert set(first.steps) == {"decoding"}
    second = Opened(films, cache)
    assert second.steps == []
    assert (second.store.key, second.store.hashes) == (first.store.key, first.store.hashes)
    np.testing.assert_array_equal(second.store.images, first.store.images)


def test_a_changed_file_makes_another_store(films: Path, cache: Path) -> None:
    before = Opened(films, cache)
    Image.new("L", (24, 24), 5).save(films / PATHS[2])
    after = Opened(films, cache)
    assert after.store.key != before.store.key and "decoding" in after.steps
    assert (after.store.images[2] == 5).all()
    assert before.store.images[2].std() > 0  # the old one stays as it was


@pytest.mark.parametrize("change", ["order", "fewer", "size"])
def test_another_order_choice_or_size_is_another_store(films: Path, cache: Path, change: str) -> None:
    keys = {Opened(films, cache).store.key}
    paths = {"order": [*PATHS[1:], PATHS[0]], "fewer": PATHS[1:], "size": PATHS}[change]
    opened = Opened(films, cache, paths, store_size=8 if change == "size" else 16)
    assert opened.store.key not in keys and "decoding" in opened.steps


def test_a_changed_file_named_by_its_whole_path_makes_another_store(films: Path, cache: Path, tmp_path: Path) -> None:
    # Joined to the root as text such a path names nothing, and the old pixels would be taken for its own.
    named = [(films / path).as_posix() for path in PATHS]
    before = Opened(tmp_path, cache, named).store
    (films / PATHS[0]).write_bytes((films / PATHS[1]).read_bytes())
    after = Opened(tmp_path, cache, named).store
    assert after.key != before.key
    np.testing.assert_array_equal(after.images[0], after.images[1])


def test_a_moved_folder_of_the_same_content_is_hashed_but_not_decoded_again(films: Path, cache: Path) -> None:
    first = Opened(films, cache)
    moved = films.rename(films.with_name("moved"))
    again = Opened(moved, cache)
    assert set(again.steps) == {"hashing"}
    assert (again.store.key, again.store.folder) == (first.store.key, first.store.folder)
    assert Opened(moved, cache).steps == []


def test_touched_files_are_hashed_but_not_decoded_again(films: Path, cache: Path) -> None:
    first = Opened(films, cache)
    os.utime(films / PATHS[0], ns=(1, 1))
    again = Opened(films, cache)
    assert set(again.steps) == {"hashing"} and again.store.key == first.store.key


def test_a_file_that_could_not_be_opened_is_tried_again_though_its_name_size_and_time_are_the_same(
    films: Path, cache: Path
) -> None:
    # As after chmod: the time of last change stays. A folder stands in for it, since root may read everything.
    (films / PATHS[5]).unlink()
    (films / PATHS[5]).mkdir()
    assert Opened(films, cache).store.errors == {5: "a folder, not a file"}
    assert "hashing" in Opened(films, cache).steps


def test_a_film_for_which_the_machine_lacked_something_is_tried_again(
    films: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poor = PATHS[3]

    def without_decoder(data: bytes, side: int) -> np.ndarray:
        if data == (films / poor).read_bytes():
            raise PassingError("no installed package reads it")
        return read_gray(data, side)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "read_gray", without_decoder)
        for _ in range(2):
            first = Opened(films, cache).store
            assert first.errors == {3: "no installed package reads it"} and not first.images[3].any()
    again = Opened(films, cache).store
    assert not again.errors and again.key != first.key
    np.testing.assert_array_equal(again.images, expected(films))


def test_a_folder_whose_name_is_no_utf8_is_opened(films: Path, cache: Path) -> None:
    odd = films.rename(films.with_name(os.fsdecode(b"caf\xe9")))
    np.testing.assert_array_equal(Opened(odd, cache).store.images, expected(odd))
    assert Opened(odd, cache).steps == []


def test_names_with_odd_characters_are_only_names(
    tmp_path: Path, cache: Path, write_films: Callable[..., Path]
) -> None:
    odd = ["a b=c,d[1].png", "quote'\".png", "日本.png", "new\nline.png"]
    root = write_films(tmp_path / "odd", {"a": odd})
    store = Opened(root, cache, [f"a/{name}" for name in odd]).store
    assert store.errors == {} and len(set(store.hashes)) == 4


def test_an_unwritable_cache_is_refused_by_its_key(films: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cache_dir=.*file cannot be written.*set cache_dir=FOLDER"):
        Opened(films, tmp_path / "file")


def test_a_full_disk_is_told_with_the_key_that_moves_the_cache(
    films: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **further: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "decode_files", full)
    with pytest.raises(ValueError, match=r"cache_dir=.* cannot be written \(No space left on device\)"):
        Opened(films, cache)


def test_a_mistake_of_the_program_in_one_thread_ends_all_of_them(
    films: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def broken(data: bytes, side: int) -> np.ndarray:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a mistake")
        time.sleep(0.002)  # so that the others are not all decoded before anybody could have been told
        return read_gray(data, side)

    monkeypatch.setattr(decoding, "read_gray", broken)
    with pytest.raises(RuntimeError, match="a mistake"):
        Opened(films, cache, PATHS * 50)
    assert len(calls) < len(PATHS) * 50 / 2


def test_reading_in_threads_leaves_the_warning_filters_of_the_process(films: Path, cache: Path) -> None:
    before = list(warnings.filters)
    for size in range(8, 16):
        Opened(films, cache, PATHS * 8, store_size=size)
    assert list(warnings.filters) == before


# Crashes and company


@pytest.mark.parametrize(
    "moment",
    [
        "hits = []\ndef die(*a): hits.append(1); len(hits) > 5 and os._exit(9); return real(*a)\n"
        "real, decoding.read_gray = decoding.read_gray, die",  # half of the films are decoded
        "store._write_whole = lambda *a: os._exit(9)",  # all are, the index is not there
        "store._content_key = lambda *a: os._exit(9)",  # the index is there, the folder has not its name yet
    ],
)
def test_a_process_killed_while_building_leaves_nothing_that_is_taken_for_whole(
    films: Path, cache: Path, moment: str
) -> None:
    killed = in_another_process(moment + "\nopen_it()", films, cache)
    assert killed.wait(timeout=60) == 9
    (left,) = folders(cache)
    assert left.endswith(".building")
    opened = Opened(films, cache)
    assert "decoding" in opened.steps
    np.testing.assert_array_equal(opened.store.images, expected(films))
    assert folders(cache) == [opened.store.key]


def test_what_a_killed_process_left_of_other_films_is_removed(
    films: Path, cache: Path, tmp_path: Path, write_films: Callable[..., Path]
) -> None:
    other = write_films(tmp_path / "other", {"b": NAMES})
    assert in_another_process("store._write_whole = lambda *a: os._exit(9)\nopen_it()", films, cache).wait(60) == 9
    store = open_store(other, [f"b/{name}" for name in NAMES], cache_dir=cache, store_size=16)
    assert folders(cache) == [store.key]


def test_a_folder_in_which_another_process_is_building_is_left_alone(
    films: Path, cache: Path, tmp_path: Path, write_films: Callable[..., Path]
) -> None:
    code = (
        "real = store._write_whole\n"
        "def waiting(*a): print('building', flush=True); sys.stdin.readline(); return real(*a)\n"
        "store._write_whole = waiting; open_it()"
    )
    with in_another_process(code, films, cache) as busy:
        assert busy.stdout is not None and busy.stdout.readline() == "building\n"
        other = write_films(tmp_path / "other", {"b": NAMES})
        open_store(other, [f"b/{name}" for name in NAMES], cache_dir=cache, store_size=16)
        busy.communicate("\n" * 3, timeout=60)
    assert busy.returncode == 0
    assert Opened(films, cache).steps == []


@pytest.mark.parametrize("name", ["images.npy", "hashes.npy", "index.json"])
@pytest.mark.parametrize("harm", ["removed", "emptied", "cut"])
def test_a_store_that_lost_a_file_is_built_anew(films: Path, cache: Path, name: str, harm: str) -> None:
    path = Opened(films, cache).store.folder / name
    data = path.read_bytes()
    path.unlink()
    if harm != "removed":
        path.write_bytes(b"" if harm == "emptied" else data[: len(data) // 2])
    opened = Opened(films, cache)
    np.testing.assert_array_equal(opened.store.images, expected(films))
    assert Opened(films, cache).steps == []


def test_the_same_films_in_two_folders_built_at_once_end_as_one_store(films: Path, cache: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(films, tmp_path / "copy"))
    code = (  # slow between seeing that there is no store and giving it its name
        "import time; real = Path.rename\n"
        "def slowly(*a): time.sleep(0.7); return real(*a)\n"
        "Path.rename = slowly; print('ready', flush=True); sys.stdin.readline(); print(open_it().key)"
    )
    processes = [in_another_process(code, root, cache) for root in (films, copy)]
    let_go(processes)
    keys = {process.communicate(timeout=60)[0] for process in processes}
    assert [key + "\n" for key in folders(cache)] == list(keys)
    assert Opened(films, cache).steps == Opened(copy, cache).steps == []


def test_two_processes_at_once_read_once_and_end_with_one_whole_store(films: Path, cache: Path) -> None:
    code = (
        "import json; calls, real = [], decoding.read_file\n"
        "def counted(*a): calls.append(1); return real(*a)\n"
        "decoding.read_file = counted; print('ready', flush=True); sys.stdin.readline(); opened = open_it()\n"
        "print(json.dumps([len(calls), opened.key, opened.images.tolist()]))"
    )
    processes = [in_another_process(code, films, cache) for _ in range(2)]
    let_go(processes)
    results = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert sorted(calls for calls, _, _ in results) == [0, len(PATHS)]
    for _, key, images in results:
        assert folders(cache) == [key]
        np.testing.assert_array_equal(images, expected(films))


# The real set


def test_opening_the_store_of_the_real_set_is_fast(shared: Path, cache_dir: Path) -> None:
    root = shared / "data" / "chest_xray"
    paths = read_kaggle_folder(root).texts("path")
    first = open_store(root, paths, cache_dir=cache_dir)
    start = time.process_time()
    again = open_store(root, paths, cache_dir=cache_dir)
    assert time.process_time() - start < 0.5 * times_slower()
    assert again.key == first.key and first.errors == {} and first.images.shape == (5856, 224, 224)
    assert len(first.hashes) - len(set(first.hashes)) == 32
