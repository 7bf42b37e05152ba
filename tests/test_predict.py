"""The command `predict`: a row per file whatever it is, the same numbers as the evaluation, nothing lost."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pneumolit
from pneumolit.data.reader import read_gray
from pneumolit.labels import LabelSet
from pneumolit.rundir import RunDir
from tests.data.dicom_files import dicom_bytes
from tests.tables import assert_same_table, rows_of

NO_CHECKS = "checks=false"  # training films are looked at once for a run, and most tests need it not


@pytest.fixture
def films(demo_root: Path, tmp_path: Path) -> Path:
    """Six validation-like films in a folder."""
    folder = tmp_path / "films"
    folder.mkdir()
    for place in sorted((demo_root / "train").rglob("*.jpeg"))[::9][:6]:
        shutil.copy(place, folder / place.name)
    return folder


@pytest.fixture(scope="module")
def checked_run(small_run: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose training films were looked at already."""
    from rich.console import Console

    from pneumolit.prediction.opening import keep_reference, make_reference, open_scorer

    path = Path(shutil.copytree(small_run, tmp_path_factory.mktemp("checked") / "train" / "checked"))
    run, quiet = RunDir(path), Console(quiet=True)
    keep_reference(run, make_reference(run, open_scorer(path), data_root=None, cache_dir=str(cache_dir), console=quiet))
    return path


def test_a_film_has_the_numbers_that_evaluation_gives_it(
    command: Callable[..., Any], copied_run: Path, demo_root: Path, tmp_path: Path
) -> None:
    evaluated = RunDir(copied_run).read_predictions("val")
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{demo_root / path}\n" for path in evaluated.paths))
    from pneumolit.prediction.inputs import Inputs

    with listed.open("rb") as stream:
        paths = list(Inputs(["-"], stdin=stream))
    found = pneumolit.load(copied_run).predict(paths)
    for k, name in enumerate(evaluated.labels.classes):
        np.testing.assert_allclose([p.probs[name] for p in found], evaluated.probs[:, k], atol=1e-5)
    np.testing.assert_allclose([p.score or 0.0 for p in found], evaluated.scores, atol=1e-4)
    calls = json.loads((copied_run / "evaluation/val/metrics.json").read_text())["rules"]["primary"]
    said = np.array([p.decision == "pneumonia" for p in found])
    assert np.mean(said == evaluated.positives) == pytest.approx(calls["accuracy"])


def test_a_film_alone_has_the_same_probability_as_among_others(films: Path, copied_run: Path) -> None:
    model = pneumolit.load(copied_run)
    paths = sorted(str(path) for path in films.iterdir()) * 13
    together = model.predict(paths)
    for place in (0, 3, 65, 77):
        alone = model.predict(paths[place])[0]
        assert alone.probability == pytest.approx(together[place].probability, abs=1e-5)


def test_one_film_as_jpeg_png_and_dicom_has_one_probability(
    command: Callable[..., Any], copied_run: Path, films: Path, tmp_path: Path
) -> None:
    source = next(films.glob("*.jpeg"))
    gray = read_gray(source)
    wide = gray.astype(np.uint16) * 257
    folder = tmp_path / "one"
    folder.mkdir()
    shutil.copy(source, folder / "film.jpeg")
    Image.fromarray(gray).save(folder / "film.png")
    Image.fromarray(wide).save(folder / "film16.png")
    for name, data in {
        "film8": dicom_bytes(gray),
        "film8i": dicom_bytes(255 - gray, photometric="MONOCHROME1"),
        "film16": dicom_bytes(wide),
        "film16i": dicom_bytes(65535 - wide, photometric="MONOCHROME1"),
    }.items():
        (folder / f"{name}.dcm").write_bytes(data)
    done = command("predict", f"run_dir={copied_run}", f"input={folder}", f"output={tmp_path}/o.csv", NO_CHECKS)
    assert done.code == 0, done.err
    chances = [float(row["probability"]) for row in rows_of(tmp_path / "o.csv")]
    assert len(chances) == 7 and max(chances) - min(chances) < 1e-5


