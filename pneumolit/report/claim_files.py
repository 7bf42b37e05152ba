"""What the check of printed numbers found, as files: CSV, JSON, Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from pneumolit.evaluation.claims import Verdict, estimates
from pneumolit.report.claims import LABELS, WORDS, claims_table, remark, suspect_table


def fits_csv(verdict: Verdict) -> str:
    """All ways to come to the numbers of a claim, one per line, with their rates and intervals."""
    found = [estimates(verdict.fits, row, verdict.claim) for row in range(len(verdict.fits))]
    keys = list(dict.fromkeys(key for rates in found for key in rates))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [LABELS.get(key, key) + end for key in keys for end in ("", "_low", "_high")]
    writer.writerow([*verdict.fits.columns, *names, "numbers_cut_off"])
    for counts, rates, cut_off in zip(verdict.fits.counts.tolist(), found, verdict.fits.num_cut_off, strict=True):
        # A class without images has no rate.
        values = [cell for key in keys for cell in ([f"{v:.6g}" for v in rates[key]] if key in rates else [""] * 3)]
        writer.writerow([*counts, *values, cut_off])
    return out.getvalue()


def claims_csv(rows: Sequence[Mapping[str, str]], verdicts: Sequence[Verdict]) -> str:
    """A table of claims with columns more: verdict, fits (in how many ways), ends of accuracy's interval, remark."""
    out = io.StringIO()
    added = ("verdict", "fits", "accuracy_low", "accuracy_high", "remark")  # of an earlier audit they are replaced
    columns = dict.fromkeys(name for row in rows for name in row if name not in added)
    writer = csv.DictWriter(out, [*columns, *added], lineterminator="\n")
    writer.writeheader()
    for row, verdict in zip(rows, verdicts, strict=True):
        own = {"verdict": WORDS[verdict.manner].lower(), "fits": str(len(verdict.fits)), "remark": remark(verdict)}
        ends = (f"{end:.6g}" for end in verdict.widest.get("acc", ()))
        own |= dict(zip(("accuracy_low", "accuracy_high"), ends, strict=False))  # unknown ones stay empty
        writer.writerow({**row, **own})
    return out.getvalue()


def claims_markdown(
    title: str, rows: Sequence[Mapping[str, str]], verdicts: Sequence[Verdict], notes: Sequence[str]
) -> str:
    """A table of claims as a page of its own."""
    table = claims_table(rows, verdicts, with_claim=True).markdown()
    return "\n".join([f"# {title}\n", table, *(f"{note}\n" for note in notes)])


def as_plain(verdict: Verdict) -> dict[str, Any]:
    """Everything about a verdict as plain values for JSON."""
    claim, fits = verdict.claim, verdict.fits
    plain: dict[str, Any] = {
        "claim": claim.text,
        "n": claim.total,
        "images_per_class": list(claim.parts),
        "files": list(claim.files),
        "numbers": {key: printed.text for key, printed in claim.numbers.items()},
        "verdict": WORDS[verdict.manner].lower(),
        "remark": remark(verdict),
        "cut_off": list(verdict.cut_off),
        "not_checked": list(fits.unused),
        "columns": list(fits.columns),
        "fits": fits.counts.tolist(),
        "ranges": {key: list(ends) for key, ends in verdict.ranges.items()},
        "intervals_as_if_independent": {
            key: dict(zip(("value", "low", "high"), estimate, strict=True))
            for key, estimate in verdict.intervals.items()
        },
        "intervals_of_all": {key: list(ends) for key, ends in verdict.widest.items()},
    }
    if verdict.conflict is not None:
        names = ("number", "alone", "others_without_it", "would_be")
        rows = suspect_table(verdict.conflict, claim.numbers).rows
        plain["numbers_at_odds"] = [dict(zip(names, row, strict=True)) for row in rows]
        plain["other_divisions"] = [list(parts) for parts in verdict.conflict.other_parts]
    return plain
