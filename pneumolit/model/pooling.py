"""Means over the whole map whose gradient lies in memory as the map does.

The gradient of a mean over height and width is one number per channel, spread over the map. PyTorch spreads it in
NCHW order, whatever the order of the map. In a channels-last network on a CPU it then meets a gradient in the other
order where a squeeze-and-excitation layer adds the two, which takes 3 to 8 times as long as it has to, and behind a
global pooling the layers before it go on in the wrong order. Here it is spread in the order of the map. Every number is
the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.layers.squeeze_excite import EffectiveSEModule, SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def route_pooling(backbone: nn.Module) -> list[str]:
    """Let the global poolings and squeeze-and-excitation layers of a model spread their gradients in the map's order.

    Args:
        backbone: changed in place. Without autograd, on another device or in another memory order its layers do what
            they did before.

    Returns:
        Names of the layers that are routed.
    """
    routed = []
    for name, module in backbone.named_modules():
        kind = _ROUTED.get(type(module))
        if kind is not None and _is_routable(module):
            module.__class__ = kind
            routed.append(name)
    return routed


def with_mean(images: Tensor) -> tuple[Tensor, Tensor]:
    """A map `(B, C, H, W)` in channels-last order, and its mean over height and width `(B, C, 1, 1)`."""
    same, mean = _WithMean.apply(images)
    return same, mean


class _WithMean(torch.autograd.Function):
    """The map again, so that both gradients arrive together and are added in one pass."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.shape = images.shape
        return images.view_as(images), images.mean((2, 3), keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_images: Tensor | None, by_mean: Tensor | None) -> Tensor | None:
        if by_mean is None:
            return by_images
        shape = ctx.shape
        share = by_mean / (shape[2] * shape[3])  # rounded before it is added, as the library does
        if by_images is None:
            out = torch.empty(shape, dtype=share.dtype, device=share.device, memory_format=torch.channels_last)
            return out.copy_(share.expand(shape))
        total: Tensor = by_images.contiguous(memory_format=torch.channels_last) + share
        return total


def _is_channels_last(images: Tensor) -> bool:
    return (
        images.device.type == "cpu"
        and torch.is_grad_enabled()
        and images.ndim == 4
        and images.is_contiguous(memory_format=torch.channels_last)
        and not images.is_contiguous()  # one pixel or one channel: both orders are the same
    )


class _RoutedPool(nn.AdaptiveAvgPool2d):
    def forward(self, input: Tensor) -> Tensor:
        return with_mean(input)[1] if _is_channels_last(input) else super().forward(input)


class _RoutedSqueezeExcite(SqueezeExcite):
    """Of the EfficientNet and MobileNet families."""

    def forward(self, x: Tensor) -> Tensor:
        return _gated(self, x, super().forward, "conv_reduce", "act1", "conv_expand", "gate")


class _RoutedSEModule(SEModule):
    """Of SE-ResNet, RegNet and their like."""

    def forward(self, x: Tensor) -> Tensor:
        return _gated(self, x, super().forward, "fc1", "bn", "act", "fc2", "gate")


class _RoutedEffectiveSEModule(EffectiveSEModule):
    """Of VoVNet."""

    def forward(self, x: Tensor) -> Tensor:
        return _gated(self, x, super().forward, "fc", "gate")


_ROUTED: dict[type[nn.Module], type[nn.Module]] = {
    nn.AdaptiveAvgPool2d: _RoutedPool,
    SqueezeExcite: _RoutedSqueezeExcite,
    SEModule: _RoutedSEModule,
    EffectiveSEModule: _RoutedEffectiveSEModule,
}


def _is_routable(module: nn.Module) -> bool:
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return module.output_size in (1, (1, 1))
    return not getattr(module, "add_maxpool", False)


def _gated(module: nn.Module, images: Tensor, otherwise: Callable[[Tensor], Tensor], *layers: str) -> Tensor:
    """The map times the gate that these layers of a module make of its mean."""
    if not _is_channels_last(images):
        return otherwise(images)
    images, gate = with_mean(images)
    for layer in layers:
        gate = module.get_submodule(layer)(gate)
    return images * gate
