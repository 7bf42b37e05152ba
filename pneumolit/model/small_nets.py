"""The small nets of the published write-ups, as timm models: backbones like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

# timm reads this table when a net of this module is registered. There are no weights anywhere; the layers of each
# net follow the image size.
_CFG: dict[str, Any] = {
    "fixed_input_size": True,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "classifier": "head",
    "license": "apache-2.0",
}
default_cfgs: dict[str, dict[str, Any]] = {
    "logistic": _CFG,
    "mlp": _CFG,
    "two_layer_cnn": _CFG,
    "baseline_cnn": {**_CFG, "input_size": (3, 128, 128)},
    "baseline_cnn_bn": {**_CFG, "input_size": (3, 128, 128)},
    "baseline_cnn_keras_bn": {**_CFG, "input_size": (3, 128, 128)},
    "dcnn": _CFG,
}


class SmallNet(nn.Module):
    """Features, hidden layers, one linear layer.

    Args:
        features: `(B, C, S, S)` -> the last map, or a vector `(B, F)`.
        hidden: flattened features -> `(B, head_hidden_size)`.
        num_features: width of the flattened features.
        head_hidden_size: inputs of the last layer.
        num_classes: logits; 0 leaves the inputs of the last layer.
        drop_rate: dropout before the last layer.
    """

    def __init__(
        self,
        features: nn.Module,
        hidden: nn.Module,
        *,
        num_features: int,
        head_hidden_size: int,
        num_classes: int,
        drop_rate: float,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features, self.head_hidden_size = num_features, head_hidden_size
        self.drop_rate = drop_rate
        self.features = features
        self.hidden = hidden
        self.head_drop = nn.Dropout(drop_rate)
        self.head = _linear(head_hidden_size, num_classes)

    def get_classifier(self) -> nn.Module:
        """The layer that gives the logits."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new head with other classes.

        Raises:
            ValueError: a pooling is asked for; these nets flatten their map.
        """
        if global_pool is not None:
            raise ValueError("the small nets flatten their last map and take no pooling")
        self.num_classes = num_classes
        self.head = _linear(self.head_hidden_size, num_classes)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Depth by name, for `timm.models.group_parameters`: layers or blocks in order, hidden layers, head."""
        return {"features": r"^features\.(\d+)", "hidden": r"^hidden\.(\d+)"}

    def forward_features(self, x: Tensor) -> Tensor:
        """`(B, C, S, S)` -> the last map `(B, F, H, W)` or a vector `(B, F)`."""
        out: Tensor = self.features(x)
        return out

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features -> logits `(B, K)`, or with `pre_logits` the inputs of the last layer."""
        x = self.head_drop(self.hidden(x.flatten(1)))
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, S, S)` -> `(B, K)`."""
        return self.forward_head(self.forward_features(x))


def register_small_nets() -> None:
    """Make the nets known to timm; calling it again changes nothing."""
    from timm.models import is_model, register_model

    for entrypoint in (logistic, mlp, two_layer_cnn, baseline_cnn, baseline_cnn_bn, baseline_cnn_keras_bn, dcnn):
        if not is_model(entrypoint.__name__):
            register_model(entrypoint)


def logistic(pretrained: bool = False, **kwargs: Any) -> SmallNet:
    """timm entry point: logistic regression, one linear layer on the pixels (study C)."""
    size, in_chans, rest = _read(kwargs)
    width = in_chans * size**2
    return SmallNet(nn.Flatten(), nn.Identity(), num_features=width, head_hidden_size=width, **rest)


def mlp(pretrained: bool = False, **kwargs: Any) -> SmallNet:
    """timm entry point: four fully connected layers with ReLU between them (study C).

    The write-up gives no widths; 512, 128 and 32 are ours.
    """
    size, in_chans, rest = _read(kwargs)
    layers: list[nn.Module] = [nn.Flatten()]
    width = in_chans * size**2
    for width_out in (512, 128, 32):
        layers += [nn.Linear(width, width_out), nn.ReLU(inplace=True)]
        width = width_out
    return SmallNet(nn.Sequential(*layers), nn.Identity(), num_features=width, head_hidden_size=width, **rest)


