"""Heads of our own on any body, and pooling by name: no parameter idles, and timm's tools still work on them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models import group_modules, group_parameters
from torch import Tensor, nn

from pneumolit.model.backbone import build_backbone, find_backbone
from pneumolit.model.freeze import head_parameter_names
from pneumolit.model.heads import HeadedBackbone

FAMILIES = {
    "test_resnet": 32, "test_vit": 32, "test_convnext": 64, "test_efficientnet": 32, "mobilenetv3_small_050": 32,
    "dcnn": 32, "mlp": 32, "logistic": 16,
    "poolformerv2_s12": 32,  # timm gives it no group matcher
}  # fmt: skip
HEAVY = {
    "densenet201": 32, "resnet18": 32, "resnet50": 32, "resnetv2_50": 32, "vgg16": 32, "vgg16_bn": 32,
    "mobilenetv3_large_100": 32, "regnety_002": 32, "convnext_tiny": 32, "vit_tiny_patch16_224": 32,
    "swin_tiny_patch4_window7_224": 64, "vit_tiny_r_s16_p8_224": 64, "deit_tiny_distilled_patch16_224": 32,
    "levit_128s": 64, "coatnet_0_rw_224": 64,
}  # fmt: skip
ALL = [*FAMILIES.items(), *(pytest.param(*item, marks=pytest.mark.slow, id=item[0]) for item in HEAVY.items())]
OWN_HEADS: dict[str, dict[str, Any]] = {"mlp": {"head": "mlp", "hidden": 8}, "flatten": {"pool": "flatten"}}


def build(name: str, image_size: int, **changes: Any) -> Any:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"num_classes": 3, "in_chans": 1, "drop_rate": 0.0, "pretrained": False, **changes}
    return build_backbone(find_backbone(name), image_size=image_size, **arguments)[0]


def images(image_size: int, count: int = 2) -> Tensor:
    return torch.rand(count, 1, image_size, image_size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("choice", OWN_HEADS)
@pytest.mark.parametrize(("name", "image_size"), ALL)
def test_every_parameter_of_a_model_with_a_head_of_ours_receives_a_gradient(
    name: str, image_size: int, choice: str
) -> None:
    model = build(name, image_size, **OWN_HEADS[choice])
    logits = model(images(image_size))
    assert logits.shape == (2, 3)
    logits.logsumexp(1).sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("choice", OWN_HEADS)
@pytest.mark.parametrize(("name", "image_size"), ALL)
def test_groups_by_depth_cover_a_headed_model_once_and_the_head_comes_last(
    name: str, image_size: int, choice: str
) -> None:
    model = build(name, image_size, **OWN_HEADS[choice])
    for coarse in (True, False):
        groups = group_parameters(model, model.group_matcher(coarse=coarse))
        names = [name for group in groups.values() for name in group]
        assert sorted(names) == sorted(name for name, _ in model.named_parameters())
        assert head_parameter_names(model) <= set(groups[max(groups)])
        assert group_modules(model, model.group_matcher(coarse=coarse))


@pytest.mark.parametrize(("name", "image_size"), [f for f in FAMILIES.items() if f[0] != "poolformerv2_s12"])
def test_groups_of_the_body_are_those_of_the_plain_model(name: str, image_size: int) -> None:
    plain = build(name, image_size)
    headed = build(name, image_size, head="mlp")
    of_plain = group_parameters(plain, plain.group_matcher(coarse=True), reverse=True)
    of_headed = group_parameters(headed, headed.group_matcher(coarse=True), reverse=True)
    body = {n: depth for n, depth in of_plain.items() if n not in head_parameter_names(plain)}
    assert {n.removeprefix("body."): depth for n, depth in of_headed.items() if n.startswith("body.")} == body
    # What a model has behind its last block shares the head's group, as in timm.
    of_heads = {of_headed[n] for n in head_parameter_names(headed)}
    assert of_heads == {of_plain[n] for n in head_parameter_names(plain)}


@pytest.mark.parametrize(("name", "image_size"), FAMILIES.items())
def test_mlp_head_sees_the_pooled_features_of_the_plain_model(name: str, image_size: int) -> None:
    plain, headed = build(name, image_size).eval(), build(name, image_size, head="mlp", hidden=5).eval()
    own = plain.state_dict()
    headed.body.load_state_dict({n: own[n] for n in headed.body.state_dict()})
    x = images(image_size)
    pooled = headed.forward_head(headed.forward_features(x), pre_logits=True)
    torch.testing.assert_close(plain.get_classifier()(pooled), plain(x))
    torch.testing.assert_close(headed.get_classifier()(pooled), headed(x))
    hidden, _, dropout, last = headed.head
    assert (hidden.out_features, dropout.p, last.out_features) == (5, 0.0, 3)


@pytest.mark.parametrize("pool", ["default", "flatten"])
def test_mlp_head_is_linear_relu_dropout_linear_and_no_dropout_stands_in_front(pool: str) -> None:
    model = build("test_resnet", 32, head="mlp", hidden=7, drop_rate=0.4, pool=pool)
    assert [type(m).__name__ for m in model.head] == ["Linear", "ReLU", "Dropout", "Linear"]
    assert model.head[2].p == 0.4
    assert model.num_classes == 3 and model.head_hidden_size == model.head[0].in_features
    assert [m.p for m in model.body.modules() if isinstance(m, nn.Dropout) and m.p] == []
    assert getattr(model.body, "drop_rate", 0.0) == 0.0


def test_hidden_layer_keeps_its_variance_and_only_the_last_layer_starts_near_zero() -> None:
    hidden, _, _, last = build("test_resnet", 64, head="mlp", hidden=64, pool="flatten").head
    assert hidden.weight.std().item() == pytest.approx((2 / hidden.in_features) ** 0.5, rel=0.05)
    assert last.weight.std().item() == pytest.approx(0.01, rel=0.3)
    assert not last.bias.any()


@pytest.mark.parametrize(("name", "image_size"), [("test_resnet", 64), ("test_vit", 32), ("test_convnext", 64)])
def test_flattened_features_are_the_last_map_in_its_own_order(name: str, image_size: int) -> None:
    model = build(name, image_size, pool="flatten", drop_rate=0.3).eval()
    assert type(model) is HeadedBackbone
    x = images(image_size)
    features = model.body.forward_features(x)
    assert features.ndim in (3, 4) and features[0].numel() == model.num_features
    dropout, last = model.head.children()
    assert dropout.p == 0.3
    torch.testing.assert_close(last(features.reshape(2, -1)), model(x))


def test_layers_behind_the_map_go_when_it_is_flattened() -> None:
    # mobilenetv3 has a convolution and an activation behind its pooling; VGG has 119 million parameters there.
    plain, flat = build("mobilenetv3_small_050", 32), build("mobilenetv3_small_050", 32, pool="flatten")
    names = {name for name, _ in plain.named_parameters()}
    assert any(name.startswith("conv_head.") for name in names)
    assert not any("conv_head" in name for name, _ in flat.named_parameters())


@pytest.mark.slow
def test_flattened_vgg_loses_its_two_large_layers() -> None:
    flat = build("vgg16", 32, pool="flatten")
    assert sum(p.numel() for p in flat.parameters()) == 14_714_688 - 2 * 64 * 9 + 3 * (512 + 1)


def test_norms_and_buffers_stay_untouched_by_the_look_at_a_model() -> None:
    model = build("test_resnet", 32, pool="flatten", head="mlp")
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(int(m.num_batches_tracked or 0) == 0 for m in norms)
    assert all(p.grad is None for p in model.parameters())
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize(
    ("name", "image_size"), [("test_resnet", 64), ("test_convnext", 64), ("test_efficientnet", 64)]
)
@pytest.mark.parametrize("pool", ["avg", "max"])
def test_pooling_by_name_is_the_mean_or_the_maximum_over_the_map(name: str, image_size: int, pool: str) -> None:
    model = build(name, image_size, pool=pool).eval()
    other = build(name, image_size).eval()
    assert set(model.state_dict()) == set(other.state_dict())  # still timm's own model, names unchanged
    features = model.forward_features(images(image_size))
    pooled = features.mean((2, 3)) if pool == "avg" else features.amax((2, 3))
    if name == "test_convnext":  # a norm follows the pooling
        pooled = model.head.norm(pooled[:, :, None, None]).flatten(1)
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), pooled)


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050"])
def test_mlp_head_sees_the_pooling_that_was_chosen(name: str) -> None:
    of_mean, of_max = (build(name, 64, head="mlp", pool=pool).eval() for pool in ("avg", "max"))
    features = of_mean.forward_features(images(64))
    assert features.shape[2:] == (2, 2)
    found = of_max.forward_head(features, pre_logits=True)
    assert not torch.equal(found, of_mean.forward_head(features, pre_logits=True))
    if name == "test_resnet":
        assert torch.equal(found, features.amax((2, 3)))


def test_pooled_tokens_of_a_vision_transformer_keep_the_names_of_its_weights() -> None:
    plain, pooled = build("test_vit", 32), build("test_vit", 32, pool="avg").eval()
    assert set(pooled.state_dict()) == set(plain.state_dict())
    features = pooled.forward_features(images(32))
    torch.testing.assert_close(pooled.forward_head(features, pre_logits=True), features[:, 1:].mean(1))


def test_choosing_a_pooling_changes_no_weight_of_the_start() -> None:
    plain, pooled = build("test_resnet", 64).state_dict(), build("test_resnet", 64, pool="max").state_dict()
    assert all(torch.equal(pooled[name], value) for name, value in plain.items())


@pytest.mark.parametrize(
    ("name", "image_size"),
    [("logistic", 16), ("dcnn", 32), ("deit_tiny_distilled_patch16_224", 32)],
)
def test_pooling_that_a_model_cannot_change_is_refused_with_the_key_named(name: str, image_size: int) -> None:
    with pytest.raises(ValueError, match=rf"backbone={name}\S* \w+ pools in its own way and takes no model\.pool=max"):
        build(name, image_size, pool="max")


def test_model_that_knows_the_mean_alone_takes_it_and_refuses_the_maximum() -> None:
    pooled = build("convit_tiny", 32, pool="avg").eval()
    features = pooled.forward_features(images(32))
    torch.testing.assert_close(pooled.forward_head(features, pre_logits=True), features[:, 1:].mean(1))
    with pytest.raises(ValueError, match=r"takes no model\.pool=max"):
        build("convit_tiny", 32, pool="max")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "deep"}, r"model\.head must be one of linear, mlp, got 'deep'"),
        ({"pool": "mean"}, r"model\.pool must be one of default, avg, max, flatten, got 'mean'"),
        ({"head": "mlp", "hidden": 0}, r"model\.hidden must be at least 1, got 0"),
    ],
)
def test_unknown_head_and_pooling_are_refused_with_the_known_ones(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("test_resnet", 32, **changes)


@pytest.mark.slow
def test_model_that_ends_in_several_maps_cannot_be_flattened_and_says_so() -> None:
    with pytest.raises(ValueError, match=r"coat_tiny\S* CoaT ends in several maps.*use model\.pool=default"):
        build("coat_tiny", 64, pool="flatten")
