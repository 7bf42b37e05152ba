"""The small nets of the published write-ups, as timm models: backbones like any other."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Logistic(nn.Module):
    """One linear layer on the pixels.

    Args:
        img_size: side of the square input in pixels.
        in_chans: input channels.
        num_classes: logits; 0 leaves the flattened pixels.
        drop_rate: dropout before the layer.
    """

    def __init__(self, img_size: int = 224, in_chans: int = 3, num_classes: int = 1000, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = in_chans * img_size * img_size
        self.drop_rate = drop_rate
        self.features: nn.Module = nn.Flatten()
        self.head_drop = nn.Dropout(drop_rate)
        self.head: nn.Module = _linear(self.num_features, num_classes)

    def get_classifier(self) -> nn.Module:
        """The layer that gives the logits."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new head with other classes."""
        self.num_classes = num_classes
        self.head = _linear(self.num_features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """`(B, C, S, S)` -> `(B, C * S * S)`."""
        out: Tensor = self.features(x)
        return out

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features -> logits `(B, K)`."""
        x = self.head_drop(x.flatten(1))
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, S, S)` -> `(B, K)`."""
        return self.forward_head(self.forward_features(x))


class TwoLayerCNN(Logistic):
    """Two convolutions (3x3, 32 and 64 channels, ReLU, max pooling 2) and one linear layer, no batch norm."""

    def __init__(self, img_size: int = 224, in_chans: int = 3, num_classes: int = 1000, drop_rate: float = 0.0) -> None:
        super().__init__(1, 1, 0, drop_rate)
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = 64 * (img_size // 4) ** 2
        self.features = nn.Sequential(
            nn.Conv2d(in_chans, 32, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = _linear(self.num_features, num_classes)


def register_small_nets() -> None:
    """Make the nets known to timm; calling it again changes nothing."""
    from timm.models import is_model, register_model

    for entrypoint in (logistic, two_layer_cnn):
        if not is_model(entrypoint.__name__):
            register_model(entrypoint)


def logistic(pretrained: bool = False, **kwargs: Any) -> Logistic:
    """timm entry point: logistic regression on pixels (study C)."""
    return _build(Logistic, kwargs)


def two_layer_cnn(pretrained: bool = False, **kwargs: Any) -> TwoLayerCNN:
    """timm entry point: a CNN of two convolution layers (study A)."""
    model = _build(TwoLayerCNN, kwargs)
    assert isinstance(model, TwoLayerCNN)
    return model


def _build(kind: type[Logistic], kwargs: dict[str, Any]) -> Logistic:
    # timm passes these to every entry point; there are no weights to describe or to keep.
    about_weights = {"pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
    return kind(**{k: v for k, v in kwargs.items() if k not in about_weights})


def _linear(num_features: int, num_classes: int) -> nn.Module:
    if num_classes == 0:
        return nn.Identity()
    return nn.Linear(num_features, num_classes)


__all__ = ["Logistic", "TwoLayerCNN", "logistic", "register_small_nets", "two_layer_cnn"]
