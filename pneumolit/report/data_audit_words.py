"""What the audit of a data set found, in sentences, from the content of audit.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pneumolit.report.tables import with_interval

KINDS = {
    "color": "not gray",
    "depth": "with more than 8 bits a pixel",
    "channels": "transparent, with a palette or of the colors of print",
    "rotation": "turned by EXIF",
    "frames": "with several pictures",
    "suffix": "named as another format",
    "shape": "of an unusual shape",
    "tiny": "tiny",
}


def headline(found: Mapping[str, Any]) -> str:
    """How much there is, in one line."""
    sides = ", ".join(f"{split} {sum(of.values()):,}" for split, of in found["counts"].items())
    patients = f" of {found['num_patients']:,} patients" if found["knows_patients"] else ""
    return f"{found['name']}: {found['num_images']:,} images{patients} ({sides})"


def findings(found: Mapping[str, Any]) -> list[str]:
    """One sentence for everything that was looked for, the gravest first."""
    return [
        *_broken(found["files"]),
        *_split(found["split"]),
        # Of two splits it must be clear which is meant.
        *(f"In the data set's own split: {line}" if found["split"] else line for line in _patients(found)),
        *_copies(found["copies"]),
        *known_sentences(found["known"]),
        *_odd(found["files"]),
        *_floor(found["floor"]),
        *_labels(found["label_errors"]),
    ]


def known_sentences(known: Mapping[str, Any] | None) -> list[str]:
    """How the counts compare with those that are known of the Kaggle set; nothing for another set."""
    if known is None:
        return []
    if known["differences"]:
        return [
            f"Counts differ from the known ones of the Kaggle set: {known['total']:,} images, {known['known_total']:,} "
            "are known."
        ]
    return [
        f"Counts are the known ones of the Kaggle set, {known['total']:,} images; its page and many papers speak of "
        f"{known['claimed_total']:,}, {known['claimed_total'] - known['known_total']} more than its files."
    ]


def copy_sentence(copies: Mapping[str, Any]) -> str:
    """Files with the same bytes."""
    groups, extra = copies["exact"], copies["num_extra"]
    if not groups:
        return "No two files have the same bytes."
    where = _where(groups)
    return f"{extra:,} further exact {_copies_word(extra)} in {_counted(len(groups), 'group')}: {where}."


def near_sentence(copies: Mapping[str, Any]) -> str:
    """Films that are there twice in other bytes."""
    near = copies["near"]
    if not near:
        return "No film is there twice in other bytes, as far as hash and detail tell."
    films = f"{_counted(len(near), 'film')} {'is' if len(near) == 1 else 'are'}"
    return f"{films} there more than once in other bytes: {_where(near)}."


def shared_sentences(readings: Mapping[str, Mapping[str, Any]], name: str, words: str) -> list[str]:
    """Who is on two sides under one reading.

    Args:
        readings: of the audit, or of a split.
        name: which of them.
        words: the reading in words.
    """
    told = [
        f"{b['shared']:,} in both {b['sides'][0]} and {b['sides'][1]}" for b in readings[name]["between"] if b["shared"]
    ]
    if not readings[name]["between"]:
        return []
    if not told:
        return [f"No patient is on two sides ({words})."]
    return [f"Patients on two sides ({words}): {', '.join(told)}."]


def floor_sentence(floor: Mapping[str, Any], which: str) -> str:
    """The floor on "val" or "test"."""
    told = floor[which]
    auroc = with_interval(told["auroc"], told["intervals"]["auroc"])
    rates = [f"{k} {with_interval(told[k], told['intervals'][k])}" for k in ("sensitivity", "specificity")]
    return f"AUROC {auroc}, {', '.join(rates)}"


def _broken(files: Mapping[str, Any]) -> list[str]:
    count = len(files["unreadable"])
    return [f"{_counted(count, 'file')} cannot be read."] if count else ["Every file can be read."]


def _split(split: Mapping[str, Any] | None) -> list[str]:
    if split is None:
        return []
    told = []
    for name, words in (("given", "as the manifest says"), ("full", "series and number")):
        if name in split["readings"]:
            told += [f"{split['file']}: {line}" for line in shared_sentences(split["readings"], name, words)]
            break
    count = len(split["exact"]) + len(split["near"])
    told.append(
        f"{split['file']}: {_counted(count, 'film')} on two sides as copies."
        if count
        else f"{split['file']}: no copy is on two sides."
    )
    return told


def _patients(found: Mapping[str, Any]) -> list[str]:
    readings = found["patients"]["readings"]
    if not readings:
        return ["Patients are not known: neither names nor a manifest tell them, so no split can be checked for them."]
    if "given" in readings:
        return shared_sentences(readings, "given", "as the manifest says")
    coarser = [
        f"{b['shared']} by {words}"
        for name, words in (("number", "the bare number"), ("class_number", "class and number"),
                            ("prefix", "prefix and number"))
        for b in readings[name]["between"]
        if b["sides"] == ["train", "test"]
    ]  # fmt: skip
    told = shared_sentences(readings, "full", "series and number, the plausible reading")
    if found["patients"].get("unnamed"):
        told.append(
            f"The manifest names no patients, so that a run takes every image for a patient of its own; by the names "
            f"{_counted(found['patients']['unnamed'], 'patient')} have several images. Add a column patient_id."
        )
    if told and coarser:
        told.append(f"Between train and test the coarser readings would share {', '.join(coarser)}; see below why.")
    return told


def _copies(copies: Mapping[str, Any]) -> list[str]:
    return [copy_sentence(copies), near_sentence(copies)]


def _odd(files: Mapping[str, Any]) -> list[str]:
    kinds = Counter(odd["kind"] for odd in files["odd"])
    listed = ", ".join(f"{count:,} {KINDS[kind]}" for kind, count in kinds.most_common())
    told = [f"{_counted(len({odd['path'] for odd in files['odd']}), 'odd file')}: {listed}."] if kinds else []
    if files["strays"]:
        told.append(f"{_counted(len(files['strays']), 'thing')} beside the images, which no run reads.")
    names = files["names"]
    if len(names) == 1:
        told.append(f"One odd name: {names[0]['path']} {names[0]['reason']}.")
    elif names:
        told.append(f"{len(names):,} odd names, the first {names[0]['path']}.")
    return told


def _floor(floor: Mapping[str, Any]) -> list[str]:
    if "val" not in floor:
        return [f"No crude-feature floor: {floor['reason']}."]
    told = [f"Crude statistics alone, without a look at a lung: {floor_sentence(floor, 'val')} on validation."]
    if "test" in floor:
        told.append(f"On test: {floor_sentence(floor, 'test')} ({floor['look']}).")
    return told


def _labels(labels: Mapping[str, Any] | None) -> list[str]:
    if labels is None:
        return []
    view = labels["views"][0]
    count = len(view["images"])
    return [
        f"{_counted(count, 'label')} to review of {labels['num_images']:,} images with out-of-fold predictions; the "
        f"method expects about {view['expected']:.0f} wrong. A hard film is not a wrong label."
    ]


def _where(copies: Sequence[Mapping[str, Any]]) -> str:
    cut = (("is_across_splits", "splits"), ("is_across_classes", "classes"), ("is_across_patients", "patients"))
    known = [(key, word) for key, word in cut if copies[0][key] is not None]  # patients may be unknown
    counts = [(sum(bool(c[key]) for c in copies), word) for key, word in known]
    return ", ".join(f"{count or 'none'} across {word}" for count, word in counts)


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _copies_word(count: int) -> str:
    return "copy" if count == 1 else "copies"
