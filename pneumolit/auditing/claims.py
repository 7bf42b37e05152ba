"""Can printed numbers belong together? One claim, a file of them, or the published results."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumolit.auditing.showing import say, show

if TYPE_CHECKING:
    from rich.console import Console

    from pneumolit.evaluation.claims import Verdict

_ENOUGH = 3  # accuracies of one source that say something about the n that it does not give


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


def audit_claim(cfg: dict[str, Any], console: Console) -> bool:
    """Show whether the numbers of `claim` can belong together.

    Returns:
        Whether they can.

    Raises:
        ValueError, FileNotFoundError: it is no claim, or too little to check.
    """
    from pneumolit.evaluation.claim_conflicts import NEVER, OPEN
    from pneumolit.evaluation.claim_text import read_claim
    from pneumolit.evaluation.claims import check_claim
    from pneumolit.report.claim_files import as_plain, fits_csv
    from pneumolit.report.claims import INDEPENDENT, fits_table, interval_table, sentences, suspect_table

    verdict = check_claim(read_claim(str(cfg["claim"])))
    if verdict.manner == OPEN:
        raise ValueError(f"claim={cfg['claim']!r} cannot be checked: {verdict.reason}; see --help for the keys")
    for text in sentences(verdict):
        say(console, text)
    if verdict.conflict is not None:
        show(console, suspect_table(verdict.conflict, verdict.claim.numbers))
    elif verdict.manner != NEVER:
        show(console, fits_table(verdict))
        if len(verdict.fits) > 1:
            say(console, f"{len(verdict.fits)} in all, which output=FILE.csv writes.")
        show(console, interval_table(verdict))
        say(console, INDEPENDENT)
    _write(cfg["output"], {".json": lambda: as_plain(verdict), ".csv": lambda: fits_csv(verdict)}, console)
    return verdict.manner != NEVER


def audit_published(cfg: dict[str, Any], console: Console, file: Path) -> bool:
    """Audit the published results on this data set, as `audit_claims_file` does any file.

    Returns:
        Whether no row is impossible.

    Raises:
        ValueError, FileNotFoundError: the file is not there.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"published=true: {file} is not part of this installation; give the project's docs/published.csv "
            "as claims_file=FILE.csv"
        )
    return audit_claims_file({**cfg, "claims_file": file}, console)


def audit_claims_file(cfg: dict[str, Any], console: Console) -> bool:
    """Show of every row of `claims_file` whether its numbers can belong together.

    Returns:
        Whether no row is impossible.

    Raises:
        ValueError, FileNotFoundError: the file or a row of it cannot be read, or nothing in it can be checked.
    """
    from pneumolit.evaluation.claim_conflicts import NEVER, OPEN
    from pneumolit.report.claim_files import as_plain, claims_csv, claims_markdown
    from pneumolit.report.claims import ONE_RUN, claims_table, misfits, tally

    path = Path(cfg["claims_file"]).expanduser()
    rows = read_claims_file(path)
    verdicts = _check_rows(path, rows)
    notes = [tally(verdicts), *misfits(rows, verdicts), *_sizes(rows, verdicts), ONE_RUN, *_left_aside(rows)]
    show(console, claims_table(rows, verdicts, with_claim=False))
    for note in notes:
        say(console, note)
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


def check_output(output: Any, *, is_table: bool) -> None:
    """Refuse a file that cannot be written, before anything is computed.

    Raises:
        ValueError: it ends in something else than a kind that is written.
    """
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
    say(console, f"written to {path}")
