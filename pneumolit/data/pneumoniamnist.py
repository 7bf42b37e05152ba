"""PneumoniaMNIST: the Kaggle set as MedMNIST publishes it, cropped, shrunk and split anew; patients are not told.

The package medmnist (extra `medmnist`) fetches one .npz file of a size; its images become class folders in the cache,
so that everything else works as with any folder of images.

Source:
    Yang et al., MedMNIST v2, Scientific Data 10, 2023. CC BY 4.0.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from pneumolit.data.network import answers
from pneumolit.labels import NORMAL, PNEUMONIA
from pneumolit.rundir import write_json

SIZES = (28, 64, 128, 224)  # pixels, of the published files
COUNTS = {"train": (1214, 3494), "val": (135, 389), "test": (234, 390)}  # normal, pneumonia
MARKER = ".pneumolit_pneumoniamnist.json"
_SERVER = "https://zenodo.org"
_SECONDS = 10.0  # to wait for any answer; looking up a name has no limit of its own


def choose_size(store_size: int) -> int:
    """The largest published size that is not above the side at which films are stored; the smallest there is, else."""
    return max((size for size in SIZES if size <= store_size), default=SIZES[0])


def file_name(size: int) -> str:
    """Of the published file."""
    return "pneumoniamnist.npz" if size == SIZES[0] else f"pneumoniamnist_{size}.npz"


def make_pneumoniamnist(root: Path | None, cache_dir: Path, *, store_size: int) -> Path:
    """Class folders of the published images, made where they are not there yet.

    Args:
        root: folder that holds the published file; None fetches it into the cache.
        cache_dir: the folders are made below it.
        store_size: side at which films are stored, which decides the published size that is taken.

    Returns:
        Folder with train, val and test, each with NORMAL and PNEUMONIA.

    Raises:
        FileNotFoundError: the file is not below `root`.
        ValueError: the package is missing, there is no network, or the file is not what was published.
    """
    size = choose_size(store_size)
    base = cache_dir / "pneumoniamnist"
    given = _find(root, size) if root is not None else None
    target = base / (str(size) if given is None else f"{size}-{_digest(given)}")
    if (target / MARKER).is_file():
        return target
    base.mkdir(parents=True, exist_ok=True)
    with FileLock(base / f"{target.name}.lock"):
        if not (target / MARKER).is_file():  # of a process that held the lock before
            _make(target, given or fetch(base / "published", size), size)
    return target


def _make(target: Path, source: Path, size: int) -> None:
    arrays = _read(source, size)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    try:
        for split in COUNTS:
            _write_split(partial / split, arrays[f"{split}_images"], arrays[f"{split}_labels"].reshape(-1))
        write_json(partial / MARKER, {"size": size, "file": source.name})
        shutil.rmtree(target, ignore_errors=True)  # there, but not whole: a cleaner of caches took files
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _digest(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]


def fetch(folder: Path, size: int, *, server: str = _SERVER, seconds: float = _SECONDS) -> Path:
    """The published file, downloaded where it is not there yet.

    Args:
        folder: for the file.
        size: of the images.
        server: asked first, so that no network is noticed within seconds.
        seconds: to wait for its answer.

    Raises:
        ValueError: the package is missing, or there is no network.
    """
    if (folder / file_name(size)).is_file():
        return folder / file_name(size)
    ways = (
        f"fetch {file_name(size)} from {_SERVER}/records/10519652 with a browser and set data.root to its folder, "
        "or use data=demo, which needs no download"
    )
    try:
        from medmnist import PneumoniaMNIST
    except ImportError as error:
        raise ValueError(f"data=pneumoniamnist needs pip install 'pneumolit[medmnist]'; else {ways}") from error
    if not answers(server, seconds):
        raise ValueError(f"data=pneumoniamnist: {server} does not answer, so there is no network; {ways}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        PneumoniaMNIST("train", download=True, root=str(folder), size=None if size == SIZES[0] else size)
    except Exception as error:  # of many kinds: network, disk, a changed address
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"data=pneumoniamnist could not be fetched ({reason}); {ways}") from error
    return folder / file_name(size)


def _find(root: Path, size: int) -> Path:
    path = root / file_name(size)
    if not path.is_file():
        there = sorted(p.name for p in root.glob("pneumoniamnist*.npz")) if root.is_dir() else []
        raise FileNotFoundError(
            f"data.root={root} has no {file_name(size)} (data.store_size asks for {size} px), found "
            f"{', '.join(there) or 'none of its files'}; put it there, or leave data.root out to fetch it"
        )
    return path


def _read(path: Path, size: int) -> Mapping[str, np.ndarray]:
    try:
        _check_headers(path, size)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for split in COUNTS for name in (f"{split}_images", f"{split}_labels")}
    except Exception as error:  # of a damaged archive, nearly anything
        raise ValueError(f"{path} is not what MedMNIST publishes: {error}; fetch it again") from error
    for split, counts in COUNTS.items():
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"].reshape(-1)
        found = tuple(int((labels == k).sum()) for k in (0, 1))
        if images.shape != (sum(counts), size, size) or images.dtype != np.uint8 or found != counts:
            raise ValueError(
                f"{path} is not what MedMNIST publishes: {split} has {images.shape} {images.dtype} with {found} "
                f"labels, ({sum(counts)}, {size}, {size}) uint8 with {counts} is expected; fetch it again"
            )
    return arrays


def _check_headers(path: Path, size: int) -> None:
    """Refuse arrays that claim to be larger than the published ones, before the first is unpacked."""
    with zipfile.ZipFile(path) as archive:
        for split, counts in COUNTS.items():
            for name, most in ((f"{split}_images", sum(counts) * size**2), (f"{split}_labels", sum(counts))):
                with archive.open(f"{name}.npy") as member:
                    is_first = np.lib.format.read_magic(member) == (1, 0)
                    read = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(member)
                if math.prod(shape) > most or dtype.itemsize > 8:
                    raise ValueError(f"{name} claims to be {shape} {dtype}")


def _write_split(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / (PNEUMONIA if label else NORMAL)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:05d}.png")
