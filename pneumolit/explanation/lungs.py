"""Where the lungs are: masks from a folder, or one box for all films."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pneumolit.data.reader import ImageError, read_gray


def box_mask(box: Sequence[float], size: int) -> np.ndarray:
    """`(size, size)` bool, True inside a box.

    Args:
        box: top, left, bottom, right as shares of the side, 0 <= top < bottom <= 1 and likewise across.
        size: side in pixels.

    Raises:
        ValueError: it holds no pixel.
    """
    top, left, bottom, right = (round(share * size) for share in box)
    mask = np.zeros((size, size), dtype=bool)
    mask[top:bottom, left:right] = True
    if not mask.any():  # a share of the heat over a share of nothing
        raise ValueError(f"lung_box={list(box)} holds no pixel of {size} x {size}; give a larger box")
    return mask


def read_masks(folder: Path, paths: Sequence[str], size: int) -> np.ndarray:
    """Lung masks of some images.

    Args:
        folder: holds PNG files named as the images, at the same path below it or all in one folder; any size, 0 is not
            lung, anything above is.
        paths: of the images, relative to the data root.
        size: side in pixels of the result.

    Returns:
        `(N, size, size)` bool.

    Raises:
        FileNotFoundError: an image has no mask in it.
        ValueError: one mask stands for several images, or a mask cannot be read, or shows no lung or nothing else.
    """
    found = [_find(folder, path) for path in paths]
    missing = [path for path, file in zip(paths, found, strict=True) if file is None]
    if missing:
        raise FileNotFoundError(
            f"lung_masks={folder} has no mask for {len(missing)} of {len(paths)} images, the first {missing[:2]}; "
            "a PNG of the image's name is expected for each"
        )
    file, count = Counter(found).most_common(1)[0]
    if count > 1:
        first, second = [path for path, own in zip(paths, found, strict=True) if own == file][:2]
        raise ValueError(
            f"lung_masks={folder} has one mask, {file}, for {count} images, {first} and {second} among them; put the "
            "masks into folders as the images are"
        )
    return np.stack([_read(file, size) for file in found if file is not None])


def _find(folder: Path, path: str) -> Path | None:
    relative = Path(path).with_suffix(".png")
    for file in (folder / relative, folder / relative.name):
        if file.is_file():
            return file
    return None


def _read(file: Path, size: int) -> np.ndarray:
    try:
        is_lung = read_gray(file) > 0
        with Image.open(file) as image:
            if image.mode.startswith("I"):  # of 16 bits: a 1 would be black as a shade
                is_lung = np.asarray(image) > 0
    except (ImageError, OSError) as error:
        raise ValueError(f"the lung mask {file} cannot be read: {error}") from error
    # Before any resizing: a mask of 0 and 1 would vanish in rounded means.
    lung = Image.fromarray(is_lung.astype(np.uint8) * 255).resize((size, size), Image.Resampling.BILINEAR)
    mask = np.asarray(lung) >= 128
    if mask.all() or not mask.any():
        raise ValueError(
            f"the lung mask {file} is {'all' if mask.any() else 'no'} lung; 0 is expected outside the lungs"
        )
    return mask
