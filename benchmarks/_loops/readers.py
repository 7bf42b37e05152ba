"""Ways to read a film as a square gray image; those whose library is installed."""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

Reader = Callable[[bytes, int], np.ndarray]  # (content of a file, side) -> (side, side) uint8


def _to_array(image: Image.Image, side: int, reducing_gap: float | None = None) -> np.ndarray:
    return np.asarray(image.convert("L").resize((side, side), Image.Resampling.BILINEAR, reducing_gap=reducing_gap))


def read_pillow(data: bytes, side: int) -> np.ndarray:
    """The plain way, which the others are compared with."""
    return _to_array(Image.open(io.BytesIO(data)), side)


def read_pillow_draft(data: bytes, side: int) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    image.draft("L", (2 * side, 2 * side))
    return _to_array(image, side)


def read_pillow_gap(data: bytes, side: int) -> np.ndarray:
    return _to_array(Image.open(io.BytesIO(data)), side, reducing_gap=2)


def read_torchvision(data: bytes, side: int) -> np.ndarray:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.v2.functional import resize

    content = torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())
    gray = resize(decode_jpeg(content, mode=ImageReadMode.GRAY), [side, side], antialias=True)
    return np.asarray(gray[0])


def read_opencv(data: bytes, side: int) -> np.ndarray:
    cv2 = importlib.import_module("cv2")  # not in every environment, and without types
    gray = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.asarray(cv2.resize(gray, (side, side), interpolation=cv2.INTER_AREA))


def read_simplejpeg(data: bytes, side: int) -> np.ndarray:
    simplejpeg = importlib.import_module("simplejpeg")
    gray = simplejpeg.decode_jpeg(data, "GRAY", min_height=2 * side, min_width=2 * side)[..., 0]
    return _to_array(Image.fromarray(gray), side)


def installed_readers() -> dict[str, Reader]:
    """By name, the plain one first."""
    readers: dict[str, tuple[str, Reader]] = {
        "pillow": ("PIL", read_pillow),
        "pillow_draft": ("PIL", read_pillow_draft),
        "pillow_reducing_gap": ("PIL", read_pillow_gap),
        "torchvision_gray": ("torchvision", read_torchvision),
        "opencv_area": ("cv2", read_opencv),
        "simplejpeg_reduced": ("simplejpeg", read_simplejpeg),
    }
    return {name: reader for name, (module, reader) in readers.items() if importlib.util.find_spec(module)}
