"""One training run:   python -m pneumolit.train [key=value ...]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pneumolit.entry import chosen_folder, given_keys, load_option, run_command


def train(cfg: dict[str, Any], folder: Path) -> None:
    """Fit, calibrate and report one run in a folder, or go on with one."""
    from rich.console import Console

    from pneumolit.stage_plan import check_run, expand_stages
    from pneumolit.training.resume import newest_unfinished

    asked = {k: v for k, v in cfg.items() if k not in ("run_dir", "resume")}
    asked = expand_stages(asked, load_option)
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
    _look_at_the_data(asked["data"])
    from pneumolit.training.fit import fit

    fit(asked, _shortest(folder.absolute()), console, resume=is_resumed)


def _known_run(asked: dict[str, Any], run_dir: str) -> tuple[dict[str, Any], Path]:
    """The configuration of the run in a folder, refused where the command line says otherwise."""
    from pneumolit.rundir import RunDir
    from pneumolit.training.resume import read_config, refuse_differences, with_places_of

    run = RunDir.open(run_dir)
    keys = [key for key in given_keys() if key not in ("run_dir", "resume")]
    # A recipe sets many keys: all of them must be the run's.
    refuse_differences(asked, run, None if "experiment" in keys else keys)
    return with_places_of(read_config(run), asked, keys), run.path


def _look_at_the_data(cfg: dict[str, Any]) -> None:
    """Refuse a folder or manifest that cannot be read, before the wait for torch; phantoms are made later."""
    from pneumolit.data.dataset import read_records
    from pneumolit.data.records import choose_labels

    if cfg["source"] != "demo" or cfg["root"]:
        _, records = read_records(cfg, Path())
        choose_labels(records, cfg["target"], cfg["positive"])


def _shortest(folder: Path) -> Path:
    """The folder as a person would type it from here."""
    try:
        return folder.relative_to(Path.cwd())
    except ValueError:
        return folder


def main() -> None:
    """Entry point of the command."""
    run_command("train", train)


if __name__ == "__main__":
    main()
