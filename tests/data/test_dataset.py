"""A data configuration becomes a divided data set: sides, copies, unreadable files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumolit.data.dataset import count_classes, find_copies, find_root, load_data
from pneumolit.data.records import ImageRecord
from tests.conftest import Compose
from tests.data.conftest import WriteImages


@pytest.fixture
def data_config(compose_config: Compose) -> Any:
    def composed(root: Path, *overrides: str) -> dict[str, Any]:
        cfg: dict[str, Any] = compose_config(f"data.root={root}", *overrides)["data"]
        return cfg

    return composed


def kaggle_names(patients: int = 12) -> list[str]:
    names = []
    for n in range(1, patients + 1):
        names += [
            f"train/NORMAL/IM-{n + 200:04d}-0001.png",
            f"train/PNEUMONIA/person{n}_bacteria_{n}.png",
            f"train/PNEUMONIA/person{n + 3}_virus_{n}.png",
        ]
    names += ["val/NORMAL/NORMAL2-IM-1427-0001.png", "val/PNEUMONIA/person1946_bacteria_99.png"]
    return [*names, "test/NORMAL/IM-0001-0001.png", "test/PNEUMONIA/person78_bacteria_3.png"]


def test_the_official_validation_images_join_the_pool_that_is_carved(
    write_images: WriteImages, data_config: Any, tmp_path: Path
) -> None:
    data = load_data(data_config(write_images(*kaggle_names()), "data.val_fraction=0.3"), tmp_path)
    sides = {r.path.as_posix(): r.split for r in data.records}
    assert {sides["val/NORMAL/NORMAL2-IM-1427-0001.png"], sides["val/PNEUMONIA/person1946_bacteria_99.png"]} <= {
        "train",
        "val",
    }
    assert sum(side == "val" for side in sides.values()) > 2
    assert {path for path, side in sides.items() if side == "test"} == set(kaggle_names()[-2:])


def test_copies_leave_train_but_not_test(write_images: WriteImages, data_config: Any, tmp_path: Path) -> None:
    root = write_images(*kaggle_names(), "test/NORMAL/IM-0002-0001.png", "train/NORMAL/IM-0999-0001.png")
    first = (root / "train/NORMAL/IM-0201-0001.png").read_bytes()
    (root / "train/NORMAL/IM-0999-0001.png").write_bytes(first)
    (root / "test/NORMAL/IM-0002-0001.png").write_bytes((root / "test/NORMAL/IM-0001-0001.png").read_bytes())
    data = load_data(data_config(root, "data.val_fraction=0.3"), tmp_path)
    by_path = {r.path.as_posix(): (r.split, bool(data.is_copy[i])) for i, r in enumerate(data.records)}
    assert by_path["train/NORMAL/IM-0999-0001.png"] == ("dropped", True)
    assert by_path["test/NORMAL/IM-0002-0001.png"] == ("test", True)
    kept = load_data(data_config(root, "data.val_fraction=0.3", "data.duplicates=keep"), tmp_path)
    assert "dropped" not in count_classes(kept)


def test_a_copy_across_the_test_border_counts_on_neither_side() -> None:
    records = [ImageRecord(Path("a"), "x", "p", split="train"), ImageRecord(Path("b"), "x", "q", split="test")]
    assert find_copies(records, ["same", "same"]).tolist() == [False, False]


def test_the_real_set_has_32_copies_in_30_groups_none_across_the_border(
    shared: Path, data_config: Any, cache_dir: Path
) -> None:
    data = load_data(data_config(shared / "data" / "chest_xray"), cache_dir)
    assert int(data.is_copy.sum()) == 32
    assert int(data.is_copy[data.rows("test")].sum()) == 6
    hashes = [{data.store.hashes[i] for i in data.rows(s)} for s in ("train", "val", "test")]
    assert not hashes[0] & hashes[2] and not hashes[1] & hashes[2] and not hashes[0] & hashes[1]
    patients = [{data.records[i].carve_group for i in data.rows(s)} for s in ("train", "val")]
    assert not patients[0] & patients[1]


def test_all_unreadable_files_are_named_at_once(write_images: WriteImages, data_config: Any, tmp_path: Path) -> None:
    root = write_images(*kaggle_names())
    bad = ["train/NORMAL/IM-0203-0001.png", "test/PNEUMONIA/person78_bacteria_3.png"]
    for name in bad:
        (root / name).write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"2 of 40 image files cannot be read") as caught:
        load_data(data_config(root), tmp_path)
    assert all(name in str(caught.value) for name in bad) and "data.on_bad_image=skip" in str(caught.value)


def test_unreadable_files_are_left_out_when_asked(write_images: WriteImages, data_config: Any, tmp_path: Path) -> None:
    root = write_images(*kaggle_names())
    (root / "train/NORMAL/IM-0203-0001.png").write_bytes(b"broken")
    data = load_data(data_config(root, "data.on_bad_image=skip", "data.val_fraction=0.3"), tmp_path)
    assert count_classes(data)["unreadable"] == {"NORMAL": 1, "BACTERIA": 0, "VIRUS": 0}


def test_the_held_out_block_is_apart_from_train_and_validation(
    write_images: WriteImages, data_config: Any, tmp_path: Path
) -> None:
    options = ("data.holdout_fraction=0.3", "data.val_fraction=0.3")
    data = load_data(data_config(write_images(*kaggle_names()), *options), tmp_path)
    groups = [{data.records[i].carve_group for i in data.rows(s)} for s in ("train", "val", "block")]
    assert all(groups) and not groups[2] & (groups[0] | groups[1])


def test_a_split_file_of_an_earlier_run_gives_the_same_sides(
    write_images: WriteImages, data_config: Any, tmp_path: Path
) -> None:
    from pneumolit.rundir import RunDir

    root = write_images(*kaggle_names())
    first = load_data(data_config(root, "data.val_fraction=0.3", "data.seed=5"), tmp_path)
    run = RunDir(tmp_path / "run")
    run.write_split(first.split_rows())
    again = load_data(data_config(root, f"data.split_file={run.split_file}"), tmp_path)
    assert [r.split for r in again.records] == [r.split for r in first.records]


def test_a_split_file_of_other_images_is_refused(write_images: WriteImages, data_config: Any, tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("path,split\nother.png,train\n")
    root = write_images(*kaggle_names())
    with pytest.raises(ValueError, match=r"does not name 40 images"):
        load_data(data_config(root, f"data.split_file={tmp_path / 'split.csv'}"), tmp_path)


def test_undersampling_leaves_equal_classes_in_train(
    write_images: WriteImages, data_config: Any, tmp_path: Path
) -> None:
    names = [*kaggle_names(), *(f"train/NORMAL/IM-{n:04d}-0001.png" for n in range(300, 320))]
    data = load_data(data_config(write_images(*names), "data.balance=undersample", "data.val_fraction=0.3"), tmp_path)
    assert len(set(count_classes(data)["train"].values())) == 1


def test_a_split_that_cannot_hold_every_class_is_refused(
    write_images: WriteImages, data_config: Any, tmp_path: Path
) -> None:
    root = write_images(*kaggle_names(1))
    with pytest.raises(ValueError, match="split holds no image of"):
        load_data(data_config(root, "data.val_fraction=0.05"), tmp_path)


def test_the_fingerprint_of_a_side_follows_content_and_not_names(
    write_images: WriteImages, data_config: Any, tmp_path: Path
) -> None:
    root = write_images(*kaggle_names())
    before = load_data(data_config(root, "data.val_fraction=0.3"), tmp_path).set_fingerprint("test")
    (root / "test/NORMAL/IM-0001-0001.png").rename(root / "test/NORMAL/IM-0003-0001.png")
    assert load_data(data_config(root, "data.val_fraction=0.3"), tmp_path).set_fingerprint("test") == before
    (root / "test/NORMAL/IM-0003-0001.png").write_bytes((root / kaggle_names()[0]).read_bytes())
    assert load_data(data_config(root, "data.val_fraction=0.3"), tmp_path).set_fingerprint("test") != before


def test_the_archive_of_kaggle_nests_the_set_in_a_folder_of_the_same_name(
    write_images: WriteImages, data_config: Any, tmp_path: Path
) -> None:
    root = write_images(*(f"chest_xray/{name}" for name in kaggle_names()))
    assert find_root(data_config(root), tmp_path) == root / "chest_xray"
    assert len(load_data(data_config(root, "data.val_fraction=0.3"), tmp_path).records) == 40


def test_a_data_set_without_root_names_the_ways_out(compose_config: Compose, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.root is not set.*PNEUMOLIT_DATA.*data=demo"):
        load_data(compose_config()["data"], tmp_path)


def test_targets_are_class_indices_in_logit_order(write_images: WriteImages, data_config: Any, tmp_path: Path) -> None:
    data = load_data(data_config(write_images(*kaggle_names()), "data.val_fraction=0.3"), tmp_path)
    rows = data.rows("train")
    expected = [("NORMAL", "BACTERIA", "VIRUS").index(str(data.records[i].label)) for i in rows]
    assert np.array_equal(data.targets(rows), expected)
