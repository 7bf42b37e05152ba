"""Layers with a mean over the map: the library's numbers, in the map's own order."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from timm.layers.squeeze_excite import EffectiveSEModule, SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

from pneumolit.model.gradients import use_fast_gradients
from pneumolit.model.pooling import route_pooling, with_mean

CHANNELS = 24
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "pool": lambda: nn.AdaptiveAvgPool2d(1),
    "pool by sides": lambda: nn.AdaptiveAvgPool2d((1, 1)),
    "squeeze-excite": lambda: SqueezeExcite(CHANNELS, gate_layer=nn.Hardsigmoid),
    "SE": lambda: SEModule(CHANNELS, norm_layer=nn.BatchNorm2d),
    "effective SE": lambda: EffectiveSEModule(CHANNELS),
}


def channels_last(*shape: int) -> Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


def routed(layer: nn.Module) -> nn.Module:
    model = nn.Sequential(copy.deepcopy(layer))
    assert route_pooling(model) == ["0"]
    return model[0]


def gradients(layer: nn.Module, images: Tensor, *, bf16: bool) -> list[Tensor]:
    """Output and gradients of a layer, those of its input as they lie in memory."""
    layer = copy.deepcopy(layer).train()
    seen: list[Tensor] = []
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        source = images.clone().requires_grad_()
        held = source.to(torch.bfloat16 if bf16 else torch.float32) * 1
        held.register_hook(seen.append)  # type: ignore[no-untyped-call]
        out = layer(held)
    torch.manual_seed(1)
    out.backward(torch.randn(out.shape).to(out.dtype))
    (by_images,) = seen
    return [out.detach(), by_images, *(p.grad for p in layer.parameters() if p.grad is not None)]


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_every_number_is_the_librarys_and_lies_in_the_order_of_the_map(name: str, bf16: bool) -> None:
    torch.manual_seed(0)
    layer, images = LAYERS[name](), channels_last(4, CHANNELS, 7, 9)
    library, fast = gradients(layer, images, bf16=bf16), gradients(routed(layer), images, bf16=bf16)
    assert len(library) == len(fast)
    for expected, found in zip(library, fast, strict=True):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    assert fast[1].is_contiguous(memory_format=torch.channels_last)


def test_the_librarys_gradient_of_a_mean_still_comes_in_the_other_order() -> None:
    # Where this fails, PyTorch has mended it, and the routes can go.
    images = channels_last(4, CHANNELS, 7, 9)
    assert not gradients(nn.AdaptiveAvgPool2d(1), images, bf16=True)[1].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "layer",
    [
        nn.AdaptiveAvgPool2d(2),
        nn.AdaptiveAvgPool2d((1, 2)),
        nn.AdaptiveMaxPool2d(1),
        SEModule(CHANNELS, add_maxpool=True),
        EffectiveSEModule(CHANNELS, add_maxpool=True),
    ],
)
def test_other_poolings_stay_the_librarys(layer: nn.Module) -> None:
    assert route_pooling(nn.Sequential(layer)) == []


@pytest.mark.parametrize("is_used", [(True, False), (False, True), (True, True)])
def test_a_mean_of_which_one_part_is_used_has_the_gradient_of_that_part(is_used: tuple[bool, bool]) -> None:
    images = channels_last(2, 3, 4, 5).double().requires_grad_()
    same, mean = with_mean(images)
    parts = [part.square().sum() for part, use in zip((same, mean), is_used, strict=True) if use]
    sum(parts).backward()  # type: ignore[union-attr]
    plain = images.detach().clone().requires_grad_()
    parts = [p.square().sum() for p, use in zip((plain, plain.mean((2, 3))), is_used, strict=True) if use]
    sum(parts).backward()  # type: ignore[union-attr]
    assert torch.allclose(images.grad, plain.grad, rtol=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ["no autograd", "NCHW", "one pixel"])
def test_where_the_order_does_not_matter_a_routed_layer_is_the_librarys(case: str) -> None:
    layer = SqueezeExcite(CHANNELS)
    images = {"NCHW": torch.randn(2, CHANNELS, 5, 5), "one pixel": channels_last(2, CHANNELS, 1, 1)}.get(
        case, channels_last(2, CHANNELS, 5, 5)
    )
    images.requires_grad_()
    with torch.set_grad_enabled(case != "no autograd"):
        out = routed(layer)(images)
        assert torch.equal(out, layer(images))
    assert "WithMean" not in names_of_graph(out)


def names_of_graph(out: Tensor) -> str:
    """Names of the autograd functions behind a tensor."""
    names, ahead = [], [out.grad_fn]
    while ahead:
        if node := ahead.pop():
            names.append(node.name())
            ahead += [before for before, _ in node.next_functions]
    return " ".join(names)


@pytest.mark.parametrize("name", ["test_efficientnet", "mobilenetv3_small_050", "test_resnet", "seresnet18"])
def test_no_gradient_of_a_channels_last_network_changes_its_order(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=2, in_chans=1).to(memory_format=torch.channels_last)
    names = list(model.state_dict())
    assert use_fast_gradients(model, ("depthwise", "pooling"))
    assert list(model.state_dict()) == names
    wrong: list[str] = []

    def look(layer: str, out: Tensor) -> None:
        def check(gradient: Tensor) -> None:
            if not gradient.is_contiguous(memory_format=torch.channels_last):
                wrong.append(layer)

        if isinstance(out, Tensor) and out.ndim == 4 and out.requires_grad:
            out.register_hook(check)  # type: ignore[no-untyped-call]

    for layer, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_hook(lambda _, __, out, layer=layer: look(layer, out))
    with torch.autocast("cpu", torch.bfloat16):
        model(channels_last(2, 1, 96, 96)).sum().backward()
    assert wrong == []
