"""What an audit says of single files: odd ones are named, plain films are not, strays are listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumolit.auditing.files import find_strays, inspect_file, inspect_files
from pneumolit.data.records import read_image_folder

GRAY = np.random.default_rng(0).integers(0, 256, (120, 150)).astype(np.uint8)


def turned(folder: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GRAY).save(folder / "turned.jpeg", exif=exif)
    return folder / "turned.jpeg"


def saved(image: Image.Image, name: str, kind: str | None = None) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        image.save(folder / name, kind)
        return folder / name

    return write


PLAIN = Image.fromarray(GRAY)
TINTED = Image.fromarray(np.stack([GRAY, GRAY, GRAY // 2], axis=2))


@pytest.mark.parametrize(
    ("write", "kind", "what"),
    [
        (saved(TINTED, "a.jpeg"), "color", "not gray: channels"),
        (saved(Image.fromarray(GRAY.astype(np.uint16) * 257), "a.png"), "depth", "more than 8 bits"),
        (saved(PLAIN.convert("RGBA"), "a.png"), "channels", "partly transparent"),
        (saved(PLAIN.convert("P"), "a.png"), "channels", "a palette"),
        (saved(PLAIN.convert("1"), "a.png"), "channels", "one bit"),
        (turned, "rotation", "EXIF orientation 6"),
        (saved(PLAIN.resize((400, 120)), "a.jpeg"), "shape", "400 x 120"),
        (saved(PLAIN.resize((60, 50)), "a.jpeg"), "tiny", "60 x 50"),
        (saved(PLAIN, "a.jpg", "PNG"), "suffix", "named .jpg, but PNG inside"),
    ],
)
def test_an_odd_file_is_named_with_what_is_odd(
    write: Callable[[Path], Path], kind: str, what: str, tmp_path: Path
) -> None:
    ((found, words),) = inspect_file(write(tmp_path)).odd
    assert found == kind and what in words


@pytest.mark.parametrize("name", ["a.jpeg", "a.JPG", "a.png"])
def test_a_plain_film_is_not_odd_even_where_it_has_three_equal_channels(name: str, tmp_path: Path) -> None:
    saved(PLAIN, name)(tmp_path)
    assert inspect_file(tmp_path / name).odd == ()
    saved(PLAIN.convert("RGB"), name)(tmp_path)
    facts = inspect_file(tmp_path / name)
    assert (facts.odd, facts.width, facts.height) == ((), 150, 120)
    assert facts.num_bytes == (tmp_path / name).stat().st_size


def test_an_orientation_that_has_no_meaning_is_not_called_a_turn(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    PLAIN.save(tmp_path / "a.jpeg", exif=exif)
    assert inspect_file(tmp_path / "a.jpeg").odd == ()


def test_files_keep_their_order_and_broken_ones_have_no_size(tmp_path: Path) -> None:
    for number in range(70):
        Image.fromarray(GRAY).resize((120 + number, 120)).save(tmp_path / f"{number}.png")
    (tmp_path / "5.png").write_bytes(b"no image")
    seen: list[tuple[str, int, int]] = []
    found = inspect_files(tmp_path, [f"{n}.png" for n in range(70)], [7], lambda *told: seen.append(told))
    assert [f.width for f in found] == [0 if n in (5, 7) else 120 + n for n in range(70)]
    assert seen == [("inspecting", 64, 70), ("inspecting", 70, 70)]


def test_what_lies_beside_the_images_is_listed_with_its_reason(
    write_films: Callable[..., Path], tmp_path: Path
) -> None:
    root = write_films(tmp_path / "set", {"train/A": ["1.png"], "train/B": ["2.png"], "test/A": ["3.png"]})
    (root / "train/A/._1.png").write_text("")
    (root / "train/A/notes.txt").write_text("")
    (root / "train/README").write_text("")
    (root / "train/B/deeper").mkdir()
    PLAIN.save(root / "train/B/film.bmp")
    assert find_strays(root, read_image_folder(root)) == [
        ("train/A/._1.png", "hidden, such as a Mac leaves behind"),
        ("train/A/notes.txt", "not named as an image"),
        ("train/B/deeper", "a folder; its content is not read"),
        ("train/B/film.bmp", "not named as an image, though it is one"),
        ("train/README", "not named as an image"),
    ]
