"""What a search leaves at its end: trials.csv, tune.md, tune.html and the winner as a recipe."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from filelock import FileLock
from rich.console import Console

from pneumolit.config import monitor_mode
from pneumolit.report.html import Section, run_page
from pneumolit.report.search import COMPLETE, PRUNED, TrialRow, draw_history, draw_importance, draw_slices
from pneumolit.report.tables import Table
from pneumolit.rundir import shortest, write_text
from pneumolit.search.display import say_point
from pneumolit.search.plan import Search
from pneumolit.search.recipe import Recipe
from pneumolit.search.space import Range, describe_space, name_of_key
from pneumolit.search.study import SharedStudy
from pneumolit.sweep.display import say

FAILED, CUT_OFF = "failed", "cut off"
_STATES = {"COMPLETE": COMPLETE, "PRUNED": PRUNED, "FAIL": FAILED, "RUNNING": "running", "WAITING": "waiting"}
_SHOWN = 20  # trials of the tables; trials.csv has all
_LEAST = 8  # complete trials that importance is estimated from
MakeRecipe = Callable[[Mapping[str, Any]], Recipe]  # from a point


def write_results(search: Search, study: SharedStudy, make_recipe: MakeRecipe, console: Console) -> None:
    """Write tables, pictures and the recipe, and print what to look at.

    Args:
        search: what was searched.
        study: its trials.
        make_recipe: recipe of a point.
        console: for people.
    """
    tune, monitor = search.tune, search.settings.monitor
    rows = rows_of(study)
    best = best_of(rows, monitor)
    lines = []
    with FileLock(tune.lock_file):  # processes that share the study come to its end together
        write_text(tune.csv_file, trials_csv(rows, monitor))
        recipe = None if best is None else _write_recipe(search, rows, best, make_recipe)
        write_text(tune.markdown_file, _markdown(search, rows, best, recipe))
        _write_page(search, study, rows, best, recipe)
    if best is not None and recipe is not None:
        lines = [
            f"  best    trial {best.number}: {monitor} {best.value:.4f} with {say_point(best.point)}",
            f"  run     {shortest(tune.trial(best.run).path)}",
            f"  again   {recipe}",
        ]
    for line in [*lines, f"  page    {shortest(tune.page_file)}", count_words(rows)]:
        say(console, line)


def rows_of(study: SharedStudy) -> list[TrialRow]:
    """Trials of a study without those that a process gave up before it began them."""
    rows = []
    for trial in study.trials():
        facts = trial.user_attrs
        if facts.get("excess"):
            continue
        state = CUT_OFF if facts.get("cut_off") else _STATES[trial.state.name]
        value = float(trial.value) if trial.value is not None else None
        reason, seconds, epochs = str(facts.get("reason", "")), facts.get("seconds"), facts.get("epochs")
        point = facts.get("point", trial.params)
        rows.append(TrialRow(trial.number, state, value, point, reason, seconds, epochs, str(facts.get("run", ""))))
    return rows


def best_of(rows: Sequence[TrialRow], monitor: str) -> TrialRow | None:
    """The complete trial with the best value, the first of equals; None where none is complete."""
    sign = 1 if monitor_mode(monitor) == "min" else -1
    complete = [row for row in rows if row.state == COMPLETE and row.value is not None]
    return min(complete, key=lambda row: (sign * float(row.value or 0.0), row.number), default=None)


def count_words(rows: Sequence[TrialRow]) -> str:
    """How many trials there are of each kind.

    >>> count_words([TrialRow(0, "complete", 0.9), TrialRow(1, "pruned"), TrialRow(2, "failed")])
    '2 trials: 1 complete, 1 pruned; 1 failed'
    """
    counts = Counter(row.state for row in rows)
    finished = counts[COMPLETE] + counts[PRUNED]
    others = [f"{counts[state]} {state}" for state in (FAILED, CUT_OFF, "running", "waiting") if counts[state]]
    text = f"{finished} trials: {counts[COMPLETE]} complete, {counts[PRUNED]} pruned"
    return "; ".join([text, ", ".join(others)]) if others else text


def trials_csv(rows: Sequence[TrialRow], monitor: str) -> str:
    """One line per trial."""
    names = list(dict.fromkeys(name for row in rows for name in row.point))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trial", "state", monitor, *names, "epochs", "seconds", "run", "reason"])
    for row in rows:
        facts = ["" if fact is None else fact for fact in (row.epochs, row.seconds)]
        value = "" if row.value is None else row.value
        writer.writerow(
            [row.number, row.state, value, *(row.point.get(name, "") for name in names), *facts, row.run, row.reason]
        )
    return out.getvalue()


def importance_of(study: SharedStudy) -> dict[str, float]:
    """Share of the variance of complete trials that each setting explains; empty where that cannot be said.

    Source:
        Hutter, Hoos, Leyton-Brown: An Efficient Approach for Assessing Hyperparameter Importance, ICML 2014.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    complete = [trial for trial in study.finished() if trial.state.name == "COMPLETE"]
    if len(complete) < _LEAST or len({trial.value for trial in complete}) < 2:
        return {}
    return dict(get_param_importances(study.study, evaluator=FanovaImportanceEvaluator(seed=0)))


