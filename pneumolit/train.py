"""One training run:   python -m pneumolit.train [key=value ...]."""

from __future__ import annotations

if __name__ == "__main__":  # before all else: Ctrl-C among the imports would show a traceback
    from pneumolit.interrupts import leave_at_once

    leave_at_once()

from pathlib import Path
from typing import Any

from pneumolit.allocator import restart_with_allocator
from pneumolit.composition import (
    chosen_folder,
    compose_without,
    expand_run,
    given_keys,
    is_multirun,
    load_option,
)
from pneumolit.entry import run_command


def train(cfg: dict[str, Any], folder: Path) -> None:
    """Fit, calibrate and report one run in a folder, or go on with one."""
    from rich.console import Console

    from pneumolit.data.store import cache_folder
    from pneumolit.rundir import shortest
    from pneumolit.stage_plan import check_run
    from pneumolit.training.resume import newest_unfinished

    _refuse_sweep_of_one()
    _check_resumption(cfg)
    if "lesson" in cfg:
        _teach(cfg, folder)
        return
    asked = expand_run(cfg)
    is_resumed = bool(cfg["resume"] or cfg["run_dir"])
    console = Console(soft_wrap=False)
    if cfg["run_dir"] is not None:
        asked, folder = _known_run(asked, cfg["run_dir"])
    check_run(asked)  # before torch is imported, so that a mistyped value costs no waiting
    if cfg["run_dir"] is None and cfg["resume"] and not chosen_folder():
        found = newest_unfinished(asked, Path(asked["output_dir"]))
        if found is None:
            console.print("No unfinished run has this configuration; a new one starts.", highlight=False)
        else:
            folder = found.path
    _look_at_the_data(asked["data"], asked["distill"]["teacher"], cache_folder(asked["cache_dir"]))
    from pneumolit.training.fit import fit

    fit(asked, shortest(folder), console, resume=is_resumed)


def _teach(cfg: dict[str, Any], folder: Path) -> None:
    """Train and compare what a lesson is about."""
    from rich.console import Console

    from pneumolit.lessons.plan import plan_lesson
    from pneumolit.rundir import shortest

    if is_multirun() or cfg["resume"] or cfg["run_dir"] is not None:
        raise ValueError("a lesson is one command that starts anew; leave --multirun, resume and run_dir out")
    lesson = plan_lesson(expand_run({k: v for k, v in cfg.items() if k != "lesson"}), cfg["lesson"], given_keys())
    from pneumolit.lessons.run import teach

    teach(lesson, shortest(folder), Console(soft_wrap=False))


def _refuse_sweep_of_one() -> None:
    """A sweep's option or keys would do nothing for a single run."""
    if is_multirun():  # by another launcher than this project's
        return
    for key in given_keys():
        if key.partition(".")[0] == "sweep":
            raise ValueError(f"{key} has an effect on sweeps only; add --multirun, or leave it out")


def _check_resumption(cfg: dict[str, Any]) -> None:
    """Refuse what says nothing clear about the run to go on with."""
    if not isinstance(cfg["resume"], bool):
        raise ValueError(f"resume must be true or false, got {cfg['resume']!r}")
    if cfg["run_dir"] == "":
        raise ValueError("run_dir is empty; give the folder of a run, or leave it out for a new one")
    if cfg["run_dir"] is not None and chosen_folder():
        raise ValueError(
            f"run_dir={cfg['run_dir']} goes on with the run there, so hydra.run.dir has no effect; leave one of them "
            "out"
        )


def _known_run(asked: dict[str, Any], run_dir: str) -> tuple[dict[str, Any], Path]:
    """The configuration of the run in a folder, refused where the command line says otherwise."""
    from pneumolit.config import flatten
    from pneumolit.rundir import RunDir
    from pneumolit.stage_plan import expand_stages
    from pneumolit.training.resume import read_config, refuse_differences, with_places_of

    run = RunDir.open(run_dir)
    keys = [key for key in given_keys() if key not in ("run_dir", "resume")]
    if "experiment" in keys:  # it speaks for the keys that it changes
        without = flatten(expand_stages(compose_without("experiment"), load_option))
        keys = [*(k for k in keys if k != "experiment"), *(k for k, v in flatten(asked).items() if without.get(k) != v)]
    refuse_differences(asked, run, keys)
    return with_places_of(read_config(run), asked, keys), run.path


def _look_at_the_data(cfg: dict[str, Any], teacher: str | None, cache: Path) -> None:
    """Refuse a folder or manifest that cannot be read, before the wait for torch; phantoms are made later."""
    from pneumolit.data.dataset import read_records
    from pneumolit.data.records import choose_labels
    from pneumolit.data.teacher import find_predictions

    if teacher is not None:
        find_predictions(str(teacher))
    if cfg["source"] != "demo" or cfg["root"]:
        _, records = read_records(cfg, cache)
        choose_labels(records, cfg["target"], cfg["positive"])


def main() -> None:
    """Entry point of the command."""
    restart_with_allocator()
    run_command("train", train)


if __name__ == "__main__":
    main()
