"""A data configuration becomes an opened, divided data set: records, images, classes, who is on which side."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pneumolit.data.demo import DEMO_VERSION, make_demo
from pneumolit.data.pneumoniamnist import make_pneumoniamnist
from pneumolit.data.records import (
    SPLITS,
    choose_labels,
    read_image_folder,
    read_kaggle_folder,
    read_manifest,
)
from pneumolit.data.split import (
    carve_block,
    carve_fold,
    carve_patients,
    check_classes,
    resplit,
    undersample,
)
from pneumolit.data.store import ImageStore, Progress, open_store
from pneumolit.data.table import Coded, ImageRecord, RecordTable
from pneumolit.labels import LabelSet
from pneumolit.rundir import fingerprint, read_split_csv

DROPPED, UNREADABLE, BLOCK = "dropped", "unreadable", "block"
BLOCKS = (BLOCK, "block2", "block3")  # from the lowest patient numbers on
# Keys that say how validation is carved, with their defaults.
_CARVING: dict[str, Any] = {"val_fraction": 0.1, "folds": None, "carve": "random", "stratify": True}
_SIDES = frozenset({*SPLITS, *BLOCKS, DROPPED, UNREADABLE})


@dataclass(frozen=True)
class ChestXrayData:
    """A data set, opened and divided.

    Attributes:
        records: one per row of the store, with the task's label and the final split: train, val, test, one of `BLOCKS`,
            dropped (an exact copy or left out by balancing) or unreadable.
        store: the images.
        labels: the classes.
        is_copy: `(N,)` bool, from `find_copies`.
        epoch_length: images that training draws per epoch; None: as many as it has.
    """

    records: RecordTable
    store: ImageStore
    labels: LabelSet
    is_copy: np.ndarray
    epoch_length: int | None = None

    @property
    def num_drawn(self) -> int:
        """Images that training draws per epoch."""
        return len(self.rows("train")) if self.epoch_length is None else self.epoch_length

    def rows(self, split: str) -> np.ndarray:
        """Rows of a split, in the order of the store."""
        return np.flatnonzero(self.records.is_in("split", split))

    def targets(self, rows: np.ndarray) -> np.ndarray:
        """Class index of some rows."""
        kinds = self.records.kinds("label")
        index = np.array([self.labels.index(label) for (label,) in kinds.values], dtype=np.int64)
        found: np.ndarray = index[kinds.codes[rows]]
        return found

    def set_fingerprint(self, split: str) -> str:
        """Hash of the files in a split, whatever their names and folder."""
        return self.store.hashes.fingerprint(self.rows(split))

    def split_rows(self) -> Iterator[dict[str, Any]]:
        """Content of split.csv."""
        for i, r in enumerate(self.records):
            yield {
                "path": r.path.as_posix(),
                "split": r.split,
                "label": r.label,
                "patient_id": r.patient_id,
                "cause": r.cause,
                "series": r.series,
                "is_copy": int(self.is_copy[i]),
                "sha256": self.store.hashes[i][:16],
            }


def load_data(cfg: Mapping[str, Any], cache_dir: Path, progress: Progress | None = None) -> ChestXrayData:
    """Read, open and divide the data set that a `data` configuration describes.

    Raises:
        FileNotFoundError, ValueError: as the readers, the splits and the store say; unreadable files are all named.
    """
    root, records = read_records(cfg, cache_dir)
    _refuse_outside(records, root)
    labels, records = choose_labels(records, cfg["target"], cfg["positive"])
    records = divide_given(records, cfg)
    is_named = cfg["resplit"] is None and bool(records.is_in("split", "val").any())
    store = open_store(
        root, records.texts("path"), cache_dir=cache_dir, store_size=cfg["store_size"], progress=progress
    )
    records = handle_unreadable(records, store, root, cfg["on_bad_image"])
    records, is_copy = divide(records, store.hashes.contents(), cfg)
    if cfg["balance"] == "undersample":
        rows = np.flatnonzero(records.is_in("split", "train"))
        records = records.with_split(DROPPED, rows[~undersample(records.select(rows), seed=cfg["seed"])])
    epoch_length = None
    if cfg["train_fraction"] < 1:
        rows = np.flatnonzero(records.is_in("split", "train"))
        epoch_length = len(rows)  # as long as with all films, so that schedules and averages mean the same
        is_kept = carve_patients(records.select(rows), fraction=cfg["train_fraction"], seed=cfg["seed"])
        records = records.with_split(DROPPED, rows[~is_kept])
        _check_kept(records, labels, cfg["train_fraction"])
    for name in ("train", "val", *BLOCKS):
        side = records.select(records.is_in("split", name))
        if name not in BLOCKS or side:
            check_classes(side, labels.classes, name, _remedy(name, cfg, is_named))
    return ChestXrayData(records, store, labels, is_copy, epoch_length)


def _refuse_outside(records: RecordTable, root: Path) -> None:
    """A run knows its images by their place below the root, which may be another tomorrow."""
    outside = [p for p in records.texts("path") if os.path.isabs(p) or p.startswith(f"{os.pardir}/")]  # noqa: PTH117
    if outside:
        raise ValueError(
            f"{len(outside)} of {len(records)} images are not below {root}, the first {outside[:2]}; set data.root to "
            "a folder that holds all of them (paths are then relative to it, or absolute and below it)"
        )


def _remedy(name: str, cfg: Mapping[str, Any], is_named: bool) -> str:
    """What helps against a split without one of the classes, by who made it."""
    if cfg["split_file"] is not None:
        return "name images of every class for it in data.split_file"
    if cfg["resplit"] is not None:
        return "use larger shares in data.resplit, another data.seed, or a data set with more patients"
    if name in BLOCKS:
        return "use a larger data.holdout_fraction, or data.holdout_fraction=0"
    if name == "val" and is_named:
        other = "set data.carve=random" if cfg["carve"] == "official" else "name images of every class for it"
        return f"{other}, or set a data.target whose classes it holds, such as binary"
    return "use a larger data.val_fraction, fewer data.folds, another data.seed, or a data set with more patients"


def _check_kept(records: RecordTable, labels: LabelSet, fraction: float) -> None:
    kept = records.select(records.is_in("split", "train"))
    absent = [name for name in labels.classes if not kept.is_in("label", name).any()]
    if absent:
        raise ValueError(
            f"data.train_fraction={fraction:g} leaves {len(kept)} images for training and none of {', '.join(absent)}; "
            "use a larger share"
        )


def content_fingerprint(cfg: Mapping[str, Any], cache_dir: Path, progress: Progress | None = None) -> str:
    """Hash of the files of a data set, their names, labels, patients and given sides, before anything is carved.

    The store is made where there is none yet.

    Raises:
        FileNotFoundError, ValueError: as for `load_data`; unreadable files are no error here.
    """
    root, records = read_records(cfg, cache_dir)
    _, records = choose_labels(records, cfg["target"], cfg["positive"])
    store = open_store(
        root, records.texts("path"), cache_dir=cache_dir, store_size=cfg["store_size"], progress=progress
    )
    named = (f"{r.path.as_posix()}\n{r.label}\n{r.patient_id}\n{r.cause}\n{r.split}" for r in records)
    return fingerprint([store.key, *named])


def find_root(cfg: Mapping[str, Any], cache_dir: Path) -> Path:
    """The folder that the paths of a source are relative to; phantoms are made if they are not there yet.

    Raises:
        FileNotFoundError: no folder was named.
    """
    root = Path(cfg["root"]).expanduser() if cfg["root"] else None
    if cfg["source"] == "demo":
        folder = cache_dir / "demo" / f"v{DEMO_VERSION}-seed{cfg['demo_seed']}"
        return root or make_demo(folder, seed=cfg["demo_seed"])
    if cfg["source"] == "pneumoniamnist":
        return make_pneumoniamnist(root, cache_dir, store_size=cfg["store_size"])
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


def read_records(cfg: Mapping[str, Any], cache_dir: Path) -> tuple[Path, RecordTable]:
    """Root and records of the source that `data.source` names."""
    root = find_root(cfg, cache_dir)
    if cfg["source"] == "manifest":
        return root, read_manifest(Path(cfg["manifest"]).expanduser(), root)
    if cfg["source"] in {"folder", "pneumoniamnist"}:
        return root, read_image_folder(root, patient_key=cfg["patient_key"])
    return root, read_kaggle_folder(root, patient_key=cfg["patient_key"])


def repeats(contents: np.ndarray) -> np.ndarray:
    """`(N,)` bool: which files repeat an earlier one, given integers that are the same for equal files."""
    _, first = np.unique(contents, return_index=True)
    found = np.ones(len(contents), dtype=bool)
    found[first] = False
    return found


def find_copies(records: RecordTable, contents: np.ndarray) -> np.ndarray:
    """`(N,)` bool: which images are exact copies that training and validation must not hold.

    Within test, every image that repeats an earlier one of test; elsewhere, every image that repeats one of test
    or an earlier one of the rest.

    Args:
        records: with their sides.
        contents: `(N,)` integers, the same for equal files.
    """
    is_test, is_read = records.is_in("split", "test"), ~records.is_in("split", UNREADABLE)
    copies = np.zeros(len(records), dtype=bool)
    for side in (is_test, ~is_test & is_read):
        copies[side] = repeats(contents[side])
    copies |= ~is_test & is_read & np.isin(contents, contents[is_test])
    return copies


def divide(records: RecordTable, contents: np.ndarray, cfg: Mapping[str, Any]) -> tuple[RecordTable, np.ndarray]:
    """Who is trained on and who validates: copies are dropped, blocks and validation carved, or a file says it.

    Args:
        records: with the task's labels and the sides of `divide_given`, unreadable ones marked.
        contents: `(N,)` integers, the same for equal files.
        cfg: the `data` configuration.

    Returns:
        (records with their sides, `(N,)` bool as from `find_copies`)

    Raises:
        FileNotFoundError, ValueError: as the splits say.
    """
    if cfg["split_file"] is not None:
        records = _divide_by_file(records, Path(cfg["split_file"]).expanduser())
    is_copy = find_copies(records, contents)
    if cfg["duplicates"] == "drop":
        records = records.with_split(DROPPED, is_copy & ~records.is_in("split", "test", UNREADABLE))
    if cfg["split_file"] is None and cfg["resplit"] is None:
        records = _carve(records, cfg)
    return records, is_copy


def divide_given(records: RecordTable, cfg: Mapping[str, Any]) -> RecordTable:
    """Give every record a side; the official 16 validation images join train unless `data.carve=official`."""
    if cfg["resplit"] is not None:
        return resplit(records, fractions=cfg["resplit"], seed=cfg["seed"], is_stratified=cfg["stratify"])
    is_meant = cfg["source"] in {"manifest", "folder", "pneumoniamnist"}  # who names a validation set there means it
    if cfg["carve"] == "official" or (is_meant and records.is_in("split", "val").any()):
        return records.with_split("train", records.is_in("split", ""))
    return records.with_split("train", ~records.is_in("split", "train", "test"))


def _carve(records: RecordTable, cfg: Mapping[str, Any]) -> RecordTable:
    rows = np.flatnonzero(records.is_in("split", "train"))
    if cfg["holdout_fraction"]:
        pool = records.select(rows)
        for fold, name in enumerate(BLOCKS[: cfg["holdout_blocks"]]):
            is_block = carve_block(pool, fraction=cfg["holdout_fraction"], fold=fold)
            records = records.with_split(name, rows[is_block])
    is_named = bool(records.is_in("split", "val").any())
    if cfg["carve"] == "official" and not is_named:
        raise ValueError(
            "data.carve=official takes the validation images that the data set names, but it names none; set "
            "data.carve=random"
        )
    if is_named:
        set_in_vain = [k for k, usual in _CARVING.items() if cfg[k] not in (usual, "official")]
        if set_in_vain:
            key, usual = set_in_vain[0], _CARVING[set_in_vain[0]]
            raise ValueError(
                f"data.{key}={cfg[key]} has no effect because the data set names its own validation images; set "
                f"data.{key}={'null' if usual is None else usual}, or give the images without val"
            )
        return records
    rows = np.flatnonzero(records.is_in("split", "train"))
    pool = records.select(rows)
    if cfg["folds"] is not None:
        is_val = carve_fold(pool, folds=cfg["folds"], fold=cfg["fold"], seed=cfg["seed"], carve=cfg["carve"])
    elif cfg["carve"] == "blocks":
        is_val = carve_block(pool, fraction=cfg["val_fraction"])
    else:
        is_val = carve_patients(pool, fraction=cfg["val_fraction"], seed=cfg["seed"], is_stratified=cfg["stratify"])
    return records.with_split("val", rows[is_val])


def _divide_by_file(records: RecordTable, path: Path) -> RecordTable:
    listed = RecordTable.of(ImageRecord(Path(row["path"]), "", "", split=row["split"]) for row in read_split_csv(path))
    if twice := listed.repeated_paths():
        raise ValueError(
            f"data.split_file={path} names {len(twice)} images twice, the first {twice[0]}; name each once"
        )
    sides = listed.kinds("split")
    unknown = sorted({side for (side,) in sides.values} - _SIDES)
    if unknown:
        raise ValueError(f"data.split_file={path} has the splits {unknown}; allowed are {', '.join(sorted(_SIDES))}")
    row = records.rows_in(listed)
    unnamed = records.select(row < 0).texts("path")
    if unnamed:
        raise ValueError(
            f"data.split_file={path} does not name {len(unnamed)} images of the data set, the first "
            f"{list(unnamed[:3])}; give the split.csv of a run on the same data"
        )
    is_unreadable = records.is_in("split", UNREADABLE)
    divided = records.changed(split=Coded([side for (side,) in sides.values], sides.codes[row]))
    return divided.with_split(UNREADABLE, is_unreadable)


def handle_unreadable(records: RecordTable, store: ImageStore, root: Path, on_bad_image: str) -> RecordTable:
    """Stop with a list of all unreadable files, or mark them so that no split holds them."""
    if not store.errors:
        return records
    if on_bad_image == "stop":
        names = {row: str(root / records[row].path).replace("\n", "\\n") for row in store.errors}
        listed = [f"  {names[row]}: {reason}" for row, reason in sorted(store.errors.items())]
        shown = "\n".join(listed[:50]) + (f"\n  ... and {len(listed) - 50} more" if len(listed) > 50 else "")
        raise ValueError(
            f"{len(listed)} of {len(records)} image files cannot be read:\n{shown}\n"
            "Mend or remove them, or set data.on_bad_image=skip to train without them"
        )
    return records.with_split(UNREADABLE, np.array(sorted(store.errors)))


def count_classes(data: ChestXrayData) -> dict[str, dict[str, int]]:
    """Images per split and class; splits in the order in which they first occur."""
    kinds = data.records.kinds("split", "label")
    found, first, counts = np.unique(kinds.codes, return_index=True, return_counts=True)
    counted = {kinds.values[code]: int(count) for code, count in zip(found, counts, strict=True)}
    splits = dict.fromkeys(kinds.values[found[i]][0] for i in np.argsort(first))
    return {split: {name: counted.get((split, name), 0) for name in data.labels.classes} for split in splits}
