"""Decisions for image files:   python -m pneumolit.predict run_dir=FOLDER input=FILES."""

from __future__ import annotations

if __name__ == "__main__":  # before all else: Ctrl-C among the imports would show a traceback
    from pneumolit.interrupts import leave_at_once

    leave_at_once()

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pneumolit.allocator import restart_with_allocator
from pneumolit.config import check_values
from pneumolit.entry import run_command

BROKEN = 1  # exit code: some files could not be read
_SUFFIXES = (".csv", ".jsonl")
_NO_FOLDERS = ("yes", "no", "on", "off", "0", "1", "none", "null")


def predict(cfg: dict[str, Any], folder: Path) -> None:
    """Score image files; leave with 1 where some could not be read."""
    check_settings(cfg)
    from rich.console import Console

    from pneumolit.prediction.run import (
        as_texts,
        predict_files,
        print_summary,
        standard_output_console,
    )

    cfg["run_dir"] = _listed(as_texts(cfg["run_dir"], "run_dir"))
    cfg["input"] = _listed(as_texts(cfg["input"], "input"))
    is_piped = cfg["output"] == "-"
    console = standard_output_console() if is_piped else Console(soft_wrap=False)
    target = None if is_piped else _target(cfg, folder)
    tally, predictor, heat_folder = predict_files(cfg, target, console)
    print_summary(console, tally, predictor, target, heat_folder)
    if tally.num_broken:
        raise SystemExit(BROKEN)


def check_settings(cfg: dict[str, Any]) -> None:
    """Refuse settings before anything is read.

    Raises:
        ValueError: names the first key that cannot be.
    """
    check_values(cfg)
    cfg["heatmaps"] = {"true": True, "false": False}.get(str(cfg["heatmaps"]).lower(), cfg["heatmaps"])
    for key, allowed in (("on_error", ("skip", "stop")), ("tta", ("none", "flip", "crops", "all"))):
        if cfg[key] not in allowed:
            raise ValueError(f"{key} must be one of {', '.join(allowed)}, got {cfg[key]!r}")
    if not isinstance(cfg["checks"], bool):
        raise ValueError(f"checks must be true or false, got {cfg['checks']!r}")
    if cfg["format"] not in (None, "csv", "jsonl"):
        raise ValueError(f"format must be csv or jsonl, got {cfg['format']!r}")
    if not isinstance(cfg["heatmaps"], bool | str) or str(cfg["heatmaps"]).lower() in _NO_FOLDERS:
        raise ValueError(f"heatmaps must be true, false or a folder, got {cfg['heatmaps']!r}")
    output = cfg["output"]
    if output is not None and output != "-" and Path(str(output)).suffix not in _SUFFIXES:
        raise ValueError(
            f"output must be a file that ends in {' or '.join(_SUFFIXES)}, or - for standard output, got {output}"
        )
    if output is not None and output != "-" and cfg["format"] not in (None, Path(str(output)).suffix[1:]):
        raise ValueError(f"format={cfg['format']} and output={output} say different things; leave format out")
    if cfg["data"]["root"] is not None and not cfg["checks"]:
        raise ValueError("data.root has no effect with checks=false, which compares no films; leave it out")
    for key, example in (("run_dir", "the folder that a training run printed"), ("input", "a film, a folder or -")):
        if cfg[key] in (None, "", []):
            raise ValueError(f"{key} is missing; give {key}=PATH, {example}")


def _listed(texts: Sequence[str]) -> list[str]:
    """`[a,b]` on the command line, where no file is called so."""
    if len(texts) == 1 and texts[0][:1] == "[" and texts[0][-1:] == "]" and not Path(texts[0]).exists():
        return [part.strip() for part in texts[0][1:-1].split(",") if part.strip()]
    return list(texts)


def _target(cfg: dict[str, Any], folder: Path) -> Path:
    if cfg["output"] is not None:
        target = Path(str(cfg["output"])).expanduser()
        if target.is_dir():
            raise ValueError(f"output={target} is a folder; give a file in it, such as {target / 'films.csv'}")
        above = next(parent for parent in target.absolute().parents if parent.exists())
        if not above.is_dir():
            raise ValueError(f"output={target} cannot be: {above} is a file; give a file in a folder")
        return target
    from pneumolit.prediction.films import file_name
    from pneumolit.prediction.inputs import names_a_place

    names = "+".join(Path(place).expanduser().absolute().name for place in cfg["run_dir"])
    stem = names.encode("utf-8", "surrogateescape")[:100].decode("utf-8", "ignore")  # a name has 255 bytes at most
    given = cfg["input"]
    if len(given) == 1 and names_a_place(given[0]) and file_name(given[0]):
        stem += f"_{file_name(given[0])}"
    return folder / f"{stem}{'.jsonl' if cfg['format'] == 'jsonl' else '.csv'}"


def main() -> None:
    """Entry point of the command."""
    restart_with_allocator()
    run_command("predict", predict)


if __name__ == "__main__":
    main()
