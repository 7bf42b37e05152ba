"""Runs that differ in their seed alone: the mean of each configuration, and how far luck moves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pneumolit.comparison.method import RUN
from pneumolit.comparison.rows import RowGroup
from pneumolit.comparison.run import Result, Settings
from pneumolit.evaluation.seeds import METRICS, mean_over_runs
from pneumolit.report.comparison import MethodRow
from pneumolit.report.comparison_tables import stacked
from pneumolit.report.tables import Table, number

_WORDS = {name: "AUROC" if name == "auroc" else name.replace("_", " ") for name in METRICS}
_SPREAD = ("auroc", "accuracy")  # whose parts are shown


def seeds_part(result: Result, settings: Settings) -> tuple[str, Sequence[str], Sequence[Table]]:
    """Means over the seeds of every configuration of which there are several, for the page.

    Returns:
        Heading, paragraphs and tables; without such a configuration the paragraph says so.
    """
    heading, group, rows = "Means over seeds", result.group, result.page.methods
    found: dict[tuple[str, str], list[int]] = {}
    for place, method in enumerate(group.methods):
        if method.kind == RUN and method.facts.configuration:
            # The same settings on another data set are no further seed.
            found.setdefault((method.facts.configuration, method.facts.trained_on), []).append(place)
    each = {key: _one_per_seed(group, places) for key, places in found.items()}
    several = {key: places for key, places in each.items() if len(places) > 1}
    if not several:
        return heading, ["No two of the runs on these images differ in their seed alone."], []
    if not group.has_scores:
        return heading, ["Means over seeds need a class that means pneumonia, and images with and without it."], []
    lines, keys = [], []
    for places in several.values():
        means = mean_over_runs(
            group.positives,
            group.scores[:, places],
            group.called[:, places],
            group.patient_ids,
            num_resamples=settings.num_resamples,
            seed=settings.seed,
        )
        line, key = _line([rows[i] for i in places], means)
        lines.append(line)
        keys.append(key)
    counted = "patients" if group.has_patients else "images"
    words = [
        "The mean of several seeds is what a configuration is worth; a single run may have been lucky. Intervals hold "
        f"95 % and are over {counted} and seeds: the standard error is shown in its two parts. More seeds make the "
        "second smaller, and the first only as far as it holds what single runs make of single images; since the "
        "second holds that too, both together are rather too large. A configuration's runs are the lines of the "
        "leaderboard with these numbers."
    ]
    left_out = sum(len(found[key]) - len(places) for key, places in several.items())
    if left_out:
        words.append(
            f"Runs with the seed of another one of their configuration are not counted ({left_out}): of those with one "
            "seed that of the first folder by name counts, whatever its numbers."
        )
    header = (
        "numbers", "configuration", "seeds", *(_WORDS[name] for name in METRICS),
        *(f"{_WORDS[name]}: error\nby patients / by seeds" for name in _SPREAD),
    )  # fmt: skip
    table = Table(header, tuple(lines), num_labels=2, sort_keys=tuple(keys))
    return heading, words, [table]


def _one_per_seed(group: RowGroup, places: Sequence[int]) -> list[int]:
    """Of runs with the same seed the first by folder: the first of the leaderboard would be the luckiest."""
    first: dict[int | None, int] = {}
    for place in sorted(places, key=lambda place: group.methods[place].source):
        first.setdefault(group.methods[place].facts.seed, place)
    return sorted(first.values())


def _line(
    rows: Sequence[MethodRow], means: dict[str, dict[str, Any]]
) -> tuple[tuple[str, ...], tuple[float | str, ...]]:
    name = _common(rows)
    numbers = ", ".join(str(row.number) for row in rows)
    cells = [stacked(means[key]["mean"], means[key]["interval"]) for key in METRICS]
    spread = [f"{number(means[key]['se_patients'], 4)} / {number(means[key]['se_seeds'], 4)}" for key in _SPREAD]
    sort = [float(means[key]["mean"]) for key in METRICS]
    errors = [float(np.hypot(means[key]["se_patients"], means[key]["se_seeds"])) for key in _SPREAD]
    return (numbers, name, str(len(rows)), *cells, *spread), (numbers, name, len(rows), *sort, *errors)


def _common(rows: Sequence[MethodRow]) -> str:
    """The parts that all names share."""
    parts = [row.name.split(", ") for row in rows]
    shared = [part for part in parts[0] if all(part in other for other in parts)]
    return ", ".join(shared) or str(rows[0].facts.get("model", rows[0].name))
