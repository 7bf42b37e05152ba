"""ChestXrayDataModule: from a data configuration to batches of images, targets and positions."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pneumolit.data import stress
from pneumolit.data.dataset import BLOCKS, UNREADABLE, ChestXrayData
from pneumolit.data.parts import WHOLE, Part
from pneumolit.data.resident import ResidentImages, fits_device
from pneumolit.data.sending import send
from pneumolit.data.stress import STRESS_FAMILIES, distort

STRESS_IMAGES = 512  # per family; more would only cost memory and time, the five families share the images
EVAL_BATCH = 64
_EVEN = ("sampler", "series")  # ways of `data.balance` that draw every class equally often
_ON_HOST = frozenset(("index", "family", "position"))  # of a batch: only the host reads them, and a GPU would wait


class Rows(Dataset[dict[str, Any]]):
    """Batches by rows: one index list in, one batch out. What a row holds of its image is up to the subclass.

    Args:
        targets: `(N,)` class index.
        families: `(N,)` stress family, -1 for undistorted images.

    Attributes:
        teacher: `(N,)` float32, log odds of pneumonia that a teacher gives; None where there is none.
    """

    def __init__(self, targets: np.ndarray, families: np.ndarray | None = None) -> None:
        self.teacher: np.ndarray | None = None
        self.targets = targets
        self.families = families if families is not None else np.broadcast_to(np.int64(-1), len(targets))

    def __len__(self) -> int:
        return len(self.targets)

    def content(self, batch: IndexBatch) -> dict[str, Tensor]:
        """What the model takes of these images, by name."""
        raise NotImplementedError

    def __getitem__(self, batch: IndexBatch) -> dict[str, Any]:
        rows = batch.rows
        return {
            **self.content(batch),
            **({} if self.teacher is None else {"teacher": torch.from_numpy(self.teacher[rows])}),
            "target": torch.from_numpy(self.targets[rows]),
            "index": torch.from_numpy(rows),
            "family": torch.from_numpy(self.families[rows]),
            "position": torch.arange(batch.start, batch.start + len(rows)),
            "epoch": batch.epoch,
        }


class ImageRows(Rows):
    """Rows of stored images.

    Args:
        images: `(N, S, S)` uint8.
        targets: `(N,)` class index.
        families: `(N,)` stress family, -1 for undistorted images.
    """

    def __init__(self, images: np.ndarray, targets: np.ndarray, families: np.ndarray | None = None) -> None:
        super().__init__(targets, families)
        self.images = images

    def content(self, batch: IndexBatch) -> dict[str, Tensor]:
        """`image`: `(B, 1, S, S)` uint8."""
        images: np.ndarray | Tensor = self.images[batch.rows]
        if not isinstance(images, Tensor):  # ones held by a device are there already
            images = torch.from_numpy(np.ascontiguousarray(images))
        return {"image": images.unsqueeze(1)}


@dataclass(frozen=True)
class IndexBatch:
    """Rows of a batch or of a part of one, the place of the first of them in the epoch's order, and the epoch."""

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
        series: `(N,)` kind of film within a class, of which each is drawn equally often as well; None looks at classes.
        length: rows of an epoch; where there are fewer, each is drawn again after all others. None: as there are.
        start_epoch: the epoch that the next iteration belongs to.
        part: which rows of every batch are handed out; order, batches and places are those of one process.
    """

    def __init__(
        self,
        targets: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        is_balanced: bool,
        series: np.ndarray | None = None,
        length: int | None = None,
        start_epoch: int = 0,
        part: Part = WHOLE,
    ) -> None:
        self.targets = targets
        self.length = len(targets) if length is None else length
        self.batch_size = min(batch_size, self.length)
        self.seed = seed
        self.is_balanced = is_balanced
        self.series = series
        self.epoch = start_epoch
        self.part = part

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.batch_size

    def order(self, epoch: int) -> np.ndarray:
        """Row order of an epoch, `(length,)`."""
        rng = np.random.default_rng([self.seed, epoch])
        everything = np.arange(len(self.targets))
        if not self.is_balanced:
            return _rounds(everything, self.length, rng)
        drawn: list[np.ndarray] = []
        for rows, quota in _shares(everything, self.targets, self.length):
            kinds = np.zeros(len(self.targets), dtype=np.int64) if self.series is None else self.series
            drawn += [_rounds(some, wanted, rng) for some, wanted in _shares(rows, kinds, quota)]
        return rng.permutation(np.concatenate(drawn))

    def __iter__(self) -> Iterator[IndexBatch]:
        order, (begin, end) = self.order(self.epoch), self.part.bounds(self.batch_size)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield IndexBatch(order[start + begin : start + end], start + begin, self.epoch)


def _shares(rows: np.ndarray, kinds: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, int]]:
    """Rows of every kind among some, and how many of them to draw: equally many, `count` together."""
    values = np.unique(kinds[rows])
    for k, value in enumerate(values):
        yield rows[kinds[rows] == value], (count + k) // len(values)  # no row has to be cut off again


def _rounds(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """So many of some rows in random order, each again only after all the others."""
    rounds = -(-count // len(rows)) or 1  # none is wanted where a class draws fewer films than it has series
    return np.concatenate([rng.permutation(rows) for _ in range(rounds)])[:count]


def padded_batches(rows: Rows) -> Iterator[tuple[dict[str, Any], int]]:
    """All rows in order, in batches of one shape, with the number of rows that count; the last row fills the rest.

    What a model makes of a row then does not depend on how many rows stand beside it.
    """
    for start in range(0, len(rows), EVAL_BATCH):
        chosen = np.arange(start, min(start + EVAL_BATCH, len(rows)))
        padded = np.concatenate([chosen, np.full(EVAL_BATCH - len(chosen), chosen[-1])])
        yield rows[IndexBatch(padded, start, 0)], len(chosen)


def batches_alone(rows: Rows, batch_size: int) -> Iterator[dict[str, Any]]:
    """All rows once, for a model that normalises by the statistics of the batch it scores.

    Args:
        rows: of them.
        batch_size: in a drawn order; 0 takes them in their own, `EVAL_BATCH` at a time.
    """
    for batch in EvalSampler(len(rows), drawn_batch=batch_size):
        yield rows[batch]


class EvalSampler(Sampler[IndexBatch]):
    """All rows once; several processes take whole batches in turn.

    A row so stands in the batch that it stands in for one process. A process that gets none hands out one batch without
    rows, since Lightning would leave the validation out there that the others wait in.

    Args:
        length: how many rows there are.
        batch_size: of them in a batch, in order; the last batch may be smaller.
        drawn_batch: above 0 the order is drawn, from `length` alone, and all batches have so many rows or, where they
            do not go up, evenly more (never twice as many): none is so small that its statistics say little.
        part: which batches are handed out.
    """

    def __init__(self, length: int, batch_size: int = EVAL_BATCH, *, drawn_batch: int = 0, part: Part = WHOLE) -> None:
        self.length = length
        self.batch_size = batch_size
        self.drawn_batch = drawn_batch
        self.part = part

    def __len__(self) -> int:
        return max(len(range(self.part.index, self._count, self.part.count)), 1)

    def __iter__(self) -> Iterator[IndexBatch]:
        order = np.random.default_rng(self.length).permutation(self.length) if self.drawn_batch else None
        for number in range(self.part.index, self._count, self.part.count):
            start, stop = self._bounds(number)
            yield IndexBatch(np.arange(start, stop) if order is None else order[start:stop], start, 0)
        if self.part.index >= self._count:
            yield IndexBatch(np.arange(0), self.length, 0)

    @property
    def _count(self) -> int:
        """Batches of all processes."""
        if self.drawn_batch:
            return max(self.length // self.drawn_batch, min(self.length, 1))
        return -(-self.length // self.batch_size)

    def _bounds(self, number: int) -> tuple[int, int]:
        if self.drawn_batch:  # as even as can be
            return number * self.length // self._count, (number + 1) * self.length // self._count
        return number * self.batch_size, min((number + 1) * self.batch_size, self.length)


class DirectLoader:
    """Batches of rows, read in this process; what a DataLoader does around each takes longer than one of features.

    Args:
        rows: to read from.
        sampler: names the rows of each batch.
    """

    batch_sampler = None  # Lightning looks for both, and tells the sampler the epoch

    def __init__(self, rows: Rows, sampler: TrainSampler | EvalSampler) -> None:
        self.dataset, self.sampler = rows, sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.sampler:
            yield self.dataset[batch]


class _RowView:
    """Some rows of a store, read when asked for, so that the file stays mapped."""

    def __init__(self, images: np.ndarray, rows: np.ndarray) -> None:
        self.images, self.rows = images, rows

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        return np.asarray(self.images[self.rows[positions]])


class _Distorted:
    """Every image under every stress family, made when first read: it takes seconds, and stored features need none."""

    def __init__(self, images: np.ndarray, indices: np.ndarray) -> None:
        self.images, self.indices = images, indices
        self._made: np.ndarray | None = None

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        if self._made is None:
            plain = self.images[self.indices]
            self._made = np.concatenate([distort(plain, family, indices=self.indices) for family in STRESS_FAMILIES])
        return np.asarray(self._made[positions])


def rows_of(data: ChestXrayData, split: str) -> ImageRows:
    """Images of a split as a data set."""
    return image_rows(data, data.rows(split))


def image_rows(data: ChestXrayData, rows: np.ndarray) -> ImageRows:
    """Some rows of the store as a data set."""
    return ImageRows(_RowView(data.store.images, rows), data.targets(rows))  # type: ignore[arg-type]


def pool_of(data: ChestXrayData) -> np.ndarray:
    """Rows of the store that a run may train or validate on: all that can be read but test, however they are carved."""
    return np.flatnonzero(~data.records.is_in("split", "test", UNREADABLE))


def stress_origin(data: ChestXrayData) -> dict[str, Any]:
    """What the pixels of the stressed validation follow from: the plain images, their places, and who distorts."""
    rows = data.rows("val")
    chosen = _stress_places(len(rows))
    code = hashlib.sha256(inspect.getsource(stress).encode()).hexdigest()
    packages = {name: version(name) for name in ("numpy", "pillow", "scipy")}
    return {"rows": rows[chosen].tolist(), "places": chosen.tolist(), "distortions": code, **packages}


def _stress_places(count: int) -> np.ndarray:
    """Which of so many validation images are distorted."""
    if count <= STRESS_IMAGES:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:STRESS_IMAGES])


class ChestXrayDataModule(LightningDataModule):
    """Loaders over an opened data set.

    Args:
        data: from `load_data`.
        batch_size: images per training batch.
        seed: of the training order.
        balance: "none", "sampler", "series" or "undersample" (the last is done by `load_data`).
        is_stressed: whether the stress distortions of validation are a second validation set.
        num_workers: processes that read training batches ahead; the batches are the same for any number.
        teacher: `(N,)` log odds of pneumonia that a teacher gives to the training rows, or None.
        part: what of every batch this process takes.

    Attributes:
        stored: what the loaders of these names (`train`, `val`, `stress`, `block`) hand out in place of images.
        views: above 0, epoch e trains on view e mod `views` of every image instead of on a new one.
        drawn_batch: above 0, validation comes in a drawn order and in batches of so many rows (see `EvalSampler`).
    """

    def __init__(
        self,
        data: ChestXrayData,
        *,
        batch_size: int,
        seed: int,
        balance: str = "none",
        is_stressed: bool = True,
        num_workers: int = 0,
        teacher: np.ndarray | None = None,
        part: Part = WHOLE,
    ) -> None:
        super().__init__()
        self.data = data
        self.batch_size = batch_size
        self.seed = seed
        self.balance = balance
        self.is_stressed = is_stressed
        self.num_workers = num_workers
        self.teacher = teacher
        self.part = part
        self.stored: Mapping[str, Rows] = {}
        self.views = 0
        self.drawn_batch = 0
        self._stress: ImageRows | None = None
        self._resident: dict[str, ImageRows] = {}

    @property
    def val_names(self) -> list[str]:
        """Names of the validation loaders, in order."""
        blocks = [name for name in BLOCKS if len(self.data.rows(name))]
        return ["val", *(["stress"] if self.is_stressed else []), *blocks]

    @property
    def class_counts(self) -> list[int]:
        """Training images per class."""
        counts = np.bincount(self.data.targets(self.data.rows("train")), minlength=self.data.labels.num_classes)
        return [int(c) for c in counts]

    @property
    def sampled_prior(self) -> list[float]:
        """Share of every class among the images that training draws; sums to 1."""
        counts = [1] * self.data.labels.num_classes if self.balance in _EVEN else self.class_counts
        return [count / sum(counts) for count in counts]

    def rows_of(self, split: str) -> ImageRows:
        """Images of a split as a data set."""
        return rows_of(self.data, split)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move what the model reads of a batch."""
        return {k: send(v, device) if isinstance(v, Tensor) and k not in _ON_HOST else v for k, v in batch.items()}

    def train_sampler(self, epoch: int = 0) -> TrainSampler:
        """The order of training images, at an epoch."""
        return TrainSampler(
            self.rows_of("train").targets,
            batch_size=self.batch_size,
            seed=self.seed,
            is_balanced=self.balance in _EVEN,
            series=self._series() if self.balance == "series" else None,
            length=self.data.epoch_length,
            start_epoch=epoch,
            part=self.part,
        )

    def _series(self) -> np.ndarray:
        """`(N,)` series of every training row: which numbering a film's name belongs to."""
        records = self.data.records.select(self.data.rows("train"))
        series, labels = records.kinds("series").codes, records.kinds("label").codes
        if all(len(np.unique(series[labels == label])) == 1 for label in np.unique(labels)):
            raise ValueError(
                "data.balance=series evens the series within a class, but no class has films of two series (names such "
                "as IM-0115-0001 and NORMAL2-IM-1427-0001 tell them); set data.balance=sampler"
            )
        return series

    def num_train_batches(self, limit: float | int = 1.0) -> int:
        """Batches of an epoch.

        Args:
            limit: Lightning's `limit_train_batches`: a number of batches, or a share when it is a float.
        """
        batches = len(self.train_sampler())
        return min(batches, limit) if isinstance(limit, int) else int(batches * limit)

    def first_train_batch(self, epoch: int) -> dict[str, Any]:
        """Images of the first batch of an epoch, read in this process, and the numbers their views are drawn from."""
        index = next(iter(self.train_sampler(epoch)))
        batch = self.rows_of("train")[index]
        if self.views:
            batch |= {"position": torch.from_numpy(self.data.rows("train")[index.rows]), "epoch": epoch % self.views}
        return batch

    def train_dataloader(self) -> DataLoader[dict[str, Any]] | DirectLoader:
        """Batches of one epoch."""
        # Lightning's own epoch counter is one too low at this moment of a resumed run.
        done = getattr(self.trainer.fit_loop.epoch_progress.current, "processed", 0) if self.trainer is not None else 0
        rows = self.stored["train"] if "train" in self.stored else self.images_of("train")
        rows.teacher = self.teacher
        if "train" in self.stored:
            return DirectLoader(rows, self.train_sampler(done))
        return DataLoader(
            rows,
            sampler=self.train_sampler(done),
            batch_size=None,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def val_dataloader(self) -> list[DataLoader[dict[str, Any]] | DirectLoader]:
        """Validation, its stressed copies, the held-out block."""
        return [self.eval_loader(name) for name in self.val_names]

    def eval_loader(self, name: str) -> DataLoader[dict[str, Any]] | DirectLoader:
        """All rows of a split (or `stress`) once, in order or a drawn one; of several processes each one its part."""
        rows = self.stored[name] if name in self.stored else self.images_of(name)
        sampler = EvalSampler(len(rows), drawn_batch=self.drawn_batch, part=self.part)
        return (
            DirectLoader(rows, sampler) if name in self.stored else DataLoader(rows, sampler=sampler, batch_size=None)
        )

    def images_of(self, name: str) -> ImageRows:
        """Images of a split, or with `stress` the distorted copies of validation."""
        if name in self._resident:
            return self._resident[name]
        if name != "stress":
            return self.rows_of(name)
        if self._stress is None:
            plain = self.rows_of("val")
            chosen = _stress_places(len(plain))
            families = np.repeat(np.arange(len(STRESS_FAMILIES)), len(chosen))
            targets = np.tile(plain.targets[chosen], len(STRESS_FAMILIES))
            distorted = _Distorted(plain.images, chosen)
            self._stress = ImageRows(distorted, targets, families)  # type: ignore[arg-type]
        return self._stress

    def hold_images_on(self, device: torch.device) -> bool:
        """Hold what training and validation read in a device's memory, where it has room; whether it does now."""
        names = ("train", *self.val_names)
        plain = {name: self.images_of(name) for name in names}
        side = int(self.data.store.images.shape[1])
        if self._resident or self.num_workers or not fits_device(sum(map(len, plain.values())) * side**2, device):
            return bool(self._resident)
        for name, rows in plain.items():
            held = ResidentImages(rows.images, len(rows), device)
            self._resident[name] = ImageRows(held, rows.targets, rows.families)  # type: ignore[arg-type]
        return True

    def forget_images(self) -> None:
        """Give back the memory of the distorted copies; they are made again when they are asked for."""
        self._stress = None
        self._resident = {}
