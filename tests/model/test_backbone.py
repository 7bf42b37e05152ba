"""Backbones: any timm name, nearest names for wrong ones, a calm head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pneumolit.model.backbone import build_backbone, find_backbone, input_statistics, transfer_weights


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
    with pytest.raises(ValueError, match=r"resnet18 has no weights tagged ''.*a1_in1k"):
        find_backbone("resnet18.")


def test_every_name_that_timm_has_renamed_is_answered_with_the_new_one() -> None:
    old = timm.models.get_deprecated_models()
    assert len(old) > 100
    for name, now in old.items():
        with pytest.raises(ValueError, match=rf"backbone={name} is an old name of timm's; it is {now} now"):
            find_backbone(name)


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


def saved_at(name: str, image_size: int, folder: Path) -> tuple[dict[str, Tensor], Path]:
    """State and weights file of a random three-channel, thousand-class model, as its makers would publish it."""
    torch.manual_seed(1)
    state = build(name, image_size=image_size, in_chans=3, num_classes=1000).state_dict()
    tables = [k for k, v in state.items() if ".pos" in f".{k}" and "post" not in k and v.is_floating_point()]
    state |= {k: torch.randn_like(state[k]) * 0.02 for k in tables}  # some start at zero
    save_file(state, folder / "native.safetensors")
    return state, folder / "native.safetensors"


def of_another_shape(state: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    assert set(state) == set(other)
    return {name for name, value in state.items() if value.shape != other[name].shape}


@pytest.mark.parametrize("name", ["test_vit", pytest.param("vit_tiny_patch16_224", marks=pytest.mark.slow)])
def test_position_embedding_of_native_weights_is_resampled_for_the_size_asked_for(name: str, tmp_path: Path) -> None:
    native = find_backbone(name).native_size
    state, file = saved_at(name, native, tmp_path)
    model = build(name, image_size=96, in_chans=3, pretrained=True, weights=str(file)).eval()
    loaded = model.state_dict()
    assert of_another_shape(state, loaded) == {"pos_embed", "head.weight", "head.bias"}
    assert all(
        torch.equal(loaded[k], v) for k, v in state.items() if k not in {"pos_embed", "head.weight", "head.bias"}
    )
    side = native // 16
    grid = state["pos_embed"][:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    expected = nn.functional.interpolate(grid, (6, 6), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    torch.testing.assert_close(loaded["pos_embed"][:, 1:], expected)
    assert torch.equal(loaded["pos_embed"][:, :1], state["pos_embed"][:, :1])
    assert model(torch.rand(1, 3, 96, 96)).isfinite().all()


@pytest.mark.slow
def test_window_tables_of_native_weights_are_resampled_for_the_size_asked_for(tmp_path: Path) -> None:
    state, file = saved_at("swin_tiny_patch4_window7_224", 224, tmp_path)
    model = build("swin_tiny_patch4_window7_224", image_size=96, pretrained=True, weights=str(file)).eval()
    loaded = model.state_dict()
    changed = of_another_shape(state, loaded) - {"head.fc.weight", "head.fc.bias", "patch_embed.proj.weight"}
    assert changed == {
        n for n in state if "relative_position_bias_table" in n and n.startswith(("layers.2", "layers.3"))
    }
    for name, value in loaded.items():
        if name in changed:
            # No offset: the middle of the table, in the large window and in the small one.
            torch.testing.assert_close(value[len(value) // 2], state[name][len(state[name]) // 2])
        elif value.shape == state[name].shape:
            assert torch.equal(value, state[name]), name
    assert model(torch.rand(1, 1, 96, 96)).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "image_size"),
    [("cait_xxs24_224", 96), ("pit_ti_224", 96), ("crossvit_9_240", 120), ("levit_128s", 96), ("coatnet_0_rw_224", 96),
     ("vit_tiny_r_s16_p8_224", 96), ("eca_botnext26ts_256", 128), ("gcvit_xxtiny", 96)],
)  # fmt: skip
def test_native_weights_of_many_families_arrive_at_another_size(name: str, image_size: int, tmp_path: Path) -> None:
    state, file = saved_at(name, find_backbone(name).native_size, tmp_path)
    model = build(name, image_size=image_size, in_chans=3, pretrained=True, weights=str(file)).eval()
    loaded = model.state_dict()
    changed = of_another_shape(state, loaded)
    assert any("head" not in n for n in changed)
    assert all(torch.equal(loaded[k], v) for k, v in state.items() if k not in changed)
    assert model(torch.rand(1, 3, image_size, image_size)).isfinite().all()


def test_native_weights_that_mix_tokens_of_one_size_are_refused_with_the_native_size_named(tmp_path: Path) -> None:
    _, file = saved_at("gmlp_ti16_224", 224, tmp_path)
    with pytest.raises(ValueError, match=r"of another shape.*try the native one, model\.image_size=224"):
        build("gmlp_ti16_224", image_size=64, pretrained=True, weights=str(file))


def test_size_and_channels_that_a_backbone_cannot_take_are_told_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"model\.image_size=40.*native size is 160, so set model\.image_size=160"):
        build("test_vit", image_size=40)
    with pytest.raises(ValueError, match=r"csatv2\S* cannot be built.*model\.in_chans=1.*set model\.in_chans=3"):
        build("csatv2", image_size=512)


def test_backbone_that_keeps_tables_from_its_first_image_can_still_be_trained() -> None:
    # ConViT keeps its relative positions; made in inference mode they would refuse every backward pass.
    logits = build("convit_tiny", image_size=32, head="mlp")(torch.rand(2, 1, 32, 32))
    logits.sum().backward()
    assert logits.shape == (2, 3)


def test_only_the_last_layer_of_a_classifier_starts_near_zero() -> None:
    # CAFormer's classifier has a hidden layer, which passes on no gradient when it is small too.
    torch.manual_seed(0)
    model: Any = build("caformer_s18", image_size=64)
    head = model.get_classifier()
    assert head.fc2.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert head.fc1.weight.std().item() > 0.015


# Weights from one image size to another.


@pytest.mark.parametrize(
    ("name", "choice"),
    [("test_resnet", {}), ("test_resnet", {"head": "mlp"}), ("test_resnet", {"pool": "max"}), ("test_vit", {}),
     ("test_vit", {"head": "mlp", "pool": "avg"}), ("test_convnext", {"head": "mlp"}),
     pytest.param("swin_tiny_patch4_window7_224", {}, marks=pytest.mark.slow),
     pytest.param("coatnet_0_rw_224", {"head": "mlp"}, marks=pytest.mark.slow)],
)  # fmt: skip
def test_trained_weights_are_carried_to_another_size_and_only_position_tables_change(
    name: str, choice: dict[str, Any]
) -> None:
    source, target = (build(name, image_size=size, **choice) for size in (64, 96))
    for tensor in source.state_dict().values():  # as training leaves them: no two values alike, buffers too
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) * 0.1 + 0.5)
        else:
            tensor.fill_(7)
    transfer_weights(source, target)
    before, after = source.state_dict(), target.state_dict()
    tables = of_another_shape(before, after)
    assert all(any(word in name for word in ("pos_embed", "relative_position_bias_table")) for name in tables)
    assert bool(tables) == (name in {"test_vit", "swin_tiny_patch4_window7_224", "coatnet_0_rw_224"})
    assert all(torch.equal(after[k], v) for k, v in before.items() if k not in tables)
    assert all(after[k].min() > 0 for k in tables)  # not the start of the target, which is near zero
    assert target.eval()(torch.rand(2, 1, 96, 96)).shape == (2, 3)


@pytest.mark.parametrize("choice", [{}, {"head": "mlp", "pool": "flatten"}])
@pytest.mark.parametrize("name", ["test_vit", "baseline_cnn_bn"])
def test_equal_sizes_are_an_exact_copy(name: str, choice: dict[str, Any]) -> None:
    source, target = build(name, image_size=32, **choice), build(name, image_size=32, **choice)
    transfer_weights(source, target)
    assert all(torch.equal(target.state_dict()[k], v) for k, v in source.state_dict().items())
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(source.eval()(images), target.eval()(images))


@pytest.mark.parametrize(
    ("name", "choice", "tensor"),
    [("test_resnet", {"pool": "flatten"}, "head.1.weight"), ("test_resnet", {"pool": "flatten", "head": "mlp"},
     "head.0.weight"), ("logistic", {}, "head.weight"), ("mlp", {}, "features.1.weight"),
     ("baseline_cnn", {}, "hidden.0.weight")],
)  # fmt: skip
def test_layers_that_belong_to_one_size_cannot_be_carried_and_are_named(
    name: str, choice: dict[str, Any], tensor: str
) -> None:
    source, target = build(name, image_size=64, **choice), build(name, image_size=96, **choice)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(ValueError, match=rf"1 tensors depend on it \({tensor} .*Keep model\.image_size the same"):
        transfer_weights(source, target)
    assert all(torch.equal(target.state_dict()[k], v) for k, v in before.items())


def test_models_that_differ_otherwise_are_refused() -> None:
    with pytest.raises(ValueError, match=r"only between models that differ in model\.image_size alone"):
        transfer_weights(build("test_resnet"), build("test_resnet", head="mlp"))
