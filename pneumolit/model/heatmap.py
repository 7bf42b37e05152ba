"""Heat maps of the two-class logit: where in an image lies what speaks for pneumonia, or against it.

Grad-CAM for whatever a timm model ends in: maps of a CNN, ConvNeXt or Swin, tokens of a vision transformer. Nets whose
features have no places (logistic, mlp) can only be asked for the saliency of their pixels.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pneumolit.data.augment import resize_batch
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.heads import HeadedBackbone

METHODS = ("gradcam", "saliency")
_FEWEST_PLACES = 4  # of a map that can say where something lies
SIDES = ("pneumonia", "normal")


class NoMapError(ValueError):
    """What a model makes of an image has no places."""


@dataclass(frozen=True)
class LastMap:
    """The last features of some images that still have places, and how the explained logit depends on them.

    Attributes:
        activations: `(B, C, h, w)` float32.
        gradients: `(B, C, h, w)` float32, of the explained logit.
        scores: `(B,)` float32, the two-class logit as it was trained, whatever side is explained.
    """

    activations: Tensor
    gradients: Tensor
    scores: Tensor


def heatmaps(
    model: PneumoniaClassifier, images: Tensor, *, method: str = "gradcam", side: str = "pneumonia"
) -> np.ndarray:
    """Say for every pixel of some images how much it speaks for one side of the two-class logit.

    `gradcam` sums the last maps of the model, each weighted by the mean of the logit's gradient on it, and keeps what
    is positive. `saliency` is the absolute gradient at the pixels: where the logit is sensitive, for either side.

    Args:
        model: in any mode, left as it was; parameters may be frozen.
        images: `(B, 1, H, W)` uint8, as `ImageRows` gives them, or float in [0, 1]; B stays one batch.
        method: one of `METHODS`.
        side: `pneumonia` explains the logit, `normal` its negative.

    Returns:
        `(B, H, W)` float32 >= 0, in units of the logit and therefore comparable between images. All zero where
        nothing in the last maps speaks for the side.

    Raises:
        NoMapError: `gradcam` of a model that keeps no places.
        ValueError: an unknown method or side, or no class of the model means pneumonia.

    Source:
        Selvaraju et al., Grad-CAM, ICCV 2017; Simonyan et al., Deep Inside Convolutional Networks, ICLR workshop 2014.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if method == "saliency":
        heat = _pixel_gradients(model, images, side).abs()
    else:
        found = last_map(model, images, side=side)
        weights = found.gradients.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        heat = (weights * found.activations).sum(1, keepdim=True).relu()
    return on_pixels(heat, images)


def map_shape(model: PneumoniaClassifier) -> tuple[int, int]:
    """Rows and columns of the map that `gradcam` works on, found with a gray image; (1, 1) tells nothing of places.

    Raises:
        NoMapError: there is none.
    """
    size = int(model.settings["image_size"])
    height, width = last_map(model, torch.full((1, 1, size, size), 0.5)).activations.shape[2:]
    return height, width


def check_places(model: PneumoniaClassifier) -> None:
    """Refuse a map that cannot say where anything lies.

    Raises:
        NoMapError: there is none, or it has fewer than four places.
    """
    height, width = map_shape(model)
    if height * width < _FEWEST_PLACES:
        raise NoMapError(
            f"backbone={model.settings['backbone']} ends in a map of {height} x {width} places for "
            f"model.image_size={model.settings['image_size']}, which cannot say where anything lies"
        )


def last_map(model: PneumoniaClassifier, images: Tensor, *, side: str = "pneumonia") -> LastMap:
    """What other methods than Grad-CAM start from too.

    Raises:
        NoMapError, ValueError: as `heatmaps`.
    """
    with _looked_at(model, side):
        inputs = model._input(scored_pixels(model, images))
        norm = _last_norm(model.backbone)
        leaf, logits = _from_last_map(model, inputs) if norm is None else _from_tokens(model, inputs, norm)
        scores = two_class_scores(model, logits)
        (gradients,) = torch.autograd.grad(_sign(side) * scores.sum(), leaf)
    found = LastMap(_as_map(leaf.detach(), model).float(), _as_map(gradients, model).float(), scores.detach())
    if leaf.ndim == 3 and not found.gradients.any():
        raise NoMapError(_no_map(model, "reads its answer from a class token, which the last places no longer reach"))
    return found


@contextlib.contextmanager
def explained_logit(model: PneumoniaClassifier, side: str) -> Iterator[Callable[[Tensor], Tensor]]:
    """For methods that start from pixels: within, a function from `(B, 1, S, S)` gray pixels to what is explained.

    Its pixels are float in [0, 1] at the model's own image size, from `scored_pixels`; it gives `(B,)` float32, through
    which gradients flow back to them.

    Raises:
        ValueError: an unknown side, or no class of the model means pneumonia.
    """

    def logit(pixels: Tensor) -> Tensor:
        return _sign(side) * two_class_scores(model, model.backbone(model._input(pixels)))

    with _looked_at(model, side):
        yield logit


