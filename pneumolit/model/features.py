"""Features of a frozen backbone: computed once for every image, kept in the cache folder, shared between runs.

A set of features is named by a hash of all that it follows from (images, weights before the head, preprocessing,
number format, versions, drawn view), so whoever finds its folder has the right one. It is written beside its place
and renamed when whole, under a lock: a second process waits for the first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from pneumolit.cores import BorrowedCores, lent_cores
from pneumolit.data.augment import resize_batch
from pneumolit.data.datamodule import ImageRows, IndexBatch, Rows, padded_batches
from pneumolit.data.dataset import ChestXrayData
from pneumolit.data.sending import send
from pneumolit.data.store import Progress
from pneumolit.model.cut import Cut
from pneumolit.model.front import FrontCut
from pneumolit.rundir import write_text

if TYPE_CHECKING:
    from pneumolit.model.classifier import PneumoniaClassifier

FEATURES_VERSION = 1  # a new one whenever the same images and weights give other features than before
_ARRAY, _INDEX, _CHANNELS_LAST = "features.npy", "index.json", "channels_last"
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextlib.contextmanager
def inference(device: torch.device, precision: str) -> Iterator[None]:
    """No gradients, and the number format "float32", "bf16" or "fp16"."""
    dtype = _DTYPES.get(precision)
    # float32 means float32: NVIDIA's convolutions would take TF32 with its 10 bits. What `flags` is not told it
    # switches off, cuDNN itself among it.
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        torch.autocast(device.type, dtype, enabled=dtype is not None),
    ):
        yield


@dataclass(frozen=True)
class Features:
    """Stored features of some images.

    Attributes:
        array: `(N, ...)`, memory-mapped and read-only.
        dtype: of the numbers; bfloat16 is stored as its bits.
        key: what the folder is named by.
        is_channels_last: whether maps lie in the file as (H, W, C).
    """

    array: np.ndarray
    dtype: torch.dtype
    key: str
    is_channels_last: bool = False

    def take(self, rows: np.ndarray) -> Tensor:
        """Features of some rows, `(B, ...)`, maps in the order of memory that they were computed in."""
        taken = torch.from_numpy(self.array[rows]).view(self.dtype)  # NumPy has no bfloat16: the file holds its bits
        return taken.permute(0, 3, 1, 2) if self.is_channels_last else taken


class FeatureRows(Rows):
    """Rows of stored features.

    Args:
        views: one set of features, or several views of the same images by number; epoch e takes number e mod `count`.
        places: `(N,)` row of each image in those sets.
        like: the same rows as images, for targets and families.
        count: views of an image.
    """

    def __init__(self, views: Mapping[int, Features], places: np.ndarray, like: Rows, *, count: int = 1) -> None:
        super().__init__(like.targets, like.families)
        self.views, self.places, self.count = views, places, count

    def content(self, batch: IndexBatch) -> dict[str, Tensor]:
        """`features`: `(B, ...)`."""
        return {"features": self.views[batch.epoch % self.count].take(self.places[batch.rows])}


class FeatureCache:
    """Finds stored features of a model, or computes them.

    Args:
        model: taken apart, its weights before the cut final, on the device that computes.
        folder: of all features.
        precision: "float32", "bf16" or "fp16".
        progress: called while features are computed.
        tell: takes a line for people.
    """

    def __init__(
        self,
        model: PneumoniaClassifier,
        folder: Path,
        *,
        precision: str,
        progress: Progress,
        tell: Callable[[str], None],
    ) -> None:
        self.model, self.folder, self.precision = model, folder, precision
        self.progress, self.tell = progress, tell
        self._cut = model.take_apart()
        self._found: dict[str, Features] = {}  # hashing gigabytes takes seconds
        self._made_by = {
            "version": FEATURES_VERSION,
            "torch": torch.__version__,
            "device": model.device.type,
            "precision": precision,
            "architecture": str(model.settings["backbone"]).partition(".")[0],
            "weights": _weights_before_the_cut(model),
            "shape": list(self._cut.shape),
            **{key: model.settings.get(key) for key in ("pool", "image_size", "in_chans", "mean", "std")},
        }
        if isinstance(self._cut, FrontCut):
            self._made_by["before"] = self._cut.entrance.removeprefix("body.")

    def find(self, origin: Mapping[str, Any], count: int, view: int | None = None) -> Features | None:
        """Features that are there and whole; None where they are not.

        Args:
            origin: what the pixels follow from, plain values.
            count: number of images.
            view: of the model's augmentation; None for the images as they are.
        """
        key = self._key(origin, view)
        found = self._found.get(key) or _load(self.folder, key, (count, *self._cut.shape))
        if found is not None:
            self._found[key] = found
        return found

    def open(
        self, images: ImageRows, origin: Mapping[str, Any], *, what: str, rows: np.ndarray, view: int | None = None
    ) -> Features:
        """Features of images, computed where they are not there yet.

        Args:
            images: N of them.
            origin: what their pixels follow from, plain values.
            what: the images in a word or two, for people.
            rows: `(N,)` number of each image, from which its view is drawn.
            view: of the model's augmentation; None for the images as they are.

        Raises:
            ValueError: they cannot be written.
        """
        found = self.find(origin, len(images), view)
        if found is not None:
            return found
        self.refuse_full_disk(len(images))
        key = self._key(origin, view)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _held(FileLock(self.folder / f"{key}.lock"), self.tell, self._lenders(key)):
                if self.find(origin, len(images), view) is None:  # nobody made them while this process waited
                    self._build(key, images, origin, what=what, rows=rows, view=view)
        except OSError as error:
            raise ValueError(
                f"features cannot be stored in {self.folder} ({error.strerror}); set cache_dir=FOLDER or "
                "PNEUMOLIT_CACHE to a folder that can hold them, or trainer.cache_features=false"
            ) from error
        found = self.find(origin, len(images), view)
        assert found is not None
        return found

    def refuse_full_disk(self, count: int) -> None:
        """Refuse to compute features of so many images where they would not fit, before the first is computed.

        Raises:
            ValueError: the disk has less room than they take.
        """
        size = count * bytes_per_image(self._cut, self.precision)
        free = free_bytes(self.folder)
        if size > free:
            raise ValueError(
                f"stored features would take {size / 1e9:.1f} GB, and {self.folder} has room for {free / 1e9:.1f} GB; "
                "set cache_dir=FOLDER or PNEUMOLIT_CACHE to a folder with more, or trainer.cache_features=false"
            )

    def _key(self, origin: Mapping[str, Any], view: int | None) -> str:
        text = json.dumps({**self._made_by, "images": origin, "view": self._view(view)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _view(self, view: int | None) -> dict[str, Any] | None:
        augment = self.model.augment
        return None if view is None else {"number": view, "seed": augment.seed, **asdict(augment.config)}

    def _build(
        self, key: str, images: ImageRows, origin: Mapping[str, Any], *, what: str, rows: np.ndarray, view: int | None
    ) -> None:
        started, temporary = time.monotonic(), self.folder / f"{key}.building"
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed; the lock says it is not at work
        temporary.mkdir()
        try:
            with (temporary / _ARRAY).open("wb") as handle:
                with BorrowedCores(self._lenders(key)) as cores:
                    written = self._write(handle, images, cores, what=what, rows=rows, view=view)
                handle.flush()
                os.fsync(handle.fileno())
            index = {**written, **self._made_by, "images": dict(origin), "view": self._view(view)}
            write_text(temporary / _INDEX, json.dumps(index, indent=2))
            shutil.rmtree(self.folder / key, ignore_errors=True)  # there, but damaged
            temporary.rename(self.folder / key)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.tell(f"  features of {len(images):,} {what} images computed in {time.monotonic() - started:.0f} s")

    def _lenders(self, key: str) -> Path:
        """Where processes that wait for features say so."""
        return self.folder / f"{key}.waiting"

    def _write(
        self,
        handle: BinaryIO,
        images: ImageRows,
        cores: BorrowedCores,
        *,
        what: str,
        rows: np.ndarray,
        view: int | None,
    ) -> dict[str, Any]:
        """Compute features into a file, batch by batch; the hash of the numbers, and their kind and order."""
        model, size = self.model, int(self.model.settings["image_size"])
        was_training, done, digest = model.training, 0, hashlib.sha256()
        written: dict[str, Any] = {}
        model.eval()
        try:
            with inference(model.device, self.precision):
                for batch, count in padded_batches(images):
                    cores.look()
                    stored = send(batch["image"], model.device)
                    if view is None:
                        pixels = resize_batch(stored, size)
                    else:
                        places = torch.from_numpy(rows[batch["index"].numpy()])
                        pixels = model.augment(stored, places, epoch=view, size=size)
                    part = model.features(pixels)[:count].cpu()
                    if not done:
                        written = {"dtype": str(part.dtype).removeprefix("torch."), **self._order_of(part)}
                    part = (part.permute(0, 2, 3, 1) if "order" in written else part).contiguous()
                    numbers = part.view(torch.uint16).numpy() if part.dtype == torch.bfloat16 else part.numpy()
                    if not done:
                        _write_header(handle, numbers.dtype, (len(images), *part.shape[1:]))
                    # Not through a mapped file: on a full disk that ends in a signal instead of an error.
                    handle.write(numbers.data)
                    digest.update(numbers.data)
                    done += count
                    self.progress(f"encoding {what}", done, len(images))
        finally:
            model.train(was_training)
        return {"sha256": digest.hexdigest(), **written}

    def _order_of(self, part: Tensor) -> dict[str, str]:
        # The rear would copy every batch of maps that come in another order than its weights.
        is_plain = isinstance(self._cut, Cut) or part.ndim != 4 or part.is_contiguous()
        is_other = not is_plain and part.is_contiguous(memory_format=torch.channels_last)
        return {"order": _CHANNELS_LAST} if is_other else {}


def bytes_per_image(cut: Cut | FrontCut, precision: str) -> int:
    """What the features of one image take at that cut, computed in "float32", "bf16" or "fp16"."""
    is_wide = precision == "float32" or (isinstance(cut, FrontCut) and cut.keeps_float32)
    return math.prod(cut.shape) * (4 if is_wide else 2)


def free_bytes(folder: Path) -> int:
    """Free space where a folder is or would be made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def rows_origin(data: ChestXrayData, rows: np.ndarray) -> dict[str, Any]:
    """What the pixels of some rows of a store follow from."""
    return {"store": data.store.key, "rows": hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()}


