"""A folder or a CSV manifest becomes a table of records: what each image is, of whom, and on which side it lies."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pneumolit.data.reader import SUFFIXES
from pneumolit.data.table import Coded, ImageRecord, RecordTable
from pneumolit.labels import BACTERIA, NORMAL, PNEUMONIA, VIRUS, LabelSet

SPLITS = ("train", "val", "test")
PATIENT_KEYS = ("full", "prefix", "class_number", "number", "image")
_CAUSES = {BACTERIA: "bacteria", VIRUS: "virus"}
TARGETS = ("auto", "binary", "cause", "classes")

# person1000_bacteria_2931; person447_virus_921_1 is the one name in the set with a trailing count.
_PNEUMONIA_NAME = re.compile(r"person0*(?P<number>\d{1,18})_(?P<series>bacteria|virus)_\d+(?:_\d+)?")
# IM-0115-0001, IM-0517-0001-0002, NORMAL2-IM-1427-0001
_NORMAL_NAME = re.compile(r"(?P<series>IM|NORMAL2-IM)-0*(?P<number>\d{1,18})-\d+(?:-\d+)?")


def parse_name(name: str) -> tuple[str, int, str] | None:
    """Series, patient number and cause from a file name of the Kaggle set; None where it does not parse.

    Nor does a patient number of more than 18 digits, leading zeros aside.

    >>> parse_name("person1000_bacteria_2931.jpeg")
    ('bacteria', 1000, 'bacteria')
    >>> parse_name("NORMAL2-IM-1427-0001.jpeg")
    ('NORMAL2-IM', 1427, '')
    """
    file = name.rpartition("/")[2]
    dot = file.rfind(".")
    stem = file[:dot] if 0 < dot < len(file) - 1 else file  # as Path.stem, at a tenth of its time
    if match := _PNEUMONIA_NAME.fullmatch(stem):
        return match["series"], int(match["number"]), match["series"]
    if match := _NORMAL_NAME.fullmatch(stem):
        return match["series"], int(match["number"]), ""
    return None


def identify_patient(record: ImageRecord, patient_key: str) -> ImageRecord:
    """Set `patient_id` and `group` by one of the readings of a Kaggle name.

    `full` (series + number) is the plausible reading; carving under it keeps the coarser `prefix` groups (cause
    dropped) together, so that a split is disjoint under both. `image` makes every image its own patient: a
    mistake of some published work, kept so that it can be repeated.
    """
    if patient_key not in PATIENT_KEYS:
        raise ValueError(f"data.patient_key must be one of {', '.join(PATIENT_KEYS)}, got {patient_key!r}")
    if patient_key == "image":
        return replace(record, patient_id=record.path.as_posix(), group="")
    if record.number is None:
        return record
    prefix = f"{'person' if record.cause else record.series}-{record.number}"
    if patient_key == "full":
        return replace(record, patient_id=f"{record.series}-{record.number}", group=prefix)
    ids = {"prefix": prefix, "class_number": f"{record.label}-{record.number}", "number": str(record.number)}
    return replace(record, patient_id=ids[patient_key], group=ids[patient_key])


def read_kaggle_folder(root: Path, *, patient_key: str = "full") -> RecordTable:
    """Records of the "Chest X-Ray Images (Pneumonia)" layout: root/{train,val,test}/{NORMAL,PNEUMONIA}.

    Raises:
        FileNotFoundError: root or a needed folder is missing or without images.
        ValueError: a file name does not tell the patient.
    """
    root = _existing_root(root)
    splits = [name for name in SPLITS if (root / name).is_dir()]
    if "train" not in splits:
        raise FileNotFoundError(
            f"data.root={root} has no folder train with NORMAL and PNEUMONIA in it; found {_listing(root)}. "
            "Point data.root at the folder that holds train, val and test, or use data=image_folder for another "
            "layout"
        )
    found = (r for split in splits for r in _read_class_folders(root, root / split, split, (NORMAL, PNEUMONIA)))
    records = RecordTable.of(identify_patient(r, patient_key) for r in found)
    unparsed = records.select(~records.is_numbered).texts("path")
    if unparsed and patient_key != "image":
        raise ValueError(
            f"{len(unparsed)} file names do not tell the patient, the first {list(unparsed[:3])}; names such as "
            "person1000_bacteria_2931.jpeg or IM-0115-0001.jpeg are expected. Use data=image_folder or a manifest, "
            "or set data.patient_key=image (then images of one patient may lie on both sides of a split)"
        )
    return records


def read_image_folder(root: Path, *, patient_key: str = "full") -> RecordTable:
    """Records of any class folders: root/<class>/*, or root/{train,val,test}/<class>/*.

    Names of the Kaggle form give patient and cause; any other image counts as its own patient.

    Raises:
        FileNotFoundError: root is missing or holds no class folder with images.
    """
    root = _existing_root(root)
    splits = [name for name in SPLITS if (root / name).is_dir()]
    sides = [(root / split, split) for split in splits] if "train" in splits else [(root, "")]
    found = (r for folder, split in sides for r in _read_class_folders(root, folder, split, None))
    return RecordTable.of(identify_patient(r, patient_key) for r in found)


def read_manifest(manifest: Path, root: Path | None) -> RecordTable:
    """Records of a CSV file with the columns path, label and, if wanted, patient_id, split, cause.

    Args:
        manifest: the CSV file, UTF-8, with a header.
        root: folder that the paths are relative to; None means the folder of the manifest. What is written otherwise
            and lies below it becomes relative.

    Raises:
        FileNotFoundError: the manifest, or a file that it names, does not exist.
        ValueError: a column is missing, a row is incomplete, a split is unknown or a path comes twice.
    """
    if not manifest.is_file():
        raise FileNotFoundError(f"data.manifest={manifest} is not a file; give the path of a CSV file")
    base = _existing_root(root if root is not None else manifest.parent)
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            columns = list(reader.fieldnames or [])
            is_manifest = {"path", "label"} <= set(columns)
            rows = (_manifest_record(row, line, manifest, base) for line, row in enumerate(reader, start=2))
            records = RecordTable.of(rows if is_manifest else ())
            count = len(records) if is_manifest else sum(1 for _ in reader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{manifest} is not UTF-8 ({error}); save it as CSV UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{manifest} cannot be read as CSV ({error}); is a quotation mark left open?") from error
    if not records:
        raise ValueError(
            f"{manifest} must be a CSV file with the columns path and label (and, if known, patient_id, split, "
            f"cause) and at least one row; found the columns {columns} and {count} rows"
        )
    twice = records.repeated_paths()
    if twice:
        raise ValueError(f"{manifest} names {len(twice)} files more than once, the first {twice[:3]}")
    # A Path per file would leave its name in Python's table of names.
    missing = [p for p in records.texts("path") if not os.path.isfile(os.path.join(base, p))]  # noqa: PTH113, PTH118
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(records)} files named in {manifest} do not exist below {base}, "
            f"the first {missing[:3]}; set data.root to the folder that the paths are relative to"
        )
    return records


def choose_labels(records: RecordTable, target: str, positive: Sequence[str] | None) -> tuple[LabelSet, RecordTable]:
    """Decide the classes of the task and label every record with one of them.

    Args:
        records: with the labels of the source.
        target: `binary` (NORMAL, PNEUMONIA), `cause` (NORMAL, BACTERIA, VIRUS), `classes` (as the source says)
            or `auto`: `cause` where every pneumonia image tells its cause, else `classes`.
        positive: names of the classes that mean pneumonia; None takes PNEUMONIA, BACTERIA and VIRUS where they occur.

    Raises:
        ValueError: the target does not fit the data, a cause is missing, or fewer than two classes remain.
    """
    if target not in TARGETS:
        raise ValueError(f"data.target must be one of {', '.join(TARGETS)}, got {target!r}")
    kinds = records.kinds("label", "cause")
    given = sorted({label for label, _ in kinds.values})
    is_chest = {label.upper() for label in given} <= {NORMAL, PNEUMONIA, BACTERIA, VIRUS}
    is_unknown = [_is_pneumonia(label) and not _cause_label(label, cause) for label, cause in kinds.values]
    without_cause = records.select(np.array(is_unknown, dtype=bool)[kinds.codes]).texts("path")
    if target == "auto":
        target = "cause" if is_chest and not without_cause else "classes"
    if target in {"cause", "binary"} and not is_chest:
        raise ValueError(
            f"data.target={target} needs the classes NORMAL and PNEUMONIA (or BACTERIA, VIRUS), found "
            f"{given}; use data.target=classes"
        )
    if target == "cause" and without_cause:
        raise ValueError(
            f"data.target=cause, but {len(without_cause)} pneumonia images do not tell bacteria from virus, the "
            f"first {list(without_cause[:3])}; use data.target=binary, or name the cause in the file name or the "
            "manifest"
        )
    if target == "cause":
        labels = [_cause_label(label, cause) if _is_pneumonia(label) else NORMAL for label, cause in kinds.values]
        order: Iterable[str] = (NORMAL, BACTERIA, VIRUS)
    elif target == "binary":
        labels = [PNEUMONIA if _is_pneumonia(label) else NORMAL for label, _ in kinds.values]
        order = (NORMAL, PNEUMONIA)
    else:
        labels = [label for label, _ in kinds.values]
        order = given
    causes = [cause or _CAUSES.get(label.upper(), "") for label, (_, cause) in zip(labels, kinds.values, strict=True)]
    labelled = records.changed(label=Coded(labels, kinds.codes), cause=Coded(causes, kinds.codes))
    classes = tuple(name for name in order if name in labels)
    if len(classes) < 2:
        raise ValueError(
            f"only one class was found: {list(classes)} in {len(records)} images; a classifier needs at least two. "
            "Check data.root and the class folders"
        )
    if positive is None:
        chosen = tuple(name for name in classes if name.upper() in {PNEUMONIA, BACTERIA, VIRUS})
        chosen = chosen if len(chosen) < len(classes) else ()
    else:
        chosen = tuple(str(name) for name in positive)  # Hydra reads class folders 0 and 1 as numbers
    return LabelSet(classes, chosen), labelled


def _is_pneumonia(label: str) -> bool:
    return label.upper() in {PNEUMONIA, BACTERIA, VIRUS}


def _cause_label(label: str, cause: str) -> str:
    if label.upper() in {BACTERIA, VIRUS}:
        return label.upper()
    return {"bacteria": BACTERIA, "virus": VIRUS}.get(cause, "")


def _existing_root(root: Path) -> Path:
    root = Path(root).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"data.root={root} is not a folder. Set data.root=FOLDER on the command line or PNEUMOLIT_DATA in the "
            "environment, or use data=demo, which needs no download"
        )
    return root


def _read_class_folders(
    root: Path, folder: Path, split: str, expected: tuple[str, ...] | None
) -> Iterator[ImageRecord]:
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if expected is not None:
        absent = [name for name in expected if name not in names]
        if absent:
            raise FileNotFoundError(
                f"{folder} lacks the class folder {' and '.join(absent)}; found {_listing(folder)}. "
                f"Expected {' and '.join(expected)}, in capitals"
            )
        names = list(expected)
    if not names:
        raise FileNotFoundError(
            f"no class folder with images in {folder}; found {_listing(folder)}. "
            "Expected one folder per class, each with JPEG or PNG files"
        )
    for name in names:
        with os.scandir(folder / name) as entries:  # tells files from folders without asking for each
            files = sorted(entry.name for entry in entries if _is_image(entry))
        if not files:
            raise FileNotFoundError(
                f"class folder {folder / name} holds no JPEG or PNG file; found {_listing(folder / name)}"
            )
        relative = (folder / name).relative_to(root)
        for file in files:
            series, number, cause = parse_name(file) or ("", None, "")
            path = relative / file
            yield ImageRecord(
                path=path,
                label=name,
                patient_id=path.as_posix(),
                cause=cause if name.upper() != NORMAL else "",
                split=split,
                series=series,
                number=number,
            )


def _is_image(entry: os.DirEntry[str]) -> bool:
    # The archive from a Mac holds ._IM-0115-0001.jpeg files that are no images.
    if entry.name.startswith(".") or not entry.name.lower().endswith(tuple(SUFFIXES)):
        return False
    try:
        return entry.is_file()
    except OSError:  # a link to itself; of one to what is not there the answer is no
        return False


def _manifest_record(row: dict[str, str | None], line: int, manifest: Path, base: Path) -> ImageRecord:
    path, label = (row.get("path") or "").strip(), (row.get("label") or "").strip()
    split = (row.get("split") or "").strip()
    if not path or not label:
        raise ValueError(f"{manifest}, line {line}: path and label must not be empty, got {dict(row)}")
    if split not in {"", *SPLITS}:
        raise ValueError(f"{manifest}, line {line}: split must be train, val, test or empty, got {split!r}")
    if os.path.isabs(path) or ".." in path.split("/"):  # noqa: PTH117  a Path per row is slow
        found = os.path.relpath(os.path.join(base, path), base)  # noqa: PTH118
        path = path if found.startswith(f"{os.pardir}/") else found
    series, number, cause = parse_name(path) or ("", None, "")
    patient = (row.get("patient_id") or "").strip()
    if "\0" in path + patient:
        raise ValueError(f"{manifest}, line {line}: a path or patient_id holds a NUL character, got {dict(row)}")
    given_cause = (row.get("cause") or "").strip().lower()
    if given_cause not in {"", "bacteria", "virus"}:
        raise ValueError(f"{manifest}, line {line}: cause must be bacteria, virus or empty, got {given_cause!r}")
    # A manifest says itself who the patient is; a name is not read for it behind its back.
    return ImageRecord(Path(path), label, patient or path, given_cause or cause, split, series, number)


def _listing(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir())[:6]
    return ", ".join(names) if names else "an empty folder"
