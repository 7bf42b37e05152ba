"""The tables of a comparison for people, and the words around them."""

from __future__ import annotations

from collections.abc import Sequence

from pneumolit.evaluation.paired import Difference
from pneumolit.report.comparison import RESAMPLED, AbsentRow, MethodRow, PairRow
from pneumolit.report.sweep_tables import duration
from pneumolit.report.tables import Table, number, with_interval

LOGGED = "*"  # marks a training loss that was only logged while training
MOST_PAIRS = 60  # of a table for people; pairs.csv has all
_ALPHA = 0.05
_ENSEMBLE = "ensemble"  # kind of a row
_AUROC_DIGITS = 4  # of differences: those of good models lie in the third
_WORDS = {
    "auroc": "AUROC",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}
_LONG_NAME = 19  # letters, more than the column of the leaderboard takes
_UNKNOWN = float("-inf")  # sorts what is not known behind everything


def leaderboard(rows: Sequence[MethodRow]) -> Table:
    """The columns of the published write-ups, with intervals."""
    has_view = any(row.counts is not None for row in rows)
    rates = ("sensitivity", "specificity") if has_view else ()
    shown = ("accuracy", *rates, "macro_f1", *(("auroc",) if has_view else ()))
    header = (
        "#", "model", "what trained", "epochs", "train\naccuracy",
        "train loss\n(nats)", *(_WORDS[name] for name in shown), "right /\nwrong", "parameters", "training\ntime",
        "validation\nAUROC",
    )  # fmt: skip
    lines, keys = [], []
    for row in rows:
        facts = row.facts
        loss, wrong = facts.get("train_loss"), row.num_images - row.right
        model = row.name if row.kind == _ENSEMBLE else facts.get("model") or row.name
        told = [
            _broken(model),
            row.distinction or _kind(row),
            "(reference)" * row.is_reference,
        ]
        trained = facts.get("trained", "-")
        mark = LOGGED if row.is_loss_logged and loss is not None else ""
        measured = [stacked(row.numbers.get(name), row.intervals.get(name)) for name in shown]
        lines.append(
            (
                str(row.number), "\n".join(filter(None, told)), trained, _whole(facts.get("epochs")),
                number(facts.get("train_accuracy")), number(loss) + mark, *measured, f"{row.right} / {wrong}",
                counted(facts.get("parameters")), duration(facts.get("seconds")), number(facts.get("val_auroc"), 4),
            )
        )  # fmt: skip
        keys.append(
            (
                row.number, model, trained, _key(facts.get("epochs")), _key(facts.get("train_accuracy")),
                _key(loss), *(_key(row.numbers.get(name)) for name in shown), row.right,
                _key(facts.get("parameters")), _key(facts.get("seconds")), _key(facts.get("val_auroc")),
            )
        )  # fmt: skip
    return Table(header, tuple(lines), num_labels=3, sort_keys=tuple(keys))


def pair_table(rows: Sequence[PairRow], *, is_against_one: bool) -> Table:
    """Differences with intervals and p-values, patients taken into account."""
    has_auroc = any(row.auroc is not None for row in rows)
    header = ["AUROC\ndifference", "p", "p, Holm"] * has_auroc
    header += ["accuracy\ndifference", "p", "p, Holm", "alone right /\nalone wrong"]
    lines, keys = [], []
    for row in _surest(rows):
        cells: list[str] = []
        own: list[float] = []
        tests = [(row.auroc, row.auroc_holm, _AUROC_DIGITS)] * has_auroc + [(row.accuracy, row.accuracy_holm, 3)]
        for found, corrected, digits in tests:
            cells += [signed(found, digits), p_text(found.p_value if found else None), p_text(corrected)]
            own += [_key(found.value if found else None), _p_key(found.p_value if found else None), _p_key(corrected)]
        lines.append([*cells, f"{row.only_first} / {row.only_second}"])
        keys.append([*own, float(row.only_first - row.only_second)])
    return _pair_table(rows, header, lines, keys, is_against_one)


def resampled_table(rows: Sequence[PairRow], *, is_against_one: bool) -> Table:
    """Differences with intervals from resampled patients, both methods on the same resamples."""
    names = [name for name in RESAMPLED if any(name in row.resampled for row in rows)]
    lines, keys = [], []
    for row in _surest(rows):
        found = [row.resampled.get(name) for name in names]
        digits = [_AUROC_DIGITS if name == "auroc" else 3 for name in names]
        lines.append([_signed_interval(*one, d) if one else "n/a" for one, d in zip(found, digits, strict=True)])
        keys.append([_key(one[0] if one else None) for one in found])
    return _pair_table(rows, [_WORDS[name] for name in names], lines, keys, is_against_one)


def independent_table(rows: Sequence[PairRow], *, is_against_one: bool) -> Table:
    """The plain tests, which take every image for a patient of its own."""
    has_auroc = any(row.delong is not None for row in rows)
    lines, keys = [], []
    for row in _surest(rows):
        p_values = [row.delong.p_value if row.delong else None] * has_auroc + [row.mcnemar_exact, row.mcnemar_mid_p]
        lines.append([p_text(p) for p in p_values])
        keys.append([_p_key(p) for p in p_values])
    header = [*["DeLong, p"] * has_auroc, "McNemar exact, p", "McNemar mid-p"]
    return _pair_table(rows, header, lines, keys, is_against_one)