def test_a_broken_file_becomes_a_row_with_its_reason_and_the_exit_code_says_so(
    command: Callable[..., Any], copied_run: Path, films: Path, tmp_path: Path
) -> None:
    (films / "broken.jpeg").write_bytes(b"no image")
    (films / "empty.png").write_bytes(b"")
    done = command("predict", f"run_dir={copied_run}", f"input={films}", f"output={tmp_path}/o.csv", NO_CHECKS)
    rows = {Path(row["path"]).name: row for row in rows_of(tmp_path / "o.csv")}
    assert done.code == 1 and len(rows) == 8
    assert rows["broken.jpeg"]["reason"] == "not a JPEG, PNG or DICOM image" and not rows["broken.jpeg"]["probability"]
    assert sum(bool(row["probability"]) for row in rows.values()) == 6
    assert "2 could not be read" in done.out and "Traceback" not in done.out + done.err


def test_on_error_stop_ends_with_the_file_and_keeps_no_table(
    command: Callable[..., Any], copied_run: Path, films: Path, tmp_path: Path
) -> None:
    (films / "broken.jpeg").write_bytes(b"no image")
    line = (
        "predict",
        f"run_dir={copied_run}",
        f"input={films}",
        f"output={tmp_path}/o.csv",
        NO_CHECKS,
        "on_error=stop",
    )
    done = command(*line)
    assert done.code == 2 and "broken.jpeg cannot be read: not a JPEG" in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "o.csv").exists()


