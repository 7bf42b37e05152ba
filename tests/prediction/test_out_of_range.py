"""Films of another kind are told, ordinary ones left alone, and how often it is right stands beside the run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pneumolit.data.film import Exam, Film
from pneumolit.prediction.appearance import describe
from pneumolit.prediction.generated import changed_films, no_films
from pneumolit.prediction.opening import keep_reference, make_reference, open_scorer
from pneumolit.prediction.out_of_range import FILE_CHECKS, IMAGE_CHECKS, WORDS, file_checks, image_checks
from pneumolit.prediction.reference import Reference, load_reference
from pneumolit.prediction.scorer import Scorer
from pneumolit.rundir import RunDir

FILM = Film(np.zeros((8, 8), dtype=np.uint8), 1500, 1200, "DICOM", 0.0, Exam("DX", "CHEST", "PA", 3.0, True))


@pytest.fixture(scope="module")
def looked_at(other_run: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Scorer]:
    run = RunDir(Path(shutil.copytree(other_run, tmp_path_factory.mktemp("reference") / "run")))
    scorer = open_scorer(run.path)
    quiet = Console(quiet=True)
    keep_reference(run, make_reference(run, scorer, data_root=None, cache_dir=str(cache_dir), console=quiet))
    return run, open_scorer(run.path)


def reference_of(scorer: Scorer) -> Reference:
    assert scorer.reference is not None
    return scorer.reference


def test_it_is_made_once_and_kept_for_these_weights_alone(looked_at: tuple[RunDir, Scorer]) -> None:
    run, scorer = looked_at
    assert scorer.reference is not None
    assert load_reference(run.reference_arrays_file, run.reference_file, made_for="other weights") is None


def test_false_alarms_are_counted_on_the_block_and_are_few(looked_at: tuple[RunDir, Scorer]) -> None:
    rates = reference_of(looked_at[1]).rates
    assert rates["counted_on"] == "block validation" and rates["num_films"] >= 5
    assert rates["false_alarms"]["any"] <= 0.2  # of a dozen phantoms; on real films it is one in a hundred
    assert set(rates["false_alarms"]) == {*IMAGE_CHECKS, "any"}


def test_no_test_film_has_a_part_in_it(looked_at: tuple[RunDir, Scorer], cache_dir: Path) -> None:
    from pneumolit.prediction import opening
    from pneumolit.training.rescore import reopen_data

    run, _ = looked_at
    import yaml

    cfg = yaml.safe_load(run.config_file.read_text())
    data = reopen_data(run, cfg, None, cache_dir, Console(quiet=True))
    tests = {image.tobytes() for image in data.store.images[data.rows("test")]}
    for films in opening._chosen_films(data)[:3]:
        assert len(films) and not tests & {film.tobytes() for film in films}


@pytest.mark.parametrize("case", ["inverted", "rotated_90", "rotated_180", "rotated_270", "noisy", "flat"])
def test_what_was_done_to_a_film_is_named(looked_at: tuple[RunDir, Scorer], case: str) -> None:
    detected = reference_of(looked_at[1]).rates["detected"][case]
    assert detected["named"] >= 0.8 and detected["any"] >= detected["named"]


def test_pictures_that_are_no_films_are_told(looked_at: tuple[RunDir, Scorer]) -> None:
    _, scorer = looked_at
    for name, pictures in no_films(10, scorer.sides[0]):
        found = image_checks(describe(pictures, scorer.models[0].look(pictures)[1]), reference_of(scorer))
        assert np.mean([bool(one) for one in found]) >= 0.7, name


def test_generated_cases_are_the_same_every_time_and_differ_from_films() -> None:
    films = np.random.default_rng(0).integers(0, 256, (3, 48, 48)).astype(np.uint8)
    for (name, first), (again, second) in zip(changed_films(films), changed_films(films), strict=True):
        assert name == again and first.shape == films.shape and first.dtype == np.uint8
        np.testing.assert_array_equal(first, second)
        assert (first != films).mean() > 0.2
    assert all(pictures.shape == (2, 32, 32) and pictures.std() > 10 for _, pictures in no_films(2, 32))


@pytest.mark.parametrize(
    ("film", "word"),
    [
        (replace(FILM, colorfulness=30.0), "not_gray"),
        (replace(FILM, width=300, height=1200), "aspect"),
        (replace(FILM, width=5000, height=1200), "aspect"),
        (replace(FILM, width=300, height=1200, is_turned=True), "aspect"),
        (replace(FILM, width=80, height=90), "tiny"),
        (replace(FILM, exam=Exam("CT", "CHEST", "", None, True)), "modality"),
        (replace(FILM, exam=Exam("DX", "HAND", "PA", None, True)), "body_part"),
        (replace(FILM, exam=Exam("DX", "CHEST", "LL", None, True)), "view"),
        (replace(FILM, exam=Exam("DX", "CHEST", "PA", 40.0, True)), "age"),
        (replace(FILM, exam=Exam("DX", "CHEST", "PA", 0.2, True)), "age"),
        (replace(FILM, exam=Exam("DX", "CHEST", "PA", None, False)), "no_window"),
    ],
)
def test_what_a_file_says_is_taken_at_its_word(looked_at: tuple[RunDir, Scorer], film: Film, word: str) -> None:
    own = reference_of(looked_at[1])
    children = replace(own, limits={**own.limits, "age_low": 1.0, "age_high": 5.0})
    assert file_checks(film, children) == (word,)
    assert file_checks(FILM, children) == file_checks(replace(FILM, exam=None), None) == ()
    assert file_checks(replace(FILM, exam=Exam("DX", "", "", 5.9, True)), children) == ()


def test_every_check_has_words() -> None:
    assert set(WORDS) == {*IMAGE_CHECKS, *FILE_CHECKS}


def test_damaged_files_are_named_and_not_read_as_something_else(
    looked_at: tuple[RunDir, Scorer], tmp_path: Path
) -> None:
    run, _ = looked_at
    arrays, told = tmp_path / "a.safetensors", tmp_path / "a.json"
    shutil.copy(run.reference_arrays_file, arrays)
    shutil.copy(run.reference_file, told)
    arrays.write_bytes(arrays.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"a\.safetensors is damaged"):
        load_reference(arrays, told)
    told.write_text('{"format_version": 1}')
    with pytest.raises(
        ValueError, match=r"a\.json is damaged: limits is missing; .* or remove it and reference\.safetensors"
    ):
        load_reference(run.reference_arrays_file, told)