def _write_recipe(search: Search, rows: Sequence[TrialRow], best: TrialRow, make_recipe: MakeRecipe) -> str:
    """Write the winner's recipe; the command that runs it."""
    tune, name = search.tune, search.tune.recipe_name
    recipe = make_recipe(best.point)
    folder = shlex.quote(str(shortest(tune.path)))
    command = f"python -m pneumolit.train --config-dir {folder} experiment={name}"
    finished = sum(row.state in (COMPLETE, PRUNED) for row in rows)
    header = (
        "# @package _global_\n"
        f"# Trial {best.number}, the best of {finished} of the search {tune.path.name}: {search.settings.monitor} "
        f"{best.value:.4f} on validation.\n"
        f"# {command}\n"
        "# The best of many flatters itself: run it with other seeds, --multirun seed=1,2,3, before you believe it.\n"
    )
    write_text(tune.option_file("experiment"), header + recipe.text)
    for group, text in recipe.options.items():
        write_text(tune.option_file(group), f"# What the search {tune.path.name} was told for {group}.\n{text}")
    return command


def _write_page(
    search: Search, study: SharedStudy, rows: Sequence[TrialRow], best: TrialRow | None, command: str | None
) -> None:
    tune, monitor = search.tune, search.settings.monitor
    mode = monitor_mode(monitor)
    sections = []
    if best is not None:
        history = draw_history(rows, tune.picture_file("history"), monitor=monitor, mode=mode)
        ranges = [axis for axis in search.axes if isinstance(axis, Range)]
        scales = {name_of_key(axis.key): "log" if axis.log else "linear" for axis in ranges}
        slices = draw_slices(rows, tune.picture_file("slices"), monitor=monitor, mode=mode, scales=scales)
        sections.append(Section("History", images=[(history, f"{monitor} of every trial, and the best so far")]))
        importance = importance_of(study)
        if importance:
            picture = draw_importance(importance, tune.picture_file("importance"))
            what = "How much of the difference between complete trials each setting explains (functional ANOVA)"
            sections.append(Section("What mattered", images=[(picture, what)]))
        else:
            few = f"This is estimated as soon as {_LEAST} trials are complete and differ in their values."
            sections.append(Section("What mattered", [few]))
        caption = "Each setting against the value; star: best; hollow: pruned, or far worse and drawn at the border"
        sections.append(Section("Setting by setting", images=[(slices, caption)]))
        sections.append(Section("Best trials", tables=[_table(rows, monitor)]))
        sections.append(Section("Train the winner", [_honesty(rows)], code=str(command)))
    failures = _failures(rows)
    if failures.rows:
        sections.append(Section("Trials without a result", tables=[failures]))
    page = run_page(title=f"Search {tune.path.name}", summary=_summary(search, rows, best), sections=sections)
    write_text(tune.page_file, page)


def _markdown(search: Search, rows: Sequence[TrialRow], best: TrialRow | None, command: str | None) -> str:
    parts = [f"# Search {search.tune.path.name}\n"]
    parts.append("".join(f"- {label}: {text}\n" for label, text in _summary(search, rows, best)))
    if best is not None:
        parts.append(f"## Best trials\n\n{_table(rows, search.settings.monitor).markdown()}")
        parts.append(f"## Train the winner\n\n```bash\n{command}\n```\n\n{_honesty(rows)}\n")
    failures = _failures(rows)
    if failures.rows:
        parts.append(f"## Trials without a result\n\n{failures.markdown()}")
    return "\n".join(parts)


def _summary(search: Search, rows: Sequence[TrialRow], best: TrialRow | None) -> list[tuple[str, str]]:
    settings, mode = search.settings, monitor_mode(search.settings.monitor)
    summary = [
        ("trials", count_words(rows)),
        ("optimised", f"{settings.monitor}, {'down' if mode == 'min' else 'up'}, on validation"),
        ("sampler", _arguments(search.sampler)),
        ("pruner", _arguments(search.pruner)),
        *((f"space of {name}", words) for name, words in describe_space(search.axes).items()),
    ]
    if best is not None:
        summary.insert(0, ("best", f"{settings.monitor} {best.value:.4f}: {say_point(best.point)}"))
    return summary


def _table(rows: Sequence[TrialRow], monitor: str) -> Table:
    sign = 1 if monitor_mode(monitor) == "min" else -1
    complete = [row for row in rows if row.state == COMPLETE and row.value is not None]
    complete.sort(key=lambda row: (sign * float(row.value or 0.0), row.number))
    names = list(dict.fromkeys(name for row in complete for name in row.point))
    body = tuple(
        (
            str(row.number), f"{row.value:.4f}", *(_short(row.point.get(name)) for name in names),
            "" if row.epochs is None else str(row.epochs), "" if row.seconds is None else f"{row.seconds:.0f}",
        )
        for row in complete[:_SHOWN]
    )  # fmt: skip
    return Table(("trial", monitor, *names, "epochs", "seconds"), body)


def _failures(rows: Sequence[TrialRow]) -> Table:
    found = [row for row in rows if row.state in (FAILED, CUT_OFF)]
    body = tuple((str(row.number), row.state, row.reason[:200], say_point(row.point)) for row in found[:_SHOWN])
    return Table(("trial", "state", "reason", "settings"), body, num_labels=4)


def _honesty(rows: Sequence[TrialRow]) -> str:
    finished = sum(row.state in (COMPLETE, PRUNED) for row in rows)
    return (
        f"The best of {finished} trials was chosen on validation, so its own number there flatters it. Other seeds of "
        "the recipe show what it is worth (--multirun seed=1,2,3), and the test split is looked at once, at the end."
    )


def _arguments(settings: Mapping[str, Any]) -> str:
    given = {key: value for key, value in settings.items() if key != "name" and value is not None}
    others = ", ".join(f"{key}={_short(value)}" for key, value in given.items())
    return f"{settings['name']} ({others})" if others else str(settings["name"])


def _short(value: Any) -> str:
    is_number = isinstance(value, float) and math.isfinite(value)
    return f"{value:.4g}" if is_number else "" if value is None else str(value)
