"""ChestXrayDataModule: from a data configuration to batches of images, targets and positions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pneumolit.data.demo import DEMO_VERSION, make_demo
from pneumolit.data.records import (
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
from pneumolit.data.stress import STRESS_FAMILIES, distort
from pneumolit.labels import LabelSet, prior_log_odds
from pneumolit.rundir import fingerprint, read_split_csv

STRESS_IMAGES = 512  # per family; more would only cost memory and time, the five families share the images
EVAL_BATCH = 64
DROPPED, UNREADABLE, BLOCK = "dropped", "unreadable", "block"


@dataclass(frozen=True)
class ChestXrayData:
    """A data set, opened and divided.

    Attributes:
        records: one per row of the store, with the task's label and the final split: train, val, test, block,
            dropped (an exact copy or left out by balancing) or unreadable.
        store: the images.
        labels: the classes.
        is_copy: `(N,)` bool, a further copy of an image that came before.
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
            }
            for i, r in enumerate(self.records)
        ]


class ImageRows(Dataset[dict[str, Any]]):
    """Batches by rows of the store: one index list in, one batch out.

    Args:
        images: `(N, S, S)` uint8.
        targets: `(N,)` class index.
        families: `(N,)` stress family, -1 for undistorted images.
    """

    def __init__(self, images: np.ndarray, targets: np.ndarray, families: np.ndarray | None = None) -> None:
        self.images = images
        self.targets = targets
        self.families = families if families is not None else np.full(len(targets), -1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, batch: IndexBatch) -> dict[str, Any]:
        rows = batch.rows
        images = torch.from_numpy(np.ascontiguousarray(self.images[rows]))
        return {
            "image": images.unsqueeze(1),  # (B, 1, S, S) uint8
            "target": torch.from_numpy(self.targets[rows]),
            "index": torch.from_numpy(rows),
            "family": torch.from_numpy(self.families[rows]),
            "position": torch.arange(batch.start, batch.start + len(rows)),
            "epoch": batch.epoch,
        }


@dataclass(frozen=True)
class IndexBatch:
    """Rows of one batch, the place of its first row in the epoch's order, and the epoch."""

    rows: np.ndarray
    start: int
    epoch: int