def two_layer_cnn(pretrained: bool = False, **kwargs: Any) -> SmallNet:
    """timm entry point: two convolutions (3x3, 32 and 64 channels, ReLU, max pooling 2), one linear layer (study A)."""
    size, in_chans, rest = _read(kwargs)
    features = nn.Sequential(
        nn.Conv2d(in_chans, 32, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
    )  # fmt: skip
    width = 64 * (size // 4) ** 2
    return SmallNet(features, nn.Identity(), num_features=width, head_hidden_size=width, **rest)


def baseline_cnn(pretrained: bool = False, **kwargs: Any) -> SmallNet:
    """timm entry point: two 3x3 convolutions without padding (16, 32), pooling 2 after each, dense 64 (study D)."""
    return _keras_cnn(kwargs, channels=(16, 32), padding=0, dense=64)


def baseline_cnn_bn(pretrained: bool = False, **kwargs: Any) -> SmallNet:
    """timm entry point: `baseline_cnn` with batch norm between each convolution and its ReLU (study D)."""
    return _keras_cnn(kwargs, channels=(16, 32), padding=0, dense=64, norm_settings={})


def baseline_cnn_keras_bn(pretrained: bool = False, **kwargs: Any) -> SmallNet:
    """timm entry point: `baseline_cnn_bn` whose norms average and divide as Keras's do (momentum .99, epsilon .001)."""
    keras = {"momentum": 0.01, "eps": 1e-3}
    return _keras_cnn(kwargs, channels=(16, 32), padding=0, dense=64, norm_settings=keras)


def dcnn(pretrained: bool = False, **kwargs: Any) -> SmallNet:
    """timm entry point: a deep CNN from scratch, four blocks of 3x3 convolution, ReLU, pooling 2; dense 256 (study B).

    The write-up gives neither depth nor widths; 32, 64, 128, 256 and the one dense layer are ours.
    """
    return _keras_cnn(kwargs, channels=(32, 64, 128, 256), padding=1, dense=256)


def _keras_cnn(
    kwargs: dict[str, Any],
    *,
    channels: Sequence[int],
    padding: int,
    dense: int,
    norm_settings: Mapping[str, Any] | None = None,
) -> SmallNet:
    size, in_chans, rest = _read(kwargs)
    blocks: list[nn.Module] = []
    for width in channels:
        norm = [nn.BatchNorm2d(width, **norm_settings)] if norm_settings is not None else []
        convolution = nn.Conv2d(in_chans, width, 3, padding=padding)
        blocks.append(nn.Sequential(convolution, *norm, nn.ReLU(inplace=True), nn.MaxPool2d(2)))
        in_chans, size = width, (size + 2 * padding - 2) // 2
    num_features = in_chans * size**2
    hidden = nn.Sequential(nn.Linear(num_features, dense), nn.ReLU(inplace=True))
    net = SmallNet(nn.Sequential(*blocks), hidden, num_features=num_features, head_hidden_size=dense, **rest)
    for module in net.modules():  # Keras's start: Glorot uniform, biases zero
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return net


def _read(kwargs: dict[str, Any]) -> tuple[int, int, dict[str, Any]]:
    """Image size, input channels, and what every `SmallNet` takes; timm's words about weights are left out."""
    rest = {"num_classes": 1000, "drop_rate": 0.0, **kwargs}
    for key in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        rest.pop(key, None)
    size, in_chans = rest.pop("img_size", 224), rest.pop("in_chans", 3)
    return size, in_chans, rest


def _linear(num_features: int, num_classes: int) -> nn.Module:
    return nn.Linear(num_features, num_classes) if num_classes else nn.Identity()


__all__ = [
    "SmallNet",
    "baseline_cnn",
    "baseline_cnn_bn",
    "dcnn",
    "logistic",
    "mlp",
    "register_small_nets",
    "two_layer_cnn",
]
