"""From names and manifests to records: nothing is guessed, and what cannot be read is named."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pneumolit.data.dataset import find_root
from pneumolit.data.records import (
    PATIENT_KEYS,
    choose_labels,
    identify_patient,
    parse_name,
    read_image_folder,
    read_kaggle_folder,
    read_manifest,
)
from pneumolit.data.table import ImageRecord, RecordTable
from pneumolit.rundir import read_split_csv

Write = Callable[..., Path]

UNPARSABLE = [
    "person_bacteria_1.jpeg",
    "person1_2931.jpeg",
    "person1_fungus_2.jpeg",
    "person1_bacteria_.jpeg",
    "person1_bacteria_2_3_4.jpeg",
    "person1_bacteria_2 (1).jpeg",
    "copy of person1_bacteria_2.jpeg",
    "personX_virus_6.jpeg",
    "IM-0115.jpeg",
    "IM-0115-0001-0002-0003.jpeg",
    "IM-0115-0001 (1).jpeg",
    "xIM-0115-0001.jpeg",
    "NORMAL2-0115-0001.jpeg",
    "NORMAL3-IM-0115-0001.jpeg",
    "scan.jpeg",
    "1.jpeg",
]


def paths(records: Iterable[ImageRecord]) -> list[str]:
    return [r.path.as_posix() for r in records]


# Names


@given(st.integers(0, 9999), st.sampled_from(["bacteria", "virus"]), st.integers(0, 9999), st.sampled_from(["", "_1"]))
def test_a_pneumonia_name_gives_series_number_and_cause(number: int, cause: str, film: int, trailing: str) -> None:
    assert parse_name(f"person{number}_{cause}_{film}{trailing}.jpeg") == (cause, number, cause)


def test_a_number_may_be_as_long_as_fits_and_zeros_in_front_do_not_count() -> None:
    zeros, long = "0" * 30, "9" * 18
    assert parse_name(f"person{zeros}7_virus_1.jpeg") == ("virus", 7, "virus")
    assert parse_name(f"IM-{zeros}{long}-1.jpeg") == ("IM", int(long), "")
    assert parse_name(f"IM-1{long}-1.jpeg") is None


@given(
    st.sampled_from(["IM", "NORMAL2-IM"]), st.integers(0, 9999), st.integers(1, 9999), st.sampled_from(["", "-0002"])
)
def test_a_normal_name_gives_series_and_number(series: str, number: int, film: int, trailing: str) -> None:
    assert parse_name(f"{series}-{number:04d}-{film:04d}{trailing}.jpeg") == (series, number, "")


@pytest.mark.parametrize("name", UNPARSABLE)
def test_a_name_that_does_not_tell_the_patient_is_refused(tmp_path: Path, write_films: Write, name: str) -> None:
    root = write_films(tmp_path)
    shutil.copy(root / "train/NORMAL/IM-0115-0001.jpeg", root / "train/PNEUMONIA" / name)
    with pytest.raises(ValueError, match=r"1 file names do not tell the patient.*data\.patient_key=image") as refusal:
        read_kaggle_folder(root)
    assert f"train/PNEUMONIA/{name}" in str(refusal.value)
    assert f"train/PNEUMONIA/{name}" in paths(read_kaggle_folder(root, patient_key="image"))


def test_all_unparsable_names_are_counted_in_one_message(tmp_path: Path, write_films: Write) -> None:
    root = write_films(tmp_path)
    write_films(root, {"train/NORMAL": ["a.jpeg", "b.jpeg"], "test/PNEUMONIA": ["c.png"]})
    with pytest.raises(ValueError, match=r"3 file names.*train/NORMAL/a\.jpeg.*train/NORMAL/b\.jpeg.*test/PNEUMONIA/c"):
        read_kaggle_folder(root)


@pytest.mark.parametrize(
    ("patient_key", "ids"),
    [
        ("full", ["IM-5", "NORMAL2-IM-5", "bacteria-5", "virus-5"]),
        ("prefix", ["IM-5", "NORMAL2-IM-5", "person-5", "person-5"]),
        ("class_number", ["NORMAL-5", "NORMAL-5", "PNEUMONIA-5", "PNEUMONIA-5"]),
        ("number", ["5", "5", "5", "5"]),
    ],
)
def test_each_reading_of_a_name_joins_what_it_says(
    tmp_path: Path, write_films: Write, patient_key: str, ids: list[str]
) -> None:
    names = {
        "train/NORMAL": ["IM-0005-0001.jpeg", "NORMAL2-IM-0005-0001.jpeg"],
        "train/PNEUMONIA": ["person5_bacteria_1.jpeg", "person5_virus_9.jpeg"],
    }
    records = read_kaggle_folder(write_films(tmp_path, names), patient_key=patient_key)
    assert [r.patient_id for r in records] == ids
    coarse = {"full": ["IM-5", "NORMAL2-IM-5", "person-5", "person-5"]}.get(patient_key, ids)
    assert [r.carve_group for r in records] == coarse


def test_under_the_reading_by_image_nobody_has_two_images(tmp_path: Path, write_films: Write) -> None:
    records = read_kaggle_folder(write_films(tmp_path), patient_key="image")
    assert len({r.carve_group for r in records}) == len({r.patient_id for r in records}) == len(records)


def test_an_unknown_reading_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=rf"data\.patient_key must be one of {', '.join(PATIENT_KEYS)}, got 'name'"):
        identify_patient(ImageRecord(Path("a.jpeg"), "NORMAL", "a"), "name")


# Folders


def test_a_kaggle_folder_gives_every_image_its_class_split_and_cause(tmp_path: Path, write_films: Write) -> None:
    records = read_kaggle_folder(write_films(tmp_path))
    counts = Counter((r.split, r.label, r.cause) for r in records)
    assert counts == {
        ("train", "NORMAL", ""): 20,
        ("train", "PNEUMONIA", "bacteria"): 21,
        ("train", "PNEUMONIA", "virus"): 12,
        ("val", "NORMAL", ""): 2,
        ("val", "PNEUMONIA", "bacteria"): 2,
        ("test", "NORMAL", ""): 4,
        ("test", "PNEUMONIA", "bacteria"): 2,
        ("test", "PNEUMONIA", "virus"): 1,
    }
    assert all((tmp_path / r.path).is_file() for r in records)


def test_the_order_of_records_does_not_depend_on_the_order_of_the_disk(tmp_path: Path, write_films: Write) -> None:
    one = write_films(
        tmp_path / "one", {"train/NORMAL": ["IM-0002-0001.png"], "train/PNEUMONIA": ["person1_virus_2.png"]}
    )
    write_films(one, {"train/NORMAL": ["IM-0001-0001.png"]})
    assert paths(read_kaggle_folder(one)) == [
        "train/NORMAL/IM-0001-0001.png",
        "train/NORMAL/IM-0002-0001.png",
        "train/PNEUMONIA/person1_virus_2.png",
    ]


def test_what_a_mac_and_windows_leave_between_the_images_is_passed_over(tmp_path: Path, write_films: Write) -> None:
    root = write_films(tmp_path)
    before = paths(read_kaggle_folder(root))
    for name in ("._IM-0115-0001.jpeg", ".DS_Store", "Thumbs.db", "notes.txt"):
        (root / "train/NORMAL" / name).write_bytes(b"\0\5\26\7")
    (root / "train/.hidden").mkdir()
    (root / "train/NORMAL/folder.jpeg").mkdir()
    assert paths(read_kaggle_folder(root)) == before
    assert paths(read_image_folder(root)) == before


def test_suffixes_in_capitals_are_images(tmp_path: Path, write_films: Write) -> None:
    root = write_films(tmp_path, {"a": ["IM-0001-0001.JPEG", "IM-0002-0001.JPG"], "b": ["x.Png"]})
    assert len(read_image_folder(root)) == 3


def test_a_set_nested_as_in_the_kaggle_archive_is_found(tmp_path: Path, write_films: Write) -> None:
    nested = write_films(tmp_path / "archive" / "chest_xray")
    assert find_root({"source": "kaggle", "root": str(tmp_path / "archive")}, tmp_path) == nested
    assert find_root({"source": "kaggle", "root": str(nested)}, tmp_path) == nested


def test_a_root_that_is_not_there_is_refused_with_the_way_out(tmp_path: Path) -> None:
    for read in (read_kaggle_folder, read_image_folder):
        with pytest.raises(FileNotFoundError, match=r"data\.root=.*nowhere is not a folder.*PNEUMOLIT_DATA.*data=demo"):
            read(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"data\.root is not set"):
        find_root({"source": "kaggle", "root": None}, tmp_path)


def test_a_folder_without_train_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no folder train.*an empty folder"):
        read_kaggle_folder(tmp_path)
    (tmp_path / "pictures").mkdir()
    with pytest.raises(FileNotFoundError, match="found pictures"):
        read_kaggle_folder(tmp_path)


@pytest.mark.parametrize("name", [None, "normal", "Normal "])
def test_a_missing_class_folder_is_refused_with_what_is_there(
    tmp_path: Path, write_films: Write, name: str | None
) -> None:
    root = write_films(tmp_path)
    folder = root / "test/NORMAL"
    if name is None:
        shutil.rmtree(folder)
    else:
        folder.rename(folder.with_name(name))
    with pytest.raises(FileNotFoundError, match=f"test lacks the class folder NORMAL; found .*{name or 'PNEUMONIA'}"):
        read_kaggle_folder(root)


@pytest.mark.parametrize("read", [read_kaggle_folder, read_image_folder])
def test_an_empty_class_folder_is_refused(tmp_path: Path, write_films: Write, read: Callable[[Path], object]) -> None:
    root = write_films(tmp_path)
    shutil.rmtree(root / "train/NORMAL")
    (root / "train/NORMAL").mkdir()
    (root / "train/NORMAL/._IM-0115-0001.jpeg").touch()
    with pytest.raises(FileNotFoundError, match=r"train/NORMAL holds no JPEG or PNG file; found \._IM"):
        read(root)


def test_class_folders_of_any_name_are_read_with_or_without_splits(tmp_path: Path, write_films: Write) -> None:
    flat = write_films(tmp_path / "flat", {"covid": ["a.png", "b.png"], "healthy": ["c.png"]})
    assert [(r.label, r.split) for r in read_image_folder(flat)] == [("covid", "")] * 2 + [("healthy", "")]
    split = write_films(
        tmp_path / "split", {"train/covid": ["a.png"], "train/healthy": ["b.png"], "test/covid": ["a.png"]}
    )
    assert [(r.label, r.split) for r in read_image_folder(split)] == [
        ("covid", "train"),
        ("healthy", "train"),
        ("covid", "test"),
    ]
    assert len({r.patient_id for r in read_image_folder(split)}) == 3  # the same name in two folders is two patients


def test_a_folder_without_class_folders_is_refused(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match=r"no class folder.*found a\.png.*one folder per class"):
        read_image_folder(tmp_path)


# Manifests


@pytest.fixture
def films(tmp_path: Path, write_films: Write) -> Path:
    return write_films(tmp_path / "films", {"x": ["a.png", "b.png", "person7_virus_1.png"]})


def manifest(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_a_manifest_says_who_what_and_where(films: Path) -> None:
    text = "label,path,patient_id,split,cause\nsick,x/a.png,P1,train,Bacteria\nwell,x/b.png,,test,\n"
    records = read_manifest(manifest(films, text), None)
    assert [(r.path.as_posix(), r.label, r.patient_id, r.split, r.cause) for r in records] == [
        ("x/a.png", "sick", "P1", "train", "bacteria"),
        ("x/b.png", "well", "x/b.png", "test", ""),
    ]


def test_a_name_of_the_kaggle_form_in_a_manifest_gives_the_cause_but_not_the_patient(films: Path) -> None:
    (record,) = read_manifest(manifest(films, "path,label\nx/person7_virus_1.png,PNEUMONIA\n"), None)
    assert (record.cause, record.patient_id) == ("virus", "x/person7_virus_1.png")


def test_paths_are_relative_to_the_given_root(films: Path, tmp_path: Path) -> None:
    elsewhere = manifest(tmp_path, "path,label\na.png,sick\n")
    assert paths(read_manifest(elsewhere, films / "x")) == ["a.png"]
    with pytest.raises(FileNotFoundError, match=r"1 of 1 files named in .*a\.png.*set data\.root"):
        read_manifest(elsewhere, None)


def test_a_path_that_is_written_otherwise_and_lies_below_the_root_becomes_relative(films: Path) -> None:
    text = f"path,label\n{films}/x/a.png,sick\nx/../x/b.png,well\n"
    (first, second) = read_manifest(manifest(films, text), None)
    assert [first.path.as_posix(), second.path.as_posix()] == ["x/a.png", "x/b.png"]
    assert first.patient_id == "x/a.png"


def test_a_manifest_saved_by_excel_as_utf8_is_read(films: Path) -> None:
    assert len(read_manifest(manifest(films, "path,label\r\nx/a.png,sick\r\n", "utf-8-sig"), None)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,patient_id\nx/a.png,P1\n", r"columns path and label.*found the columns \['path', 'patient_id'\]"),
        ("path;label\nx/a.png;sick\n", r"found the columns \['path;label'\]"),
        ("path,label\n", "at least one row.*0 rows"),
        ("", "0 rows"),
        ("path,label\nx/a.png,sick\nx/b.png,\n", "line 3: path and label must not be empty"),
        ("path,label\nx/a.png\n", "line 2: path and label must not be empty"),
        ("path,label\n ,sick\n", "line 2: path and label must not be empty"),
        ("path,label,split\nx/a.png,sick,Train\n", "line 2: split must be train, val, test or empty, got 'Train'"),
        ("path,label,cause\nx/a.png,sick,fungus\n", "line 2: cause must be bacteria, virus or empty, got 'fungus'"),
        ("path,label\nx/a\0.png,sick\n", "line 2: a path or patient_id holds a NUL character"),
        ("path,label\nx/a.png,sick\n./x/a.png,well\n", r"1 files more than once, the first \['x/a.png'\]"),
    ],
)
def test_a_manifest_with_a_mistake_is_refused_at_its_place(films: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_manifest(manifest(films, text), None)


def test_a_manifest_of_another_encoding_is_refused_with_the_way_out(films: Path) -> None:
    with pytest.raises(ValueError, match=r"is not UTF-8.*save it as CSV UTF-8"):
        read_manifest(manifest(films, "path,label\nx/a.png,gesund für alle\n", "latin-1"), None)


def test_a_quotation_mark_left_open_is_told_of_a_manifest_and_of_a_split_file(films: Path) -> None:
    text = 'path,label,split\n"x/a.png,sick,train\n' + "x/b.png,well,test\n" * 10_000
    with pytest.raises(ValueError, match=r"\.csv cannot be read as CSV .*is a quotation mark left open\?"):
        read_manifest(manifest(films, text), None)
    with pytest.raises(ValueError, match=r"\.csv cannot be read as CSV .*is a quotation mark left open\?"):
        list(read_split_csv(manifest(films, text)))


def test_absent_files_of_a_manifest_are_counted_and_named(films: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"2 of 3 files.*'x/c\.png', 'x'"):
        read_manifest(manifest(films, "path,label\nx/a.png,a\nx/c.png,b\nx,b\n"), None)
    with pytest.raises(FileNotFoundError, match=r"data\.manifest=.* is not a file"):
        read_manifest(films / "other.csv", None)


# Classes of the task


def record(label: str, cause: str = "", name: str = "a.png") -> ImageRecord:
    return ImageRecord(Path(name), label, name, cause)


KNOWN = [record("NORMAL"), record("PNEUMONIA", "bacteria"), record("PNEUMONIA", "virus")]
UNKNOWN_CAUSE = [*KNOWN, record("PNEUMONIA", name="mystery.png")]


@pytest.mark.parametrize(
    ("records", "target", "classes", "labels"),
    [
        (KNOWN, "auto", ("NORMAL", "BACTERIA", "VIRUS"), ["NORMAL", "BACTERIA", "VIRUS"]),
        (KNOWN, "cause", ("NORMAL", "BACTERIA", "VIRUS"), ["NORMAL", "BACTERIA", "VIRUS"]),
        (KNOWN, "binary", ("NORMAL", "PNEUMONIA"), ["NORMAL", "PNEUMONIA", "PNEUMONIA"]),
        (KNOWN, "classes", ("NORMAL", "PNEUMONIA"), ["NORMAL", "PNEUMONIA", "PNEUMONIA"]),
        (KNOWN[:2], "auto", ("NORMAL", "BACTERIA"), ["NORMAL", "BACTERIA"]),
        (UNKNOWN_CAUSE, "auto", ("NORMAL", "PNEUMONIA"), ["NORMAL", "PNEUMONIA", "PNEUMONIA", "PNEUMONIA"]),
        ([record("Virus"), record("normal")], "auto", ("NORMAL", "VIRUS"), ["VIRUS", "NORMAL"]),
        ([record("VIRUS"), record("NORMAL")], "binary", ("NORMAL", "PNEUMONIA"), ["PNEUMONIA", "NORMAL"]),
        ([record("well"), record("ill")], "auto", ("ill", "well"), ["well", "ill"]),
    ],
)
def test_a_target_gives_the_classes_and_every_record_its_own(
    records: list[ImageRecord], target: str, classes: tuple[str, ...], labels: list[str]
) -> None:
    label_set, labelled = choose_labels(RecordTable.of(records), target, None)
    assert label_set.classes == classes
    assert [r.label for r in labelled] == labels
    assert paths(labelled) == paths(records)


@pytest.mark.parametrize(
    ("records", "target", "positive", "message"),
    [
        (KNOWN, "cauze", None, r"data\.target must be one of auto, binary, cause, classes, got 'cauze'"),
        (UNKNOWN_CAUSE, "cause", None, r"1 pneumonia images do not tell.*mystery\.png.*data\.target=binary"),
        (
            [record("ill"), record("well")],
            "binary",
            None,
            r"data\.target=binary needs.*\['ill', 'well'\].*target=classes",
        ),
        ([record("ill"), record("well")], "cause", None, r"data\.target=cause needs"),
        ([record("NORMAL")], "auto", None, r"only one class was found: \['NORMAL'\] in 1 images"),
        (KNOWN, "binary", ["VIRUS"], r"data\.positive names \['VIRUS'\].*choose from"),
    ],
)
def test_a_target_that_does_not_fit_the_data_is_refused(
    records: list[ImageRecord], target: str, positive: list[str] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        choose_labels(RecordTable.of(records), target, positive)


@pytest.mark.parametrize(
    ("labels", "positive", "expected"),
    [
        (["NORMAL", "BACTERIA", "VIRUS"], None, ("BACTERIA", "VIRUS")),
        (["NORMAL", "BACTERIA", "VIRUS"], ["VIRUS"], ("VIRUS",)),
        (["NORMAL", "PNEUMONIA"], [], ()),
        (["BACTERIA", "VIRUS"], None, ()),  # pneumonia against pneumonia has no two-class view
        (["ill", "well"], None, ()),
        (["ill", "well"], ["ill"], ("ill",)),
        (["COVID", "normal", "pneumonia"], None, ("pneumonia",)),
    ],
)
def test_the_positive_classes_are_those_named_or_those_of_pneumonia(
    labels: list[str], positive: list[str] | None, expected: tuple[str, ...]
) -> None:
    assert choose_labels(RecordTable.of(record(name) for name in labels), "auto", positive)[0].positive == expected


# The real set


def test_the_real_set_has_the_counts_that_its_description_states(shared: Path) -> None:
    records = read_kaggle_folder(shared / "data" / "chest_xray")
    assert len(records) == 5856
    assert Counter((r.split, r.label) for r in records) == {
        ("train", "NORMAL"): 1341,
        ("train", "PNEUMONIA"): 3875,
        ("val", "NORMAL"): 8,
        ("val", "PNEUMONIA"): 8,
        ("test", "NORMAL"): 234,
        ("test", "PNEUMONIA"): 390,
    }
    assert choose_labels(records, "auto", None)[0].classes == ("NORMAL", "BACTERIA", "VIRUS")
    (odd,) = [r for r in records if r.path.stem == "person447_virus_921_1"]
    assert (odd.patient_id, odd.cause, odd.split) == ("virus-447", "virus", "train")


@pytest.mark.parametrize(
    ("patient_key", "common"), [("number", 291), ("class_number", 264), ("prefix", 170), ("full", 0)]
)
def test_train_and_test_share_as_many_patients_as_each_reading_is_known_to(
    shared: Path, patient_key: str, common: int
) -> None:
    records = read_kaggle_folder(shared / "data" / "chest_xray", patient_key=patient_key)
    sides = [{r.patient_id for r in records if r.split == split} for split in ("train", "test")]
    assert len(sides[0] & sides[1]) == common