class TrainSampler(Sampler[IndexBatch]):
    """Order of an epoch, drawn from (seed, epoch) alone.

    Args:
        targets: `(N,)` class index of the training rows.
        batch_size: rows per batch; the last batch of an epoch is left out when it is not full.
        seed: base seed.
        is_balanced: every class equally often; each image of a class comes again only after all the others did.
        start_epoch: the epoch that the next iteration belongs to.
    """

    def __init__(
        self, targets: np.ndarray, *, batch_size: int, seed: int, is_balanced: bool, start_epoch: int = 0
    ) -> None:
        self.targets = targets
        self.batch_size = min(batch_size, len(targets))
        self.seed = seed
        self.is_balanced = is_balanced
        self.epoch = start_epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.targets) // self.batch_size

    def order(self, epoch: int) -> np.ndarray:
        """Row order of an epoch, `(N,)`."""
        rng = np.random.default_rng([self.seed, epoch])
        if not self.is_balanced:
            return rng.permutation(len(self.targets))
        classes = np.unique(self.targets)
        quota = -(-len(self.targets) // len(classes))
        drawn = []
        for value in classes:
            rows = np.flatnonzero(self.targets == value)
            rounds = -(-quota // len(rows))
            drawn.append(np.concatenate([rng.permutation(rows) for _ in range(rounds)])[:quota])
        return rng.permutation(np.concatenate(drawn))[: len(self.targets)]

    def __iter__(self) -> Iterator[IndexBatch]:
        order = self.order(self.epoch)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield IndexBatch(order[start : start + self.batch_size], start, self.epoch)


class EvalSampler(Sampler[IndexBatch]):
    """All rows once, in order."""

    def __init__(self, length: int, batch_size: int = EVAL_BATCH) -> None:
        self.length = length
        self.batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(self.length / self.batch_size)

    def __iter__(self) -> Iterator[IndexBatch]:
        for start in range(0, self.length, self.batch_size):
            yield IndexBatch(np.arange(start, min(start + self.batch_size, self.length)), start, 0)


class _RowView:
    """Some rows of a store, read when asked for, so that the file stays mapped."""

    def __init__(self, images: np.ndarray, rows: np.ndarray) -> None:
        self.images, self.rows = images, rows

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        return np.asarray(self.images[self.rows[positions]])


class ChestXrayDataModule(LightningDataModule):
    """Loaders over an opened data set.

    Args:
        data: from `load_data`.
        batch_size: images per training batch.
        seed: of the training order.
        balance: "none", "sampler" or "undersample" (the last is done by `load_data`).
        is_stressed: whether the stress distortions of validation are a second validation set.
    """

    def __init__(
        self,
        data: ChestXrayData,
        *,
        batch_size: int,
        seed: int,
        balance: str = "none",
        is_stressed: bool = True,
    ) -> None:
        super().__init__()
        self.data = data
        self.batch_size = batch_size
        self.seed = seed
        self.balance = balance
        self.is_stressed = is_stressed
        self._stress: ImageRows | None = None

    @property
    def val_names(self) -> list[str]:
        """Names of the validation loaders, in order."""
        block = [BLOCK] if len(self.data.rows(BLOCK)) else []
        return ["val", *(["stress"] if self.is_stressed else []), *block]

    @property
    def class_counts(self) -> list[int]:
        """Training images per class."""
        counts = np.bincount(self.data.targets(self.data.rows("train")), minlength=self.data.labels.num_classes)
        return [int(c) for c in counts]

    @property
    def prior_log_odds(self) -> float:
        """Log odds of pneumonia in the class prior that training sees."""
        if not self.data.labels.is_two_class_view:
            return 0.0
        prior = [1.0] * self.data.labels.num_classes if self.balance == "sampler" else self.class_counts
        return prior_log_odds(prior, self.data.labels.positive_mask)

    def rows_of(self, split: str) -> ImageRows:
        """Images of a split as a data set."""
        rows = self.data.rows(split)
        return ImageRows(_RowView(self.data.store.images, rows), self.data.targets(rows))  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches of one epoch."""
        rows = self.rows_of("train")
        # Lightning's own epoch counter is one too low at this moment of a resumed run.
        done = getattr(self.trainer.fit_loop.epoch_progress.current, "processed", 0) if self.trainer is not None else 0
        sampler = TrainSampler(
            rows.targets,
            batch_size=self.batch_size,
            seed=self.seed,
            is_balanced=self.balance == "sampler",
            start_epoch=done,
        )
        return DataLoader(rows, sampler=sampler, batch_size=None)

    def val_dataloader(self) -> list[DataLoader[dict[str, Any]]]:
        """Validation, its stressed copies, the held-out block."""
        return [self.eval_loader(name) for name in self.val_names]

    def eval_loader(self, name: str) -> DataLoader[dict[str, Any]]:
        """All rows of a split (or `stress`) once, in order."""
        rows = self._stressed_validation() if name == "stress" else self.rows_of(name)
        return DataLoader(rows, sampler=EvalSampler(len(rows)), batch_size=None)

    def _stressed_validation(self) -> ImageRows:
        if self._stress is None:
            plain = self.rows_of("val")
            chosen = np.arange(len(plain))
            if len(chosen) > STRESS_IMAGES:
                chosen = np.sort(np.random.default_rng(0).permutation(chosen)[:STRESS_IMAGES])
            images = plain.images[chosen]
            parts = [distort(images, family, indices=chosen) for family in STRESS_FAMILIES]
            families = np.repeat(np.arange(len(STRESS_FAMILIES)), len(chosen))
            targets = np.tile(plain.targets[chosen], len(STRESS_FAMILIES))
            self._stress = ImageRows(np.concatenate(parts), targets, families)
        return self._stress


def load_data(cfg: Mapping[str, Any], cache_dir: Path, progress: Progress | None = None) -> ChestXrayData:
    """Read, open and divide the data set that a `data` configuration describes.

    Raises:
        FileNotFoundError, ValueError: as the readers, the splits and the store say; unreadable files are all named.
    """
    root, records = read_records(cfg, cache_dir)
    labels, records = choose_labels(records, cfg["target"], cfg["positive"])
    records = _divide_given(records, cfg, labels)
    store = open_store(
        root, [r.path for r in records], cache_dir=cache_dir, store_size=cfg["store_size"], progress=progress
    )
    records = handle_unreadable(records, store, root, cfg["on_bad_image"])
    is_copy = find_copies(records, store.hashes)
    if cfg["duplicates"] == "drop":
        records = [
            replace(r, split=DROPPED) if is_copy[i] and r.split not in {"test", UNREADABLE} else r
            for i, r in enumerate(records)
        ]
    if cfg["split_file"] is not None:
        records = _divide_by_file(records, Path(cfg["split_file"]))
    elif cfg["resplit"] is None:
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


def find_copies(records: Sequence[ImageRecord], hashes: Sequence[str]) -> np.ndarray:
    """`(N,)` bool: which images repeat, byte for byte, an earlier one of the same side of the test border."""
    seen: set[tuple[bool, str]] = set()
    copies = np.zeros(len(records), dtype=bool)
    for i, (record, value) in enumerate(zip(records, hashes, strict=True)):
        key = (record.split == "test", value)
        copies[i] = key in seen and record.split != UNREADABLE
        seen.add(key)
    return copies


def _divide_given(records: list[ImageRecord], cfg: Mapping[str, Any], labels: LabelSet) -> list[ImageRecord]:
    """Give every record a side; the official 16 validation images join train, from which more are carved."""
    if cfg["resplit"] is not None:
        return resplit(records, fractions=cfg["resplit"], seed=cfg["seed"])
    if cfg["source"] == "manifest" and any(r.split == "val" for r in records):
        return [replace(r, split=r.split or "train") for r in records]
    return [replace(r, split="test" if r.split == "test" else "train") for r in records]


def _carve(records: list[ImageRecord], cfg: Mapping[str, Any]) -> list[ImageRecord]:
    if any(r.split == "val" for r in records):  # a manifest that says itself what validates
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
    return [replace(r, split=side.get(r.path, r.split)) for r in records]


def _divide_by_file(records: list[ImageRecord], path: Path) -> list[ImageRecord]:
    side = {row["path"]: row["split"] for row in read_split_csv(path)}
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


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch with its tensors on a device."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
