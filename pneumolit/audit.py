"""Can printed results be right?   python -m pneumolit.audit claim="n=234+390 acc=.928 spec=.901 sens=.932"."""

from __future__ import annotations

if __name__ == "__main__":  # before all else: Ctrl-C among the imports would show a traceback
    from pneumolit.interrupts import leave_at_once

    leave_at_once()

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pneumolit.entry import WRONG_INPUT, run_command

if TYPE_CHECKING:
    from rich.console import Console

    from pneumolit.evaluation.claims import Verdict
    from pneumolit.report.tables import Table

# Where the published results are: packed beside the modules in a wheel, in docs/ in a checkout.
_PACKED = Path(__file__).resolve().parent / "published.csv"
PUBLISHED_FILE = _PACKED if _PACKED.is_file() else Path(__file__).resolve().parent.parent / "docs" / "published.csv"
CANNOT = 1  # exit code: the numbers cannot belong together
_PIPE_WIDTH = 400  # of what is no terminal, so that a row stays one line
_LONGEST_WORD = 20  # characters that stay together in a column
_GAP = 3  # between columns
_ENOUGH = 3  # accuracies of one source that say something about the n that it does not give


def audit(cfg: dict[str, Any], folder: Path) -> None:
    """Audit what is given, and leave with 1 where it cannot be right."""
    audits: dict[str, Callable[[dict[str, Any], Console], bool]] = {
        "claim": _audit_claim,
        "claims_file": _audit_file,
        "published": _audit_published,
    }
    if not isinstance(cfg["published"], bool):
        raise ValueError(f"published must be true or false, got {cfg['published']!r}")
    given = [key for key in audits if cfg[key] not in (None, False)]
    if len(given) != 1:
        found = f"{' and '.join(given)} are given" if given else "nothing is given"
        raise ValueError(
            f'one thing can be audited at a time, and {found}: give claim="n=234+390 acc=.928 spec=.901 sens=.932", '
            "claims_file=FILE.csv or published=true"
        )
    _check_output(cfg["output"], is_table=given[0] != "claim")
    if not audits[given[0]](cfg, _console()):
        raise SystemExit(CANNOT)


def loose_claim(arguments: Sequence[str]) -> str:
    """The claim that was meant where its numbers are arguments of their own; empty where none is.

    >>> loose_claim(["claim=n=234+390", "acc=.928", "output=fits.csv"])
    'n=234+390 acc=.928'
    """
    from pneumolit.evaluation.claim_text import is_column

    keys = [argument.partition("=")[0] for argument in arguments]
    is_loose = [key == "class" or is_column(key) for key in keys]
    if not any(is_loose):
        return ""
    pairs = zip(arguments, is_loose, strict=True)
    return " ".join(argument.removeprefix("claim=") for argument, loose in pairs if loose or argument[:6] == "claim=")


