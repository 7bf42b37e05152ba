"""Layers in the order in which they run, counted as Keras counts them, and groups that cover every parameter."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import timm
import timm.layers
import torch
from torch import Tensor, nn

from pneumolit.model.freeze import head_parameter_names
from pneumolit.model.layers import (
    Layer,
    coarse_groups,
    covering_paths,
    head_distances,
    is_norm,
    timm_groups,
    trace_layers,
)

SIZES = {
    "vit_tiny_patch16_224": 224,
    "swin_tiny_patch4_window7_224": 224,
    "inception_v3": 96,
    "test_vit": 160,
    "beit_base_patch16_224": 224,
}
GROUPED = (
    "resnet18", "densenet121", "vgg11_bn", "mobilenetv3_small_050", "regnety_002", "convnext_atto",
    "efficientnet_lite0", "resnetv2_50", "test_vit", "rdnet_tiny", "swin_tiny_patch4_window7_224",
)  # fmt: skip


@functools.cache
def build(name: str) -> nn.Module:
    with torch.device("meta"):  # no test here reads a value, and shapes are enough to run the layers
        made: nn.Module = timm.create_model(name, num_classes=3, in_chans=1)
    return made


def trace(name: str) -> list[Layer]:
    model, size = build(name), SIZES.get(name, 64)
    return trace_layers(model, (1, size, size), head_parameter_names(model))


class Body(nn.Module):
    """A timm model as far as the tracer looks: subclasses say what `forward_features` does."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 3)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward_head(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def trace_body(model: Body) -> list[tuple[str, str]]:
    layers = trace_layers(model, (2, 4, 4), head_parameter_names(model))
    return [(layer.name, layer.kind) for layer in layers]


# Keras counts, of `len(model.layers)` without the top: less the input, and the padding layers, which timm has none of.
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet50", 175 - 1 - 2),
        ("densenet121", 427 - 1 - 2),
        ("densenet201", 707 - 1 - 2),
        ("inception_v3", 311 - 1 - 9 - 2),  # nine average and two max poolings are plain functions in timm
    ],
)
def test_number_of_layers_is_that_of_keras(name: str, count: int) -> None:
    assert len(trace(name)) == count


def test_kinds_of_layers_of_a_resnet_block_come_in_the_order_of_execution() -> None:
    assert [layer.kind for layer in trace("resnet50")[-10:]] == [
        "Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "add", "ReLU",
    ]  # fmt: skip


def test_norm_counts_before_the_activation_that_it_holds() -> None:
    names = [layer.name for layer in trace("densenet121")]
    assert names[-2:] == ["features.norm5", "features.norm5.act"]


def test_gain_of_a_block_counts_behind_the_layers_of_the_block() -> None:
    layers = [layer for layer in trace("convnext_atto") if layer.name.startswith("stages.3.blocks.1")]
    assert layers[-1] == Layer("stages.3.blocks.1", "ConvNeXtBlock", ("stages.3.blocks.1.gamma",))


def test_gain_times_features_is_no_layer_of_its_own() -> None:
    assert "mul" not in [layer.kind for layer in trace("convnext_atto")]
    assert [layer.kind for layer in trace("regnety_002")].count("mul") == 13  # squeeze and excitation: one per block


def test_pooling_and_dropout_behind_the_features_do_not_count_but_weights_there_do() -> None:
    assert trace("resnet18")[-1].name == "layer4.1.act2"
    assert [layer.name for layer in trace("vgg11_bn")[-2:]] == ["pre_logits.fc1", "pre_logits.fc2"]
    assert trace("mobilenetv3_small_050")[-1].name == "conv_head"
    assert trace("convnext_atto")[-1].name == "head.norm"


def test_a_module_called_twice_counts_twice_and_an_identity_never() -> None:
    class Twice(Body):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.nothing = nn.Conv2d(2, 2, 1), nn.Identity()

        def forward_features(self, x: Tensor) -> Tensor:
            out: Tensor = self.conv(self.nothing(self.conv(x)))
            return out

    assert trace_body(Twice()) == [("conv", "Conv2d"), ("conv", "Conv2d")]


def test_every_way_to_join_two_tensors_counts_once_and_constants_and_weights_do_not() -> None:
    class Joins(Body):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1, 2, 1, 1))

        def forward_features(self, x: Tensor) -> Tensor:
            y = x + x
            y += x
            y = torch.add(y, x) + 1.0
            y = y * x
            y *= self.gain.reshape(1, 2, 1, 1)
            y = torch.multiply(torch.cat([y], 1), x)
            y = torch.concat([y, x], dim=1)[:, :2]
            return torch.concatenate((y, torch.cat(tensors=[y, x], dim=1)), 1)[:, :2]

    assert [kind for _, kind in trace_body(Joins())] == [
        "add", "add", "add", "mul", "multiply", "concat", "cat", "concatenate",
    ]  # fmt: skip


