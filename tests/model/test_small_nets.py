"""The small nets of the write-ups are timm models like any other, of the sizes that the write-ups name."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from pneumolit.model.freeze import head_parameter_names
from pneumolit.model.small_nets import Logistic, TwoLayerCNN, register_small_nets


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    register_small_nets()
    register_small_nets()  # a second call must not warn or register twice


def test_logistic_is_one_linear_layer_on_the_pixels() -> None:
    model = timm.create_model("logistic", num_classes=2, in_chans=1, img_size=24)
    assert isinstance(model, Logistic)
    images = torch.randn(5, 1, 24, 24)
    state = model.state_dict()
    expected = images.flatten(1) @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(model(images), expected)
    assert sum(p.numel() for p in model.parameters()) == 2 * (24 * 24 + 1)


def test_two_layer_cnn_has_two_convolutions_and_no_batch_norm() -> None:
    model = timm.create_model("two_layer_cnn", num_classes=3, in_chans=1, img_size=30)
    assert isinstance(model, TwoLayerCNN)
    assert model(torch.randn(2, 1, 30, 30)).shape == (2, 3)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size) for c in convolutions] == [(32, (3, 3)), (64, (3, 3))]
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


@pytest.mark.parametrize("name", ["logistic", "two_layer_cnn"])
def test_features_of_a_small_net_without_classes_have_the_width_it_announces(name: str) -> None:
    model: Any = timm.create_model(name, num_classes=0, in_chans=3, img_size=16)
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, model.num_features)
    model.reset_classifier(4)
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, 4)
    assert head_parameter_names(model) == {"head.weight", "head.bias"}