def test_a_table_that_was_cut_off_is_gone_on_with_and_nothing_is_read_twice(
    command: Callable[..., Any], copied_run: Path, films: Path, tmp_path: Path
) -> None:
    line = ("predict", f"run_dir={copied_run}", f"input={films}", f"output={tmp_path}/o.csv", NO_CHECKS)
    (films / "zz.jpeg").write_bytes(b"no image")
    assert command(*line, "on_error=stop").code == 2  # nothing of this batch is kept
    command(*line)
    whole = (tmp_path / "o.csv").read_bytes()
    from pneumolit.prediction.table import TableWriter

    partial = tmp_path / ".o.csv.partial"
    original = TableWriter.finish

    def killed(self: TableWriter) -> None:
        partial.write_bytes(whole[: len(whole) // 2])
        raise KeyboardInterrupt

    TableWriter.finish = killed  # type: ignore[method-assign]
    try:
        assert command(*line).code == 130
    finally:
        TableWriter.finish = original  # type: ignore[method-assign]
    assert (tmp_path / "o.csv").read_bytes() == whole  # the earlier one stands
    first = sorted(films.iterdir())[0]
    first.rename(first.with_name(first.name + ".away"))
    (films / first.name).write_bytes(b"was read already")
    done = command(*line)
    assert "were there from a call that was cut off" in done.out
    table = (tmp_path / "o.csv").read_bytes()
    kept = whole[: whole[: len(whole) // 2].rindex(b"\n") + 1]
    assert table.startswith(kept)
    (tmp_path / "whole.csv").write_bytes(whole)
    assert_same_table(tmp_path / "o.csv", tmp_path / "whole.csv")


def test_a_table_begun_with_other_files_is_not_gone_on_with(
    command: Callable[..., Any], copied_run: Path, films: Path, tmp_path: Path
) -> None:
    from pneumolit.prediction.table import TableWriter

    line = ("predict", f"run_dir={copied_run}", f"output={tmp_path}/o.csv", NO_CHECKS)
    original = TableWriter.finish
    TableWriter.finish = lambda self: (_ for _ in ()).throw(KeyboardInterrupt())  # type: ignore[method-assign]
    try:
        command(*line, f"input={films}")
    finally:
        TableWriter.finish = original  # type: ignore[method-assign]
    done = command(*line, f"input={sorted(films.iterdir())[2]}")
    assert done.code == 2 and "was begun with other files" in done.err


@pytest.mark.parametrize(
    "name", ["a b.jpeg", "it's.jpeg", 'say "x".jpeg', "a=b,c.jpeg", "[1].jpeg", "l\nb.jpeg", "폐렴.jpeg"]
)
def test_names_of_any_letters_come_back_from_the_command_line(
    command: Callable[..., Any], copied_run: Path, films: Path, tmp_path: Path, name: str
) -> None:
    shutil.copy(next(films.iterdir()), tmp_path / name)
    done = command(
        "predict", f"run_dir={copied_run}", f"input={tmp_path / name}", f"output={tmp_path}/o.csv", NO_CHECKS
    )
    assert done.code == 0, done.err
    assert [row["path"] for row in rows_of(tmp_path / "o.csv")] == [str(tmp_path / name)]


def test_several_runs_say_each_its_own_in_one_table(
    command: Callable[..., Any], copied_run: Path, other_run: Path, films: Path, tmp_path: Path
) -> None:
    (films / "broken.png").write_bytes(b"")
    both = f"run_dir=[{copied_run},{other_run}]"
    done = command("predict", both, f"input={films}", f"output={tmp_path}/o.jsonl", NO_CHECKS)
    told = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert done.code == 1 and len(told) == 14
    assert [row["run"] for row in told[:4]] == ["copied", "other"] * 2
    assert [row["path"] for row in told[::2]] == [row["path"] for row in told[1::2]]
    assert {"prob_BACTERIA"} <= set(told[0]) | set(told[2]) and "prob_PNEUMONIA" in {*told[1], *told[3]}


def test_modes_prevalence_and_the_band_reach_the_table(
    command: Callable[..., Any], copied_run: Path, films: Path, tmp_path: Path
) -> None:
    line = ("predict", f"run_dir={copied_run}", f"input={films}", f"output={tmp_path}/o.csv", NO_CHECKS)
    command(*line)
    plain = [float(row["probability"]) for row in rows_of(tmp_path / "o.csv")]
    command(*line, "prevalence=0.1", "mode=screen", "abstain=[0.0,1.0]")
    rows = rows_of(tmp_path / "o.csv")
    odds = np.array(plain) / (1 - np.array(plain)) / 9
    np.testing.assert_allclose([float(row["probability"]) for row in rows], odds / (1 + odds), rtol=1e-4)
    assert {row["decision"] for row in rows} == {"abstain"}
    about = json.loads((tmp_path / "o.csv.about.json").read_text())
    assert about["runs"][0]["mode"] == "screen" and about["runs"][0]["prevalence"] == 0.1
    assert about["decisions"] == {"abstain": 6}


@pytest.mark.parametrize("setting", ["mode=0.9", "prevalence=0.1", "abstain=[0.2,0.8]"])
def test_a_rule_for_pneumonia_is_refused_where_no_class_means_it(
    films: Path, copied_run: Path, tmp_path: Path, setting: str, monkeypatch: pytest.MonkeyPatch,
    command: Callable[..., Any],
) -> None:  # fmt: skip
    from pneumolit.prediction.opening import open_scorer

    without = LabelSet(("BACTERIA", "NORMAL", "VIRUS"))
    monkeypatch.setattr(
        "pneumolit.prediction.run.open_scorer",
        lambda place: replace(open_scorer(place), labels=without, calibration=None, points=()),
    )
    table = tmp_path / "o.csv"
    line = ("predict", f"run_dir={copied_run}", f"input={films}", f"output={table}", NO_CHECKS)
    done = command(*line, setting)
    assert done.code == 2 and f"{setting.partition('=')[0]}=" in done.err
    assert "has no effect because no class of" in done.err and "leave it out" in done.err
    done = command(*line)
    assert done.code == 0, done.err
    record = json.loads(table.with_name("o.csv.about.json").read_text())
    assert record["runs"][0]["rule"] == "likeliest class" and "threshold" not in record["runs"][0]


def test_films_that_training_read_by_another_reader_are_told(
    films: Path, copied_run: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    line = ("predict", f"run_dir={copied_run}", f"input={films}", f"output={tmp_path}/o.csv", NO_CHECKS)
    assert "read by reader" not in command(*line).out
    file = RunDir(copied_run).data_file
    content = json.loads(file.read_text())
    del content["reader"]  # as before it was written down
    file.write_text(json.dumps(content))
    done = command(*line)
    assert done.code == 0 and "was trained on films read by reader 2, this one is" in " ".join(done.out.split())


def test_a_film_for_which_the_model_gives_no_number_is_never_called_normal(
    copied_run: Path, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pneumolit.prediction.scorer import Scorer

    whole = Scorer.score

    def score(self: Scorer, *args: Any, **kwargs: Any) -> Any:
        found = whole(self, *args, **kwargs)
        found.log_odds[1], found.probs[1] = np.nan, np.nan  # float16 that overflowed
        return found

    monkeypatch.setattr(Scorer, "score", score)
    found = pneumolit.load(copied_run).predict(sorted(films.glob("*.jpeg")))
    assert [p.is_read for p in found] == [True, False, True, True, True, True]
    assert found[1].reason.startswith("the model gives no number for this film") and found[1].decision == ""


def test_two_tables_of_one_stem_keep_their_own_records(
    command: Callable[..., Any], copied_run: Path, films: Path, tmp_path: Path
) -> None:
    for name in ("o.csv", "o.jsonl", "o.csv"):
        done = command("predict", f"run_dir={copied_run}", f"input={films}", f"output={tmp_path / name}", NO_CHECKS)
        assert done.code == 0 and "replaced" not in done.out, done.out + done.err
    assert {path.name for path in tmp_path.glob("*.about.json")} == {"o.csv.about.json", "o.jsonl.about.json"}


def test_films_of_another_kind_are_warned_of_and_the_rate_of_false_alarms_is_told(
    command: Callable[..., Any], checked_run: Path, films: Path, tmp_path: Path
) -> None:
    source = next(films.glob("*.jpeg"))
    Image.fromarray(255 - read_gray(source)).save(films / "negative.png")
    Image.fromarray(np.stack([read_gray(source), 255 - read_gray(source), read_gray(source)], axis=2)).save(
        films / "color.png"
    )
    secret: dict[str, Any] = {
        "PatientAge": "067Y",
        "ViewPosition": "LL",
        "BodyPartExamined": "ABDOMEN",
        "Modality": "CT",
    }
    (films / "lateral.dcm").write_bytes(dicom_bytes(read_gray(source), **secret))
    done = command("predict", f"run_dir={checked_run}", f"input={films}", f"output={tmp_path}/o.csv")
    rows = {Path(row["path"]).name: row for row in rows_of(tmp_path / "o.csv")}
    assert "inverted" in rows["negative.png"]["warnings"].split(";")
    assert "not_gray" in rows["color.png"]["warnings"].split(";")
    assert {"modality", "body_part", "view"} <= set(rows["lateral.dcm"]["warnings"].split(";"))
    assert "of ordinary films" in done.out and "black and white are exchanged" in done.out
    written = "".join(path.read_text(errors="replace") for path in tmp_path.glob("o.*")) + done.out
    assert not [word for word in (*secret.values(), "Secret", "SECRET") if word not in ("LL", "CT") and word in written]


@pytest.fixture(scope="module")
def map_run(tiny_config: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose last map has four places."""
    from rich.console import Console

    from pneumolit.training.fit import fit

    folder = tmp_path_factory.mktemp("mapped") / "train" / "run"
    fit(tiny_config("model.image_size=64", "trainer.max_epochs=1"), folder, Console(quiet=True))
    return folder


def test_heat_maps_of_a_model_whose_map_has_one_place_are_refused(
    command: Callable[..., Any], copied_run: Path, films: Path, tmp_path: Path
) -> None:
    done = command("predict", f"run_dir={copied_run}", f"input={films}", f"output={tmp_path}/o.csv", "heatmaps=true")
    assert done.code == 2 and "ends in a map of 1 x 1 places" in done.err and not (tmp_path / "o.csv").exists()


def test_heat_maps_lie_beside_the_table(
    command: Callable[..., Any], map_run: Path, films: Path, tmp_path: Path
) -> None:
    done = command(
        "predict", f"run_dir={map_run}", f"input={films}", f"output={tmp_path}/o.csv", NO_CHECKS, "heatmaps=true"
    )
    assert done.code == 0, done.err
    pictures = [Path(row["heatmap"]) for row in rows_of(tmp_path / "o.csv")]
    assert len(set(pictures)) == 6 and all(p.parent == tmp_path / "o_heatmaps" for p in pictures)
    with Image.open(pictures[0]) as picture:
        assert picture.size == (672, 358)  # with a line that says whose heat it is
    assert f"heat    {tmp_path / 'o_heatmaps'}" in done.out


def test_pictures_are_not_taken_for_films_and_those_of_an_earlier_table_go(
    command: Callable[..., Any], map_run: Path, films: Path
) -> None:
    line = ("predict", f"run_dir={map_run}", f"output={films}/o.csv", NO_CHECKS, "heatmaps=true")
    for number in (6, 6, 1):
        done = command(*line, f"input={films if number == 6 else min(films.glob('*.jpeg'))}")
        assert done.code == 0, done.err
        assert len(rows_of(films / "o.csv")) == number
        drawn = [row["heatmap"] for row in rows_of(films / "o.csv")]
        assert sorted(drawn) == sorted(str(path) for path in (films / "o_heatmaps").glob("*.png"))


def test_pictures_that_have_no_place_are_refused_before_anything_is_scored(
    command: Callable[..., Any], map_run: Path, films: Path, tmp_path: Path
) -> None:
    table, film = tmp_path / "o.csv", next(films.iterdir())
    line = ("predict", f"run_dir={map_run}", f"input={films}", f"output={table}", NO_CHECKS)
    for place, words in ((table, "is the file of the table; give another folder"), (film, "it is a file")):
        done = command(*line, f"heatmaps={place}")
        assert done.code == 2 and words in done.err and not table.exists() and "Errno" not in done.err


def test_pictures_go_into_no_folder_of_something_else(
    command: Callable[..., Any], map_run: Path, films: Path, tmp_path: Path
) -> None:
    line = ("predict", f"run_dir={map_run}", f"input={films}", f"output={tmp_path}/o.csv", NO_CHECKS)
    done = command(*line, f"heatmaps={films}")
    assert done.code == 2 and "holds something else" in done.err, done.err
    maps = f"heatmaps={tmp_path / 'maps'}"
    assert command(*line, maps).code == command(*line, maps).code == 0
    done = command(*line[:-2], f"output={tmp_path}/other.csv", NO_CHECKS, maps)
    assert done.code == 2 and f"holds the pictures of {tmp_path}/o.csv" in done.err, done.err
    assert all(Path(row["heatmap"]).is_file() for row in rows_of(tmp_path / "o.csv"))
    piped = ("predict", f"run_dir={map_run}", f"input={films}", "output=-", NO_CHECKS, f"heatmaps={tmp_path / 'm'}")
    assert command(*piped).code == 0
    done = command(*piped)  # of which table the pictures are, nobody knows any more
    assert done.code == 2 and "pictures of a table on standard output" in done.err, done.err
    for word in ("yes", "1", "off"):
        done = command(*line, f"heatmaps={word}")
        assert done.code == 2 and "heatmaps must be true, false or a folder" in done.err
        assert not Path(word).exists()


def test_a_run_that_was_cut_off_before_its_calibration_says_what_to_do_first(
    command: Callable[..., Any], copied_run: Path, films: Path
) -> None:
    (copied_run / "calibration.json").unlink()  # somebody's own doing: what was evaluated by it is still there
    line = ("predict", f"run_dir={copied_run}", f"input={min(films.glob('*.jpeg'))}", NO_CHECKS)
    done = command(*line)
    assert done.code == 2, done.err
    first = f"first: python -m pneumolit.evaluate run_dir={copied_run} split=val"
    assert "has no calibration, since it was cut off after its last epoch" in done.err and first in done.err
    assert command("evaluate", f"run_dir={copied_run}", "split=val").code == 0
    assert command(*line).code == 0


@pytest.mark.parametrize(
    ("name", "text"), [("ward7.csv", "path,label\na.png,normal\n"), ("a.jsonl", '{"path": "a"}\n')]
)
def test_a_file_that_is_no_table_of_predictions_is_not_written_over(
    command: Callable[..., Any], copied_run: Path, films: Path, tmp_path: Path, name: str, text: str
) -> None:
    own = tmp_path / name
    own.write_text(text)
    line = ("predict", f"run_dir={copied_run}", f"input={min(films.glob('*.jpeg'))}", NO_CHECKS)
    done = command(*line, f"output={own}")
    assert done.code == 2 and f"{own} is there and is no table of predictions; give another" in done.err, done.err
    assert own.read_text() == text and [path.name for path in tmp_path.glob(f".{name}*")] == []
    own.write_text("")
    assert command(*line, f"output={own}").code == 0 == command(*line, f"output={own}").code


def test_a_table_of_other_films_is_not_replaced_without_a_word(
    command: Callable[..., Any], copied_run: Path, films: Path, tmp_path: Path
) -> None:
    one = min(films.glob("*.jpeg"))
    line = ("predict", f"run_dir={copied_run}", NO_CHECKS)
    for given in (films, one):
        command(*line, f"input={given}")
    tables = {path.name for path in (tmp_path / "out" / "predict").glob("*.csv")}
    assert tables == {f"copied_{films.name}.csv", f"copied_{one.stem}.csv"}
    said = [command(*line, f"input={given}", f"output={tmp_path}/o.csv").out for given in (films, films, one)]
    assert ["replaced the table" in text for text in said] == [False, False, True]
    assert f"replaced the table of input={films}" in said[-1]


def test_a_list_without_names_leaves_no_table(checked_run: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "pneumolit.predict", f"run_dir={checked_run}", "input=-", "output=-"]
    done = subprocess.run(line, input="", capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "") and "holds no image file" in done.stderr


def test_what_is_no_name_of_a_file_is_refused_from_python_too(copied_run: Path) -> None:
    model = pneumolit.load(copied_run)
    for paths, found in (([np.zeros((4, 4))], "ndarray"), ([1], "int"), (None, "NoneType")):
        with pytest.raises(TypeError, match=f"paths must be names of files, got {found}"):
            model.predict(paths)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="load takes the name of one folder, got list"):
        pneumolit.load([str(copied_run)])  # type: ignore[arg-type]


def test_a_table_on_standard_output_is_alone_there(checked_run: Path, films: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "pneumolit.predict", f"run_dir={checked_run}", "input=-", "output=-"]
    names = "\0".join(str(path) for path in films.iterdir())
    done = subprocess.run(line, input=names, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(csv.DictReader(io.StringIO(done.stdout)))) == 6
    assert "6 rows" in done.stderr and list(tmp_path.glob("outputs/**/*")) == []


def test_a_run_whose_films_are_gone_still_predicts_and_says_what_is_not_checked(
    command: Callable[..., Any], copied_run: Path, films: Path, tmp_path: Path
) -> None:
    config = RunDir(copied_run).config_file
    config.write_text(config.read_text().replace("/demo", "/gone"))
    text = config.read_text()
    import yaml

    cfg = yaml.safe_load(text)
    cfg["data"]["root"] = str(tmp_path / "gone")
    config.write_text(yaml.safe_dump(cfg))
    done = command("predict", f"run_dir={copied_run}", f"input={films}", f"output={tmp_path}/o.csv")
    assert done.code == 0 and "only what files say is checked" in done.out
    done = command("predict", f"run_dir={copied_run}", f"input={films}", f"data.root={tmp_path}/nowhere")
    assert done.code == 2 and "nowhere" in done.err


def test_films_of_a_run_that_were_looked_at_are_not_asked_for_again(
    command: Callable[..., Any], checked_run: Path, films: Path
) -> None:
    done = command("predict", f"run_dir={checked_run}", f"input={films}", f"data.root={films}")
    assert done.code == 2 and "its films were looked at already; leave it out" in done.err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("input=x",), "run_dir is missing"),
        (("run_dir=RUN",), "input is missing"),
        (("run_dir=RUN", "input=nowhere"), "input=nowhere does not exist"),
        (("run_dir=nowhere", "input=FILMS"), "run_dir=nowhere is not a folder"),
        (("run_dir=RUN", "input=FILMS", "mode=scren"), "did you mean screen"),
        (("run_dir=RUN", "input=FILMS", "prevalence=2"), "prevalence must lie strictly between 0 and 1"),
        (("run_dir=RUN", "input=FILMS", "tta=all_of_them"), "tta must be one of none, flip, crops, all"),
        (("run_dir=RUN", "input=FILMS", "format=xlsx"), "format must be csv or jsonl, got 'xlsx'"),
        (("run_dir=RUN", "input=~nobody_here/films"), "this machine has no such user; give the whole path"),
        (("run_dir=RUN", "input=FILMS", "on_error=ignore"), "on_error must be one of skip, stop"),
        (("run_dir=RUN", "input=FILMS", "output=o.xlsx"), "output must be a file that ends in .csv or .jsonl"),
        (("run_dir=RUN", "input=FILMS", "output=FILMS"), "output must be a file that ends in"),
        (("run_dir=RUN", "input=EMPTY"), "holds no image file"),
        (("run_dir=RUN", "input=FILMS", "output=o.csv", "format=jsonl"), "say different things"),
        (("run_dir=RUN", "input=FILMS", "data.root=FILMS"), "data.root has no effect with checks=false"),
        (("run_dir=[RUN,RUN]", "input=FILMS"), "copies cannot be told apart"),
        (
            ("run_dir=RUN", "input=FILMS", "output=RUN/config.yaml/o.csv"),
            "config.yaml is a file; give a file in a folder",
        ),
        (("run_dir=RUN", "input=FILMS", "output=/proc/nobody/o.csv"), "cannot be written (No such file or directory"),
        (("run_dir=RUN", "films"), "films is no argument, which are key=value; did you mean input=films?"),
        (("run_dir=MAP", "input=FILMS", "heatmaps=true", "output=-"), "heatmaps=true writes beside the table"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    command: Callable[..., Any], copied_run: Path, map_run: Path, films: Path, tmp_path: Path, given: tuple[str, ...],
    words: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "nothing").mkdir()
    monkeypatch.chdir(tmp_path)
    places = {"RUN": str(copied_run), "MAP": str(map_run), "FILMS": str(films), "EMPTY": str(tmp_path / "nothing")}
    arguments = []
    for text in given:
        for word, place in places.items():
            text = text.replace(word, place)
        arguments.append(text)
    done = command("predict", *arguments, NO_CHECKS)
    assert done.code == 2 and words in done.err and done.err.count("\n") == 1, done.err
    assert [path.name for path in done.left if path.suffix == ".csv" and path.name != "metrics.csv"
            and "predict" in path.parent.name] == []  # fmt: skip


def test_a_run_that_scores_films_by_their_neighbours_is_refused(
    command: Callable[..., Any], copied_run: Path, films: Path
) -> None:
    import torch

    for file in (copied_run / "checkpoints").glob("*.ckpt"):
        content = torch.load(file, weights_only=True)
        content["hyper_parameters"]["hparams"]["batch_statistics"] = ["bn1"]
        torch.save(content, file)
    done = command("predict", f"run_dir={copied_run}", f"input={films}", NO_CHECKS)
    assert done.code == 2 and "a film's score depends on the films beside it" in done.err.replace("so that ", "")


@pytest.mark.slow
def test_sigterm_leaves_a_partial_table_that_is_gone_on_with(
    checked_run: Path, demo_root: Path, tmp_path: Path
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    source = sorted((demo_root / "train").rglob("*.jpeg"))
    for number in range(3000):
        (links / f"{number:05d}.jpeg").symlink_to(source[number % len(source)])
    line = [sys.executable, "-m", "pneumolit.predict", f"run_dir={checked_run}", f"input={links}", "output=o.csv"]
    running = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    partial = tmp_path / ".o.csv.partial"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (partial.is_file() and partial.stat().st_size > 20_000):
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 143 and "Traceback" not in err, err
    assert partial.is_file() and not (tmp_path / "o.csv").exists()
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "from a call that was cut off" in done.stdout, done.stderr
    rows = rows_of(tmp_path / "o.csv")
    assert [Path(row["path"]).name for row in rows] == [f"{number:05d}.jpeg" for number in range(3000)]
    by_film: dict[int, set[str]] = {}
    for number, row in enumerate(rows):
        by_film.setdefault(number % len(source), set()).add(f"{float(row['probability']):.4f}")
    assert max(map(len, by_film.values())) <= 2  # rounding, where batches have other sizes
