"""Many runs side by side:   python -m pneumolit.compare runs='outputs/sweeps/x/*'."""

from __future__ import annotations

if __name__ == "__main__":  # before all else: Ctrl-C among the imports would show a traceback
    from pneumolit.interrupts import leave_at_once

    leave_at_once()

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumolit.entry import run_command

if TYPE_CHECKING:
    from rich.console import Console

    from pneumolit.comparison.method import Absent, Method
    from pneumolit.comparison.run import Result, Settings
    from pneumolit.rundir import CompareDir

_FOLDER = r"\w[\w.-]*"  # a name that is no path
_CHOICES: Mapping[str, tuple[Any, ...]] = {
    "pairs": ("reference", "all"),
    "ensemble": (None, "mean", "greedy"),
    "group_seeds": (False, True),
}
_MOST_LINES = 20  # on the console


def compare(cfg: dict[str, Any], folder: Path) -> None:
    """Compare finished runs and files of predictions; nothing is predicted."""
    from rich.console import Console

    settings = read_settings(cfg)
    from pneumolit.comparison.results import write_comparison
    from pneumolit.comparison.run import collect_methods, compare
    from pneumolit.comparison.seeds import seeds_part
    from pneumolit.comparison.sources import find_predictions, find_runs
    from pneumolit.data.store import cache_folder
    from pneumolit.rundir import CompareDir, shortest

    runs, files = find_runs(cfg["runs"]), find_predictions(cfg["predictions"])
    if not runs and not files:
        raise ValueError("nothing to compare: give runs=FOLDER, a list or a pattern of them, or predictions=FILE.csv")
    methods, absent = collect_methods(runs, files, settings)
    if cfg["ensemble"] is None:
        result, saved = compare(methods, absent, settings), ""
    else:
        result, saved = _with_ensemble(cfg, methods, absent, settings)
    if cfg["group_seeds"]:
        result = result.with_part(seeds_part(result, settings))
    target = CompareDir(shortest(folder))
    write_comparison(result, target, data_root=cfg["data"]["root"], cache_dir=cache_folder(cfg["cache_dir"]))
    _print(Console(soft_wrap=False), result, target, saved)


def _with_ensemble(
    cfg: Mapping[str, Any], methods: Sequence[Method], absent: Sequence[Absent], settings: Settings
) -> tuple[Result, str]:
    """The comparison with an ensemble of its runs as a method more, and the ensemble's folder if it is kept."""
    from pneumolit.comparison.ensemble import build_ensemble, read_members
    from pneumolit.comparison.ensemble_folder import save_ensemble
    from pneumolit.comparison.ensemble_method import ensemble_method, ensemble_part
    from pneumolit.comparison.method import RUN
    from pneumolit.comparison.naming import distinct
    from pneumolit.comparison.run import compare
    from pneumolit.rundir import RunDir, shortest

    named = [(method.run, method.name) for method in methods if method.kind == RUN and method.run is not None]
    members = read_members([run for run, _ in named], [name for _, name in named])
    ensemble = build_ensemble(members, cfg["ensemble"])
    folder = Path(cfg["output_dir"]) / "ensembles" / str(cfg["save"])
    name = cfg["save"] or f"{cfg['ensemble']} of {len(ensemble.members)} runs"
    source = str(shortest(folder)) if cfg["save"] else ""
    methods = distinct([*methods, ensemble_method(ensemble, methods, str(name), source, settings)])
    result = compare(methods, absent, settings)
    result = result.with_part(ensemble_part(ensemble, methods[-1].name, result, settings))
    if not cfg["save"]:
        return result, ""
    # At last, since it is a look on test: what comes before may refuse the set or the reference.
    sets = save_ensemble(ensemble, RunDir(folder))
    return result, f"{source}  ({', '.join(sets)})"


def read_settings(cfg: Mapping[str, Any]) -> Settings:
    """The keys of the command, checked.

    Raises:
        ValueError: names the first key that cannot be.
    """
    from pneumolit.comparison.run import Settings

    for key in ("name", "split", "rule"):
        if not re.fullmatch(_FOLDER, str(cfg[key])):
            example = {"name": "name=backbones", "split": "split=val", "rule": "rule=primary"}[key]
            raise ValueError(f"{key} must be a plain name such as {example}, got {cfg[key]!r}")
    for key, allowed in _CHOICES.items():
        if not any(cfg[key] is value or (isinstance(value, str) and cfg[key] == value) for value in allowed):
            words = ["null" if value is None else str(value).lower() for value in allowed]
            near = difflib.get_close_matches(str(cfg[key]), words, n=1)
            offer = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"{key} must be one of {', '.join(words)}, got {cfg[key]!r}{offer}")
    for key, least in (("num_resamples", 100), ("seed", 0)):
        if not isinstance(cfg[key], int) or isinstance(cfg[key], bool) or cfg[key] < least:
            raise ValueError(f"{key} must be a whole number of at least {least}, got {cfg[key]!r}")
    if cfg["save"] is not None:
        if cfg["ensemble"] is None:
            raise ValueError(
                f"save={cfg['save']} has no effect without an ensemble; add ensemble=mean or ensemble=greedy"
            )
        if not re.fullmatch(_FOLDER, str(cfg["save"])):
            raise ValueError(f"save must be the name of a folder, such as save=five_folds, got {cfg['save']!r}")
    return Settings(
        name=str(cfg["name"]),
        split=str(cfg["split"]),
        rule=str(cfg["rule"]),
        reference=None if cfg["reference"] is None else str(cfg["reference"]),
        pairs=cfg["pairs"],
        num_resamples=cfg["num_resamples"],
        seed=cfg["seed"],
    )


def _print(console: Console, result: Result, target: CompareDir, saved: str) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from pneumolit.report.tables import with_interval
    from pneumolit.rundir import printable

    page = result.page
    over = "patients" if page.has_patients else "images"
    table = Table(box=box.SIMPLE, title=f"{escape(page.split)}, with 95 % intervals over {over}", title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("method", overflow="fold")
    shown = [name for name in ("auroc", "accuracy") if any(name in row.numbers for row in page.methods)]
    for name in shown:
        table.add_column({"auroc": "AUROC"}.get(name, name), justify="right", no_wrap=True)
    for row in page.methods[:_MOST_LINES]:
        numbers = [with_interval(row.numbers.get(name), row.intervals.get(name)) for name in shown]
        table.add_row(str(row.number), escape(row.name) + (" (reference)" if row.is_reference else ""), *numbers)
    console.print(table)

    def say(text: str) -> None:
        console.print(f"  {printable(text)}", highlight=False, markup=False, soft_wrap=True)

    if len(page.methods) > _MOST_LINES:
        say(f"... and {len(page.methods) - _MOST_LINES} more")
    for label, value in page.summary:
        if label in ("reference", "differences"):
            say(f"{label}: {value}")
    for one in page.apart:
        say(f"on other images: {one.name}: {one.reason}")
    for missing in page.absent:
        say(f"not compared: {missing.source}: {missing.reason}" + (f"; {missing.command}" if missing.command else ""))
    if saved:
        say(f"ensemble  {saved}")
    say("Research software, not a medical device.")
    say(f"page  {target.page_file}")


def main() -> None:
    """Entry point of the command."""
    run_command("compare", compare)


if __name__ == "__main__":
    main()
