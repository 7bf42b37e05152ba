"""Lines and tables of an audit on the console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pneumolit.rundir import decoded, printable

if TYPE_CHECKING:
    from rich.console import Console

    from pneumolit.report.tables import Table

_PIPE_WIDTH = 400  # of what is no terminal, so that a row stays one line
_LONGEST_WORD = 20  # characters that stay together in a column
_GAP = 3  # between columns


def open_console() -> Console:
    """Standard output; what is no terminal gets whole lines."""
    import sys

    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, soft_wrap=False)


def readable(text: str) -> str:
    """What can be shown of a file name that is no UTF-8, or holds what a terminal takes for commands."""
    return printable(decoded(text))


def say(console: Console, text: str) -> None:
    """One line."""
    console.print(f"  {readable(text)}", highlight=False, markup=False, soft_wrap=not console.is_terminal)


def show(console: Console, table: Table) -> None:
    """A table; columns of texts are folded where the terminal is narrow."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    columns = list(zip(table.header, *table.rows, strict=True))
    longest = [min(max(len(word) for cell in cells for word in cell.split()), _LONGEST_WORD) for cells in columns]
    is_wide = sum(longest) + _GAP * len(longest) <= console.width
    shown = RichTable(box=box.SIMPLE)
    for position, title in enumerate(table.header):
        justify: Literal["left", "right"] = "left" if position < table.num_labels else "right"
        narrowest = longest[position] if is_wide else None  # words stay whole where there is room
        shown.add_column(escape(title), justify=justify, overflow="fold", min_width=narrowest)
    for row in table.rows:
        shown.add_row(*(escape(cell) for cell in row))
    console.print(shown)
