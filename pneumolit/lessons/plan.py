"""What a lesson trains and on which phantoms, from its recipe; nothing is built here."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pneumolit.config import flatten, refuse_unknown_keys
from pneumolit.stage_plan import check_run

# Every lesson with the runs that its number is made of.
LESSONS: Mapping[str, tuple[str, ...]] = {
    "patient_split": ("wrong", "right"),
    "validation_of_16": ("wrong", "right"),
    "threshold_on_test": ("model",),
    "best_of_20": ("candidate",),
    "augmented_validation": ("model",),
    "batch_norm": ("wrong", "right"),
    "class_mix": ("model",),
}
_REPEATED = "best_of_20"  # by other seeds; the others train each run once
_KEYS = ("name", "phantoms", "new_patients", "seeds", "runs")


@dataclass(frozen=True)
class Phantoms:
    """Which phantoms a lesson is taught on; the arguments of `make_demo` that a recipe may set.

    Attributes:
        patients: of training and validation together.
        test_patients: of the test split.
        films: of a patient, repeated along each series.
        density: of lesions; below 1 they are hard to see.
        same_stance: whether the films of a patient are alike, as films taken minutes apart are.
    """

    patients: int = 200
    test_patients: int = 8
    films: tuple[int, ...] = (1, 2, 1, 3)
    density: float = 1.0
    same_stance: bool = False


@dataclass(frozen=True)
class PlannedRun:
    """One training run of a lesson: the name of its folder, what it changes, its complete configuration."""

    name: str
    changes: Mapping[str, Any]
    cfg: dict[str, Any]


@dataclass(frozen=True)
class Lesson:
    """A lesson, checked.

    Attributes:
        name: one of `LESSONS`.
        phantoms: to learn from.
        new_patients: how many further phantoms stand for the patients whom the model meets after its training.
        runs: to train.
        cfg: the configuration that all runs start from.
        seeds: how often each run is trained; above 1 they are not scored one by one.
    """

    name: str
    phantoms: Phantoms
    new_patients: int
    runs: tuple[PlannedRun, ...]
    cfg: dict[str, Any]
    seeds: int = 1


def plan_lesson(cfg: Mapping[str, Any], content: Any, given: Sequence[str]) -> Lesson:
    """Read the recipe of a lesson.

    Args:
        cfg: complete configuration of a run, its stages written out.
        content: what stands under the key `lesson`.
        given: dotted keys and groups that the command line sets.

    Raises:
        ValueError: a key without effect, a value that does not fit, or a run that is not sound.
    """
    if not isinstance(content, Mapping) or str(content.get("name")) not in LESSONS:
        name = content.get("name") if isinstance(content, Mapping) else content
        raise ValueError(
            f"lesson.name must be one of {', '.join(LESSONS)}, got {name!r}; start one by experiment=lesson/NAME"
        )
    refuse_unknown_keys("lesson", content, _KEYS)
    name, needed = content["name"], LESSONS[content["name"]]
    runs = content.get("runs")
    if not isinstance(runs, Mapping) or tuple(runs) != needed:
        found = list(runs) if isinstance(runs, Mapping) else runs
        raise ValueError(f"lesson.runs of {name} must be {' and '.join(needed)}, got {found}")
    for key, part in (("phantoms", content.get("phantoms")), *((f"runs.{run}", runs[run]) for run in runs)):
        if not isinstance(part, Mapping | None):
            raise ValueError(f"lesson.{key} must be a mapping of keys to values, got {part!r}")
    _refuse_in_vain(cfg, content, given)
    seeds = _count("lesson.seeds", content.get("seeds", 1), least=2 if name == _REPEATED else 1)
    if seeds > 1 and name != _REPEATED:
        raise ValueError(f"lesson.seeds has no effect on {name}; leave it out, and give seed=1 data.seed=1 for another")
    return Lesson(
        name=name,
        phantoms=_read_phantoms(content.get("phantoms") or {}),
        new_patients=_count("lesson.new_patients", content.get("new_patients", 400), least=8),
        runs=_plan_runs(cfg, content["runs"], seeds),
        cfg=copy.deepcopy(dict(cfg)),
        seeds=seeds,
    )


def _plan_runs(cfg: Mapping[str, Any], runs: Mapping[str, Mapping[str, Any]], seeds: int) -> tuple[PlannedRun, ...]:
    """Every run with its changes; with several seeds each with as many splits and starts."""
    planned = []
    for name, changes in runs.items():
        for step in range(seeds):
            own = copy.deepcopy(dict(cfg))
            try:
                for key, value in flatten(changes or {}).items():
                    _set(own, key, value)
            except ValueError as error:
                raise ValueError(f"lesson.runs.{name}: {error}") from None
            if seeds > 1:
                own["seed"] += step
                own["data"]["seed"] += step
            check_run(own)
            planned.append(PlannedRun(f"{name}_{step + 1:02d}" if seeds > 1 else name, flatten(changes or {}), own))
    return tuple(planned)


def _refuse_in_vain(cfg: Mapping[str, Any], content: Mapping[str, Any], given: Sequence[str]) -> None:
    """What would have no effect on a lesson, or would make it another one."""
    if cfg["test"]:
        raise ValueError(
            "test=true has no place in a lesson, which says itself when test is looked at and draws new patients for "
            "the truth; leave it out"
        )
    if cfg["data"]["source"] != "demo" or cfg["data"]["root"] is not None:
        raise ValueError("a lesson draws its own phantoms, so data and data.root have no effect; leave them out")
    for key in given:
        for run, changes in content["runs"].items():
            if key in flatten(changes or {}):
                raise ValueError(f"{key} is what the run `{run}` of this lesson is about; leave it out")


def _count(key: str, value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{key} must be a whole number of at least {least}, got {value!r}")
    return value


def _set(cfg: dict[str, Any], key: str, value: Any) -> None:
    """Change one dotted key, which must be there."""
    *path, leaf = key.split(".")
    for part in path:
        cfg = cfg.get(part) or {}
    if leaf not in cfg:
        raise ValueError(f"{key} is no key of a run; see python -m pneumolit.train --help")
    cfg[leaf] = value


def _read_phantoms(content: Mapping[str, Any]) -> Phantoms:
    """The phantoms of a recipe, checked; `make_demo` checks the rest."""
    refuse_unknown_keys("lesson.phantoms", content, [field.name for field in fields(Phantoms)])
    for key in ("patients", "test_patients"):
        if key in content:
            _count(f"lesson.phantoms.{key}", content[key], least=8)
    films = content.get("films", Phantoms.films)
    films = tuple(films) if isinstance(films, list | tuple) else (films,)
    for number in films:
        _count("lesson.phantoms.films", number)
    density, same_stance = content.get("density", 1.0), content.get("same_stance", False)
    if isinstance(density, bool) or not isinstance(density, int | float) or not 0 < density <= 1:
        raise ValueError(f"lesson.phantoms.density must be a number above 0 and at most 1, got {density!r}")
    if not isinstance(same_stance, bool):
        raise ValueError(f"lesson.phantoms.same_stance must be true or false, got {same_stance!r}")
    return Phantoms(**{**content, "films": films})
