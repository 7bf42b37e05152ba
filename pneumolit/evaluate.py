"""Numbers and pictures for one run, from its folder:   python -m pneumolit.evaluate run_dir=FOLDER split=test."""

from __future__ import annotations

if __name__ == "__main__":  # before all else: Ctrl-C among the imports would show a traceback
    from pneumolit.interrupts import leave_at_once

    leave_at_once()

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumolit.allocator import restart_with_allocator
from pneumolit.config import check_values
from pneumolit.entry import run_command
from pneumolit.report.evaluation import TITLES

if TYPE_CHECKING:
    from rich.console import Console

    from pneumolit.rundir import RunDir

SPLITS = tuple(TITLES)


def evaluate(cfg: dict[str, Any], folder: Path) -> None:
    """Score a split of the run's own data, or another labelled set."""
    from rich.console import Console

    from pneumolit.rundir import RunDir

    console = Console(soft_wrap=False)
    check_values(cfg)
    if not isinstance(cfg["rescore"], bool):
        raise ValueError(f"rescore must be true or false, got {cfg['rescore']!r}")
    if cfg["name"] is not None and not re.fullmatch(r"\w[\w.-]*", str(cfg["name"])):
        raise ValueError(f"name must be the name of a folder, such as name=ward7, got {cfg['name']!r}")
    run = RunDir.open(cfg["run_dir"] or "")
    is_other_set = "source" in cfg["data"]
    if cfg["split"] not in SPLITS:
        near = difflib.get_close_matches(str(cfg["split"]), SPLITS, n=1)
        raise ValueError(
            f"split must be one of {', '.join(SPLITS)}, got {cfg['split']!r}"
            + (f"; did you mean {near[0]}?" if near else "")
        )
    if is_other_set and (cfg["name"] is None or cfg["name"] in SPLITS):
        raise ValueError(f"another data set needs a name of its own, such as name=ward7; got {cfg['name']!r}")
    if not is_other_set and cfg["name"] not in (None, cfg["split"]):
        raise ValueError(f"name={cfg['name']} has no effect without another data set (data=...); leave it out")
    name = cfg["name"] or cfg["split"]
    is_there = run.predictions_file(name).is_file() and run.evaluation_metrics_file(name).is_file()
    if is_there and not is_other_set and not cfg["rescore"]:
        metrics = _draw_again(run, name, console)
    else:
        metrics = _score(cfg, run, name, is_other_set, console)
    _print(console, run, name, metrics)


def _draw_again(run: RunDir, name: str, console: Console) -> dict[str, Any]:
    from pneumolit.scoring import read_calibration, read_metrics, redraw_evaluation

    console.print(
        f"  numbers and pictures from {run.predictions_file(name)}, nothing is predicted again",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    old = read_metrics(run.evaluation_metrics_file(name))
    calibration, points = read_calibration(run)
    title = TITLES.get(name, name)
    return redraw_evaluation(
        run, name, run.read_predictions(name), calibration, points, title=title, context=old["context"]
    )


def _score(cfg: dict[str, Any], run: RunDir, name: str, is_other_set: bool, console: Console) -> dict[str, Any]:
    from pneumolit.training.rescore import score_other_set, score_own_split

    if is_other_set:
        return score_other_set(cfg, run, name, console)
    return score_own_split(cfg, run, cfg["split"], console, title=TITLES[name])


def _print(console: Console, run: RunDir, name: str, metrics: dict[str, Any]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from pneumolit.scoring import headline

    table = Table(box=box.SIMPLE, title=f"{escape(name)}, with 95 % intervals over patients", title_justify="left")
    table.add_column("")
    table.add_column(f"{metrics['num_images']} images", justify="right")
    for label, value in headline(metrics):
        table.add_row(label, value)
    console.print(table)
    if "look" in metrics["context"]:
        console.print(f"  Test: {metrics['context']['look']}.", highlight=False)
    console.print("  Research software, not a medical device.", highlight=False)
    console.print(f"  report  {run.evaluation_report_file(name)}", highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Entry point of the command."""
    restart_with_allocator()
    run_command("evaluate", evaluate)


if __name__ == "__main__":
    main()
