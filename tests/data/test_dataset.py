"""From a data configuration to a divided set: who is left out, who is on which side, and that it is recorded."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pneumolit.data.dataset import (
    BLOCK,
    DROPPED,
    UNREADABLE,
    ChestXrayData,
    count_classes,
    find_copies,
    load_data,
)
from pneumolit.data.reader import read_gray
from pneumolit.data.records import identify_patient
from pneumolit.data.table import ImageRecord, RecordTable
from pneumolit.rundir import RunDir

Load = Callable[..., ChestXrayData]


@pytest.fixture(scope="module")
def settings_of_data(compose_config: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    plain = compose_config("data.store_size=16", "data.val_fraction=0.25")["data"]
    assert isinstance(plain, dict)
    return plain


@pytest.fixture
def load(settings_of_data: dict[str, Any], cache_dir: Path) -> Load:
    """`load(root, key=value)`: open a set with the defaults of conf/data but for these keys."""

    def loaded(root: Path, **changes: Any) -> ChestXrayData:
        assert changes.keys() <= settings_of_data.keys()
        return load_data({**settings_of_data, "root": str(root), **changes}, cache_dir)

    return loaded


@pytest.fixture
def films(tmp_path: Path, write_films: Callable[..., Path]) -> Path:
    return write_films(tmp_path / "films")


def sides(data: ChestXrayData) -> dict[str, str]:
    return {r.path.as_posix(): r.split for r in data.records}


def damage(root: Path, *names: str) -> None:
    for name in names:
        (root / name).write_bytes((root / name).read_bytes()[:200])


def manifest(root: Path, rows: list[tuple[str, str, str]]) -> Path:
    path = root / "list.csv"
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([("path", "label", "split"), *rows])
    return path


# The order of things


def test_row_label_and_record_of_the_store_belong_together(films: Path, load: Load) -> None:
    data = load(films)
    side = data.store.images.shape[1]
    for i, record in enumerate(data.records):
        np.testing.assert_array_equal(data.store.images[i], read_gray(films / record.path, side))
    assert data.labels.classes == ("NORMAL", "BACTERIA", "VIRUS")
    rows = data.rows("test")
    assert [data.labels.classes[t] for t in data.targets(rows)] == ["NORMAL"] * 4 + ["VIRUS"] + ["BACTERIA"] * 2
    assert all(data.records[i].path.parts[0] == "test" for i in rows)


def test_the_official_validation_joins_train_and_the_official_test_stays(films: Path, load: Load) -> None:
    first = {name for name, side in sides(load(films)).items() if name.startswith("val/") and side == "train"}
    assert first  # with this seed at least one of the four is not drawn again
    data = load(films)
    assert {side for name, side in sides(data).items() if name.startswith("test/")} == {"test"}
    assert {side for name, side in sides(data).items() if not name.startswith("test/")} == {"train", "val"}
    assert len(data.rows("val")) / (len(data.records) - 7) == pytest.approx(0.25, abs=0.05)


def test_no_patient_is_in_train_and_validation_under_both_readings(demo_root: Path, load: Load) -> None:
    data = load(demo_root)
    for key in ("full", "prefix"):
        train, val = (
            {identify_patient(data.records[i], key).patient_id for i in data.rows(s)} for s in ("train", "val")
        )
        assert train and val and not train & val


def test_the_split_has_its_own_seed_and_no_other(films: Path, load: Load) -> None:
    assert sides(load(films, seed=1)) == sides(load(films, seed=1))
    assert sides(load(films, seed=1)) != sides(load(films, seed=2))


def test_a_set_nested_as_in_the_archive_is_opened(films: Path, load: Load) -> None:
    (films.parent / "archive").mkdir()
    films.rename(films.parent / "archive" / "chest_xray")
    assert len(load(films.parent / "archive").records) == 64


# Unreadable files


def test_unreadable_files_stop_with_a_list_of_all_of_them(films: Path, load: Load) -> None:
    bad = [
        "test/NORMAL/IM-0001-0001.jpeg",
        "train/NORMAL/IM-0115-0001.jpeg",
        "train/PNEUMONIA/person3_bacteria_903.jpeg",
    ]
    damage(films, *bad)
    with pytest.raises(ValueError, match=r"(?s)3 of 64 image files cannot be read.*data\.on_bad_image=skip") as refusal:
        load(films)
    for name in bad:
        assert f"{films / name}: " in str(refusal.value)


def test_of_very_many_unreadable_files_fifty_are_listed_and_the_rest_counted(films: Path, load: Load) -> None:
    damage(films, *sides(load(films)))
    with pytest.raises(ValueError, match=r"(?s)64 of 64 image files.*and 14 more"):
        load(films)


def test_skipped_files_are_in_no_split_and_in_the_record(films: Path, load: Load) -> None:
    bad = {"train/NORMAL/IM-0115-0001.jpeg", "test/NORMAL/IM-0001-0001.jpeg"}
    damage(films, *bad)
    data = load(films, on_bad_image="skip")
    assert {name for name, side in sides(data).items() if side == UNREADABLE} == bad
    assert {row["path"] for row in data.split_rows() if row["split"] == UNREADABLE} == bad
    assert not data.is_copy.any()  # two empty files are no copies of a film
    assert len(data.rows("test")) == 6
    assert count_classes(data)[UNREADABLE] == {"NORMAL": 2, "BACTERIA": 0, "VIRUS": 0}


# Copies


@pytest.fixture
def with_copies(films: Path) -> Path:
    """A copy within train, one within test and one across."""
    shutil.copy(films / "train/NORMAL/IM-0115-0001.jpeg", films / "train/NORMAL/IM-0116-0001.jpeg")
    shutil.copy(films / "test/NORMAL/IM-0001-0001.jpeg", films / "test/NORMAL/IM-0002-0001.jpeg")
    shutil.copy(films / "train/PNEUMONIA/person1_bacteria_901.jpeg", films / "test/PNEUMONIA/person78_bacteria_78.jpeg")
    return films


def test_copies_are_dropped_from_train_and_left_in_test(with_copies: Path, load: Load) -> None:
    data = load(with_copies)
    within, of_test = "train/NORMAL/IM-0116-0001.jpeg", "train/PNEUMONIA/person1_bacteria_901.jpeg"
    marked = {data.records[i].path.as_posix() for i in np.flatnonzero(data.is_copy)}
    assert marked == {within, of_test, "test/NORMAL/IM-0002-0001.jpeg"}
    assert {name for name, side in sides(data).items() if side == DROPPED} == {within, of_test}
    assert len(data.rows("test")) == 7


def test_copies_can_be_kept(with_copies: Path, load: Load) -> None:
    data = load(with_copies, duplicates="keep")
    assert DROPPED not in sides(data).values()
    assert data.is_copy.sum() == 3


@pytest.mark.parametrize("seed", range(4))
def test_after_a_new_split_no_film_of_test_has_a_copy_in_train_or_validation(
    with_copies: Path, load: Load, seed: int
) -> None:
    data = load(with_copies, resplit=[0.5, 0.25, 0.25], seed=seed, target="binary")
    test, rest = ({data.store.hashes[i] for s in names for i in data.rows(s)} for names in (["test"], ["train", "val"]))
    assert test and not test & rest


def test_of_three_equal_files_two_are_copies() -> None:
    records = RecordTable.of(ImageRecord(Path(f"{i}.png"), "a", str(i), split="train") for i in range(4))
    assert find_copies(records, np.array([7, 3, 7, 7])).tolist() == [False, False, True, True]


# Blocks, folds, new splits


def test_the_held_out_block_has_the_lowest_numbers_and_is_in_no_other_split(demo_root: Path, load: Load) -> None:
    data = load(demo_root, holdout_fraction=0.2)
    block = [data.records[i] for i in data.rows(BLOCK)]
    rest = [r for r in data.records if r.split in {"train", "val"}]
    for series in ("IM", "NORMAL2-IM", ""):  # no series: all persons, whatever the cause
        inside, outside = (
            [r.number or 0 for r in rows if ("" if r.cause else r.series) == series] for rows in (block, rest)
        )
        assert max(inside) < min(outside)
    assert len(block) / (len(block) + len(rest)) == pytest.approx(0.2, abs=0.05)


def test_several_blocks_follow_one_another_and_share_no_patient_with_the_rest(demo_root: Path, load: Load) -> None:
    data = load(demo_root, holdout_fraction=0.2, holdout_blocks=2)
    one = load(demo_root, holdout_fraction=0.2)
    assert data.rows("block").tolist() == one.rows("block").tolist()
    parts = [[data.records[i] for i in data.rows(name)] for name in ("block", "block2", "train")]
    for series in ("IM", "NORMAL2-IM", ""):
        numbers = [[r.number or 0 for r in p if ("" if r.cause else r.series) == series] for p in parts]
        assert max(numbers[0]) < min(numbers[1]) and max(numbers[1]) < min(numbers[2])
    with pytest.raises(ValueError, match=r"2 blocks of 0\.6 are more than there is"):
        load(demo_root, holdout_fraction=0.6, holdout_blocks=2)


def test_a_block_without_every_class_is_refused(films: Path, load: Load) -> None:
    # Here every bacterial number is below every viral one, so the lowest fifth of persons has no virus.
    with pytest.raises(ValueError, match=r"the val split holds no image of VIRUS"):
        load(films, carve="blocks", val_fraction=0.2)


def test_every_training_image_validates_in_exactly_one_fold(demo_root: Path, load: Load) -> None:
    drawn = Counter(
        name for fold in range(3) for name, side in sides(load(demo_root, folds=3, fold=fold)).items() if side == "val"
    )
    pool = {name for name, side in sides(load(demo_root)).items() if side in {"train", "val"}}
    assert drawn == Counter(pool)


def test_a_new_split_mixes_the_official_sides_without_parting_a_patient(demo_root: Path, load: Load) -> None:
    data = load(demo_root, resplit=[0.6, 0.2, 0.2])
    assert {name.split("/")[0] for name, side in sides(data).items() if side == "test"} >= {"train", "test"}
    side_of: dict[str, set[str]] = {}
    for r in data.records:
        side_of.setdefault(r.carve_group, set()).add(r.split)
    assert all(len(found) == 1 for found in side_of.values())
    assert len(data.rows("test")) / len(data.records) == pytest.approx(0.2, abs=0.06)


# A share of the training patients


def test_a_share_of_the_training_patients_leaves_validation_alone_and_smaller_ones_lie_in_larger_ones(
    demo_root: Path, load: Load
) -> None:
    whole = sides(load(demo_root, val_fraction=0.2))
    trained = {}
    for share in (0.2, 0.5):
        data = load(demo_root, val_fraction=0.2, train_fraction=share)
        found = sides(data)
        trained[share] = {name for name, side in found.items() if side == "train"}
        assert {n for n, side in found.items() if side == "val"} == {n for n, side in whole.items() if side == "val"}
        assert data.epoch_length == sum(side == "train" for side in whole.values())
        assert len(trained[share]) / data.epoch_length == pytest.approx(share, abs=0.1)
        dropped = {data.records[i].patient_id for i in np.flatnonzero(data.records.is_in("split", DROPPED))}
        assert not dropped & {data.records[i].patient_id for i in data.rows("train")}
    assert trained[0.2] < trained[0.5]


def test_a_share_too_small_for_every_class_is_refused_by_its_own_name(demo_root: Path, load: Load) -> None:
    with pytest.raises(ValueError, match=r"data\.train_fraction=0\.001 leaves 0 images .* use a larger share"):
        load(demo_root, val_fraction=0.2, train_fraction=0.001)


# Manifests


def test_a_manifest_that_names_its_validation_is_followed(films: Path, load: Load) -> None:
    rows = [(f"train/NORMAL/IM-{n:04d}-0001.jpeg", "NORMAL", s) for n, s in ((115, "train"), (116, "val"), (117, ""))]
    rows += [
        (f"train/PNEUMONIA/person{n}_bacteria_{n + 900}.jpeg", "PNEUMONIA", s) for n, s in ((1, "train"), (2, "val"))
    ]
    named = {"source": "manifest", "manifest": str(manifest(films, rows))}
    data = load(films, **named, val_fraction=0.1)
    assert list(sides(data).values()) == ["train", "val", "train", "train", "val"]


@pytest.mark.parametrize("change", [{"val_fraction": 0.25}, {"folds": 3}, {"carve": "blocks"}, {"stratify": False}])
def test_where_the_data_name_their_validation_a_wish_to_carve_one_is_refused(
    films: Path, load: Load, change: dict[str, Any]
) -> None:
    assert load(films, source="folder", val_fraction=0.1, target="binary").rows("val").size == 4
    with pytest.raises(ValueError, match=rf"data\.{next(iter(change))}=.* has no effect because the data set names"):
        load(films, **{"source": "folder", "val_fraction": 0.1, "target": "binary", **change})


def test_a_block_can_be_set_aside_where_the_data_name_their_validation(films: Path, load: Load) -> None:
    named = {"source": "folder", "val_fraction": 0.1, "target": "binary"}
    plain, with_block = sides(load(films, **named)), sides(load(films, **named, holdout_fraction=0.3))
    blocked = {name for name, side in with_block.items() if side == BLOCK}
    assert blocked and {plain[name] for name in blocked} == {"train"}
    assert {name: side for name, side in with_block.items() if name not in blocked} == {
        name: side for name, side in plain.items() if name not in blocked
    }


def test_the_official_validation_stays_where_it_is_asked_for_and_a_block_is_set_aside_beside_it(
    films: Path, load: Load
) -> None:
    for extra in ({}, {"holdout_fraction": 0.3}):
        found = sides(load(films, carve="official", val_fraction=0.1, target="binary", **extra))
        assert {name for name, side in found.items() if side == "val"} == {n for n in found if n.startswith("val/")}
        assert {side for name, side in found.items() if name.startswith("train/")} == {"train", *[BLOCK for _ in extra]}


def test_the_official_validation_of_a_set_without_one_is_refused(films: Path, load: Load) -> None:
    shutil.rmtree(films / "val")
    with pytest.raises(ValueError, match=r"data\.carve=official .* but it names none; set data\.carve=random"):
        load(films, carve="official", val_fraction=0.1)


def test_a_side_without_one_of_the_classes_is_answered_by_what_made_that_side(
    films: Path, load: Load, tmp_path: Path
) -> None:
    # Keys of a draw help nobody whose side was not drawn.
    run = RunDir(tmp_path / "run")
    run.write_split([{**row, "split": "train"} if row["split"] == "val" else row for row in load(films).split_rows()])
    for changes, remedy in (
        ({"carve": "official", "val_fraction": 0.1}, r"set data\.carve=random, or set a data\.target"),
        ({"source": "folder", "val_fraction": 0.1}, r"name images of every class for it, or set a data\.target"),
        ({"split_file": str(run.split_file)}, r"name images of every class for it in data\.split_file"),
        ({"resplit": [0.98, 0.01, 0.01]}, r"use larger shares in data\.resplit"),
        ({"holdout_fraction": 0.1, "target": "auto"}, r"use a larger data\.holdout_fraction"),
        ({"carve": "blocks", "val_fraction": 0.1}, r"use a larger data\.val_fraction"),
    ):
        with pytest.raises(ValueError, match=rf"split holds no image of .*; {remedy}"):
            load(films, **changes)


def test_a_fraction_beside_the_official_validation_is_refused(films: Path, load: Load) -> None:
    with pytest.raises(ValueError, match=r"data\.val_fraction=0\.25 has no effect because the data set names its own"):
        load(films, carve="official", val_fraction=0.25)


def test_images_that_do_not_lie_below_the_root_are_refused_before_anything_is_read(
    films: Path, tmp_path: Path, load: Load
) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    paths = sorted(films.rglob("*.jpeg"))
    rows = [f"{path if i % 2 else Path('..') / path.relative_to(tmp_path)},x" for i, path in enumerate(paths)]
    (lists / "list.csv").write_text("\n".join(["path,label", *rows]))
    with pytest.raises(ValueError, match=rf"{len(paths)} of {len(paths)} images are not below .*lists.*set data\.root"):
        load(lists, source="manifest", manifest=str(lists / "list.csv"))


def test_a_manifest_without_validation_has_it_carved(films: Path, load: Load) -> None:
    rows = [(name, name.split("/")[1], "") for name in sides(load(films))]
    data = load(films, source="manifest", manifest=str(manifest(films, rows)), target="binary")
    assert set(sides(data).values()) == {"train", "val"}


def test_a_manifest_without_training_images_is_refused(films: Path, load: Load) -> None:
    rows = [(name, name.split("/")[1], "test") for name in sides(load(films))]
    for balance in ("none", "undersample"):
        with pytest.raises(ValueError, match="the train split holds no image of NORMAL, BACTERIA, VIRUS"):
            load(films, source="manifest", manifest=str(manifest(films, rows)), balance=balance)


# Split files


@pytest.mark.parametrize("balance", ["none", "undersample"])
def test_the_split_of_an_earlier_run_is_drawn_again_whatever_the_seed(
    with_copies: Path, load: Load, tmp_path: Path, balance: str
) -> None:
    damage(with_copies, "train/NORMAL/IM-0120-0001.jpeg")
    common = {"balance": balance, "holdout_fraction": 0.1, "on_bad_image": "skip", "target": "binary"}
    first = load(with_copies, **common)
    assert set(sides(first).values()) == {"train", "val", "test", BLOCK, DROPPED, UNREADABLE}
    run = RunDir(tmp_path / "run")
    run.write_split(first.split_rows())
    again = load(with_copies, **{**common, "split_file": str(run.split_file), "seed": 77, "val_fraction": 0.4})
    assert sides(again) == sides(first)
    assert [str(row["split"]) for row in again.split_rows()] == [row["split"] for row in run.read_split()]


def test_a_split_file_that_does_not_name_every_image_is_refused(films: Path, load: Load, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.write_split(list(load(films).split_rows())[2:])
    with pytest.raises(ValueError, match=r"data\.split_file=.* does not name 2 images.*IM-0115-0001"):
        load(films, split_file=str(run.split_file))


def test_a_split_file_that_names_an_image_twice_is_refused(films: Path, load: Load, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    rows = [*load(films).split_rows()]
    run.write_split([*rows, {**rows[0], "split": "test"}])
    with pytest.raises(ValueError, match=f"names 1 images twice, the first {rows[0]['path']}; name each once"):
        load(films, split_file=str(run.split_file))


def test_a_split_file_with_an_unknown_side_is_refused(films: Path, load: Load, tmp_path: Path) -> None:
    # Else all images of "valid" would silently be in no split.
    run = RunDir(tmp_path / "run")
    rows = list(load(films).split_rows())
    run.write_split([{**rows[0], "split": "valid"}, *rows[1:]])
    with pytest.raises(ValueError, match=r"has the splits \['valid'\]; allowed are block, block2, "):
        load(films, split_file=str(run.split_file))


# Balance, classes, fingerprints


def test_undersampling_drops_training_images_alone_and_records_them(films: Path, load: Load) -> None:
    plain, data = load(films), load(films, balance="undersample")
    counts = count_classes(data)
    assert len(set(counts["train"].values())) == 1
    assert counts["train"]["VIRUS"] == count_classes(plain)["train"]["VIRUS"]
    for name, side in sides(data).items():
        assert side == sides(plain)[name] or (side, sides(plain)[name]) == (DROPPED, "train")


def test_a_validation_without_every_class_is_refused(
    tmp_path: Path, write_films: Callable[..., Path], load: Load
) -> None:
    root = write_films(
        tmp_path,
        {
            "train/NORMAL": [f"IM-{n:04d}-0001.png" for n in range(20)],
            "train/PNEUMONIA": [f"person{n}_bacteria_{n}.png" for n in range(20)] + ["person99_virus_1.png"],
        },
    )
    with pytest.raises(ValueError, match=r"the val split holds no image of VIRUS.*larger data\.val_fraction"):
        load(root)


def test_the_fingerprint_of_a_split_is_that_of_its_contents(films: Path, load: Load) -> None:
    before = load(films)
    moved = films.rename(films.with_name("moved"))
    (moved / "test/NORMAL/IM-0001-0001.jpeg").rename(moved / "test/NORMAL/IM-0109-0001.jpeg")
    assert load(moved).set_fingerprint("test") == before.set_fingerprint("test")
    Image.new("L", (24, 24), 9).save(moved / "test/NORMAL/IM-0109-0001.jpeg")
    after = load(moved)
    assert after.set_fingerprint("test") != before.set_fingerprint("test")
    assert after.set_fingerprint("train") == before.set_fingerprint("train")


def test_phantoms_are_made_where_no_folder_is_named(
    settings_of_data: dict[str, Any], tmp_path: Path, demo_root: Path
) -> None:
    shutil.copytree(demo_root, tmp_path / "mine")
    cfg = {**settings_of_data, "source": "demo", "root": str(tmp_path / "mine")}
    assert len(load_data(cfg, tmp_path).rows("test")) > 0
    assert not (tmp_path / "demo").exists()


# The real set


def test_the_real_set_has_32_copies_in_30_groups_none_across_splits(shared: Path, load: Load) -> None:
    # With the usual size, so that the store of the real set is built once for all tests.
    data = load(shared / "data" / "chest_xray", store_size=256, val_fraction=0.1)
    official = [(r.path.parts[0], r.label) for r in data.records]
    groups: dict[str, list[int]] = {}
    for row, value in enumerate(data.store.hashes):
        groups.setdefault(value, []).append(row)
    several = [rows for rows in groups.values() if len(rows) > 1]
    assert (len(several), sum(len(rows) - 1 for rows in several)) == (30, 32)
    assert all(len({official[row] for row in rows}) == 1 for rows in several)
    assert Counter(official[row][0] for row in np.flatnonzero(data.is_copy)) == {"train": 26, "test": 6}
    assert len(data.rows("test")) == 624
    hashes = [{data.store.hashes[i] for i in data.rows(s)} for s in ("train", "val", "test")]
    assert sum(map(len, hashes)) == len(set().union(*hashes)) == 5856 - 32
    patients = [{data.records[i].carve_group for i in data.rows(s)} for s in ("train", "val")]
    assert not patients[0] & patients[1]
