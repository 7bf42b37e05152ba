"""Depthwise layers with fast gradients: as exact as the library's, for every shape that backbones use."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from pneumolit.model.depthwise import input_gradient, kernel_gradient, route_depthwise

CHANNELS = 24


def depthwise(size: int, stride: int, *, same: bool = False, bias: bool = False) -> nn.Conv2d:
    torch.manual_seed(0)
    kind: Callable[..., nn.Conv2d] = Conv2dSame if same else nn.Conv2d
    padding = 0 if same else size // 2
    return kind(CHANNELS, CHANNELS, size, stride, padding=padding, groups=CHANNELS, bias=bias)


def channels_last(*shape: int) -> Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


def gradients(conv: nn.Conv2d, images: Tensor, *, double: bool = False) -> dict[str, Tensor]:
    """Output and gradients of a layer under bf16 autocast, or of its bf16-rounded values in float64."""
    layer = copy.deepcopy(conv)
    if double:
        layer = layer.double()
        layer.weight.data = conv.weight.data.to(torch.bfloat16).double()
    images = (images.to(torch.bfloat16).double() if double else images).detach().clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=not double):
        out = layer(images)
    torch.manual_seed(1)
    out.backward(torch.randn(out.shape).to(torch.bfloat16).to(out.dtype))
    found = {"output": out.detach(), "images": images.grad, "weight": layer.weight.grad}
    if layer.bias is not None:
        found["bias"] = layer.bias.grad
    return {name: value for name, value in found.items() if value is not None}


def distance(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


def routed(conv: nn.Conv2d) -> nn.Conv2d:
    model = nn.Sequential(copy.deepcopy(conv))
    assert route_depthwise(model) == ["0"]
    layer = model[0]
    assert isinstance(layer, nn.Conv2d)
    return layer


@pytest.mark.parametrize("side", [14, 17])
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_gradients_are_as_near_to_float64_as_the_librarys(size: int, stride: int, same: bool, side: int) -> None:
    conv = depthwise(size, stride, same=same, bias=size == 7)
    images = channels_last(5, CHANNELS, side, side)
    exact = gradients(conv, images, double=True)
    library, fast = gradients(conv, images), gradients(routed(conv), images)
    assert set(fast) == set(exact)
    for name, value in exact.items():
        assert fast[name].dtype == library[name].dtype
        # The library's own kernels for processors without bf16 are off by up to .006.
        assert distance(fast[name], value) <= min(1.05 * distance(library[name], value), 0.003), name


@pytest.mark.parametrize("side", [(9, 16), (16, 9), (7, 7)])
def test_rows_that_no_window_reaches_get_a_gradient_of_zero(side: tuple[int, int]) -> None:
    conv = nn.Conv2d(CHANNELS, CHANNELS, 3, 2, padding=0, groups=CHANNELS, bias=False)
    images = channels_last(2, CHANNELS, *side)
    exact, fast = gradients(conv, images, double=True), gradients(routed(conv), images)
    assert distance(fast["images"], exact["images"]) < 0.003
    assert torch.equal(fast["images"] == 0, exact["images"] == 0)


def test_a_batch_in_several_chunks_has_the_gradient_of_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    gradient = channels_last(7, CHANNELS, 8, 8).to(torch.bfloat16)
    kernel = torch.randn(CHANNELS, 1, 3, 3).to(torch.bfloat16)
    shape, frame = torch.Size((7, CHANNELS, 16, 16)), (1, 1, 1, 1)
    whole = input_gradient(gradient, kernel, shape, stride=2, padding=frame)
    monkeypatch.setattr("pneumolit.model.depthwise._CHUNK", 3 * CHANNELS * 18 * 18 * 2)  # 3, 3 and 1 images
    assert torch.equal(input_gradient(gradient, kernel, shape, stride=2, padding=frame), whole)


def test_kernel_gradients_do_not_depend_on_where_the_padding_is_added() -> None:
    gradient, images = (channels_last(3, CHANNELS, 14, 14).to(torch.bfloat16) for _ in range(2))
    kernel = torch.randn(CHANNELS, 1, 5, 5).to(torch.bfloat16)
    inside = kernel_gradient(gradient, images, kernel, stride=1, padding=2)
    outside = nn.functional.pad(images, (2, 2, 2, 2)).contiguous(memory_format=torch.channels_last)
    assert torch.equal(inside, kernel_gradient(gradient, outside, kernel, stride=1, padding=0))


def test_only_depthwise_layers_are_routed_and_weights_keep_their_names() -> None:
    model = timm.create_model("test_efficientnet", num_classes=2)
    names = list(model.state_dict())
    found = route_depthwise(model)
    assert found
    assert all(model.get_submodule(name).groups == model.get_submodule(name).in_channels for name in found)
    assert list(model.state_dict()) == names
    assert route_depthwise(timm.create_model("test_resnet", num_classes=2)) == []


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(8, 16, 3, padding=1, groups=8),  # two kernels per channel
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8),
        nn.Conv2d(8, 8, (1, 5), padding=(0, 2), groups=8),
        nn.Conv2d(8, 8, 3, stride=3, groups=8),
        nn.Conv2d(8, 8, 3, padding="same", groups=8),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="reflect"),
        nn.Conv2d(8, 8, 3, padding=1, groups=4),
        nn.Conv2d(1, 1, 3, padding=1),
    ],
)
def test_layers_that_the_routes_do_not_cover_stay_the_librarys(conv: nn.Conv2d) -> None:
    assert route_depthwise(nn.Sequential(conv)) == []


def test_without_bf16_or_autograd_a_routed_layer_gives_the_librarys_bits() -> None:
    conv = depthwise(5, 2, same=True)
    images = channels_last(2, CHANNELS, 15, 15)
    for context in (torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=False)):
        with context:
            assert torch.equal(routed(conv)(images), conv(images))


def calls(model: nn.Module, images: Tensor) -> set[str]:
    """Names of everything that one step calls."""
    with profile(activities=[ProfilerActivity.CPU]) as found, torch.autocast("cpu", torch.bfloat16):
        model(images).sum().backward()
    return {event.name for event in found.events()}


def test_the_librarys_backward_is_not_called_any_more() -> None:
    images = channels_last(2, CHANNELS, 16, 16).requires_grad_()
    assert "ConvolutionBackward0" in calls(nn.Sequential(depthwise(3, 2)), images)
    assert "ConvolutionBackward0" not in calls(nn.Sequential(routed(depthwise(3, 2))), images)


def test_a_step_with_routes_differs_from_one_without_by_the_rounding_of_bf16() -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=2, in_chans=1).to(memory_format=torch.channels_last)
    fast = copy.deepcopy(model)
    assert route_depthwise(fast)
    images, found = channels_last(8, 1, 96, 96), []
    for net in (model, fast):
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(net(images), torch.arange(8) % 2)
        loss.backward()  # type: ignore[no-untyped-call]
        grads = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
        found.append((float(loss.detach()), torch.cat(grads).double()))
    assert found[0][0] == found[1][0]
    assert distance(found[1][1], found[0][1]) < 0.03


def test_frozen_weights_and_inputs_get_no_gradient() -> None:
    conv = routed(depthwise(5, 1))
    conv.weight.requires_grad_(False)
    images = channels_last(2, CHANNELS, 9, 9).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        conv(images).sum().backward()
    assert conv.weight.grad is None
    assert images.grad is not None
    conv.weight.requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        conv(images.detach()).sum().backward()
    assert conv.weight.grad is not None
