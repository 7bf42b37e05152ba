"""What the check of printed numbers found, in words and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from pneumolit.evaluation.claim_conflicts import AS_RATES, CUT_OFF, NEVER, OPEN, ROUNDED, Conflict, Suspect
from pneumolit.evaluation.claims import Verdict, estimates
from pneumolit.evaluation.printed import Printed
from pneumolit.report.tables import Table, number, with_interval

WORDS = {ROUNDED: "fits", CUT_OFF: "only if cut off", NEVER: "DOES NOT FIT", OPEN: "not checked"}
LABELS = {"acc": "accuracy", "spec": "specificity", "sens": "sensitivity", "auroc": "AUROC"}
ROW_LABELS = ("source", "model", "split")
INDEPENDENT = (
    "95 % Wilson intervals (AUROC: Newcombe), as if images were independent. Several images of one patient are not, "
    "and real intervals over patients are wider."
)
ONE_RUN = (
    "All of this is about one model on one set of images: a mean over several runs need not be the share of any count."
)
OF_A_THRESHOLD = (
    "The AUROC is held against the matrix as if decisions were a threshold of the very score that it ranks."
)
_SHOWN = 5
_OTHERS = {ROUNDED: "fit", CUT_OFF: "fit if cut off", AS_RATES: "fit as rates", NEVER: "do not fit", OPEN: "not tried"}


def sentences(verdict: Verdict) -> list[str]:
    """What was found about a claim that could be checked, the answer first."""
    found = [_answer(verdict)]
    if verdict.conflict is not None:
        found += _odd_ones(verdict.conflict, verdict.claim.numbers)
    if verdict.fits.unused:
        found.append(f"Not checked, for want of numbers of the single classes: {', '.join(verdict.fits.unused)}.")
    if "auroc" in verdict.claim.numbers and verdict.claim.num_classes == 2 and "auroc" not in verdict.fits.unused:
        found.append(OF_A_THRESHOLD)
    return found if verdict.manner == ROUNDED or verdict.reason else [*found, ONE_RUN]


def fits_table(verdict: Verdict) -> Table:
    """The ways to come to the numbers that lie nearest to the printed digits."""
    shown = range(min(len(verdict.fits), _SHOWN))
    rates = [estimates(verdict.fits, row, verdict.claim) for row in shown]
    keys = [key for key in ("acc", "spec", "sens") if all(key in found for found in rates)]
    rows = [
        (*map(str, verdict.fits.counts[row].tolist()), *(f"{rates[row][key][0]:.4f}" for key in keys)) for row in shown
    ]
    return Table((*verdict.fits.columns, *(LABELS[key] for key in keys)), tuple(rows), num_labels=0)


def interval_table(verdict: Verdict) -> Table:
    """Rates of the first of them with intervals, and where there are several what holds the intervals of all."""
    rows = []
    for key, (value, low, high) in verdict.intervals.items():
        label = LABELS.get(key, " of ".join(reversed(key.split("."))))
        rows.append((label, with_interval(value, (low, high)), " to ".join(map(number, verdict.widest.get(key, ())))))
    if len(verdict.fits) == 1:
        return Table(("rate", "value [95 % interval]"), tuple(row[:2] for row in rows))
    return Table(("rate", "of the first [95 % interval]", "intervals of all"), tuple(rows))


def suspect_table(conflict: Conflict, numbers: Mapping[str, Printed]) -> Table:
    """Every number of a claim that nothing fits: alone, and what it would have to be for the sake of the others."""
    rows = [
        (_printed(s, numbers), _alone(s, numbers[s.key]), _OTHERS[s.others], _needed(s, numbers[s.key]))
        for s in conflict.suspects
    ]
    return Table(("number", "on its own", "without it the others", "and it would be"), tuple(rows), num_labels=4)


def claims_table(rows: Sequence[Mapping[str, str]], verdicts: Sequence[Verdict], *, with_claim: bool) -> Table:
    """One line per row of a table of claims.

    Args:
        rows: of the table.
        verdicts: of each.
        with_claim: add the claim as one could give it to the command.
    """
    labels = [name for name in ROW_LABELS if any((row.get(name) or "").strip() for row in rows)]
    lines = [
        (
            *([(row.get(name) or "").strip() for name in labels] or [str(position)]),
            *((verdict.claim.text,) if with_claim else ()),
            WORDS[verdict.manner],
            " to ".join(map(number, verdict.widest.get("acc", ()))),
            remark(verdict),
        )
        for position, (row, verdict) in enumerate(zip(rows, verdicts, strict=True), start=1)
    ]
    header = (*(labels or ["row"]), *(("claim",) if with_claim else ()), "verdict", "accuracy, 95 %", "remark")
    return Table(header, tuple(lines), num_labels=len(header))


def tally(verdicts: Sequence[Verdict]) -> str:
    """How many rows fit and how many do not."""
    words = {ROUNDED: "fit", CUT_OFF: "fit only if cut off", NEVER: "do not fit", OPEN: "cannot be checked"}
    counts = [f"{sum(v.manner == manner for v in verdicts)} {word}" for manner, word in words.items()]
    return f"{len(verdicts)} row{'s' * (len(verdicts) > 1)}: {', '.join(counts)}."


def misfits(rows: Sequence[Mapping[str, str]], verdicts: Sequence[Verdict]) -> list[str]:
    """The rows that do not fit once more, each as a sentence: in a long table they are easily missed."""
    found = []
    for position, (row, verdict) in enumerate(zip(rows, verdicts, strict=True), start=1):
        if verdict.manner == NEVER:
            name = ", ".join(text for text in ((row.get(label) or "").strip() for label in ROW_LABELS) if text)
            found.append(f"{WORDS[NEVER]}, row {position}{f' ({name})' if name else ''}: {remark(verdict)}.")
    return found


def remark(verdict: Verdict) -> str:
    """A verdict in a few words."""
    numbers = verdict.claim.numbers
    if verdict.reason:
        return verdict.reason
    if verdict.conflict is not None:
        suspects = verdict.conflict.suspects
        said = [f"{_printed(s, numbers)} is {_alone(s, numbers[s.key])}" for s in suspects if s.alone == NEVER]
        said += [
            f"{_printed(s, numbers)} would have to be {_needed(s, numbers[s.key])}{' as a rate' * (manner == AS_RATES)}"
            for manner in (ROUNDED, CUT_OFF, AS_RATES)
            for s in suspects
            if s.others == manner and s.low is not None
        ]
        said = said or ["no single number is the odd one out"]
    else:
        said = [f"{key}={numbers[key].text} must have been cut off" for key in verdict.cut_off]
        said.append(_ways(verdict))
    unused = verdict.fits.unused
    return "; ".join([*said, *([f"not checked: {', '.join(unused)}"] if unused else [])])


def sizes_sentence(source: str, count: int, sizes: Sequence[tuple[int, str]], most: int) -> str:
    """On how many images several accuracies of one source can have been measured, of which it does not say.

    Args:
        source: its name.
        count: accuracies.
        sizes: (images, ROUNDED or CUT_OFF) by size.
        most: largest size that was tried.
    """
    said = f"{source}: n is not given. Its {count} accuracies, if all are of one set of images,"
    if not sizes:
        return f"{said} are possible on none of up to {most}."
    shown = ", ".join(f"{size} ({'all cut off' if manner == CUT_OFF else 'rounded'})" for size, manner in sizes[:3])
    more = len(sizes) - 3
    return f"{said} are possible on {shown}{f' and {more} larger sets of up to {most}' if more > 0 else ''} images."


def _answer(verdict: Verdict) -> str:
    claim, count = verdict.claim, len(verdict.fits)
    is_matrix = claim.num_classes == 2 and not claim.class_names
    way, ways = ("confusion matrix", "confusion matrices") if is_matrix else ("set of counts", "sets of counts")
    images = f"{' + '.join(map(str, claim.parts)) if claim.parts else claim.total} images"
    if verdict.manner == NEVER:
        if verdict.reason:
            return f"These numbers cannot belong together: {verdict.reason}."
        return (
            f"These numbers cannot belong together: no {way} of {images} gives them all, neither rounded nor cut off."
        )
    cut_off = " and ".join(f"{key}={claim.numbers[key].text}" for key in verdict.cut_off)
    manner = f" only if {cut_off} was cut off instead of rounded" if cut_off else ""
    found = f"One {way} of {images} gives" if count == 1 else f"{count} {ways} of {images} give"
    spread = ", ".join(
        f"{LABELS[key]} {number(low)} to {number(high)}" for key, (low, high) in verdict.ranges.items() if high > low
    )
    return f"These numbers can belong together{manner}. {found} them all{f': {spread}' if spread else ''}."


def _odd_ones(conflict: Conflict, numbers: Mapping[str, Printed]) -> list[str]:
    """Which number is the odd one out, or whether it is n; nothing where it is no single one."""
    found = []
    for manner, start in (
        (ROUNDED, "Odd one out"),
        (CUT_OFF, "Odd one out, if another number was cut off"),
        (AS_RATES, "As rates, without asking for whole images"),
    ):
        said = [
            _printed(s, numbers)
            + (f", which would have to be {_needed(s, numbers[s.key])}" if s.low is not None else "")
            for s in conflict.suspects
            if s.others == manner
        ]
        if said:
            found.append(f"{start}: {'; or '.join(said)}.")
    parts = [" + ".join(map(str, division)) for division in conflict.other_parts]
    if parts:
        shown = (
            " or ".join(parts) if len(parts) <= 3 else f"{parts[0]}, {parts[1]}, ... {parts[-1]} ({len(parts)} ways)"
        )
        cut_off = ", if numbers were cut off" if conflict.other_manner == CUT_OFF else ""
        found.append(f"Or n is the odd one: with {shown} images all the numbers fit{cut_off}.")
    if len(numbers) == 1:
        return [f"{_printed(s, numbers)} is {_alone(s, numbers[s.key])}." for s in conflict.suspects]
    return found or ["No single number is the odd one out: without any one of them the others do not fit either."]


def _printed(suspect: Suspect, numbers: Mapping[str, Printed]) -> str:
    return f"{suspect.key}={numbers[suspect.key].text}"


def _alone(suspect: Suspect, printed: Printed) -> str:
    counts, whole = suspect.near, suspect.whole
    if suspect.alone == OPEN or not counts:
        return {ROUNDED: "possible", CUT_OFF: "possible if cut off", NEVER: "never possible", OPEN: "not tried"}[
            suspect.alone
        ]
    if suspect.alone == ROUNDED:
        return f"{counts[0]}{f' to {counts[-1]}' if len(counts) > 1 else ''} of {whole}"
    more = int(suspect.alone == CUT_OFF)
    ends = dict.fromkeys((counts[0], counts[-1]))
    shares = [f"{count} of {whole} gives {printed.like_this(Fraction(count, whole), more)}" for count in ends]
    return f"{'possible if cut off' if more else 'never possible'} ({', '.join(shares)})"


def _needed(suspect: Suspect, printed: Printed) -> str:
    """What a number would have to be, in its own digits."""
    low, high = suspect.low, suspect.high
    if low is None or high is None:
        return ""
    ends = [printed.like_this(low), printed.like_this(high)]
    if ends[0] == ends[1]:
        return ends[0]
    if suspect.others == AS_RATES and high - low <= 2 * printed.step:
        middle = printed.like_this((low + high) / 2)
        return f"{middle} ({printed.like_this(low, 1)} to {printed.like_this(high, 1)})"
    return f"{ends[0]} to {ends[1]}"


def _ways(verdict: Verdict) -> str:
    fits = verdict.fits
    if len(fits) > 1:
        return f"{len(fits)} ways"
    return f"{'/'.join(fits.columns)} is {'/'.join(map(str, fits.counts[0].tolist()))}"
