"""A recipe of a lesson: what it trains, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pneumolit.config import CONFIG_DIR, flatten
from pneumolit.lessons.plan import LESSONS, Lesson, Phantoms, plan_lesson
from pneumolit.lessons.run import MEASURES
from pneumolit.lessons.words import WORDS

Compose = Callable[..., dict[str, Any]]
Command = Callable[..., Any]


@pytest.fixture(scope="module")
def planned(compose_config: Compose) -> Callable[..., Lesson]:
    """`planned(name, *overrides)`: a lesson as its recipe says."""

    def plan(name: str, *overrides: str) -> Lesson:
        cfg = compose_config(f"experiment=lesson/{name}", *overrides)
        return plan_lesson(cfg, cfg.pop("lesson"), [override.partition("=")[0] for override in overrides])

    return plan


def test_every_lesson_has_a_recipe_a_measure_and_words() -> None:
    recipes = {path.stem for path in (CONFIG_DIR / "experiment" / "lesson").glob("[!_]*.yaml")}
    assert set(LESSONS) == recipes == set(MEASURES) == set(WORDS)


@pytest.mark.parametrize(
    ("name", "key", "wrong", "right"),
    [
        ("patient_split", "data.patient_key", "image", "full"),
        ("validation_of_16", "data.val_fraction", 0.0325, 0.3),
        ("batch_norm", "model.bn_inference", "batch", "running"),
    ],
)
def test_wrong_and_right_differ_in_one_key(
    planned: Callable[..., Lesson], name: str, key: str, wrong: Any, right: Any
) -> None:
    first, second = (flatten(run.cfg) for run in planned(name).runs)
    assert {k for k in first if first[k] != second[k]} == {key}
    assert (first[key], second[key]) == (wrong, right)


def test_twenty_candidates_differ_in_their_draws_alone(planned: Callable[..., Lesson]) -> None:
    runs = planned("best_of_20", "seed=5").runs
    flat = [flatten(run.cfg) for run in runs]
    assert len({run.name for run in runs}) == 20
    assert [cfg["seed"] for cfg in flat] == list(range(5, 25)) and [cfg["data.seed"] for cfg in flat] == list(range(20))
    assert {k for cfg in flat for k in cfg if cfg[k] != flat[0][k]} == {"seed", "data.seed"}


def test_lesson_on_the_split_has_several_films_of_a_patient(planned: Callable[..., Lesson]) -> None:
    phantoms = planned("patient_split").phantoms
    assert min(phantoms.films) > 1 and phantoms.same_stance and phantoms.density < 1
    assert planned("class_mix").phantoms == Phantoms(patients=300)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["test=true"], r"test=true has no place in a lesson"),
        (["data.root=/films"], r"a lesson draws its own phantoms.*leave them out"),
        (["data.patient_key=full"], r"data\.patient_key is what the run `wrong` of this lesson is about"),
        (
            ["+lesson.phantoms.patient=9"],
            r"lesson\.phantoms\.patient is no key.*did you mean lesson\.phantoms\.patients\?",
        ),
        (["lesson.phantoms.patients=few"], r"lesson\.phantoms\.patients must be .*'few'"),
        (["lesson.new_patients=5"], r"lesson\.new_patients must be a whole number of at least 8, got 5"),
        (["lesson.phantoms.density=low"], r"lesson\.phantoms\.density must be a number above 0 .*'low'"),
        (["lesson.phantoms.films=many"], r"lesson\.phantoms\.films must be a whole number .*'many'"),
        (["lesson.phantoms.same_stance=2"], r"lesson\.phantoms\.same_stance must be true or false, got 2"),
        (["+lesson.seeds=3"], r"lesson\.seeds has no effect on patient_split"),
        (["lesson.name=class_mix"], r"lesson\.runs of class_mix must be model, got \['wrong', 'right'\]"),
        (["lesson.name=nap"], r"lesson\.name must be one of patient_split, .*got 'nap'"),
        (["lesson.runs.right={data.patient_key: nobody}"], r"data\.patient_key must be one of full, .*'nobody'"),
        (["run_dir=outputs"], r"a lesson is one command that starts anew"),
        (["resume=true"], r"a lesson is one command that starts anew"),
        (["optim.lr=-1"], r"optim\.lr must be"),
    ],
)
def test_what_a_lesson_cannot_be_is_said_in_a_sentence(command: Command, arguments: list[str], words: str) -> None:
    outcome = command("train", "experiment=lesson/patient_split", *arguments)
    assert outcome.code == 2
    assert re.search(words, outcome.err), outcome.err
    assert outcome.err.count("\n") == 1 and outcome.left == []


@pytest.mark.parametrize(
    ("name", "arguments"), [("train", ["--multirun", "seed=0,1"]), ("tune", ["search=head", "n_trials=2"])]
)
def test_lesson_is_neither_swept_nor_searched(command: Command, name: str, arguments: list[str]) -> None:
    outcome = command(name, "experiment=lesson/patient_split", *arguments)
    assert outcome.code == 2
    assert "a lesson runs by itself" in outcome.err
    assert outcome.left == []


def test_key_that_a_run_does_not_have_is_named_with_the_run(compose_config: Compose) -> None:
    cfg = compose_config("experiment=lesson/patient_split")
    content = {**cfg.pop("lesson"), "runs": {"wrong": {}, "right": {"data.patients": "full"}}}
    with pytest.raises(ValueError, match=r"lesson\.runs\.right: data\.patients is no key of a run"):
        plan_lesson(cfg, content, [])


def test_lesson_by_name_alone_is_told_how_to_start(command: Command, tmp_path: Path) -> None:
    outcome = command("train", "+lesson=patient_split")
    assert outcome.code == 2
    assert "experiment=lesson/NAME" in outcome.err
