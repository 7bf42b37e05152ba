"""A data configuration becomes an opened, divided data set: records, images, classes, who is on which side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pneumolit.data.demo import DEMO_VERSION, make_demo
from pneumolit.data.records import (
    SPLITS,
    ImageRecord,
    choose_labels,
    read_image_folder,
    read_kaggle_folder,
    read_manifest,
)
from pneumolit.data.split import (
    carve_block,
    carve_fold,
    carve_validation,
    check_classes,
    resplit,
    undersample,
)
from pneumolit.data.store import ImageStore, Progress, open_store
from pneumolit.labels import LabelSet
from pneumolit.rundir import fingerprint, read_split_csv

DROPPED, UNREADABLE, BLOCK = "dropped", "unreadable", "block"
_CARVING = {"val_fraction": 0.1, "folds": None, "carve": "random", "holdout_fraction": 0}  # keys with their defaults
_SIDES = frozenset({*SPLITS, BLOCK, DROPPED, UNREADABLE})


@dataclass(frozen=True)
class ChestXrayData:
    """A data set, opened and divided.

    Attributes:
        records: one per row of the store, with the task's label and the final split: train, val, test, block,
            dropped (an exact copy or left out by balancing) or unreadable.
        store: the images.
        labels: the classes.
        is_copy: `(N,)` bool, from `find_copies`.
    """

    records: tuple[ImageRecord, ...]
    store: ImageStore
    labels: LabelSet
    is_copy: np.ndarray

    def rows(self, split: str) -> np.ndarray:
        """Rows of a split, in the order of the store."""
        return np.array([i for i, r in enumerate(self.records) if r.split == split], dtype=np.int64)

    def targets(self, rows: np.ndarray) -> np.ndarray:
        """Class index of some rows."""
        return np.array([self.labels.index(str(self.records[i].label)) for i in rows], dtype=np.int64)

    def set_fingerprint(self, split: str) -> str:
        """Hash of the files in a split, whatever their names and folder."""
        return fingerprint(*sorted(self.store.hashes[i] for i in self.rows(split)))

    def split_rows(self) -> list[dict[str, Any]]:
        """Content of split.csv."""
        return [
            {
                "path": r.path.as_posix(),
                "split": r.split,
                "label": r.label,
                "patient_id": r.patient_id,
                "cause": r.cause,
                "series": r.series,
                "is_copy": int(self.is_copy[i]),
                "sha256": self.store.hashes[i][:16],
            }
            for i, r in enumerate(self.records)
        ]


def load_data(cfg: Mapping[str, Any], cache_dir: Path, progress: Progress | None = None) -> ChestXrayData:
    """Read, open and divide the data set that a `data` configuration describes.

    Raises:
        FileNotFoundError, ValueError: as the readers, the splits and the store say; unreadable files are all named.
    """
    root, records = read_records(cfg, cache_dir)
    labels, records = choose_labels(records, cfg["target"], cfg["positive"])
    records = _divide_given(records, cfg)
    store = open_store(
        root, [r.path for r in records], cache_dir=cache_dir, store_size=cfg["store_size"], progress=progress
    )
    records = handle_unreadable(records, store, root, cfg["on_bad_image"])
    if cfg["split_file"] is not None:
        records = _divide_by_file(records, Path(cfg["split_file"]).expanduser())
    is_copy = find_copies(records, store.hashes)
    if cfg["duplicates"] == "drop":
        records = [
            replace(r, split=DROPPED) if is_copy[i] and r.split not in {"test", UNREADABLE} else r
            for i, r in enumerate(records)
        ]
    if cfg["split_file"] is None and cfg["resplit"] is None:
        records = _carve(records, cfg)
    if cfg["balance"] == "undersample":
        kept = {r.path for r in undersample([r for r in records if r.split == "train"], seed=cfg["seed"])}
        records = [replace(r, split=DROPPED) if r.split == "train" and r.path not in kept else r for r in records]
    for name in ("train", "val", *((BLOCK,) if any(r.split == BLOCK for r in records) else ())):
        check_classes([r for r in records if r.split == name], labels.classes, name)
    return ChestXrayData(tuple(records), store, labels, is_copy)


def find_root(cfg: Mapping[str, Any], cache_dir: Path) -> Path:
    """The folder that the paths of a source are relative to; phantoms are made if they are not there yet.

    Raises:
        FileNotFoundError: no folder was named.
    """
    root = Path(cfg["root"]).expanduser() if cfg["root"] else None
    if cfg["source"] == "demo":
        folder = cache_dir / "demo" / f"v{DEMO_VERSION}-seed{cfg['demo_seed']}"
        return root or make_demo(folder, seed=cfg["demo_seed"])
    if cfg["source"] == "manifest":
        if not cfg["manifest"]:
            raise ValueError("data=manifest needs data.manifest=FILE.csv with the columns path and label")
        return root or Path(cfg["manifest"]).expanduser().parent
    if root is None:
        raise FileNotFoundError(
            "no data set: data.root is not set. Set data.root=FOLDER on the command line or PNEUMOLIT_DATA in the "
            "environment, or use data=demo, which needs no download"
        )
    if cfg["source"] == "kaggle" and not (root / "train").is_dir() and (root / "chest_xray" / "train").is_dir():
        return root / "chest_xray"  # the Kaggle archive nests the set in a folder of the same name
    return root


def read_records(cfg: Mapping[str, Any], cache_dir: Path) -> tuple[Path, list[ImageRecord]]:
    """Root and records of the source that `data.source` names."""
    root = find_root(cfg, cache_dir)
    if cfg["source"] == "manifest":
        return root, read_manifest(Path(cfg["manifest"]).expanduser(), root)
    if cfg["source"] == "folder":
        return root, read_image_folder(root, patient_key=cfg["patient_key"])
    return root, read_kaggle_folder(root, patient_key=cfg["patient_key"])


def repeats(hashes: Iterable[str]) -> np.ndarray:
    """`(N,)` bool: which files repeat an earlier one of the same list, byte for byte."""
    seen: set[str] = set()
    found = []
    for value in hashes:
        found.append(value in seen)
        seen.add(value)
    return np.array(found, dtype=bool)


def find_copies(records: Sequence[ImageRecord], hashes: Sequence[str]) -> np.ndarray:
    """`(N,)` bool: which images are exact copies that training and validation must not hold.

    Within test, every image that repeats an earlier one of test; elsewhere, every image that repeats one of test
    or an earlier one of the rest.
    """
    in_test = {value for r, value in zip(records, hashes, strict=True) if r.split == "test"}
    seen: set[tuple[bool, str]] = set()
    copies = np.zeros(len(records), dtype=bool)
    for i, (record, value) in enumerate(zip(records, hashes, strict=True)):
        if record.split == UNREADABLE:
            continue
        is_test = record.split == "test"
        copies[i] = (is_test, value) in seen or (not is_test and value in in_test)
        seen.add((is_test, value))
    return copies


def _divide_given(records: list[ImageRecord], cfg: Mapping[str, Any]) -> list[ImageRecord]:
    """Give every record a side; the official 16 validation images join train, from which more are carved."""
    if cfg["resplit"] is not None:
        return resplit(records, fractions=cfg["resplit"], seed=cfg["seed"])
    if cfg["source"] in {"manifest", "folder"} and any(r.split == "val" for r in records):
        return [replace(r, split=r.split or "train") for r in records]  # who names a validation set means it
    return [r if r.split in {"train", "test"} else replace(r, split="train") for r in records]


def _carve(records: list[ImageRecord], cfg: Mapping[str, Any]) -> list[ImageRecord]:
    if any(r.split == "val" for r in records):
        set_in_vain = [k for k, usual in _CARVING.items() if cfg[k] != usual]
        if set_in_vain:
            raise ValueError(
                f"data.{set_in_vain[0]}={cfg[set_in_vain[0]]} has no effect because the data set names its own "
                "validation images; leave it out, or give the images without val"
            )
        return records
    pool = [r for r in records if r.split == "train"]
    side: dict[Path, str] = {}
    if cfg["holdout_fraction"]:
        pool, block = carve_block(pool, fraction=cfg["holdout_fraction"])
        side.update({r.path: BLOCK for r in block})
    if cfg["folds"] is not None:
        _, val = carve_fold(pool, folds=cfg["folds"], fold=cfg["fold"], seed=cfg["seed"], carve=cfg["carve"])
    elif cfg["carve"] == "blocks":
        _, val = carve_block(pool, fraction=cfg["val_fraction"])
    else:
        _, val = carve_validation(pool, val_fraction=cfg["val_fraction"], seed=cfg["seed"])
    side.update({r.path: "val" for r in val})
    return [replace(r, split=side[r.path]) if r.path in side else r for r in records]


def _divide_by_file(records: list[ImageRecord], path: Path) -> list[ImageRecord]:
    side = {row["path"]: row["split"] for row in read_split_csv(path)}
    unknown = sorted(set(side.values()) - _SIDES)
    if unknown:
        raise ValueError(f"data.split_file={path} has the splits {unknown}; allowed are {', '.join(sorted(_SIDES))}")
    unnamed = [r.path.as_posix() for r in records if r.path.as_posix() not in side]
    if unnamed:
        raise ValueError(
            f"data.split_file={path} does not name {len(unnamed)} images of the data set, the first {unnamed[:3]}; "
            "give the split.csv of a run on the same data"
        )
    return [r if r.split == UNREADABLE else replace(r, split=side[r.path.as_posix()]) for r in records]


def handle_unreadable(
    records: list[ImageRecord], store: ImageStore, root: Path, on_bad_image: str
) -> list[ImageRecord]:
    """Stop with a list of all unreadable files, or mark them so that no split holds them."""
    if not store.errors:
        return records
    if on_bad_image == "stop":
        listed = [f"  {root / records[row].path}: {reason}" for row, reason in sorted(store.errors.items())]
        shown = "\n".join(listed[:50]) + (f"\n  ... and {len(listed) - 50} more" if len(listed) > 50 else "")
        raise ValueError(
            f"{len(listed)} of {len(records)} image files cannot be read:\n{shown}\n"
            "Mend or remove them, or set data.on_bad_image=skip to train without them"
        )
    return [replace(r, split=UNREADABLE) if i in store.errors else r for i, r in enumerate(records)]


def count_classes(data: ChestXrayData) -> dict[str, dict[str, int]]:
    """Images per split and class."""
    counts = Counter((r.split, str(r.label)) for r in data.records)
    return {
        split: {name: counts[split, name] for name in data.labels.classes}
        for split in dict.fromkeys(r.split for r in data.records)
    }
