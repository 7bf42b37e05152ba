"""Predictions on the console: a row each of a few, sentences about many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from pneumolit.prediction.out_of_range import WORDS
from pneumolit.prediction.predictor import Predictor
from pneumolit.rundir import printable

if TYPE_CHECKING:
    from pneumolit.prediction.run import Tally

_MOST_REASONS = 5


def summary_table(rows: Sequence[Mapping[str, Any]], *, with_run: bool) -> Table:
    """A few predictions, one line each."""
    table = Table(box=box.SIMPLE)
    for name in ("file", *(["run"] * with_run), "probability", "decision", "warnings"):
        table.add_column(name, justify="right" if name == "probability" else "left", overflow="fold")
    for row in rows:
        chance = row.get("probability", "")
        told = str(row.get("warnings") or "").replace(";", ", ") or str(row.get("reason") or "")
        cells = [str(row["path"]), *([str(row.get("run", ""))] * with_run)]
        cells += ["" if chance == "" else f"{float(chance):.3f}", str(row.get("decision") or "not read"), told]
        table.add_row(*(Text(printable(cell)) for cell in cells))  # Text: brackets in a name are no markup
    return table


def summary_lines(tally: Tally, predictor: Predictor) -> list[str]:
    """What was decided by which rule, what could not be read, what was warned of, and how often warnings are wrong."""
    lines = []
    for scorer, rule in zip(predictor.scorers, predictor.rules, strict=True):
        if scorer.labels.is_two_class_view:
            at = f"prevalence {rule.prevalence:g}"
            between = "" if rule.band is None else f"; none from {rule.band[0]:.3f} to {rule.band[1]:.3f}"
            lines.append(
                f"{scorer.name}: pneumonia from probability {rule.threshold:.3f} at {at} ({rule.words}){between}"
            )
    counts = [f"{count} {word}" for word, count in tally.decisions.most_common() if word]
    counts.append(f"{tally.num_broken} could not be read")
    lines.append(f"{rows_in_words(tally.num_rows)}: {', '.join(counts)}")
    if tally.num_kept:
        lines.append(f"{tally.num_kept} of them were there from a call that was cut off")
    for reason, count in tally.reasons.most_common(_MOST_REASONS):
        lines.append(f"- not read: {count} x {printable(reason)}")
    if len(tally.reasons) > _MOST_REASONS:
        lines.append(f"- and {len(tally.reasons) - _MOST_REASONS} other reasons, in the table")
    for word, count in tally.warnings.most_common():
        lines.append(f"- warning {word}: {count} x {WORDS[word]}")
    rates = [scorer.reference.rates for scorer in predictor.scorers if scorer.reference is not None]
    if rates and predictor.with_checks:
        one = rates[0]
        lines.append(
            f"A warning stands at {one['false_alarms']['any']:.1%} of ordinary films ({one['num_films']} of "
            f"{one['counted_on']}); without one a film may still be of a kind that the model does not know."
        )
    lines.append("Research software, not a medical device.")
    return lines


def rows_in_words(count: int) -> str:
    """`1 row`, `1,408 rows`."""
    return f"{count:,} row{'s' * (count != 1)}"