def _weights_before_the_cut(model: PneumoniaClassifier) -> str:
    """Hash of all that makes features of images; the same whatever head stands behind the same body."""
    digest, behind = hashlib.sha256(), tuple(f"{path}." for path in model.take_apart().behind)
    for name, value in sorted(
        (n.removeprefix("body."), v) for n, v in model.backbone.state_dict().items() if not n.startswith(behind)
    ):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _load(folder: Path, key: str, shape: tuple[int, ...]) -> Features | None:
    try:
        index = json.loads((folder / key / _INDEX).read_text())
        array = np.load(folder / key / _ARRAY, mmap_mode="r", allow_pickle=False)
        is_other = index.get("order") == _CHANNELS_LAST
        count, *inner = shape
        expected = (count, *inner[1:], inner[0]) if is_other else shape
        if array.shape != expected or hashlib.sha256(array.data).hexdigest() != index["sha256"]:
            return None
        return Features(array, getattr(torch, index["dtype"]), key, is_other)
    except (OSError, ValueError, EOFError, KeyError, TypeError, RecursionError):  # absent, cut off, or somebody else's
        return None


def _write_header(handle: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(handle, described)


@contextlib.contextmanager
def _held(lock: FileLock, tell: Callable[[str], None], lenders: Path) -> Iterator[None]:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell("  another process computes these features; waiting for it")
        with lent_cores(lenders):
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