def scored_pixels(model: PneumoniaClassifier, images: Tensor) -> Tensor:
    """Stored images as the model is given them when a run is scored, before normalisation: `(B, 1, S, S)` in [0, 1]."""
    return resize_batch(images.to(model.device), int(model.settings["image_size"]))


def on_pixels(heat: Tensor, images: Tensor) -> np.ndarray:
    """Spread `(B, 1, h, w)` heat over the pixels of the images it is of, bilinear: `(B, H, W)` float32."""
    spread = nn.functional.interpolate(heat.float(), images.shape[-2:], mode="bilinear", align_corners=False)
    found: np.ndarray = spread[:, 0].cpu().numpy()
    return found


def two_class_scores(model: PneumoniaClassifier, logits: Tensor) -> Tensor:
    """`(B, K)` logits -> `(B,)` float32 two-class logit, as `labels.two_class_logit` makes it."""
    mask = torch.from_numpy(model.labels.positive_mask).to(logits.device)
    logits = logits.float()
    return logits[:, mask].logsumexp(1) - logits[:, ~mask].logsumexp(1)


def _sign(side: str) -> float:
    return 1.0 if side == "pneumonia" else -1.0


@contextlib.contextmanager
def _looked_at(model: PneumoniaClassifier, side: str) -> Iterator[None]:
    """A model in eval mode, in full float32, whatever surrounds the call; every module's mode is put back."""
    if side not in SIDES:
        raise ValueError(f"side must be one of {', '.join(SIDES)}, got {side!r}")
    if not model.labels.is_two_class_view:
        raise ValueError(
            f"no class of {list(model.labels.classes)} means pneumonia (data.positive is empty), so there is no "
            "two-class logit to explain"
        )
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(model.device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),  # as scores are computed
        ):
            yield
    finally:
        model.train(modes[model])
        for module, mode in modes.items():
            module.training = mode


def _from_last_map(model: PneumoniaClassifier, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The map that `forward_features` ends in, as a leaf, and the logits that the rest makes of it."""
    backbone: Any = model.backbone
    with torch.no_grad():  # gradients are needed behind the map only, whatever trains
        features = backbone.forward_features(inputs)
    if not isinstance(features, Tensor):
        raise NoMapError(_no_map(model, "ends in several maps or token lists"))
    if features.ndim not in (3, 4):
        raise NoMapError(_no_map(model, "keeps no places: its features are one vector for the whole image"))
    leaf = features.detach().requires_grad_()
    return leaf, backbone.forward_head(leaf.clone())  # a copy: some heads begin with a layer that works in place


def _from_tokens(model: PneumoniaClassifier, inputs: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """What the attention of the last block sees, as a leaf, and the logits.

    Later tokens will not do: where the class token is read out, the gradient on all the others is exactly 0.
    """
    leaves: list[Tensor] = []

    def cut(module: nn.Module, given: Any, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        torch.set_grad_enabled(True)  # from here on; `no_grad` around the call puts it back
        return leaves[-1].clone()

    handle = norm.register_forward_hook(cut)
    try:
        with torch.no_grad():
            logits = model.backbone(inputs)
    finally:
        handle.remove()
    return leaves[-1], logits


def _pixel_gradients(model: PneumoniaClassifier, images: Tensor, side: str) -> Tensor:
    """`(B, 1, S, S)`: gradient of the explained logit at the gray pixels."""
    with explained_logit(model, side) as logit:
        pixels = scored_pixels(model, images).requires_grad_()
        (gradients,) = torch.autograd.grad(logit(pixels).sum(), pixels)
    return gradients


def _as_map(features: Tensor, model: PneumoniaClassifier) -> Tensor:
    """Maps or tokens as `(B, C, h, w)`."""
    body = _body(model.backbone)
    if features.ndim == 4:
        is_last = str(getattr(body, "output_fmt", "")).rpartition(".")[2] == "NHWC"
        return features.permute(0, 3, 1, 2) if is_last else features
    count = features.shape[1]
    for prefix in (int(getattr(body, "num_prefix_tokens", 0)), 0):  # CaiT adds its class token behind these blocks
        side = math.isqrt(max(count - prefix, 0))
        if side > 1 and side**2 == count - prefix:
            return features[:, prefix:].transpose(1, 2).reshape(len(features), -1, side, side)
    raise NoMapError(_no_map(model, f"ends in {count} tokens, which form no square"))


def _last_norm(backbone: nn.Module) -> nn.Module | None:
    """The norm before the attention of the last block of a vision transformer; None for nets that end in a map."""
    body = _body(backbone)
    blocks = getattr(body, "blocks", None)
    if getattr(body, "output_fmt", None) is not None or not isinstance(blocks, nn.Sequential | nn.ModuleList):
        return None
    norm = getattr(blocks[-1], "norm1", None)
    return norm if isinstance(norm, nn.Module) else None


def _body(backbone: nn.Module) -> nn.Module:
    """timm's own model, under a head of ours."""
    return backbone.body if isinstance(backbone, HeadedBackbone) else backbone


def _no_map(model: PneumoniaClassifier, why: str) -> str:
    return (
        f"backbone={model.settings['backbone']} {why}; Grad-CAM needs one last map. Use method=saliency, the gradient "
        "at the pixels"
    )
