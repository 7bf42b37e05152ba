"""PneumoniaMNIST: the published file becomes folders, and anything else a sentence."""

from __future__ import annotations

import builtins
import io
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pneumolit.data import pneumoniamnist
from pneumolit.data.pneumoniamnist import COUNTS, SIZES, choose_size, fetch, file_name, make_pneumoniamnist

CLOSED = "http://127.0.0.1:9"  # nobody answers at the port for what is thrown away


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of the published shape: gray fields, brighter for pneumonia."""
    folder = tmp_path_factory.mktemp("published")
    np.savez(folder / file_name(28), **arrays())  # type: ignore[arg-type]
    return folder


def arrays() -> dict[str, np.ndarray]:
    rng, made = np.random.default_rng(0), {}
    for split, counts in COUNTS.items():
        labels = np.repeat([0, 1], counts).astype(np.uint8)[:, None]
        noise = rng.integers(0, 100, (len(labels), 28, 28))
        made[f"{split}_images"] = (noise + 100 * labels[:, :, None]).astype(np.uint8)
        made[f"{split}_labels"] = labels
    return made


def test_counts_and_sizes_are_those_that_medmnist_publishes() -> None:
    info: Mapping[str, Any] = pytest.importorskip("medmnist").INFO["pneumoniamnist"]
    assert {split: sum(counts) for split, counts in COUNTS.items()} == info["n_samples"]
    assert info["label"] == {"0": "normal", "1": "pneumonia"}
    assert all("url" + ("" if size == 28 else f"_{size}") in info for size in SIZES)


def test_the_size_follows_the_side_of_stored_films_and_is_never_larger() -> None:
    assert [choose_size(side) for side in (16, 28, 100, 128, 256)] == [28, 28, 64, 128, 224]
    assert file_name(28) == "pneumoniamnist.npz" and file_name(224) == "pneumoniamnist_224.npz"


def test_every_image_becomes_a_file_of_its_class_and_split_once(published: Path, tmp_path: Path) -> None:
    folder = make_pneumoniamnist(published, tmp_path, store_size=28)
    for split, counts in COUNTS.items():
        found = tuple(len(list((folder / split / name).iterdir())) for name in ("NORMAL", "PNEUMONIA"))
        assert found == counts
    with Image.open(folder / "test" / "PNEUMONIA" / "00234.png") as image:
        np.testing.assert_array_equal(np.asarray(image), arrays()["test_images"][234])
    before = (folder / "test" / "PNEUMONIA" / "00234.png").stat().st_mtime_ns
    assert make_pneumoniamnist(published, tmp_path, store_size=28) == folder
    assert (folder / "test" / "PNEUMONIA" / "00234.png").stat().st_mtime_ns == before


def test_a_file_that_was_fetched_is_needed_once(published: Path, tmp_path: Path) -> None:
    fetched = tmp_path / "pneumoniamnist" / "published" / file_name(28)
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes((published / file_name(28)).read_bytes())
    folder = make_pneumoniamnist(None, tmp_path, store_size=28)
    fetched.unlink()
    assert make_pneumoniamnist(None, tmp_path, store_size=28) == folder  # needs neither file nor network any more


def test_the_file_that_is_given_is_the_one_that_is_used(published: Path, tmp_path: Path) -> None:
    first = make_pneumoniamnist(published, tmp_path, store_size=28)
    other = tmp_path / "other"
    other.mkdir()
    brighter = {name: values + 1 if name.endswith("images") else values for name, values in arrays().items()}
    np.savez(other / file_name(28), **brighter)  # type: ignore[arg-type]
    second = make_pneumoniamnist(other, tmp_path, store_size=28)
    grays = [np.asarray(Image.open(folder / "test/NORMAL/00000.png"), dtype=int) for folder in (first, second)]
    np.testing.assert_array_equal(grays[1], grays[0] + 1)
    with pytest.raises(FileNotFoundError, match=r"has no pneumoniamnist\.npz"):
        make_pneumoniamnist(tmp_path / "gone", tmp_path, store_size=28)


def test_a_folder_that_a_cleaner_of_caches_took_files_from_is_made_anew(published: Path, tmp_path: Path) -> None:
    folder = make_pneumoniamnist(published, tmp_path, store_size=28)
    (folder / pneumoniamnist.MARKER).unlink()
    (folder / "test/NORMAL/00000.png").unlink()
    assert make_pneumoniamnist(published, tmp_path, store_size=28) == folder
    assert (folder / "test/NORMAL/00000.png").is_file() and (folder / pneumoniamnist.MARKER).is_file()


def test_a_run_trains_on_it_with_the_published_validation(
    published: Path, compose_config: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    from pneumolit.data.dataset import load_data

    cfg = compose_config("data=pneumoniamnist", f"data.root={published}", "data.store_size=28")
    data = load_data(cfg["data"], tmp_path)
    sides = {split: len(data.rows(split)) for split in ("train", "val", "test")}
    assert sides["test"] == 624 and sides["val"] + sides["train"] == 4708 + 524
    assert sides["val"] == 524 and data.labels.classes == ("NORMAL", "PNEUMONIA")
    assert data.labels.positive == ("PNEUMONIA",)


def test_the_first_look_at_it_writes_into_the_cache_and_not_where_the_user_stands(
    published: Path, compose_config: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pneumolit.train import _look_at_the_data

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    cfg = compose_config("data=pneumoniamnist", f"data.root={published}", "data.store_size=28")
    _look_at_the_data(cfg["data"], None, tmp_path / "cache")
    assert not list((tmp_path / "here").iterdir()) and (tmp_path / "cache" / "pneumoniamnist").is_dir()


def test_without_a_network_it_says_what_to_do_within_seconds(tmp_path: Path) -> None:
    pytest.importorskip("medmnist")
    with pytest.raises(ValueError, match="does not answer, so there is no network; fetch pneumoniamnist_64"):
        fetch(tmp_path, 64, server=CLOSED, seconds=2.0)
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_it_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("medmnist"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"pip install 'pneumolit\[medmnist\]'"):
        make_pneumoniamnist(None, tmp_path, store_size=64)


def test_another_size_than_the_one_at_hand_is_named(published: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no pneumoniamnist_224\.npz .* found pneumoniamnist\.npz"):
        make_pneumoniamnist(published, tmp_path, store_size=256)


@pytest.mark.parametrize("damage", ["cut", "counts", "pickle"])
def test_a_file_that_is_not_the_published_one_is_refused_and_leaves_nothing(tmp_path: Path, damage: str) -> None:
    made: dict[str, Any] = arrays()
    if damage == "counts":
        made["test_labels"] = 1 - made["test_labels"]
    if damage == "pickle":
        made["test_labels"] = np.array([object()] * 624, dtype=object)
    np.savez(tmp_path / "pneumoniamnist.npz", **made)
    if damage == "cut":
        path = tmp_path / "pneumoniamnist.npz"
        path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"pneumoniamnist\.npz is not what MedMNIST publishes"):
        make_pneumoniamnist(tmp_path, tmp_path / "cache", store_size=28)
    assert not list((tmp_path / "cache").rglob("*.png"))


def test_arrays_that_would_fill_the_memory_are_refused_by_their_header(tmp_path: Path) -> None:
    header, block = io.BytesIO(), bytes(1 << 20)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2 << 30,)})
    with (
        zipfile.ZipFile(tmp_path / "pneumoniamnist.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("train_images.npy", "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        for _ in range(400):
            member.write(block)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"train_images claims to be \(2147483648,\)"):
            make_pneumoniamnist(tmp_path, tmp_path / "cache", store_size=28)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_a_kill_between_leaves_no_folder_that_counts_as_whole(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = pneumoniamnist._write_split

    def killed(folder: Path, *args: Any) -> None:
        if folder.name == "test":
            raise KeyboardInterrupt
        original(folder, *args)

    monkeypatch.setattr(pneumoniamnist, "_write_split", killed)
    with pytest.raises(KeyboardInterrupt):
        make_pneumoniamnist(published, tmp_path, store_size=28)
    assert not (tmp_path / "pneumoniamnist" / "28").exists()
    monkeypatch.undo()
    assert make_pneumoniamnist(published, tmp_path, store_size=28).is_dir()
