"""Heat maps by the name of a method: the project's own, and those of two libraries that need not be installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.heatmap import (
    METHODS,
    NoMapError,
    check_places,
    explained_logit,
    heatmaps,
    last_map,
    on_pixels,
    scored_pixels,
)

AUTO = "auto"
EXTRA = "explain"
# Our name -> the class of `pytorch_grad_cam`. Its methods that score thousands of masked images are left out: they
# take minutes per image.
_CAMS = {"gradcam++": "GradCAMPlusPlus", "layercam": "LayerCAM", "hirescam": "HiResCAM", "xgradcam": "XGradCAM"}
_PIXEL_METHODS = ("integrated_gradients", "occlusion")  # of captum
_INTEGRATION_STEPS = 32
_PATCHES = 8  # an occluding patch is so many times smaller than the image's side
CHOICES = (AUTO, *METHODS, *_CAMS, *_PIXEL_METHODS)
_BATCH = 16  # images explained at a time

# What a progress bar is told: so many images more are done.
Advance = Callable[[int], None]


def check_method(method: str) -> None:
    """Refuse a method before a model is loaded.

    Raises:
        ValueError: it is unknown, or its library is not installed.
    """
    if method not in CHOICES:
        raise ValueError(f"method must be one of {', '.join(CHOICES)}, got {method!r}")
    module, package = _library(method)
    if module and importlib.util.find_spec(module) is None:
        raise ValueError(
            f"method={method} needs the package {package}, which is not installed; install it with "
            f"pip install 'pneumolit[{EXTRA}]', or use method=gradcam, which needs nothing"
        )


def is_of_pixels(method: str) -> bool:
    """Whether a method, other than `auto`, gives every pixel its own heat, and not every place of a coarse map."""
    return method == "saliency" or method in _PIXEL_METHODS


def choose_method(model: PneumoniaClassifier, method: str) -> str:
    """The method that `auto` stands for: `gradcam` where the model has a map of more than one place, else `saliency`.

    Raises:
        NoMapError: another method was asked for that needs such a map.
    """
    needs_map = method == "gradcam" or method in _CAMS
    if method != AUTO and not needs_map:
        return method
    try:
        check_places(model)
    except NoMapError as error:
        if method == AUTO:
            return "saliency"
        raise NoMapError(f"{error}; use method=saliency, the gradient at the pixels") from error
    return "gradcam" if method == AUTO else method


def heat_of(
    model: PneumoniaClassifier, images: np.ndarray, sides: np.ndarray, method: str, advance: Advance | None = None
) -> np.ndarray:
    """Heat maps of some images, each of its own side.

    Args:
        model: left as it was.
        images: `(N, H, W)` uint8.
        sides: `(N,)` of "pneumonia" or "normal".
        method: any of `CHOICES` but `auto`.
        advance: told how many images are done.

    Returns:
        `(N, H, W)` float32 >= 0.
    """
    heat = np.zeros(images.shape, dtype=np.float32)
    for side in np.unique(sides):
        rows = np.flatnonzero(sides == side)
        for start in range(0, len(rows), _BATCH):
            chosen = rows[start : start + _BATCH]
            batch = torch.from_numpy(np.ascontiguousarray(images[chosen])).unsqueeze(1)
            heat[chosen] = _heat_of_batch(model, batch, method, str(side))
            if advance is not None:
                advance(len(chosen))
    return heat


def _heat_of_batch(model: PneumoniaClassifier, images: Tensor, method: str, side: str) -> np.ndarray:
    if method in METHODS:
        return heatmaps(model, images, method=method, side=side)
    if method in _CAMS:
        return _by_grad_cam(model, images, method, side)
    return _by_captum(model, images, method, side)


def _by_grad_cam(model: PneumoniaClassifier, images: Tensor, method: str, side: str) -> np.ndarray:
    """The library's formula on our own maps and gradients.

    Its own call would scale every heat map to [0, 1] by itself, leave hooks and gradients in the model, and find no
    layer in a model that it does not know.
    """
    import pytorch_grad_cam

    found = last_map(model, images, side=side)
    cam = getattr(pytorch_grad_cam, _CAMS[method])(nn.Linear(1, 1), [])
    activations, gradients = found.activations.cpu().numpy(), found.gradients.cpu().numpy()
    heat = cam.get_cam_image(None, None, None, activations, gradients, False)
    return on_pixels(torch.from_numpy(np.asarray(heat, dtype=np.float32)).unsqueeze(1).relu(), images)


def _by_captum(model: PneumoniaClassifier, images: Tensor, method: str, side: str) -> np.ndarray:
    """What the logit gains by every pixel, against an image of the mean gray that the model normalises with."""
    from captum import attr

    mean = float(model.settings["mean"])
    with explained_logit(model, side) as logit:
        pixels = scored_pixels(model, images)
        found: Any
        if method == "occlusion":
            patch = max(pixels.shape[-1] // _PATCHES, 1)
            window, strides = (1, patch, patch), (1, max(patch // 2, 1), max(patch // 2, 1))
            with torch.no_grad():
                found = attr.Occlusion(logit).attribute(pixels, window, strides=strides, baselines=mean)
        else:
            found = attr.IntegratedGradients(logit).attribute(
                pixels, baselines=mean, n_steps=_INTEGRATION_STEPS, internal_batch_size=len(pixels)
            )
    return on_pixels(found.detach().relu(), images)


def _library(method: str) -> tuple[str, str]:
    """Module and package that a method comes from; empty for our own."""
    if method in _CAMS:
        return "pytorch_grad_cam", "grad-cam"
    return ("captum", "captum") if method in _PIXEL_METHODS else ("", "")