def test_sums_inside_a_layer_do_not_count() -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + x

    class Outer(Body):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward_features(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner(x)
            return out

    assert trace_body(Outer()) == [("inner", "Inner")]


def test_weights_of_a_module_that_is_only_read_belong_to_the_module_around_it() -> None:
    layers = {layer.name: layer.parameters for layer in trace("beit_base_patch16_224")}
    assert "blocks.3.attn.qkv" not in layers
    assert "blocks.3.attn.qkv.weight" in layers["blocks.3.attn"]


def test_class_token_and_positions_are_in_no_layer() -> None:
    held = {name for layer in trace("vit_tiny_patch16_224") for name in layer.parameters}
    names = {name for name, _ in build("vit_tiny_patch16_224").named_parameters()}
    assert names - held == {"cls_token", "pos_embed", "head.weight", "head.bias"}


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_every_parameter_but_those_of_the_head_is_in_one_layer(name: str) -> None:
    held = [parameter for layer in trace(name) for parameter in layer.parameters]
    names = [n for n, _ in build(name).named_parameters()]
    assert sorted([*held, *head_parameter_names(build(name))]) == sorted(names)


def test_tracing_leaves_modes_buffers_hooks_and_gradients_as_they_were() -> None:
    model: Any = timm.create_model("test_resnet", num_classes=3, in_chans=1)
    model.train()
    model.layer2.eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    trace_layers(model, (1, 32, 32), head_parameter_names(model))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert model(torch.zeros(2, 1, 32, 32)).requires_grad


def test_a_failing_forward_pass_leaves_no_hooks_and_no_mode_behind() -> None:
    model: Any = timm.create_model("test_resnet", num_classes=3, in_chans=1).train()
    with pytest.raises(RuntimeError, match="channels"):
        trace_layers(model, (3, 32, 32), head_parameter_names(model))
    assert model.layer1.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", GROUPED)
def test_coarse_groups_and_head_hold_every_parameter_once(name: str) -> None:
    model = build(name)
    head = head_parameter_names(model)
    grouped = [parameter for group in coarse_groups(model, head) for parameter in group]
    assert sorted([*grouped, *head]) == sorted(n for n, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("resnet18", [["layer3"], ["layer4"]]),
        ("densenet121", [["features.denseblock3", "features.transition3"], ["features.denseblock4", "features.norm5"]]),
        ("resnetv2_50", [["stages.2"], ["stages.3", "norm"]]),
        ("convnext_atto", [["stages.2"], ["stages.3", "head.norm"]]),
        ("swin_tiny_patch4_window7_224", [["layers.2"], ["layers.3", "norm"]]),
        ("test_vit", [["blocks.4"], ["blocks.5", "norm"]]),
        ("vgg11_bn", [["features.25", "features.26"], ["pre_logits"]]),
        ("mobilenetv3_small_050", [["blocks.5"], ["conv_head"]]),
    ],
)
def test_a_last_norm_joins_the_block_below_it_and_other_leftovers_stand_alone(name: str, last: list[list[str]]) -> None:
    model = build(name)
    names = [n for n, _ in model.named_parameters()]
    groups = coarse_groups(model, head_parameter_names(model))
    assert [covering_paths(group, names) for group in groups[-2:]] == last


def test_model_without_groups_falls_back_to_its_children_and_what_hangs_on_the_root_comes_first() -> None:
    class Plain(Body):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body = nn.Conv2d(2, 2, 1), nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1))
            self.token = nn.Parameter(torch.zeros(1))

    groups = timm_groups(Plain(), is_coarse=True)
    assert [group[0] for group in groups] == ["token", "head.weight", "stem.weight", "body.0.weight", "body.1.weight"]
    assert [len(group) for group in groups[3:]] == [2, 2]


def test_grain_that_a_family_does_not_offer_falls_back_to_its_children() -> None:
    # Two layers of the stem, seven stages, head.
    assert len(timm_groups(build("rdnet_tiny"), is_coarse=True)) == 10


def test_table_that_acts_in_every_block_is_no_last_group() -> None:
    model = build("vit_small_patch16_rope_mixed_224")
    groups = coarse_groups(model, head_parameter_names(model))
    assert "rope.freqs" in groups[0]
    assert any(name.startswith("blocks.11.") for name in groups[-1])


@pytest.mark.parametrize("name", GROUPED)
def test_head_is_at_distance_0_and_all_else_at_least_1(name: str) -> None:
    model = build(name)
    head = head_parameter_names(model)
    distances = head_distances(model, head)
    assert distances.keys() == {n for n, _ in model.named_parameters()}
    assert {n for n, distance in distances.items() if distance == 0} == head


def test_distance_grows_by_one_per_fine_group() -> None:
    distances = head_distances(build("resnet18"), {"fc.weight", "fc.bias"})
    blocks = [f"layer{stage}.{block}.conv1.weight" for stage in (4, 3, 2, 1) for block in (1, 0)]
    assert [distances[name] for name in [*blocks, "conv1.weight"]] == list(range(1, 10))


def test_leftovers_beside_the_head_are_one_step_away_from_it() -> None:
    distances = head_distances(build("vgg11_bn"), {"head.fc.weight", "head.fc.bias"})
    assert distances["pre_logits.fc1.weight"] == distances["pre_logits.fc2.weight"] == 1


def test_covering_paths_are_the_largest_modules_that_hold_nothing_else() -> None:
    names = ["stem.weight", "a.0.w", "a.0.b", "a.1.w", "b.norm.w", "b.fc.w"]
    assert covering_paths(["a.0.w", "a.0.b", "a.1.w"], names) == ["a"]
    assert covering_paths(["a.0.w", "a.0.b", "b.norm.w"], names) == ["a.0", "b.norm"]
    assert covering_paths(["a.0.w"], names) == ["a.0.w"]
    assert covering_paths(["token", "a.1.w"], ["token", *names]) == ["token", "a.1"]


def test_norm_classes_without_a_common_base_are_known() -> None:
    for name in ("BatchNormAct2d", "EvoNorm2dS0", "FilterResponseNormAct2d", "GroupNormAct", "LayerNorm2d", "RmsNorm"):
        kind = getattr(timm.layers, name)
        assert is_norm(kind(32, 1) if name == "GroupNormAct" else kind(32)), name
    assert not is_norm(nn.Conv2d(1, 1, 1))
