"""The demo set: names, numbers and splits as in the Kaggle set; reproducible; whole or not there."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pneumolit.data import demo
from pneumolit.data.demo import make_demo

SMALL: dict[str, Any] = {"num_train_patients": 24, "num_test_patients": 12, "size": 64}
NORMAL_NAME = re.compile(r"(?:NORMAL2-)?IM-\d{4}-\d{4}(?:-\d{4})?\.jpeg")
PNEUMONIA_NAME = re.compile(r"person\d+_(?:bacteria|virus)_\d+\.jpeg")


def series_and_number(name: str) -> tuple[str, int]:
    """The patient key as the shared data README reads it: prefix or kind, and number."""
    if match := re.match(r"person(\d+)_(bacteria|virus)_", name):
        return match[2], int(match[1])
    match = re.match(r"(NORMAL2-)?IM-(\d{4})-", name)
    assert match is not None, name
    return "NORMAL2" if match[1] else "IM", int(match[2])


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo(tmp_path_factory.mktemp("demo") / "phantoms", seed=0, **SMALL)


@pytest.fixture(scope="module")
def full_enrolment() -> list[demo._Patient]:
    """Who is in the demo of the default size, without drawing it."""
    return demo._enrol(np.random.default_rng([0, 0]), 512, 152)


def test_every_name_follows_the_pattern_of_its_class_folder(root: Path) -> None:
    films = list(root.rglob("*.jpeg"))
    assert films
    for film in films:
        pattern = {"NORMAL": NORMAL_NAME, "PNEUMONIA": PNEUMONIA_NAME}[film.parent.name]
        assert pattern.fullmatch(film.name), film


def test_all_four_series_occur_in_train_and_in_test(root: Path) -> None:
    for split in ("train", "test"):
        found = {series_and_number(p.name)[0] for p in (root / split).rglob("*.jpeg")}
        assert found == {"IM", "NORMAL2", "bacteria", "virus"}


def test_films_are_square_gray_jpeg_of_the_size_asked_for(root: Path) -> None:
    for film in root.rglob("*.jpeg"):
        with Image.open(film) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "L", (64, 64))


def test_same_seed_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    again = make_demo(tmp_path / "again", seed=0, **SMALL)
    assert contents(again) == contents(root)


def test_another_seed_gives_other_pictures_and_other_patients(root: Path, tmp_path: Path) -> None:
    first, other = contents(root), contents(make_demo(tmp_path / "other", seed=1, **SMALL))
    assert first.keys() != other.keys()
    assert not set(first.values()) & set(other.values())


@pytest.mark.parametrize("seed", range(5))
def test_no_number_of_a_series_is_in_two_splits(seed: int) -> None:
    splits: dict[tuple[str, int], set[str]] = {}
    for patient in demo._enrol(np.random.default_rng([seed, 0]), 512, 152):
        splits.setdefault((patient.series, patient.number), set()).add(patient.split)
    assert all(len(found) == 1 for found in splits.values())


def test_no_file_name_is_given_twice(full_enrolment: list[demo._Patient]) -> None:
    names = [name for patient in full_enrolment for name in patient.file_names]
    assert len(names) == len(set(names))


def test_class_and_cause_shares_are_those_of_the_official_split(full_enrolment: list[demo._Patient]) -> None:
    films = {
        split: {
            series: sum(len(p.file_names) for p in full_enrolment if (p.split, p.series) == (split, series))
            for series in ("IM", "NORMAL2", "bacteria", "virus")
        }
        for split in ("train", "test")
    }
    for split, share in (("train", 0.743), ("test", 0.625)):
        pneumonia = films[split]["bacteria"] + films[split]["virus"]
        assert pneumonia / sum(films[split].values()) == pytest.approx(share, abs=0.02)
        assert films[split]["bacteria"] / films[split]["virus"] == pytest.approx(2.0, abs=0.2)
    assert 700 <= sum(films["train"].values()) <= 900
    assert 240 <= sum(films["test"].values()) <= 300


def test_val_holds_eight_films_of_each_class(root: Path) -> None:
    assert len(list((root / "val" / "NORMAL").iterdir())) == 8
    assert len(list((root / "val" / "PNEUMONIA").iterdir())) == 8


def test_two_films_of_one_patient_differ_but_are_alike(root: Path) -> None:
    films: dict[tuple[str, int], list[np.ndarray]] = {}
    for path in sorted((root / "train").rglob("*.jpeg")):
        films.setdefault(series_and_number(path.name), []).append(np.asarray(Image.open(path), dtype=float))
    pairs = [found[:2] for found in films.values() if len(found) > 1]
    assert pairs
    for first, second in pairs:
        assert np.abs(first - second).mean() > 1.0
        assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.3


def test_a_run_cut_off_half_way_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[demo._Patient] = []
    draw = demo._write_patient

    def draw_then_stop(root: Path, seed: int, size: int, patient: demo._Patient) -> None:
        if len(written) > 3:
            raise KeyboardInterrupt
        written.append(patient)
        draw(root, seed, size, patient)

    monkeypatch.setattr(demo, "_write_patient", draw_then_stop)
    with pytest.raises(KeyboardInterrupt):
        make_demo(tmp_path / "phantoms", **SMALL)
    assert written
    assert list(tmp_path.iterdir()) == []


def test_the_folder_has_no_name_until_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    draw = demo._write_patient

    def draw_and_look(root: Path, seed: int, size: int, patient: demo._Patient) -> None:
        draw(root, seed, size, patient)
        seen.append((tmp_path / "phantoms").exists())

    monkeypatch.setattr(demo, "_write_patient", draw_and_look)
    make_demo(tmp_path / "phantoms", **SMALL)
    assert seen
    assert not any(seen)


def test_a_killed_run_that_left_its_partial_folder_does_not_disturb_the_next(tmp_path: Path) -> None:
    left_over = tmp_path / ".phantoms.0123.partial" / "train"
    left_over.mkdir(parents=True)
    assert make_demo(tmp_path / "phantoms", **SMALL).is_dir()


def test_two_makers_at_once_end_with_one_whole_folder(root: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: make_demo(tmp_path / "phantoms", seed=0, **SMALL), range(2)))
    assert made == [tmp_path / "phantoms"] * 2
    assert [p.name for p in tmp_path.iterdir()] == ["phantoms"]
    assert contents(made[0]) == contents(root)


def test_a_whole_folder_is_returned_without_drawing_it_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(demo, "_write_patient", never)
    assert make_demo(root, seed=0, **SMALL) == root


def test_a_demo_of_another_seed_or_version_is_refused_and_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(root)
    with pytest.raises(ValueError, match="another demo set"):
        make_demo(root, seed=7, **SMALL)
    monkeypatch.setattr(demo, "DEMO_VERSION", -1)
    with pytest.raises(ValueError, match="another demo set"):
        make_demo(root, seed=0, **SMALL)
    assert contents(root) == before


def test_a_folder_of_somebody_elses_files_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="not a demo set"):
        make_demo(tmp_path, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "phantoms").mkdir()
    assert (make_demo(tmp_path / "phantoms", **SMALL) / "train" / "NORMAL").is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"size": 8}, "at least 64 pixels, got 8"),
        ({"num_test_patients": 1000}, "ask for fewer test patients"),
        ({"num_train_patients": 0}, "at least 8 train patients, got 0"),
    ],
)
def test_arguments_out_of_range_are_refused_and_named(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make_demo(tmp_path / "phantoms", **arguments)
    assert list(tmp_path.iterdir()) == []
