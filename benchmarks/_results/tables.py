"""The tables of rows: numbers beside those published, by seed, and by both ways of splitting."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from benchmarks._results.rows import Estimate, Published, Row, rule_of, verdict
from pneumolit.config import CONFIG_DIR
from pneumolit.evaluation.clustered import weighted_sum_interval

EXPERIMENTS = CONFIG_DIR / "experiment"
STAND_INS = ("_lite0", "_lite2")
NUMBERS = ("accuracy", "specificity", "sensitivity", "auroc")
CLASS_NUMBERS = ("accuracy", "macro_recall", "macro_f1")
HEADS = {
    "accuracy": "accuracy", "specificity": "spec.", "sensitivity": "sens.", "auroc": "AUROC",
    "macro_recall": "macro recall", "macro_f1": "macro F1",
}  # fmt: skip
_BY_PATIENTS = "/by_patients"


def row_table(rows: Sequence[Row], published: Mapping[str, Published], numbers: Sequence[str]) -> str:
    """One line for every row.

    Args:
        rows: those that are shown.
        published: by recipe; empty leaves the columns of published numbers and the verdict out.
        numbers: those that are shown.
    """
    is_classes = "macro_recall" in numbers
    heads = [HEADS[key] for key in numbers]
    columns = ["recipe"]
    for head in heads:
        columns += [f"{head}: published", "ours"] if published else [head]
    columns += ([] if is_classes else ["block AUROC"]) + ["epochs", "min", "seeds", "looks"]
    columns += ["verdict"] if published else []
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    for row in rows:
        theirs = published.get(published_name(row.name))
        cells = [f"`{row.name}`"]
        for key in numbers:
            cells += [theirs.texts.get(key, "") if theirs else ""] if published else []
            cells.append(value_text(row.estimates.get(key)))
        cells += [] if is_classes else [value_text(row.estimates.get("block_auroc"), 4)]
        epochs = sorted({record.metrics["epochs"] for record in row.records})
        cells += [
            "-".join(map(str, epochs[:: max(len(epochs) - 1, 1)])),
            minutes_text(row),
            str(len(row.records)),
            str(row.looks),
        ]
        if published:
            cells.append(verdict_text(row, theirs, numbers))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def seed_table(rows: Sequence[Row]) -> str:
    """Test numbers of every seed that has some, with intervals over patients, and by the largest logit without."""
    lines = [
        "| recipe | seed | accuracy | spec. | sens. | AUROC | by largest logit: accuracy | spec. | sens. |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        for record in row.records:
            numbers = record.metrics["sets"].get("test")
            if numbers is None:
                continue
            own, largest = numbers["rules"][rule_of(row.name)], numbers["rules"]["argmax"]
            cells = [f"`{row.name}`", str(record.seed)]
            cells += [value_text(tuple(own[key])) for key in NUMBERS[:-1]] + [value_text(tuple(numbers["auroc"]))]
            cells += [short_text(largest[key][0]) for key in NUMBERS[:-1]]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def split_table(rows: Sequence[Row]) -> str:
    """Accuracy of the rows that were split by image and by whole patients, and the difference; "" where there is none.

    The interval of the difference joins those of both as if the two test sides had no film in common.
    """
    by_name = {row.name: row for row in rows}
    lines = []
    for row in rows:
        other = by_name.get(row.name.replace("/", f"{_BY_PATIENTS}/", 1))
        if other is not None and all("accuracy" in one.estimates for one in (row, other)):
            image, patients = row.estimates["accuracy"], other.estimates["accuracy"]
            cells = (value_text(image), value_text(patients), _signed(_difference(image, patients)))
            lines.append(f"| `{row.name}` | {' | '.join(cells)} |")
    heads = ["| accuracy | by image | by whole patients | difference |", "| --- | --- | --- | --- |"]
    return "\n".join(heads + lines) if lines else ""


def _difference(one: Estimate, other: Estimate) -> Estimate:
    (value, low, high), (minus, least, most) = one, other
    if low is None or high is None or least is None or most is None:
        return value - minus, None, None
    below, above = weighted_sum_interval((value, minus), ([low, high], [least, most]), (1, -1))
    return value - minus, below, above


def _signed(estimate: Estimate) -> str:
    value, low, high = (None if number is None else f"{number:+.3f}".replace("0.", ".", 1) for number in estimate)
    return f"{value} [{low}, {high}]" if low is not None else str(value)


def verdict_text(row: Row, theirs: Published | None, numbers: Sequence[str]) -> str:
    """By accuracy, and where it differs by AUROC as well."""
    if theirs is None or "accuracy" not in theirs.texts or "accuracy" not in row.estimates:
        return f"no number published: {words_of(published_name(row.name))}" if theirs is None else ""
    words = verdict(theirs.ranges["accuracy"], row.estimates["accuracy"])
    if "auroc" in theirs.texts and "auroc" in numbers and "auroc" in row.estimates:
        other = verdict(theirs.ranges["auroc"], row.estimates["auroc"])
        words += f" (AUROC: {other})" if other != words else ""
    most = row.records[0].config["trainer"]["max_epochs"]
    return f"{words}, {most} of {theirs.epochs} epochs" if most < (theirs.epochs or 0) else words


def words_of(name: str) -> str:
    """What a recipe's header says under "Published", for rows whose authors give no number."""
    found = re.search(
        r"^# Published: (.*?)\.?$", (EXPERIMENTS / f"{name}.yaml").read_text(encoding="utf-8"), re.MULTILINE
    )
    return found[1] if found else "nothing"


def published_name(name: str) -> str:
    """The recipe whose published numbers a row repeats: a stand-in those of what it stands in for."""
    name = name.replace("/by_patients", "")
    for ending in STAND_INS:
        name = name.removesuffix(ending)
    return name


def value_text(estimate: Estimate | None, digits: int = 3) -> str:
    """`.949 [.928, .963]`; "" for None, the value alone where it has no interval."""
    if estimate is None:
        return ""
    value, low, high = estimate
    text = short_text(value, digits)
    return text if low is None or high is None else f"{text} [{short_text(low, digits)}, {short_text(high, digits)}]"


def minutes_text(row: Row) -> str:
    """Whole minutes, or `<1`."""
    return f"{row.minutes:.0f}" if row.minutes >= 1 else "<1"


def short_text(value: float, digits: int = 3) -> str:
    """`.949`, without the zero of a share below 1."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("0") if 0 < value < 1 and text.startswith("0") else text
