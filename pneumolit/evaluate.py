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
    """Score a split of the run's own data, another labelled set, or what another program has scored."""
    from rich.console import Console

    from pneumolit.rundir import RunDir

    console = Console(soft_wrap=False)
    check_values(cfg)
    if not isinstance(cfg["rescore"], bool):
        raise ValueError(f"rescore must be true or false, got {cfg['rescore']!r}")
    prevalence = cfg["prevalence"]
    if prevalence is not None and not (isinstance(prevalence, float) and 0 < prevalence < 1):
        raise ValueError(f"prevalence must lie strictly between 0 and 1, got {prevalence!r}; 0.1 means 1 in 10")
    if cfg["name"] is not None and not re.fullmatch(r"\w[\w.-]*", str(cfg["name"])):
        raise ValueError(f"name must be the name of a folder, such as name=ward7, got {cfg['name']!r}")
    if cfg["name"] is not None:
        cfg["name"] = str(cfg["name"])  # name=7 comes as a number
    if cfg["predictions"] is not None:
        _evaluate_file(cfg, folder, console)
        return
    run = RunDir.open(cfg["run_dir"] or "", takes_ensembles=True)
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
    if prevalence is not None and name != "val" and not run.predictions_file("val").is_file():
        raise ValueError(
            f"prevalence={prevalence}: {run.path} has no predictions of val to fit its rule on; leave it out"
        )
    needed = (run.predictions_file(name), run.evaluation_metrics_file(name), run.calibration_file)
    is_there = all(file.is_file() for file in needed)
    if is_there and not is_other_set and not cfg["rescore"]:
        metrics = _draw_again(run, name, console, cfg["prevalence"])
    else:
        metrics = _score(cfg, run, name, is_other_set, console)
    from pneumolit.report.ensemble import write_ensemble_page
    from pneumolit.report.run_page import write_page

    write = write_ensemble_page if run.ensemble_file.is_file() else write_page
    write(run, cfg["report"]["language"])
    _print(console, name, metrics, report=run.evaluation_report_file(name), page=run.page_file)


def _evaluate_file(cfg: dict[str, Any], folder: Path, console: Console) -> None:
    """The same numbers and pictures for scores that another program wrote."""
    from pneumolit.comparison.foreign import assumption, read_scores, to_predictions
    from pneumolit.rundir import EvaluationDir
    from pneumolit.scoring import report_foreign

    for key, other in (("run_dir", cfg["run_dir"]), ("data", cfg["data"].get("source")), ("rescore", cfg["rescore"]),
                       ("prevalence", cfg["prevalence"]), ("report.language", cfg["report"]["language"])):  # fmt: skip
        if other:
            raise ValueError(f"predictions=FILE is evaluated by itself, without {key}=; leave one of the two out")
    file = Path(str(cfg["predictions"])).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"predictions={file} is not a file; a CSV file with columns path and score is expected")
    methods = read_scores(file)
    if len(methods) > 1 and cfg["name"] is not None:
        raise ValueError(
            f"predictions={file} holds {len(methods)} methods, {', '.join(m.name for m in methods)}, which are written "
            f"each by its own name; leave name={cfg['name']} out"
        )
    every = [(to_predictions(scores), scores) for scores in methods]  # before a picture is drawn for any
    names = [cfg["name"] or re.sub(r"[^\w.-]+", "_", s.name).lstrip(".-") or "predictions" for s in methods]
    if len(set(names)) < len(names):
        raise ValueError(f"predictions={file}: {[s.name for s in methods]} would share a folder; rename one of them")
    for name, (predictions, scores) in zip(names, every, strict=True):
        place = EvaluationDir(folder / name)
        context = {"predictions": str(file), "scores": assumption(scores)}
        metrics = report_foreign(place, predictions, title=scores.name, context=context)
        _print(console, name, metrics, report=place.report_file)


def _draw_again(run: RunDir, name: str, console: Console, prevalence: float | None) -> dict[str, Any]:
    from pneumolit.comparison.ensemble import views_of
    from pneumolit.evaluation.summary import VIEWS
    from pneumolit.rundir import read_json
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
    views = views_of(read_json(run.ensemble_file)["validation"]) if run.ensemble_file.is_file() else VIEWS
    return redraw_evaluation(
        run,
        name,
        run.read_predictions(name),
        calibration,
        points,
        title=title,
        context=old["context"],
        prevalence=prevalence,
        views=views,
    )


def _score(cfg: dict[str, Any], run: RunDir, name: str, is_other_set: bool, console: Console) -> dict[str, Any]:
    from pneumolit.training.rescore import score_other_set, score_own_split

    if run.ensemble_file.is_file():
        from pneumolit.comparison.ensemble_scoring import score_ensemble

        return score_ensemble(cfg, run, name, is_other_set, console, title=TITLES.get(name, name))
    if is_other_set:
        return score_other_set(cfg, run, name, console)
    return score_own_split(cfg, run, cfg["split"], console, title=TITLES[name])


def _print(console: Console, name: str, metrics: dict[str, Any], **files: Path) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from pneumolit.scoring import headline

    over = "patients" if metrics.get("has_patients", True) else "images"
    table = Table(box=box.SIMPLE, title=f"{escape(name)}, with 95 % intervals over {over}", title_justify="left")
    table.add_column("")
    table.add_column(f"{metrics['num_images']} images", justify="right")
    for label, value in headline(metrics):
        table.add_row(label, value)
    console.print(table)
    if "split" in metrics["context"]:
        console.print(f"  Scored: {metrics['context']['split']}.", highlight=False)
    if "look" in metrics["context"]:
        console.print(f"  Test: {metrics['context']['look']}.", highlight=False)
    console.print("  Research software, not a medical device.", highlight=False)
    for label, path in files.items():
        console.print(f"  {label:<7} {path}", highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Entry point of the command."""
    restart_with_allocator()
    run_command("evaluate", evaluate)


if __name__ == "__main__":
    main()
