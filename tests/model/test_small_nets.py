"""The small nets of the write-ups are timm models like any other, of the sizes that the write-ups name."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.models import group_parameters
from torch import nn

from pneumolit.model.backbone import find_backbone
from pneumolit.model.freeze import head_parameter_names
from pneumolit.model.small_nets import SmallNet, default_cfgs, register_small_nets

NETS = tuple(default_cfgs)


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    register_small_nets()
    register_small_nets()  # a second call must not warn or register twice


def build(name: str, **changes: Any) -> Any:
    return timm.create_model(name, **{"num_classes": 3, "in_chans": 1, "img_size": 32, **changes})


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_logistic_is_one_linear_layer_on_the_pixels() -> None:
    model = build("logistic", num_classes=2, img_size=24)
    images = torch.randn(5, 1, 24, 24)
    state = model.state_dict()
    expected = images.flatten(1) @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(model(images), expected)
    assert count(model) == 2 * (24 * 24 + 1)


def test_two_layer_cnn_has_two_convolutions_and_no_batch_norm() -> None:
    model = build("two_layer_cnn", img_size=30)
    assert model(torch.randn(2, 1, 30, 30)).shape == (2, 3)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size) for c in convolutions] == [(32, (3, 3)), (64, (3, 3))]
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def test_mlp_has_four_linear_layers_with_relu_between_them() -> None:
    model = build("mlp")
    assert [m.out_features for m in model.modules() if isinstance(m, nn.Linear)] == [512, 128, 32, 3]
    weights = [p for name, p in model.named_parameters() if name.endswith("weight")]
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    x = images = torch.randn(4, 1, 32, 32)
    x = x.flatten(1)
    for weight, bias in list(zip(weights, biases, strict=True))[:-1]:
        x = (x @ weight.T + bias).clamp(min=0)
    torch.testing.assert_close(model(images), x @ weights[-1].T + biases[-1])


def test_norms_of_the_one_net_are_torch_s_and_of_the_other_keras_s() -> None:
    for name, momentum, eps in (("baseline_cnn_bn", 0.1, 1e-5), ("baseline_cnn_keras_bn", 0.01, 1e-3)):
        norms = [m for m in build(name).modules() if isinstance(m, nn.BatchNorm2d)]
        assert [(norm.momentum, norm.eps) for norm in norms] == [(momentum, eps)] * 2


def test_baseline_cnn_has_exactly_the_parameters_of_the_write_up() -> None:
    model = build("baseline_cnn", in_chans=3, img_size=128)
    assert count(model) == 1_848_547
    assert model.num_features == 28_800
    assert model.forward_features(torch.zeros(1, 3, 128, 128)).shape == (1, 32, 30, 30)
    # Two gains and two biases per channel of the two convolutions.
    assert count(build("baseline_cnn_bn", in_chans=3, img_size=128)) == 1_848_547 + 2 * (16 + 32)


def test_batch_norm_stands_between_convolution_and_relu() -> None:
    kinds = [type(m).__name__ for m in build("baseline_cnn_bn").features[0]]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]


def test_dcnn_halves_the_map_four_times_and_ends_in_a_dense_layer_of_256() -> None:
    model = build("dcnn", img_size=48)
    assert model.forward_features(torch.zeros(1, 1, 48, 48)).shape == (1, 256, 3, 3)
    assert [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)] == [32, 64, 128, 256]
    assert model.head_hidden_size == 256


@pytest.mark.parametrize("name", NETS)
def test_features_of_a_small_net_without_classes_have_the_width_it_announces(name: str) -> None:
    model = build(name, num_classes=0, in_chans=3)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, model.head_hidden_size)
    assert model.forward_features(torch.randn(2, 3, 32, 32)).flatten(1).shape[1] == model.num_features
    model.reset_classifier(4)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 4)
    assert head_parameter_names(model) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("name", NETS)
def test_features_head_and_last_layer_compose_to_the_whole_net(name: str) -> None:
    model = build(name).eval()
    images = torch.randn(2, 1, 32, 32)
    features = model.forward_features(images)
    torch.testing.assert_close(model.forward_head(features), model(images))
    torch.testing.assert_close(model.head(model.forward_head(features, pre_logits=True)), model(images))


@pytest.mark.parametrize("name", NETS)
def test_groups_of_a_small_net_cover_every_parameter_once_in_depth_order(name: str) -> None:
    model = build(name)
    groups = group_parameters(model, model.group_matcher(coarse=True))
    names = [name for depth in sorted(groups) for name in groups[depth]]
    assert names == [name for name, _ in model.named_parameters()]
    assert set(groups[max(groups)]) == {"head.weight", "head.bias"}
    expected = {"logistic": 1, "mlp": 4, "two_layer_cnn": 3, "dcnn": 6}
    assert len(groups) == expected.get(name, 4)


@pytest.mark.parametrize("name", NETS)
def test_dropout_of_a_small_net_acts_before_its_last_layer_and_in_training_alone(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, drop_rate=0.5)
    assert isinstance(model, SmallNet)
    images = torch.rand(4, 1, 32, 32)
    with torch.no_grad():
        features = model.forward_features(images)
        full = model.hidden(features.flatten(1))
        kept = model.forward_head(features, pre_logits=True)
        is_dropped = (kept == 0) & (full != 0)
        assert 0.2 < is_dropped.sum().item() / (full != 0).sum().item() < 0.8
        torch.testing.assert_close(kept[~is_dropped], 2 * full[~is_dropped])
        model.eval()
        assert torch.equal(model(images), model(images))


@pytest.mark.parametrize("name", NETS)
def test_backbone_list_knows_that_a_small_net_belongs_to_one_image_size_and_has_no_weights(name: str) -> None:
    spec = find_backbone(name)
    assert spec.name == name
    assert spec.is_fixed_size
    assert not spec.has_weights


def test_pooling_of_a_small_net_is_refused() -> None:
    with pytest.raises(ValueError, match="take no pooling"):
        build("dcnn").reset_classifier(3, "avg")


def test_nets_of_the_keras_write_ups_start_as_keras_starts_them() -> None:
    torch.manual_seed(0)
    layer = build("baseline_cnn", img_size=64).hidden[0]
    bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
    assert layer.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert not layer.bias.any()
