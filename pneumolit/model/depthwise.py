"""Depthwise convolutions whose bf16 gradients take the fast way on a CPU.

oneDNN's bf16 kernels leave two of the three calls that a depthwise layer needs to slow fallbacks: the gradient of the
input at stride 2 (20 to 100 times the time of the forward pass) and the gradient of kernels larger than 3 x 3 (15 to
80 times). Both can be said in terms of calls that are fast:

- the gradient of the input is a forward depthwise convolution with the flipped kernel over the gradient with zeros
  between its values (Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning", relationship 13);
- the gradient of a 5 x 5 kernel consists of those of four overlapping 3 x 3 kernels, each seen through a gradient
  shifted by two pixels; larger kernels are done in float32, where oneDNN has a kernel.

The values are the same up to the rounding of bf16. Which way is taken follows from shape, dtype and memory order alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_CHUNK = 4 * 2**20  # bytes of spread gradient at a time, so that they stay in the cache (best of 2, 4, 8, 16 images)
Padding = tuple[int, int, int, int]  # left, right, top, bottom, as F.pad takes it


def route_depthwise(backbone: nn.Module) -> list[str]:
    """Let the depthwise convolutions of a model take the fast ways; weights and names stay as they are.

    Args:
        backbone: changed in place. Without autograd, on another device, in another dtype or memory order its layers
            do what they did before.

    Returns:
        Names of the layers that are routed.
    """
    routed = []
    for name, module in backbone.named_modules():
        kind = _ROUTED.get(type(module))
        if kind is not None and isinstance(module, nn.Conv2d) and _is_routable(module):
            module.__class__ = kind
            routed.append(name)
    return routed


def _is_routable(conv: nn.Conv2d) -> bool:
    size, other = conv.kernel_size
    return (
        conv.groups == conv.in_channels == conv.out_channels > 1
        and size == other
        and size % 2 == 1
        and conv.dilation == (1, 1)
        and conv.stride in ((1, 1), (2, 2))
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and max(conv.padding) < size
    )


class _RoutedConv2d(nn.Conv2d):
    """A depthwise convolution with symmetric padding."""

    def forward(self, input: Tensor) -> Tensor:
        images = _takes_routes(input)
        if images is None:
            return super().forward(input)
        vertical, horizontal = (int(p) for p in self.padding)
        padding = (horizontal, horizontal, vertical, vertical)
        out: Tensor = _Depthwise.apply(images, self.weight, self.bias, self.stride[0], padding)
        return out


class _RoutedConv2dSame(Conv2dSame):
    """A depthwise convolution padded as TensorFlow does: one pixel more behind than before."""

    def forward(self, x: Tensor) -> Tensor:
        images = _takes_routes(x)
        if images is None:
            out: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return out
        size, stride = self.kernel_size[0], self.stride[0]
        before, behind = [], []
        for side in images.shape[2:]:
            total = get_same_padding(side, size, stride, 1)
            before.append(total // 2)
            behind.append(total - total // 2)
        padding = (before[1], behind[1], before[0], behind[0])
        result: Tensor = _Depthwise.apply(images, self.weight, self.bias, stride, padding)
        return result


_ROUTED: dict[type[nn.Module], type[nn.Conv2d]] = {nn.Conv2d: _RoutedConv2d, Conv2dSame: _RoutedConv2dSame}


def _takes_routes(images: Tensor) -> Tensor | None:
    """The input in bf16 where the layer trains in that format on a CPU and in channels-last order, else None."""
    if images.device.type != "cpu" or not torch.is_grad_enabled():
        return None
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16:
        images = images.to(torch.bfloat16)
    is_ordered = images.is_contiguous(memory_format=torch.channels_last)
    return images if images.dtype == torch.bfloat16 and is_ordered else None


class _Depthwise(torch.autograd.Function):
    """Forward as the library does it, backward by `input_gradient` and `kernel_gradient`."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        padding: Padding,
    ) -> Tensor:
        kernel = weight.to(images.dtype)
        left, right, top, bottom = padding
        ctx.geometry = (images.shape, stride, padding)
        is_even = left == right == top == bottom
        padded = images if is_even else F.pad(images, padding)
        ctx.left_over = left if is_even else 0  # padding that is not in the saved input
        ctx.save_for_backward(padded, kernel)
        ctx.dtypes = (weight.dtype, bias.dtype if bias is not None else None)
        offset = bias.to(images.dtype) if bias is not None else None
        return F.conv2d(padded, kernel, offset, stride, ctx.left_over, groups=len(kernel))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        padded, kernel = ctx.saved_tensors
        shape, stride, padding = ctx.geometry
        weight_dtype, bias_dtype = ctx.dtypes
        wants_images, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        by_images = by_weight = by_bias = None
        with torch.autocast("cpu", enabled=False):  # the number formats are chosen here
            gradient = gradient.contiguous(memory_format=torch.channels_last)
            if wants_images:
                by_images = input_gradient(gradient, kernel, shape, stride=stride, padding=padding)
            if wants_weight:
                left_over = ctx.left_over
                by_weight = kernel_gradient(gradient, padded, kernel, stride=stride, padding=left_over).to(weight_dtype)
            if wants_bias:
                by_bias = gradient.sum((0, 2, 3), dtype=torch.float32).to(bias_dtype)
        return by_images, by_weight, by_bias, None, None


