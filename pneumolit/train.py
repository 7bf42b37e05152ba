"""One training run:   python -m pneumolit.train [key=value ...]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pneumolit.entry import run_command


def train(cfg: dict[str, Any], folder: Path) -> None:
    """Fit, calibrate and report one run in a folder."""
    from rich.console import Console

    from pneumolit.config import check_config

    check_config(cfg)  # before torch is imported, so that a mistyped value costs no waiting
    _look_at_the_data(cfg["data"])
    from pneumolit.training.fit import fit

    fit(cfg, _shortest(folder), Console(soft_wrap=False))


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
