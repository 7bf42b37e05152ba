"""Any timm model by name, with one or three input channels and K logits."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pneumolit.model.freeze import classifiers
from pneumolit.model.heads import BUILD_ERRORS, HEADS, POOLS, add_head, in_eval_mode, set_pool
from pneumolit.model.position import resample_tables
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
        return bool(self.cfg.fixed_input_size)

    @property
    def native_size(self) -> int:
        """Side in pixels of the images that the weights were made with."""
        return int(self.cfg.input_size[-1])


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
    architecture, dot, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=5, cutoff=0.5)
        raise ValueError(f"backbone={name} is no model that timm knows{_offer(near)}")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    tags += [""] if f"{architecture}" in timm.list_pretrained(architecture) else []
    if dot and tag not in tags:
        raise ValueError(f"backbone={name}: {architecture} has no weights tagged {tag!r}{_offer(sorted(tags))}")
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None:  # an old name that timm still builds, with a warning, but knows no weights of
        now = timm.models.get_deprecated_models().get(architecture)
        raise ValueError(f"backbone={name} is an old name of timm's" + (f"; it is {now} now" if now else ""))
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
    head: str = "linear",
    hidden: int = 256,
    pool: str = "default",
) -> tuple[nn.Module, WeightsSource]:
    """Build a timm model and fill it with the weights that `resolve_weights` finds.

    A first convolution for one channel is the sum of the pretrained one over RGB; position tables of weights made
    for another image size are resampled.

    Args:
        spec: from `find_backbone`.
        num_classes: logits K.
        in_chans: 1 (gray) or 3 (gray repeated).
        image_size: side of the square input in pixels.
        drop_rate: dropout before the head, 0 to below 1.
        pretrained: whether to start from weights; without effect for models that have none.
        weights: a local file (`model.weights`).
        allow_download: whether the hub may be asked.
        head: `linear` (timm's own classifier) or `mlp` (hidden layer, ReLU, dropout, linear layer).
        hidden: width of the hidden layer of `mlp`.
        pool: `default` (the model's own), `avg`, `max`, or `flatten` (the last map or tokens, not pooled).

    Returns:
        The model in training mode: timm's own where head and pool are, else a `HeadedBackbone`.

    Raises:
        ValueError: a head, pooling, image size or dropout that this model cannot have, or weights that do not fit.
        FileNotFoundError: no weights were found.
    """
    import timm

    _check_choices(head, hidden, pool)
    source, path = WeightsSource("none", spec.name), None
    if pretrained and (spec.has_weights or weights is not None):
        source, path = resolve_weights(spec.name, spec.cfg, weights=weights, allow_download=allow_download)
    has_own_head = head == "mlp" or pool == "flatten"
    model = _create(spec, num_classes, in_chans, image_size, drop_rate=0.0 if has_own_head else drop_rate)
    calm_head(model)
    if path is not None:
        module = timm.models.model_entrypoint(spec.architecture).__module__
        load_pretrained(model, path, entrypoint_module=module, cfg=spec.cfg)
    image = torch.zeros(1, in_chans, image_size, image_size)
    try:
        if pool in ("avg", "max"):
            set_pool(model, pool, image, num_classes=num_classes)
        if has_own_head:
            model = add_head(
                model, image, head=head, hidden=hidden, drop_rate=drop_rate, pool=pool, num_classes=num_classes
            )
            calm_head(model)
    except ValueError as error:
        raise ValueError(f"backbone={spec.name}: {error}") from error
    return model, source


def _create(spec: BackboneSpec, num_classes: int, in_chans: int, image_size: int, *, drop_rate: float) -> nn.Module:
    """A random timm model that was seen to give K logits for an image of this size."""
    import timm

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
        # Some are built for any size and fail on the first image. Not in inference_mode: what ConViT keeps from this
        # pass could never be used in training.
        with in_eval_mode(model), torch.no_grad():
            logits = model(torch.zeros(1, in_chans, image_size, image_size))
    except BUILD_ERRORS as error:
        raise ValueError(
            f"backbone={spec.name} cannot be built for model.image_size={image_size}, model.in_chans={in_chans}: "
            f"{str(error) or type(error).__name__}; {_way_out(spec, image_size, in_chans)}"
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, num_classes):
        raise ValueError(f"backbone={spec.name} has no classifier that gives one logit per class; use another backbone")
    return model


def transfer_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy all weights and buffers, head included, into the same model built for another image size.

    Position tables are resampled; everything else is copied bit for bit.

    Args:
        source: trained, from `build_backbone`.
        target: from `build_backbone` with the same arguments but `image_size`.

    Raises:
        ValueError: the models differ otherwise, or hold layers that belong to one image size.
    """
    state, own = source.state_dict(), target.state_dict()
    if set(state) != set(own):
        names = sorted(set(state) ^ set(own))
        raise ValueError(
            f"weights can be carried over only between models that differ in model.image_size alone; {len(names)} "
            f"tensors are in one of them only ({', '.join(names[:3])}). Keep backbone, model.head and model.pool "
            "the same"
        )
    carried = resample_tables(state, target)
    stuck = [
        f"{name} {tuple(value.shape)} instead of {tuple(own[name].shape)}"
        for name, value in carried.items()
        if value.shape != own[name].shape
    ]
    if stuck:
        raise ValueError(
            f"the weights cannot be carried over to another model.image_size: {len(stuck)} tensors depend on it "
            f"({', '.join(stuck[:3])}{', ...' if len(stuck) > 3 else ''}). Keep model.image_size the same in all "
            "stages, or use model.pool=avg or a backbone that takes any size"
        )
    target.load_state_dict(carried)


def calm_head(model: nn.Module) -> None:
    """Start the classifier with logits near zero.

    timm starts EfficientNet heads with a width of 1 / sqrt(num_classes), which is meant for 1000 classes: with
    three, the first losses are near 5 instead of 1.1 and the first steps throw the pretrained features away.
    """
    for head in classifiers(model):
        layers = [m for m in head.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        if layers:  # hidden layers in front keep their start: with small weights they would pass on no gradient
            nn.init.normal_(layers[-1].weight, std=0.01)
            if layers[-1].bias is not None:
                nn.init.zeros_(layers[-1].bias)


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


def _check_choices(head: str, hidden: int, pool: str) -> None:
    if head not in HEADS:
        raise ValueError(f"model.head must be one of {', '.join(HEADS)}, got {head!r}")
    if pool not in POOLS:
        raise ValueError(f"model.pool must be one of {', '.join(POOLS)}, got {pool!r}")
    if hidden < 1:
        raise ValueError(f"model.hidden must be at least 1, got {hidden}; 256 is usual")


def _way_out(spec: BackboneSpec, image_size: int, in_chans: int) -> str:
    if image_size != spec.native_size:
        return f"its native size is {spec.native_size}, so set model.image_size={spec.native_size}"
    return "set model.in_chans=3" if in_chans == 1 else "use another backbone"


def _offer(names: list[str]) -> str:
    return f"; did you mean {' or '.join(names)}?" if names else "; list the names with timm.list_models()"
