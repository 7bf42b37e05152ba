"""Which backbones there are:   python -m pneumolit.backbones pattern='resnet*'."""

from __future__ import annotations

if __name__ == "__main__":  # before all else: Ctrl-C among the imports would show a traceback
    from pneumolit.interrupts import leave_at_once

    leave_at_once()

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumolit.entry import run_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from pneumolit.model.catalog import Backbone

_PIPE_WIDTH = 160  # of what is no terminal, so that no name is cut


def backbones(cfg: dict[str, Any], folder: Path) -> None:
    """Print the catalogue of backbones that match a pattern; nothing is written."""
    import sys

    from rich.console import Console

    pattern = cfg["pattern"]
    if isinstance(pattern, list | dict):
        raise ValueError(f"pattern must be one text, got {pattern}; quote brackets twice, as in 'pattern=\"[ab]*\"'")
    from pneumolit.model.catalog import list_backbones

    found = list_backbones("*" if pattern is None else str(pattern))
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, soft_wrap=False)
    console.print(_table(found))
    here = sum(b.weights in ("package", "cache") for b in found)
    fixed = " fixed: the model is built for model.image_size and takes no other." * any(b.is_fixed_size for b in found)
    console.print(
        f"  {len(found)} backbone{'s' if len(found) > 1 else ''}, {here} with weights on this machine.{fixed}",
        highlight=False,
        soft_wrap=True,
    )


def _table(found: Sequence[Backbone]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column("backbone", overflow="fold")
    for title in ("pixels", "size"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("weights", "licence"):
        table.add_column(title, no_wrap=True)
    for entry in found:
        size = "fixed" if entry.is_fixed_size else "any"
        table.add_row(escape(entry.name), str(entry.native_size), size, entry.weights, escape(entry.license))
    return table


def main() -> None:
    """Entry point of the command."""
    run_command("backbones", backbones)


if __name__ == "__main__":
    main()