def _pair_table(
    rows: Sequence[PairRow],
    header: Sequence[str],
    lines: Sequence[Sequence[str]],
    keys: Sequence[Sequence[float]],
    is_against_one: bool,
) -> Table:
    """A table of the surest pairs: number, method, the other one where it changes, then cells."""
    texts = []
    for row in _surest(rows):
        place, _, name = row.first.partition("  ")
        texts.append((place, name) if is_against_one else (place, name, row.second))
    head = ("#", "method") if is_against_one else ("#", "method", "against")
    return Table(
        (*head, *header),
        tuple((*text, *line) for text, line in zip(texts, lines, strict=True)),
        num_labels=len(head),
        sort_keys=tuple((int(text[0]), *text[1:], *key) for text, key in zip(texts, keys, strict=True)),
    )


def apart_table(rows: Sequence[MethodRow]) -> Table:
    """Methods on other images, with the reason why they are not compared."""
    lines = tuple(
        (
            str(row.number), row.name, row.reason, stacked(row.numbers.get("auroc"), row.intervals.get("auroc")),
            stacked(row.numbers.get("accuracy"), row.intervals.get("accuracy")),
            f"{row.right} / {row.num_images - row.right}",
        )
        for row in rows
    )  # fmt: skip
    return Table(("#", "method", "why apart", "AUROC", "accuracy", "right / wrong"), lines, num_labels=3)


def absent_table(rows: Sequence[AbsentRow]) -> Table:
    """What could not be compared, why, and what helps."""
    return Table(
        ("folder or file", "reason", "what helps"), tuple((r.source, r.reason, r.command or "-") for r in rows), 3
    )


def source_table(rows: Sequence[MethodRow]) -> Table:
    """Where each method is, by which rule it decides, and what had to be assumed."""
    lines = tuple((str(r.number), r.name, r.source, r.rule, "; ".join(r.notes) or "-") for r in rows)
    return Table(("#", "method", "folder or file", "decides by", "to be known"), lines, num_labels=5)


def differing(rows: Sequence[PairRow]) -> str:
    """How many pairs differ after correction, in words."""
    total = len(rows)
    told = []
    for word, values in (
        ("AUROC", [row.auroc_holm for row in rows if row.auroc is not None]),
        ("accuracy", [row.accuracy_holm for row in rows]),
    ):
        if values:
            count = sum(p is not None and p < _ALPHA for p in values)
            told.append(f"{word} {count or 'none'}")
    times = f"{total} comparison{'s' * (total > 1)}"
    return f"beyond what chance would explain (p < .05 after Holm's correction for {times}): {', '.join(told)}"


def stacked(value: float | None, interval: Sequence[float] | None) -> str:
    """A number with its interval on a second line."""
    return with_interval(value, interval).replace(" [", "\n[", 1)


def signed(found: Difference | None, digits: int = 3) -> str:
    """A difference with its sign, and its interval on a second line."""
    if found is None:
        return "n/a"
    return _signed_interval(found.value, found.interval, digits)


def p_text(value: float | None) -> str:
    """A p-value as one writes it: `.031`, `< .001`, `1`."""
    if value is None:
        return "n/a"
    if value < 0.001:
        return "< .001"
    return "1" if value >= 0.9995 else f"{value:.3f}".removeprefix("0")


def counted(value: float | None) -> str:
    """A count of parameters: `3.37 M`, `18.1 M`, `451 k`."""
    if value is None:
        return "n/a"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size * (1 - 0.5e-3):  # what three digits round up to it as well
            return f"{max(value / size, 1):.3g} {unit}"
    return f"{value:.0f}"


def _signed_interval(value: float, interval: Sequence[float] | None, digits: int = 3) -> str:
    if interval is None:
        return _sign(value, digits)
    return f"{_sign(value, digits)}\n[{_sign(interval[0], digits)}, {_sign(interval[1], digits)}]"


def _sign(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return text if float(text) else text[1:]  # nothing after rounding has no sign


def _surest(rows: Sequence[PairRow]) -> list[PairRow]:
    """All pairs; of very many those whose differences are surest, the surest first."""

    def surest(row: PairRow) -> float:
        found = [row.auroc.p_value if row.auroc else None, row.accuracy.p_value]
        return min((p for p in found if p is not None), default=1.0)

    return list(rows) if len(rows) <= MOST_PAIRS else sorted(rows, key=surest)[:MOST_PAIRS]


def _kind(row: MethodRow) -> str:
    """What it is, where its name does not say it."""
    model = str(row.facts.get("model") or "")
    if row.kind == _ENSEMBLE and model:
        return model if model != row.name else ""
    return "" if model else row.kind


def _broken(model: str) -> str:
    """A long name of a model with its tag on a line of its own."""
    return model.replace(".", "\n.", 1) if len(model) > _LONG_NAME else model


def _whole(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.0f}"


def _key(value: float | None) -> float:
    return _UNKNOWN if value is None else float(value)


def _p_key(value: float | None) -> float:
    return float("inf") if value is None else float(value)