def read_claims_file(path: Path) -> list[dict[str, str]]:
    """Rows of a table of claims.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no CSV with a header and rows of its length, or none of its columns is a key of a claim.
    """
    from pneumolit.evaluation.claim_text import is_column

    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; a CSV file with one claim per row is expected (see --help)")
    try:
        lines = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        cells = [line for line in lines if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as CSV in UTF-8: {error}") from error
    names = [_column_name(name) for name in cells[0]] if cells else []
    if len(cells) < 2 or not any(map(is_column, names)):
        found = f"{'columns' if len(cells) > 1 else 'no row, and columns'} {', '.join(names) or '(none)'}"
        raise ValueError(
            f"{path} has {found}; a claim per row is expected, with commas between columns such as n and accuracy "
            "(see --help)"
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{path} has more than one column {twice[0]!r}; each may be there once")
    for number, row in enumerate(cells[1:], start=1):
        if len(row) != len(names):
            raise ValueError(
                f"{path}, row {number} has {len(row)} cells for {len(names)} columns; a cell that has a comma "
                "in it must stand in quotes"
            )
    return [dict(zip(names, row, strict=True)) for row in cells[1:]]


def _column_name(text: str) -> str:
    """Columns that mean something are found in whatever letters they are written; others keep their own."""
    from pneumolit.evaluation.claim_text import is_column
    from pneumolit.report.claims import ROW_LABELS

    plain = text.strip().lower()
    return plain if is_column(plain) or plain in ROW_LABELS else text.strip()


def _audit_claim(cfg: dict[str, Any], console: Console) -> bool:
    from pneumolit.evaluation.claim_conflicts import NEVER, OPEN
    from pneumolit.evaluation.claim_text import read_claim
    from pneumolit.evaluation.claims import check_claim
    from pneumolit.report.claim_files import as_plain, fits_csv
    from pneumolit.report.claims import INDEPENDENT, fits_table, interval_table, sentences, suspect_table

    verdict = check_claim(read_claim(str(cfg["claim"])))
    if verdict.manner == OPEN:
        raise ValueError(f"claim={cfg['claim']!r} cannot be checked: {verdict.reason}; see --help for the keys")
    for text in sentences(verdict):
        _say(console, text)
    if verdict.conflict is not None:
        _show(console, suspect_table(verdict.conflict, verdict.claim.numbers))
    elif verdict.manner != NEVER:
        _show(console, fits_table(verdict))
        if len(verdict.fits) > 1:
            _say(console, f"{len(verdict.fits)} in all, which output=FILE.csv writes.")
        _show(console, interval_table(verdict))
        _say(console, INDEPENDENT)
    _write(cfg["output"], {".json": lambda: as_plain(verdict), ".csv": lambda: fits_csv(verdict)}, console)
    return verdict.manner != NEVER


def _audit_published(cfg: dict[str, Any], console: Console) -> bool:
    if not PUBLISHED_FILE.is_file():
        raise FileNotFoundError(
            f"published=true: {PUBLISHED_FILE} is not part of this installation; give the project's docs/published.csv "
            "as claims_file=FILE.csv"
        )
    return _audit_file({**cfg, "claims_file": PUBLISHED_FILE}, console)


def _audit_file(cfg: dict[str, Any], console: Console) -> bool:
    from pneumolit.evaluation.claim_conflicts import NEVER, OPEN
    from pneumolit.report.claim_files import as_plain, claims_csv, claims_markdown
    from pneumolit.report.claims import ONE_RUN, claims_table, misfits, tally

    path = Path(cfg["claims_file"]).expanduser()
    rows = read_claims_file(path)
    verdicts = _check_rows(path, rows)
    notes = [tally(verdicts), *misfits(rows, verdicts), *_sizes(rows, verdicts), ONE_RUN, *_left_aside(rows)]
    _show(console, claims_table(rows, verdicts, with_claim=False))
    for note in notes:
        _say(console, note)
    pairs = list(zip(rows, verdicts, strict=True))
    title = f"Can the numbers of {path.name} belong together?"
    writers: dict[str, Callable[[], Any]] = {
        ".json": lambda: {"notes": notes, "rows": [{"row": row, **as_plain(verdict)} for row, verdict in pairs]},
        ".csv": lambda: claims_csv(rows, verdicts),
        ".md": lambda: claims_markdown(title, rows, verdicts, notes),
    }
    _write(cfg["output"], writers, console)
    if all(verdict.manner == OPEN for verdict in verdicts):
        raise ValueError(f"{path}: no row can be checked, {verdicts[0].reason}; see --help for the keys of a claim")
    return all(verdict.manner != NEVER for verdict in verdicts)


def _check_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> list[Verdict]:
    from pneumolit.evaluation.claim_text import read_claim, row_as_text
    from pneumolit.evaluation.claims import check_claim

    verdicts = []
    for number, row in enumerate(rows, start=1):
        try:
            verdicts.append(check_claim(read_claim(row_as_text(row))))
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {error}") from error
    return verdicts


def _sizes(rows: Sequence[Mapping[str, str]], verdicts: Sequence[Verdict]) -> list[str]:
    """Of sources that give several accuracies on one set, and not its size: which sizes it can have."""
    from pneumolit.evaluation.claims import MOST_SIZES, possible_sizes
    from pneumolit.report.claims import sizes_sentence

    groups: dict[str, list[Any]] = {}
    for row, verdict in zip(rows, verdicts, strict=True):
        if verdict.claim.total is None and "acc" in verdict.claim.numbers:
            name = ", ".join(text for text in (row.get("source", ""), row.get("split", "")) if text)
            groups.setdefault(name, []).append(verdict.claim.numbers["acc"])
    found = {name: possible_sizes(numbers) for name, numbers in groups.items() if name and len(numbers) >= _ENOUGH}
    return [
        sizes_sentence(name, len(groups[name]), sizes, MOST_SIZES)
        for name, sizes in found.items()
        if len(sizes) <= MOST_SIZES / 2  # else the digits say nothing
    ]


def _left_aside(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A misspelled column must not go unnoticed."""
    from pneumolit.evaluation.claim_text import is_column
    from pneumolit.report.claims import ROW_LABELS

    names = [name for name in rows[0] if not is_column(name) and name not in ROW_LABELS]
    return [f"Columns that are no part of a claim, left aside: {', '.join(names)}."] if names else []


def _check_output(output: Any, *, is_table: bool) -> None:
    """Before anything is computed."""
    kinds = [".json", ".csv", *([".md"] if is_table else [])]
    if output is not None and Path(str(output)).suffix not in kinds:
        raise ValueError(f"output must be a file that ends in {' or '.join(kinds)}, got {output}")


def _write(output: Any, writers: Mapping[str, Callable[[], Any]], console: Console) -> None:
    from pneumolit.rundir import write_json, write_text

    if output is None:
        return
    path = Path(str(output)).expanduser()
    content = writers[path.suffix]()
    if path.suffix == ".json":
        write_json(path, content)
    else:
        write_text(path, content)
    _say(console, f"written to {path}")


def _console() -> Console:
    import sys

    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, soft_wrap=False)


def _say(console: Console, text: str) -> None:
    console.print(f"  {text}", highlight=False, markup=False, soft_wrap=not console.is_terminal)


def _show(console: Console, table: Table) -> None:
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


def main() -> None:
    """Entry point of the command."""
    import sys

    if whole := loose_claim(sys.argv[1:]):
        print(f'pneumolit: all numbers of a claim are one text in quotes: claim="{whole}"', file=sys.stderr)
        raise SystemExit(WRONG_INPUT)
    run_command("audit", audit)


if __name__ == "__main__":
    main()
