"""audit.md and audit.html: what is wrong or suspicious in a data set, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pneumolit.report.data_audit_tables import (
    MOST_ROWS,
    confident_table,
    copy_table,
    count_table,
    feature_table,
    file_table,
    floor_table,
    leak_table,
    mix_table,
    near_table,
    reading_table,
    review_table,
    size_table,
    stretch_table,
)
from pneumolit.report.data_audit_words import (
    copy_sentence,
    findings,
    floor_sentence,
    headline,
    known_sentences,
    near_sentence,
)
from pneumolit.report.evaluation import DISCLAIMER
from pneumolit.report.html import Section, run_page
from pneumolit.rundir import write_text

__all__ = ["audit_markdown", "findings", "headline", "write_audit_page"]

Pictures = Sequence[tuple[Path, str]]


def audit_markdown(found: Mapping[str, Any]) -> str:
    """The result in words and tables, ending in the disclaimer and a newline.

    Args:
        found: content of audit.json.
    """
    blocks = [f"# {_title(found)}", "\n".join(f"- {label}: {_inline(value)}" for label, value in _summary(found))]
    for section in _sections(found, {}):
        blocks += _markdown(section, "##")
    return "\n\n".join(block.strip("\n") for block in [*blocks, DISCLAIMER]) + "\n"


def write_audit_page(path: Path, found: Mapping[str, Any], pictures: Mapping[str, Pictures]) -> Path:
    """Write a page that needs no other file.

    Args:
        path: the HTML file.
        found: content of audit.json.
        pictures: (file, caption) by "copies", "odd" and "labels", read here and not needed afterwards.
    """
    sections = _sections(found, pictures)
    write_text(path, run_page(title=_title(found), summary=_summary(found), sections=sections, has_contents=True))
    return path


def _title(found: Mapping[str, Any]) -> str:
    return f"Audit of {found['name']}"


def _summary(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    box = [
        ("data set", headline(found).partition(": ")[2]),
        ("folder", found["root"]),
        ("made", f"{found['made']}, in {found['seconds']:.0f} s"),
    ]
    if "val" in found["floor"]:
        box.append(("crude-feature floor", floor_sentence(found["floor"], "val")))
    return box


def _sections(found: Mapping[str, Any], pictures: Mapping[str, Pictures]) -> list[Section]:
    sections = [
        Section("What was found", items=findings(found)),
        Section(
            "Images",
            known_sentences(found["known"]),
            [count_table(found["counts"])],
            items=(found["known"] or {}).get("differences", ()),
        ),
        *_files(found["files"], pictures.get("odd", ())),
        _copies(found["copies"], pictures.get("copies", ())),
        *_patients(found),
        *_split(found["split"]),
        Section("Class, cause and series", _MIX, [mix_table(found["mix"], has_patients=found["knows_patients"])]),
        Section("Size and sharpness", _SIZES, [size_table(found["sizes"], found["sharpness"])]),
        _floor(found["floor"], has_patients=found["knows_patients"]),
        *_labels(found["label_errors"], pictures.get("labels", ())),
    ]
    unit = "patients" if found["knows_patients"] else "images"
    methods = [text.format(unit=unit) for text in _METHODS]
    return [*sections, Section("How the numbers were made", items=methods, is_folded=True)]


def _files(files: Mapping[str, Any], pictures: Pictures) -> list[Section]:
    parts = []
    for key, column, heading, words, tone in (
        ("unreadable", "reason", "Files that cannot be read", _UNREADABLE, "warning"),
        ("odd", "what", "Odd files", _ODD, ""),
        ("strays", "reason", "Beside the images", _STRAYS, ""),
        ("names", "reason", "Odd names", _NAMES, ""),
    ):
        if files[key]:
            table = file_table(files[key], column, "reason" if column == "reason" else "what is odd")
            images = pictures if key == "odd" else ()
            note = _cut_note(files[key])
            parts.append(Section(heading, words, [table], images, note=note, tone=tone, is_gallery=True))
    return [Section("Files", parts=parts)] if parts else []


def _copies(copies: Mapping[str, Any], pictures: Pictures) -> Section:
    parts = []
    if pictures:
        parts.append(Section("Copies as pictures", _PAIRS, images=pictures, is_gallery=True))
    if copies["near"]:
        parts.append(
            Section("The same film in other bytes", tables=[near_table(copies["near"])], note=_cut_note(copies["near"]))
        )
    if copies["exact"]:
        note = _cut_note(copies["exact"])
        parts.append(Section("The same bytes", tables=[copy_table(copies["exact"])], note=note, is_folded=True))
    return Section("Copies", [copy_sentence(copies), near_sentence(copies), *_COPIES], parts=parts)


def _patients(found: Mapping[str, Any]) -> list[Section]:
    patients = found["patients"]
    if not patients["readings"]:
        return []
    is_apart = not any(b["shared"] for b in patients["readings"].get("full", {"between": ()})["between"])
    is_kaggle = is_apart and (found["source"] == "demo" or not (found["known"] or {"differences": 1})["differences"])
    words = _READINGS_KAGGLE if is_kaggle else _READINGS
    parts = []
    if patients["stretches"]:
        parts.append(Section("Numbers of every series", tables=[stretch_table(patients["stretches"])]))
    return [Section("Patients", words, [reading_table(patients["readings"])], parts=parts, tone="rich")]


def _split(split: Mapping[str, Any] | None) -> list[Section]:
    if split is None:
        return []
    sides = ", ".join(f"{name} {count:,}" for name, count in split["sides"].items())
    words = [f"{split['file']}: {sides}."]
    if split["unnamed"]:
        words.append(f"It does not name {split['unnamed']:,} images of the data set.")
    if split["absent"]:
        words.append(f"It names {split['absent']:,} images that are not in the data set.")
    tables = [reading_table(split["readings"])] if split["readings"] else []
    copies = [leak_table(split)] if split["exact"] or split["near"] else []
    words += ["No copy of a film is on another side."] * (not copies)
    plausible = split["readings"].get("given", split["readings"].get("full", {"between": ()}))
    is_leaking = copies or any(b["shared"] for b in plausible["between"])
    return [Section("What the split leaks", words, [*tables, *copies], tone="warning rich" if is_leaking else "rich")]


def _floor(floor: Mapping[str, Any], *, has_patients: bool) -> Section:
    if "val" not in floor:
        return Section(_FLOOR_HEADING, [f"There is none: {floor['reason']}."])
    words = [*_FLOOR]
    if "look" in floor:
        words.append(f"Test: {floor['look']}.")
    features = Section("The features", _FEATURES, [feature_table(floor)], is_folded=True)
    return Section(_FLOOR_HEADING, words, [floor_table(floor, has_patients=has_patients)], parts=[features])


def _labels(labels: Mapping[str, Any] | None, pictures: Pictures) -> list[Section]:
    if labels is None:
        return []
    ranked = f" They rank pneumonia with AUROC {labels['auroc']:.3f}." if labels["auroc"] is not None else ""
    words = [
        f"{labels['num_images']:,} images were scored by models that did not see their patient: {labels['runs']} runs "
        f"over {labels['folds']} folds.{ranked}",
        *_LABELS,
    ]
    if labels["strangers"]:
        words.append(f"{labels['strangers']:,} of those listed are not in this data set.")
    if labels["missing_folds"]:
        words.append(f"Folds without a finished run: {', '.join(map(str, labels['missing_folds']))}.")
    parts = []
    for place, view in enumerate(labels["views"]):
        heading = " or ".join(view["classes"]).capitalize() + "?"
        told = [
            f"{len(view['images']):,} images confidently belong to another class than their label; by their shares "
            f"{view['expected']:.0f} labels of all would be wrong."
        ]
        parts.append(
            Section(
                heading, told, [confident_table(view), review_table(view)], () if place else pictures,
                note=_cut_note(view["images"]), is_gallery=True,
            )
        )  # fmt: skip
    return [Section("Labels to review", words, parts=parts)]


def _cut_note(rows: Sequence[Any]) -> str:
    return f"The first {MOST_ROWS} of {len(rows):,}; audit.json has all." if len(rows) > MOST_ROWS else ""


def _markdown(section: Section, level: str) -> list[str]:
    blocks = [f"{level} {section.heading}", *map(_inline, section.paragraphs)]
    blocks += ["\n".join(f"- {_inline(text)}" for text in section.items)] * bool(section.items)
    blocks += [table.markdown() for table in section.tables]
    blocks += [_inline(section.note)] * bool(section.note)
    return blocks + [block for part in section.parts for block in _markdown(part, f"{level}#")]


def _inline(text: str) -> str:
    return " ".join(text.split())


_UNREADABLE = ("Training stops at these unless data.on_bad_image=skip leaves them out.",)
_ODD = (
    "They are read: color becomes luminance, 16 bits are scaled to 8, EXIF turns are undone, what is transparent "
    "lies on black, and every shape is squashed to a square. Whoever made them worked otherwise than the rest, and a "
    "model may learn to see that.",
)
_STRAYS = ("No run reads these.",)
_NAMES = ("Names tell who was imaged, so an image whose name tells nothing counts as a patient of its own.",)
_COPIES = (
    "Copies of one film on two sides of a split are answers that a model has seen. Exact copies are left out of "
    "training and validation (data.duplicates=drop) and stay in test; those in other bytes are nowhere left out.",
)
_PAIRS = ("First those on two sides, then with two labels, then of two patients.",)
_READINGS = (
    "Patients as the names tell them, from the coarsest reading to the finest, and how many of them are on two sides.",
)
_READINGS_KAGGLE = (
    "A name holds a number and tells a series: IM and NORMAL2-IM for normal films, person with bacteria or virus for "
    "pneumonia. Nothing that was published says whether the same number in two series is the same person, so that "
    "four readings are possible, from the coarsest to the finest.",
    "The numbers of every series, below, speak for the last one. Each side holds a few stretches of a series, "
    "and no number of a series is on two sides. So somebody divided lists that number their patients each from the "
    "start; a number that occurs on the other side in another series then belongs to somebody else who happens to "
    "have it. Under this reading nobody is on two sides; whom the coarser ones count there, below, is so by chance "
    "alone. It is a plausible reading, not a proof.",
    "So data.patient_key=full is the default, and validation is carved by groups with the cause left out, which "
    "holds under two readings at once.",
)
_MIX = ("Where shares differ between splits, so do accuracy, predictive values and calibration, whatever the model.",)
_SIZES = (
    "Median [middle half]. Sizes are those of the files; sharpness is that of the stored square images: the standard "
    "deviation of the Laplacian over that of the image. What differs between classes here, a model can learn instead "
    "of lungs; what differs between splits, it has not learned.",
)
_FLOOR_HEADING = "The crude-feature floor"
_FLOOR = (
    "A logistic regression on a few statistics of gray levels and files, which knows nothing of lungs. What a "
    "network adds to this is what it has learned of films. A high floor says that normal films and those with "
    "pneumonia were made differently: other machines, exposure, collimation or compression.",
)
_FEATURES = ("Alone: AUROC on validation, below .5 where pneumonia has the smaller values.",)
_LABELS = (
    "A list to look through, not a verdict: a hard film is not a wrong label, and neither is one on which the models "
    "have learned something else than lungs. Whoever changes labels of train must leave those of test as they are.",
)
_METHODS = (
    "Exact copies: SHA-256 of whole files.",
    "The same film in other bytes: a 64-bit perceptual hash of the lowest frequencies (Zauner 2010) chooses pairs at "
    "most 10 bits apart, mirror images and negatives among them; a pair counts where the fine detail of both films "
    "at 64 x 64 pixels correlates by at least .80. No two different films of the Kaggle set have more than .73. "
    "Found are films saved anew, resized, sharpened, of other contrast, turned by one degree or cropped by 1 %; not "
    "those cropped by 2 % or more, or shifted.",
    "Color: channels on average more than 2 of 255 levels apart. Tiny: shorter side below 112 pixels. Unusual shape: "
    "width over height outside of 0.5 to 2.5.",
    "The floor: standardised features, logistic regression with balanced classes, decision at probability one half; "
    "training and validation films as a run on this data divides them (before it balances classes or takes a share of "
    "the patients), or as the split does that is asked about. Intervals of 95 % over {unit}.",
    "Labels: confident learning (Northcutt, Jiang and Chuang, Journal of Artificial Intelligence Research 70, 2021). "
    "An image belongs to a class with confidence where its probability reaches the mean over the images labelled so; "
    "the list is in the order of the probability of the label.",
)
