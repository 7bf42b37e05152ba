"""What a teacher says of training films: averaged, complete, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pneumolit.data.table import ImageRecord, RecordTable
from pneumolit.data.teacher import teacher_log_odds

FILMS = RecordTable.of(ImageRecord(Path(f"train/{name}.jpeg"), "NORMAL", name) for name in "abc")


def write(folder: Path, name: str, rows: dict[str, str], header: str = "path,score") -> Path:
    path = folder / name / "predictions.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([header, *(f"train/{film}.jpeg,{score}" for film, score in rows.items())]) + "\n")
    return path


def test_folds_together_name_every_film_and_several_scores_of_one_are_averaged(tmp_path: Path) -> None:
    write(tmp_path, "fold0", {"a": "1.5", "b": "-2"})
    write(tmp_path, "fold1", {"c": "4"})
    write(tmp_path, "seed1", {"a": "2.5", "other": "9"})
    assert teacher_log_odds(FILMS, str(tmp_path / "*" / "predictions.csv")).tolist() == [2.0, -2.0, 4.0]


def test_films_that_nobody_names_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    path = write(tmp_path, "one", {"b": "1"})
    with pytest.raises(
        ValueError, match=r"says nothing of 2 of 3 training films, the first \['train/a\.jpeg', 'train/c"
    ):
        teacher_log_odds(FILMS, str(path))


def test_a_pattern_without_files_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"distill\.teacher=.*names no file; give the predictions\.csv"):
        teacher_log_odds(FILMS, str(tmp_path / "*.csv"))


@pytest.mark.parametrize(
    ("header", "score", "why"),
    [("path,prob", "1", "cannot be read as predictions"), ("path,score", "much", "cannot be read as predictions"),
     ("path,score", "nan", "holds a score that is no number")],
)  # fmt: skip
def test_a_file_that_holds_no_scores_is_refused_and_named(tmp_path: Path, header: str, score: str, why: str) -> None:
    path = write(tmp_path, "one", {"a": score}, header)
    with pytest.raises(
        ValueError, match=f"one/predictions.csv.* {why}" if "cannot" in why else f"predictions.csv {why}"
    ):
        teacher_log_odds(FILMS, str(path))
