"""`docs/frozen.md`: what was decided before a look at test is what stands and what was looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

import pytest

from benchmarks._results.records import Record, read_records, recipe_hash
from pneumolit.config import CONFIG_DIR
from pneumolit.rundir import read_yaml

_DOCS = CONFIG_DIR.parent / "docs"
_LINE = re.compile(r"^\| `(\w+)` \| (\d{4}-\d\d-\d\d \d\d:\d\d) \| ([0-9a-f, ]+) \| ([\d, ]+) \|", re.M)


@dataclass(frozen=True)
class Frozen:
    """A candidate as it was frozen: when (UTC), configurations (of each fold, if it is an ensemble) and seeds."""

    time: datetime
    configurations: tuple[str, ...]
    seeds: tuple[int, ...]


def _frozen() -> dict[str, Frozen]:
    return {
        name: Frozen(
            datetime.fromisoformat(f"{time}+00:00"),
            tuple(configurations.split(", ")),
            tuple(int(seed) for seed in seeds.split(", ")),
        )
        for name, time, configurations, seeds in _LINE.findall((_DOCS / "frozen.md").read_text(encoding="utf-8"))
    }


def _looked_at() -> list[Record]:
    """Records of the recipes of our own that were scored on test."""
    records = read_records(_DOCS / "results" / "runs")
    return [record for record in records if "/" not in record.row and "test" in record.metrics["sets"]]


def test_at_most_three_candidates_are_frozen() -> None:
    assert 1 <= len(_frozen()) <= 3


@pytest.mark.parametrize("name", sorted(_frozen()))
def test_a_frozen_candidate_is_the_recipe_as_it_stands(name: str) -> None:
    if not name.endswith("_ensemble"):
        assert _frozen()[name].configurations == (recipe_hash(f"experiment={name}"),)
        return
    params = read_yaml(CONFIG_DIR / "sweep" / f"{name}.yaml")["hydra"]["sweeper"]["params"]
    choices = (f"experiment={params['experiment']}", f"sweep={name}")
    folds = str(params["data.fold"]).split(",")
    assert _frozen()[name].configurations == tuple(recipe_hash(*choices, f"data.fold={fold}") for fold in folds)


def test_nothing_of_our_own_was_scored_on_test_but_what_was_frozen_before_and_that_once() -> None:
    frozen = _frozen()
    for record in _looked_at():
        assert record.row in frozen, record.row
        own = frozen[record.row]
        members = record.metrics.get("members", 0)  # whose configurations were compared when the record was written
        assert record.seed in own.seeds and (members or record.metrics["configuration"] in own.configurations)
        looks = record.metrics["looks"]
        assert len(looks) in {1, 1 + members}, (record.row, record.seed)
        assert all(datetime.fromisoformat(look["time"]) > own.time for look in looks)


def test_of_a_candidate_every_seed_that_was_frozen_is_told() -> None:
    told = {(record.row, record.seed) for record in _looked_at()}
    for row in {row for row, _ in told}:
        assert {seed for name, seed in told if name == row} == set(_frozen()[row].seeds)
