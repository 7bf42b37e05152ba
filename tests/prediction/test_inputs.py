"""What `input=` names: every image once, in one order, whatever it is called; anything else with one sentence."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumolit.prediction.inputs import Inputs, read_names
from tests.data.dicom_files import dicom_bytes

ODD = ["a b.png", "it's.png", 'say "x".png', "a=b,c.png", "[1].png", "line\nbreak.png", "폐렴.jpeg", "-.png"]
ODD.append("x" * 251 + ".png")


def names_of(*texts: str, folder: Path) -> list[str]:
    return [os.path.relpath(path, folder) for path in Inputs(texts)]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_a_folder_is_every_image_below_it_in_one_order_and_counts_what_is_left_aside(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.png", "b/1.JPEG", "a.jpg", "c.dcm", "notes.txt", "Thumbs.db", ".hidden.png", "d.tif")
    inputs = Inputs([str(tmp_path)])
    found = [os.path.relpath(path, tmp_path) for path in inputs]
    assert found == ["a.jpg", "b/1.JPEG", "b/2.png", "c.dcm", "d.tif"]
    assert inputs.num_aside == 2
    assert [os.path.relpath(path, tmp_path) for path in inputs] == found and inputs.num_aside == 2


def test_a_file_that_is_named_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    assert names_of(str(tmp_path / "notes.txt"), folder=tmp_path) == ["notes.txt"]


@pytest.mark.parametrize("name", ODD)
def test_letters_of_any_kind_stand_for_themselves(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name, "other.png")
    assert names_of(str(tmp_path / name), folder=tmp_path) == [name]
    assert name in names_of(str(tmp_path), folder=tmp_path)


def test_a_pattern_matches_and_a_file_that_is_called_so_comes_first(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/2.png", "a/b/3.png", "a/x.txt")
    assert names_of(f"{tmp_path}/a/*.png", folder=tmp_path) == ["a/1.png", "a/2.png"]
    assert names_of(f"{tmp_path}/**/*.png", folder=tmp_path) == ["a/1.png", "a/2.png", "a/b/3.png"]
    touch(tmp_path, "a/[1].png")
    assert names_of(f"{tmp_path}/a/[1].png", folder=tmp_path) == ["a/[1].png"]


def test_dicom_files_without_a_suffix_are_found_by_how_they_begin(tmp_path: Path) -> None:
    (tmp_path / "IM0001").write_bytes(dicom_bytes(np.zeros((4, 4), dtype=np.uint8)))
    (tmp_path / "1.2.840.7").write_bytes(dicom_bytes(np.zeros((4, 4), dtype=np.uint8)))
    touch(tmp_path, "README")
    assert names_of(str(tmp_path), folder=tmp_path) == ["1.2.840.7", "IM0001"]


def test_links_are_followed_and_a_loop_of_them_ends(tmp_path: Path) -> None:
    touch(tmp_path, "films/1.png", "elsewhere/2.png")
    (tmp_path / "films" / "up").symlink_to(tmp_path / "films")
    (tmp_path / "films" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "films" / "self.png").symlink_to(tmp_path / "films" / "self.png")
    (tmp_path / "films" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = names_of(str(tmp_path / "films"), folder=tmp_path / "films")
    assert found == ["1.png", "gone.png", "more/2.png", "self.png"]


def test_a_pipe_in_a_folder_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "film.png")
    assert names_of(str(tmp_path), folder=tmp_path) == ["film.png"]


@pytest.mark.parametrize(
    ("text", "words"), [("nowhere", "does not exist"), ("nowhere/*.png", "matches no file"), ("", "does not exist")]
)
def test_what_names_nothing_is_refused_before_anything_is_read(text: str, words: str) -> None:
    with pytest.raises(FileNotFoundError, match=words):
        Inputs([text])
    with pytest.raises(FileNotFoundError, match="input is empty"):
        Inputs([])


@given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda n: not set(n) & set(b"\0\n\r"))), st.booleans())
def test_a_list_gives_back_every_name_in_it(names: list[bytes], with_nulls: bool) -> None:
    between = b"\0" if with_nulls and len(names) > 0 else b"\n"
    text = b"".join(name + between for name in names)
    assert [os.fsencode(name) for name in read_names(io.BytesIO(text))] == names


def test_names_that_are_longer_than_what_is_read_at_a_time_stay_whole() -> None:
    names = [b"a" * 100_000, b"b" * 70_000]
    for between in (b"\0", b"\n"):
        found = list(read_names(io.BytesIO(between.join(names))))
        assert [os.fsencode(name) for name in found] == names
