"""Tables of the audit of a data set, from the content of audit.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pneumolit.report.tables import Table, number, with_interval

MOST_ROWS = 40  # of a table; audit.json has all
_MOST_FILES = 6  # of a group
_MOST_STRETCHES = 4  # that are written out
READING_WORDS = {
    "given": "as the manifest says",
    "number": "the bare number",
    "class_number": "class and number",
    "prefix": "prefix and number, cause left out",
    "full": "series and number",
}
VALIDATION = {
    "given": "of the split that is asked about",
    "named": "as the data set names it",
    "patients": "drawn from train by patients",
    "images": "drawn from train image by image",
}
_CUT = (("is_across_splits", "splits"), ("is_across_classes", "classes"), ("is_across_patients", "patients"))


def count_table(counts: Mapping[str, Mapping[str, int]]) -> Table:
    """Images by split and class."""
    classes = list(next(iter(counts.values())))
    rows = [(split, *(f"{of[c]:,}" for c in classes), f"{sum(of.values()):,}") for split, of in counts.items()]
    if len(rows) > 1:
        sums = [sum(of[c] for of in counts.values()) for c in classes]
        rows.append(("all", *(f"{s:,}" for s in sums), f"{sum(sums):,}"))
    return Table(("split", *classes, "images"), tuple(rows))


def mix_table(mix: Sequence[Mapping[str, Any]], *, has_patients: bool) -> Table:
    """Class, cause and series of every split; patients where they are known."""
    rows = [
        (
            m["split"],
            m["class"],
            m["cause"] or "-",
            m["series"] or "-",
            f"{m['images']:,}",
            *([f"{m['patients']:,}"] if has_patients else []),
            f"{100 * m['share']:.1f} %",
        )
        for m in mix
    ]
    patients = ["patients"] if has_patients else []
    header = ("split", "class", "cause", "series of names", "images", *patients, "of the split")
    return Table(header, tuple(rows), num_labels=4)


def reading_table(readings: Mapping[str, Mapping[str, Any]]) -> Table:
    """Patients under each reading, and how many are on two sides."""
    pairs = [tuple(b["sides"]) for b in next(iter(readings.values()))["between"]]
    header = ("patient is", "data.patient_key", "patients", *(f"both in {a} and {b}" for a, b in pairs))
    rows = []
    for name, reading in readings.items():
        cells = [
            f"{b['shared']:,}" + (f"\n({b['images'][0]:,} + {b['images'][1]:,} images)" if b["shared"] else "")
            for b in reading["between"]
        ]
        rows.append((READING_WORDS[name], "-" if name == "given" else name, f"{reading['patients']:,}", *cells))
    return Table(header, tuple(rows), num_labels=2)


def stretch_table(stretches: Sequence[Mapping[str, Any]]) -> Table:
    """Which patient numbers of every series a split holds."""
    rows = [(s["series"], s["split"] or "-", _stretches(s["stretches"]), f"{s['numbers']:,}") for s in stretches]
    return Table(("series of names", "split", "numbers from, to", "numbers that occur"), tuple(rows), num_labels=3)


def copy_table(exact: Sequence[Mapping[str, Any]]) -> Table:
    """Groups of files with the same bytes."""
    rows = [(str(len(c["paths"])), _where(c), _files(c["paths"])) for c in exact[:MOST_ROWS]]
    return Table(("files", "in different", "with the same bytes"), tuple(rows), num_labels=3)


def near_table(near: Sequence[Mapping[str, Any]]) -> Table:
    """Groups of files that show the same film in other bytes."""
    rows = [(f"{c['detail']:.3f}", c["kind"], _where(c), _files(c["paths"])) for c in near[:MOST_ROWS]]
    return Table(("likeness", "they are", "in different", "files with the same film"), tuple(rows), num_labels=4)


def leak_table(split: Mapping[str, Any]) -> Table:
    """Copies on two sides of a given split."""
    exact = [(", ".join(c["sides"]), "same bytes", _files(c["paths"])) for c in split["exact"]]
    near = [(", ".join(c["sides"]), c["kind"], _files(c["paths"])) for c in split["near"]]
    return Table(("sides", "how alike", "files"), tuple([*exact, *near][:MOST_ROWS]), num_labels=3)


def file_table(files: Sequence[Mapping[str, Any]], key: str, title: str) -> Table:
    """One line per file: its path, and what `key` says."""
    return Table(("file", title), tuple((f["path"], f[key]) for f in files[:MOST_ROWS]), num_labels=2)


def size_table(sizes: Sequence[Mapping[str, Any]], sharpness: Sequence[Mapping[str, Any]]) -> Table:
    """Median with the middle half of size and sharpness, and the extremes of the aspect, by split and class."""
    rows = [
        (
            s["split"] or "-",
            s["class"],
            f"{s['images']:,}",
            _middle(s["width"], 0),
            _middle(s["height"], 0),
            _middle(s["aspect"], 2),
            _range(s["aspect"]),
            _middle(b["sharpness"], 3),
        )
        for s, b in zip(sizes, sharpness, strict=True)
    ]
    header = ("split", "class", "images", "width", "height", "width / height", "from, to", "sharpness")
    return Table(header, tuple(rows), num_labels=2)


def floor_table(floor: Mapping[str, Any], *, has_patients: bool) -> Table:
    """How well crude features tell pneumonia; of how many patients where they are known."""
    rows = []
    for name, title in (("val", f"validation, {VALIDATION[floor['validation']]}"), ("test", "test")):
        if name in floor:
            found = floor[name]
            limits = found["intervals"]
            rates = [with_interval(found[k], limits[k]) for k in ("auroc", "sensitivity", "specificity")]
            counts = (f"{found['num_images']:,}", *([f"{found['num_patients']:,}"] if has_patients else []))
            rows.append((title, *counts, *rates, number(found["balanced_accuracy"])))
    patients = ["patients"] if has_patients else []
    header = ("images", "number", *patients, "AUROC", "sensitivity", "specificity", "balanced accuracy")
    return Table(header, tuple(rows))


def feature_table(floor: Mapping[str, Any]) -> Table:
    """Each crude feature: what it is, its weight, and how far it gets alone."""
    rows = [
        (name, floor["features"][name], f"{weight:+.2f}", number(floor["single"][name]))
        for name, weight in floor["weights"].items()
    ]
    header = ("feature", "what it is", "weight per standard deviation", "AUROC alone")
    return Table(header, tuple(rows), num_labels=2)


def confident_table(view: Mapping[str, Any]) -> Table:
    """Images by label and by the class that they confidently belong to."""
    names = view["classes"]
    rows = [(name, *(f"{count:,}" for count in counts)) for name, counts in zip(names, view["confident"], strict=True)]
    return Table(("labelled", *(f"likely {name}" for name in names)), tuple(rows))


def review_table(view: Mapping[str, Any]) -> Table:
    """Doubtful labels, the most doubtful first."""
    rows = [
        (
            i["path"],
            i["label"],
            i["suggested"],
            f"{i['probability_of_label']:.3f}",
            f"{i['probability_of_suggested']:.3f}",
        )
        for i in view["images"][:MOST_ROWS]
    ]
    header = ("file", "label", "likelier", "probability of the label", "of the likelier")
    return Table(header, tuple(rows), num_labels=3)


def _files(paths: Sequence[str]) -> str:
    more = [f"and {len(paths) - _MOST_FILES} more"] * (len(paths) > _MOST_FILES)
    return "\n".join([*paths[:_MOST_FILES], *more])


def _where(copy: Mapping[str, Any]) -> str:
    return ", ".join(word for key, word in _CUT if copy[key]) or "-"


def _middle(quantiles: Sequence[float], digits: int) -> str:
    least, low, median, high, most = quantiles
    if least == most:
        return f"{median:.{digits}f}"
    return f"{median:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _stretches(stretches: Sequence[Sequence[int]]) -> str:
    if len(stretches) > _MOST_STRETCHES:
        return f"{stretches[0][0]} to {stretches[-1][1]}, in {len(stretches)} stretches"
    return ", ".join(f"{low} to {high}" if low < high else f"{low}" for low, high in stretches)


def _range(quantiles: Sequence[float]) -> str:
    low, high = f"{quantiles[0]:.2f}", f"{quantiles[-1]:.2f}"
    return low if low == high else f"{low} to {high}"
