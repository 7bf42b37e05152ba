"""Backbones: any timm name, nearest names for wrong ones, a calm head."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pneumolit.model.backbone import build_backbone, find_backbone, input_statistics


def build(name: str, **changes: Any) -> nn.Module:
    arguments: dict[str, Any] = {
        "num_classes": 3,
        "in_chans": 1,
        "image_size": 64,
        "drop_rate": 0.0,
        "pretrained": False,
    }
    return build_backbone(find_backbone(name), **{**arguments, **changes})[0]


def test_unknown_name_offers_the_nearest_ones() -> None:
    with pytest.raises(ValueError, match=r"backbone=desnet201 is no model that timm knows; did you mean .*densenet201"):
        find_backbone("desnet201")


def test_unknown_tag_names_the_tags_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"resnet18 has no weights tagged 'a7_in1k'.*a1_in1k"):
        find_backbone("resnet18.a7_in1k")


@pytest.mark.parametrize("name", ["hf-hub:someone/model", "local-dir:/tmp/x", "someone/model"])
def test_addresses_of_foreign_models_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="looks like an address"):
        find_backbone(name)


def test_bare_name_gets_the_tag_of_the_default_weights() -> None:
    assert find_backbone("tf_efficientnet_lite0").name == "tf_efficientnet_lite0.in1k"
    assert find_backbone("resnet18").name == "resnet18.a1_in1k"
    assert find_backbone("resnet18.tv_in1k").name == "resnet18.tv_in1k"


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "logistic", "two_layer_cnn"])
@pytest.mark.parametrize("in_chans", [1, 3])
def test_head_starts_with_logits_near_zero(name: str, in_chans: int) -> None:
    torch.manual_seed(0)
    model = build(name, in_chans=in_chans).eval()
    logits = model(torch.randn(4, in_chans, 64, 64))
    assert logits.shape == (4, 3)
    # timm's own EfficientNet head starts near 5; log(3) = 1.1 is the loss of knowing nothing.
    loss = nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0]))
    assert loss.item() == pytest.approx(1.1, abs=0.6)


def test_vision_transformer_is_built_for_the_image_size_asked_for() -> None:
    assert build("test_vit", image_size=48)(torch.zeros(1, 1, 48, 48)).shape == (1, 3)


@pytest.mark.parametrize(("name", "image_size"), [("test_vit", 40), ("inception_v4", 32), ("test_maxvit", 33)])
def test_size_that_a_backbone_cannot_take_is_refused_before_training_with_the_key_named(
    name: str, image_size: int
) -> None:
    # timm builds these three without a word; they fail on the first image, with a run folder already there.
    with pytest.raises(ValueError, match=rf"backbone={name}\S* cannot be built for model\.image_size={image_size}"):
        build(name, image_size=image_size)


def test_fresh_backbone_is_in_training_mode_throughout() -> None:
    assert all(module.training for module in build("test_resnet").modules())


def test_statistics_follow_the_weights_or_the_choice() -> None:
    lite, resnet = find_backbone("tf_efficientnet_lite0"), find_backbone("resnet18")
    assert input_statistics(lite, "weights") == (0.5, 0.5)
    assert input_statistics(lite, "unit") == (0.0, 1.0)
    imagenet = pytest.approx(((0.485 + 0.456 + 0.406) / 3, (0.229 + 0.224 + 0.225) / 3))
    assert input_statistics(lite, "imagenet") == imagenet
    assert input_statistics(resnet, "weights") == imagenet
    with pytest.raises(ValueError, match=r"data\.normalize must be one of weights, unit, imagenet, got 'z'"):
        input_statistics(lite, "z")
