"""Some 270 malformed and odd files through the reader and a training run: a film, or a refusal in words."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pneumolit.data.reader import SUFFIXES, ImageError, read_gray, read_size
from tests.malformed import MalformedFile, write_malformed
from tests.processor_time import times_slower

Command = Callable[..., Any]

# All files by one process of their own: what it prints beside the answers and the memory it takes are its alone.
READ_ALL = """
import json, re, resource, sys, warnings
from pathlib import Path
from pneumolit.data.reader import ImageError, read_gray, read_size
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # where a protection is missing the machine shall live on
warnings.filterwarnings("ignore", module=r"PIL\\.")  # as every command does
for line in sys.stdin:
    path, answers = Path(json.loads(line)), []
    for read in (read_size, lambda p: read_gray(p).shape, lambda p: read_gray(p, 16).shape):
        try:
            answers.append(read(path))
        except Exception as error:
            answers.append((type(error).__name__, str(error)))
    # Not `ru_maxrss`, which begins with what the process that started this one took.
    peak = int(re.search("VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
    print(json.dumps([answers, peak]), flush=True)
"""
TINY = (
    "data=image_folder", "backbone=test_resnet", "model.pretrained=false", "model.image_size=32",
    "data.batch_size=16", "data.val_fraction=0.25", "data.store_size=64", "trainer.max_epochs=1",
    "trainer.accelerator=cpu", "data.stress=false", "precision=float32", "logger=none",
)  # fmt: skip


class Answer(NamedTuple):
    """What the reader made of a file: its size by the header, its shape, its shape as a square; or the error."""

    size: list[Any]
    shape: list[Any]
    square: list[Any]
    peak_mb: int

    @property
    def is_read(self) -> bool:
        return self.square == [16, 16]

    @property
    def errors(self) -> list[list[Any]]:
        return [answer for answer in self[:3] if isinstance(answer[0], str)]


class Corpus(NamedTuple):
    """The files, what the reader said to each, and what it printed to nobody."""

    answers: dict[MalformedFile, Answer]
    noise: str

    def unlike(self, holds: Callable[[MalformedFile, Answer], bool]) -> dict[str, Any]:
        """Names and answers of the files of which something does not hold."""
        return {
            f"{file.name!a}: {file.problem}": answer for file, answer in self.answers.items() if not holds(file, answer)
        }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    files = write_malformed(tmp_path_factory.mktemp("malformed") / "files", special=True)
    asked = "".join(json.dumps(str(file.path)) + "\n" for file in files)
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL], input=asked, capture_output=True, text=True, check=True, timeout=600
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    answers = {
        file: Answer(found[0], found[1], found[2], peak) for file, (found, peak) in zip(files, lines, strict=True)
    }
    return Corpus(answers, done.stderr)


# The corpus


def test_the_corpus_has_every_format_damaged_in_every_way_and_is_the_same_every_time(tmp_path: Path) -> None:
    begun = time.process_time()
    files = write_malformed(tmp_path / "one")
    assert time.process_time() - begun < 5 * times_slower()
    assert len(files) > 200 and all(file.path.is_file() for file in files)
    kinds = ("plain.jpeg", "progressive.jpeg", "plain.png", "16_bits.png", "palette.png", "plain.dcm", "runs.dcm")
    ways = ("header_only", "half", "end_lost", "zeros", "flips", "first_flip", "header_flips")
    assert {f"{way}_{kind}" for kind in kinds for way in ways} <= {file.name for file in files}
    assert sum(file.path.stat().st_size for file in files) < 20e6
    for one, other in zip(files, write_malformed(tmp_path / "other"), strict=True):
        assert one.path.read_bytes() == other.path.read_bytes(), one.name


def test_what_the_other_tests_rest_on_is_there(corpus: Corpus) -> None:
    expected = [file.expected for file in corpus.answers]
    assert min(expected.count(kind) for kind in ("refused", "read", "either")) >= 20
    assert expected.count("either") < 0.2 * len(expected)


# The reader


def test_whatever_is_no_film_is_refused(corpus: Corpus) -> None:
    assert corpus.unlike(lambda file, answer: file.expected != "refused" or not answer.is_read) == {}


def test_odd_and_sound_films_are_read_upright_and_whole(corpus: Corpus) -> None:
    def is_right(file: MalformedFile, answer: Answer) -> bool:
        return answer.is_read and answer.shape == list(file.size[::-1]) and sorted(answer.size) == sorted(file.size)

    assert corpus.unlike(lambda file, answer: file.expected != "read" or is_right(file, answer)) == {}


def test_a_film_is_read_or_refused_whatever_its_size_is_to_be(corpus: Corpus) -> None:
    assert corpus.unlike(lambda file, answer: answer.is_read == (not answer.errors)) == {}


def test_a_refusal_is_one_readable_sentence_without_the_path(corpus: Corpus) -> None:
    def is_readable(file: MalformedFile, answer: Answer) -> bool:
        return all(
            kind in ("ImageError", "PassingError")
            and 8 < len(words) < 300
            and words.isprintable()
            and str(file.path.parent) not in words
            and file.name not in words
            for kind, words in answer.errors
        )

    assert corpus.unlike(is_readable) == {}


def test_no_library_adds_remarks_of_its_own(corpus: Corpus) -> None:
    assert corpus.noise == ""


def test_no_bomb_takes_much_memory(corpus: Corpus) -> None:
    peaks = {file.name: answer.peak_mb for file, answer in corpus.answers.items()}
    assert sum(name.count("bomb") for name in peaks) >= 6
    assert max(peaks.values()) < 600, peaks


@pytest.mark.parametrize("name", ["pipe.jpeg", "pipe.dcm", "link_to_pipe.jpeg"])
def test_a_pipe_is_refused_and_not_waited_for(corpus: Corpus, name: str) -> None:
    (file,) = (file for file in corpus.answers if file.name == name)
    for read in (read_size, read_gray):
        with pytest.raises(ImageError, match="a pipe"):
            read(file.path)


# Training


@pytest.fixture
def phantoms(demo_root: Path, tmp_path: Path) -> Path:
    """Phantoms without a validation split, that a test may spoil."""
    root = Path(shutil.copytree(demo_root, tmp_path / "phantoms"))
    shutil.rmtree(root / "val", ignore_errors=True)
    return root


def spoiled(root: Path) -> dict[str, MalformedFile]:
    """The corpus among the films of a class, by path below the root; what a listing of images passes over is not."""
    files = write_malformed(root / "train" / "PNEUMONIA", special=True)
    return {
        file.path.relative_to(root).as_posix(): file
        for file in files
        if file.path.suffix.lower() in SUFFIXES and file.path.is_file() and "bomb" not in file.name
    }


@pytest.fixture
def without_bombs(phantoms: Path) -> dict[str, MalformedFile]:
    """The corpus among the phantoms but for the bombs, which take a second each and are read above."""
    files = spoiled(phantoms)
    for path in (phantoms / "train" / "PNEUMONIA").glob("*bomb*"):
        path.unlink()
    return files


def counts(files: dict[str, MalformedFile], *expected: str) -> int:
    return sum(file.expected in expected for file in files.values())


def test_training_stops_with_one_message_that_lists_them(
    command: Command, phantoms: Path, without_bombs: dict[str, MalformedFile]
) -> None:
    outcome = command("train", f"data.root={phantoms}", *TINY)
    assert outcome.code == 2 and outcome.left == []
    assert "Traceback" not in outcome.err and outcome.err.count("pneumolit: ") == 1
    found = re.match(r"pneumolit: (\d+) of \d+ image files cannot be read:\n", outcome.err)
    assert found is not None
    refused = counts(without_bombs, "refused")
    assert refused <= int(found[1]) <= refused + counts(without_bombs, "either")
    *listed, rest, advice = outcome.err.splitlines()[1:]
    assert "data.on_bad_image=skip" in advice and re.fullmatch(r"  \.\.\. and \d+ more", rest)
    assert len(listed) == 50 and all(line.startswith(f"  {phantoms}") and line.isprintable() for line in listed)


def test_training_without_them_goes_on_and_says_which(
    command: Command, phantoms: Path, without_bombs: dict[str, MalformedFile]
) -> None:
    outcome = command("train", f"data.root={phantoms}", *TINY, "data.on_bad_image=skip")
    assert outcome.code == 0, outcome.err
    assert "Traceback" not in outcome.err + outcome.out
    (file,) = (path for path in outcome.left if path.name == "split.csv")
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as handle:
        splits = {row["path"]: row["split"] for row in csv.DictReader(handle)}
    assert set(without_bombs) <= set(splits)
    sides = {name: (file.expected, splits[name] == "unreadable") for name, file in without_bombs.items()}
    wrong = {name for name, side in sides.items() if side in {("refused", False), ("read", True)}}
    assert wrong == set()