def input_gradient(gradient: Tensor, kernel: Tensor, shape: torch.Size, *, stride: int, padding: Padding) -> Tensor:
    """Gradient of a depthwise convolution by its input.

    Args:
        gradient: by the output, `(B, C, Ho, Wo)`, channels-last.
        kernel: `(C, 1, k, k)`.
        shape: of the input, (B, C, H, W).
        stride: 1 or 2.
        padding: of the input, each less than k.

    Returns:
        `(B, C, H, W)`, channels-last.
    """
    batch, channels, height, width = shape
    size = kernel.shape[-1]
    flipped = kernel.flip(2, 3)
    left, right, top, bottom = padding
    if stride == 1 and left == right == top == bottom:
        return F.conv2d(gradient, flipped, padding=size - 1 - left, groups=channels)
    # The spread gradient is laid out so that a convolution without padding gives the input's very shape; rows of the
    # input that no window reached get zeros. It is cleared once: every chunk writes the same places.
    images = max(1, min(batch, _CHUNK // (channels * (height + size - 1) * (width + size - 1) * gradient.itemsize)))
    frame = (images, channels, height + size - 1, width + size - 1)
    spread = torch.empty(frame, dtype=gradient.dtype, memory_format=torch.channels_last).zero_()
    first_row, first_column = size - 1 - top, size - 1 - left
    out = torch.empty(shape, dtype=gradient.dtype, memory_format=torch.channels_last)
    rows = slice(first_row, first_row + stride * (gradient.shape[2] - 1) + 1, stride)
    columns = slice(first_column, first_column + stride * (gradient.shape[3] - 1) + 1, stride)
    for start in range(0, batch, images):
        part = gradient[start : start + images]
        spread[: len(part), :, rows, columns] = part
        out[start : start + images] = F.conv2d(spread[: len(part)], flipped, groups=channels)
    return out


def kernel_gradient(gradient: Tensor, images: Tensor, kernel: Tensor, *, stride: int, padding: int) -> Tensor:
    """Gradient of a depthwise convolution by its kernel.

    Args:
        gradient: by the output, `(B, C, Ho, Wo)`, channels-last.
        images: the input, `(B, C, H, W)`, channels-last.
        kernel: `(C, 1, k, k)`; only its shape and dtype matter.
        stride: 1 or 2.
        padding: of the input, on all sides.

    Returns:
        `(C, 1, k, k)`, in the dtype of `kernel` or float32.
    """
    size = kernel.shape[-1]
    if size <= 3:
        return _library_kernel_gradient(gradient, images, kernel, stride, padding)
    if size != 5:
        return _library_kernel_gradient(gradient.float(), images.float(), kernel.float(), stride, padding)
    # Column 2 and row 2 are found twice, with the same values. A kernel with more padding than 1 would leave oneDNN's
    # fast path, so the input is padded here.
    if padding:
        images = F.pad(images, (padding,) * 4)
    small = kernel[:, :, :3, :3].contiguous()
    shift = 2 // stride  # two pixels of the input, in pixels of the gradient
    out = torch.empty_like(kernel)
    for row in (0, 1):
        for column in (0, 1):
            frame = (column * shift, shift - column * shift, row * shift, shift - row * shift)
            part = _library_kernel_gradient(F.pad(gradient, frame), images, small, stride, 0)
            out[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3] = part
    return out


def _library_kernel_gradient(gradient: Tensor, images: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
    strides, paddings = [stride, stride], [padding, padding]
    _, by_kernel, _ = torch.ops.aten.convolution_backward(
        gradient, images, kernel, None, strides, paddings, [1, 1], False, [0, 0], len(kernel), [False, True, False]
    )
    out: Tensor = by_kernel
    return out
