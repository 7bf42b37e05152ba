"""Two halves of a model: for every family they do what the whole does, in training with dropout too."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import nn

from pneumolit.model.backbone import build_backbone, find_backbone
from pneumolit.model.cut import Cut, NoCutError, features_of, find_cut, head_logits
from pneumolit.model.freeze import FreezePlan, apply_freeze, hold_still, plan_freeze

QUICK = {"test_resnet": 32, "test_vit": 160, "test_convnext": 32, "mobilenetv3_small_050": 32, "baseline_cnn": 32}
SLOW = {
    "vgg11_bn": 32,
    "densenet121": 32,
    "resnetv2_50": 32,
    "tf_efficientnet_lite0": 32,
    "swin_tiny_patch4_window7_224": 224,
}
CASES = [
    pytest.param(n, s, id=n, marks=m) for sizes, m in ((QUICK, ()), (SLOW, pytest.mark.slow)) for n, s in sizes.items()
]
HEADS = [("linear", "default"), ("mlp", "default"), ("linear", "flatten")]


def frozen(name: str, size: int, **changes: Any) -> tuple[nn.Module, FreezePlan]:
    torch.manual_seed(0)
    arguments = {"num_classes": 3, "in_chans": 1, "image_size": size, "drop_rate": 0.4, "pretrained": False}
    model, _ = build_backbone(find_backbone(name), **{**arguments, **changes})
    plan = plan_freeze(model, {"policy": "head"}, image_shape=(1, size, size))
    apply_freeze(model, plan)
    return model, plan


@pytest.mark.parametrize(("head", "pool"), HEADS)
@pytest.mark.parametrize(("name", "size"), CASES)
def test_the_halves_do_what_the_whole_does_with_dropout_and_without(name: str, size: int, head: str, pool: str) -> None:
    model, plan = frozen(name, size, head=head, pool=pool)
    cut = find_cut(model, (1, size, size), drop_rate=0.4, plan=plan)
    images = torch.randn(3, 1, size, size)
    with torch.no_grad():
        features = features_of(model.eval(), cut, images)
        torch.testing.assert_close(head_logits(model, cut, features), model(images), rtol=1e-4, atol=1e-5)
        model.train()
        hold_still(model, plan)
        for seed in (1, 2):
            torch.manual_seed(seed)
            whole = model(images)
            torch.manual_seed(seed)
            torch.testing.assert_close(head_logits(model, cut, features), whole, rtol=1e-4, atol=1e-5)
    assert features.shape == (3, *cut.shape)


def test_looking_for_the_cut_changes_neither_the_model_nor_the_random_numbers() -> None:
    model, plan = frozen("test_resnet", 32)
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    assert find_cut(model, (1, 32, 32), drop_rate=0.4, plan=plan) == Cut("fc", (96,), 0.4)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes


def test_model_with_several_classifiers_is_refused() -> None:
    model, plan = frozen("deit_tiny_distilled_patch16_224", 224)
    with pytest.raises(NoCutError, match="2 classifiers"):
        find_cut(model, (1, 224, 224), drop_rate=0.0, plan=plan)


def test_model_that_is_random_before_its_head_in_training_is_refused() -> None:
    # The dropout on positions holds no parameter, so no frozen part takes it into eval mode.
    model = timm.create_model("test_vit", num_classes=3, in_chans=1, pos_drop_rate=0.5)
    plan = plan_freeze(model, {"policy": "head"}, image_shape=(1, 160, 160))
    with pytest.raises(NoCutError, match="random in training"):
        find_cut(model, (1, 160, 160), drop_rate=0.0, plan=plan)
    find_cut(model, (1, 160, 160), drop_rate=0.0)  # scoring does not mind
