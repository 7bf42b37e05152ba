"""Any timm model by name, with one or three input channels and K logits."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pneumolit.model.small_nets import register_small_nets
from pneumolit.model.weights import WeightsSource, load_pretrained, resolve_weights

NORMALIZE = ("weights", "unit", "imagenet")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class BackboneSpec:
    """What is known of a backbone before it is built.

    Attributes:
        name: full timm name with its tag (`resnet50.a1_in1k`), or bare where timm lists no weights.
        cfg: timm's pretrained configuration.
        has_weights: whether pretrained weights exist anywhere.
    """

    name: str
    cfg: Any
    has_weights: bool

    @property
    def architecture(self) -> str:
        """The name without its tag."""
        return self.name.split(".", 1)[0]

    @property
    def is_fixed_size(self) -> bool:
        """Whether the model must be told the image size when it is built."""
        return bool(getattr(self.cfg, "fixed_input_size", False)) or self.architecture in {
            "logistic",
            "two_layer_cnn",
        }


def find_backbone(name: str) -> BackboneSpec:
    """Look a backbone up in timm.

    Raises:
        ValueError: timm knows no such name or tag; the nearest ones are offered.
    """
    import timm

    register_small_nets()
    if ":" in name or "/" in name:
        raise ValueError(
            f"backbone={name} looks like an address; only names of timm's own models are taken. "
            "For weights of your own use model.weights=FILE"
        )
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=5, cutoff=0.5)
        raise ValueError(f"backbone={name} is no model that timm knows{_offer(near)}")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    tags += [""] if f"{architecture}" in timm.list_pretrained(architecture) else []
    if tag and tag not in tags:
        raise ValueError(f"backbone={name}: {architecture} has no weights tagged {tag!r}{_offer(sorted(tags))}")
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None:
        return BackboneSpec(architecture, _EmptyCfg(architecture), has_weights=False)
    full = f"{architecture}.{cfg.tag}" if cfg.tag else architecture
    return BackboneSpec(full, cfg, has_weights=bool(tags))


def build_backbone(
    spec: BackboneSpec,
    *,
    num_classes: int,
    in_chans: int,
    image_size: int,
    drop_rate: float,
    pretrained: bool,
    weights: str | None = None,
    allow_download: bool = True,
) -> tuple[nn.Module, WeightsSource]:
    """Build a timm model and fill it with the weights that `resolve_weights` finds.

    A first convolution for one channel is the sum of the pretrained one over RGB.

    Args:
        spec: from `find_backbone`.
        num_classes: logits K.
        in_chans: 1 (gray) or 3 (gray repeated).
        image_size: side of the square input in pixels.
        drop_rate: dropout before the head, 0 to below 1.
        pretrained: whether to start from weights; without effect for models that have none.
        weights: a local file (`model.weights`).
        allow_download: whether the hub may be asked.
    """
    import timm

    source, path = WeightsSource("none", spec.name), None
    if pretrained and (spec.has_weights or weights is not None):
        source, path = resolve_weights(spec.name, spec.cfg, weights=weights, allow_download=allow_download)
    kwargs: dict[str, Any] = {"img_size": image_size} if spec.is_fixed_size else {}
    try:
        model: nn.Module = timm.create_model(
            spec.architecture,
            pretrained=False,
            num_classes=num_classes,
            in_chans=in_chans,
            drop_rate=drop_rate,
            **kwargs,
        )
        with torch.inference_mode():  # some models are built for any size and fail on the first image
            model.eval()(torch.zeros(1, in_chans, image_size, image_size))
        model.train()
    except (AssertionError, ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"backbone={spec.name} cannot be built for model.image_size={image_size}, model.in_chans={in_chans}: "
            f"{error}"
        ) from error
    calm_head(model)
    if path is not None:
        module = timm.models.model_entrypoint(spec.architecture).__module__
        load_pretrained(model, path, entrypoint_module=module, cfg=spec.cfg)
    return model, source


def calm_head(model: nn.Module) -> None:
    """Start the classifier with logits near zero.

    timm starts EfficientNet heads with a width of 1 / sqrt(num_classes), which is meant for 1000 classes: with
    three, the first losses are near 5 instead of 1.1 and the first steps throw the pretrained features away.
    """
    heads = model.get_classifier()  # type: ignore[operator]
    for head in heads if isinstance(heads, tuple | list) else (heads,):
        for module in head.modules() if isinstance(head, nn.Module) else ():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def input_statistics(spec: BackboneSpec, normalize: str) -> tuple[float, float]:
    """Mean and standard deviation that gray images in [0, 1] are normalised with.

    The three values of a color model are averaged: gray has one channel.
    """
    if normalize not in NORMALIZE:
        raise ValueError(f"data.normalize must be one of {', '.join(NORMALIZE)}, got {normalize!r}")
    if normalize == "unit":
        return 0.0, 1.0
    mean, std = (spec.cfg.mean, spec.cfg.std) if normalize == "weights" else _IMAGENET
    return math.fsum(mean) / len(mean), math.fsum(std) / len(std)


@dataclass(frozen=True)
class _EmptyCfg:
    """Stands for timm's pretrained configuration where a model has none."""

    architecture: str
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    hf_hub_id: str | None = None
    url: str | None = None
    classifier: str | None = None
    first_conv: str | None = None
    fixed_input_size: bool = True


def _offer(names: list[str]) -> str:
    return f"; did you mean {' or '.join(names)}?" if names else "; list the names with timm.list_models()"
