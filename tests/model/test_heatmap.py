"""Heat maps: the formula, the right places for every family of nets, and a model that is left as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from pneumolit.data.augment import resize_batch
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.heatmap import NoMapError, heatmaps, last_map, map_shape

SETTINGS: dict[str, Any] = {
    "backbone": "test_resnet", "classes": ["NORMAL", "BACTERIA", "VIRUS"], "positive": ["BACTERIA", "VIRUS"],
    "image_size": 128, "in_chans": 1, "drop_rate": 0.3, "mean": 0.5, "std": 0.25, "prior_log_odds": 0.4, "seed": 3,
    "loss": {"name": "cross_entropy"}, "augment": {}, "mixup_alpha": 0.0, "optim": {}, "scheduler": {},
}  # fmt: skip
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(256, size=(3, 1, 128, 128), dtype=np.uint8))


def classifier(backbone: str | nn.Module = "test_resnet", **changes: Any) -> PneumoniaClassifier:
    torch.manual_seed(1)
    settings = {**SETTINGS, **changes}
    if isinstance(backbone, nn.Module):
        return PneumoniaClassifier(settings, backbone)
    return PneumoniaClassifier({**settings, "backbone": backbone})


def small_swin() -> nn.Module:
    torch.manual_seed(1)
    swin: nn.Module = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=128, window_size=4, embed_dim=12, depths=(1, 1, 1, 1),
        num_heads=(1, 2, 2, 2), in_chans=1, num_classes=3,
    )  # fmt: skip
    return swin


def scores_of(model: PneumoniaClassifier, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        logits = model.eval()(resize_batch(images, 128)).double().numpy()
    return np.asarray(np.logaddexp(logits[:, 1], logits[:, 2]) - logits[:, 0])


def test_gradcam_is_the_share_of_every_place_in_the_logit_where_a_mean_and_a_linear_layer_follow() -> None:
    # Closed form: the logits are W mean(A) + b, so the gradient at every place is that of the two-class logit through
    # W / (h w), with the softmax over the positive classes as its weights.
    model = classifier()
    found = last_map(model, IMAGES)
    maps = found.activations.double().numpy()
    head = model.backbone.get_submodule("fc")
    weight, bias = (getattr(head, name).detach().double().numpy() for name in ("weight", "bias"))
    logits = maps.mean((2, 3)) @ weight.T + bias
    shares = np.exp(logits[:, 1:] - np.logaddexp(logits[:, 1], logits[:, 2])[:, None])
    of_maps = (shares @ weight[1:] - weight[0]) / 16  # (B, C), 4 x 4 places
    heat = np.einsum("bc,bchw->bhw", of_maps, maps)
    spread = nn.functional.interpolate(
        torch.from_numpy(np.maximum(heat, 0))[:, None], (128, 128), mode="bilinear", align_corners=False
    )[:, 0].numpy()
    assert heatmaps(model, IMAGES) == pytest.approx(spread, abs=1e-6)
    assert found.scores.numpy() == pytest.approx(scores_of(model, IMAGES), abs=1e-5)


@pytest.mark.parametrize(
    "net", ["test_resnet", "test_convnext", "test_efficientnet", "test_vit", "two_layer_cnn", "swin", "vgg", "pooled"]
)
@pytest.mark.parametrize(("row", "column"), [(0, 1), (1, 0)])
def test_a_place_of_the_map_is_the_place_in_the_image(net: str, row: int, column: int) -> None:
    # Rows for columns, channels for rows or a class token too many would show a change somewhere else.
    made: dict[str, Any] = {
        "swin": small_swin,
        "pooled": lambda: timm.create_model("test_vit", img_size=128, in_chans=1, num_classes=3, global_pool="avg"),
        "vgg": lambda: timm.create_model("test_byobnet", in_chans=1, num_classes=3),
    }
    torch.manual_seed(1)
    model = classifier(made[net]() if net in made else net)
    plain = torch.full((1, 1, 128, 128), 100, dtype=torch.uint8)
    changed = plain.clone()
    changed[:, :, 64 * row : 64 * row + 64, 64 * column : 64 * column + 64] = torch.randint(0, 256, (64, 64)).byte()
    difference = (last_map(model, changed).activations - last_map(model, plain).activations).abs().sum(1)[0]
    height, width = difference.shape
    quarters = difference.reshape(2, height // 2, 2, width // 2).sum((1, 3))
    assert divmod(int(quarters.argmax()), 2) == (row, column)


def test_tokens_are_counted_from_the_first_patch_and_not_from_the_class_token() -> None:
    model = classifier("test_vit")
    plain = torch.full((1, 1, 128, 128), 100, dtype=torch.uint8)
    changed = plain.clone()
    changed[:, :, 32:48, 80:96] = torch.randint(0, 256, (16, 16)).byte()  # the patch in row 2 and column 5 of 8 x 8
    difference = (last_map(model, changed).activations - last_map(model, plain).activations).abs().sum(1)[0]
    assert divmod(int(difference.argmax()), 8) == (2, 5)


@pytest.mark.parametrize("net", ["test_vit", "swin"])
def test_heat_of_a_transformer_is_not_black_and_not_the_same_everywhere(net: str) -> None:
    # Behind the last attention of a net with a class token the gradient at all other tokens is exactly 0.
    model = classifier(small_swin() if net == "swin" else net)
    heat = np.stack([heatmaps(model, IMAGES, side=side) for side in ("pneumonia", "normal")])
    assert (heat.max((2, 3)) > 0).all(1).any() and heat.std() > 0


def test_both_sides_together_are_all_that_the_map_says() -> None:
    model = classifier()
    found = last_map(model, IMAGES)
    signed = (found.gradients.mean((2, 3), keepdim=True) * found.activations).sum(1, keepdim=True)
    spread = [
        nn.functional.interpolate(part.relu(), (128, 128), mode="bilinear")[:, 0].numpy() for part in (signed, -signed)
    ]
    for side, expected in zip(("pneumonia", "normal"), spread, strict=True):
        assert heatmaps(model, IMAGES, side=side) == pytest.approx(expected, abs=1e-6)


def test_maps_are_of_full_float32_whatever_surrounds_the_call() -> None:
    model = classifier()
    alone = heatmaps(model, IMAGES, side="normal")
    assert alone.any()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (heatmaps(model, IMAGES, side="normal") == alone).all()


def test_the_model_is_left_as_it_was_and_may_be_frozen() -> None:
    model = classifier().train()
    model.requires_grad_(False)
    model.backbone.get_submodule("layer1").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    with torch.inference_mode():
        heatmaps(model, IMAGES)
        heatmaps(model, IMAGES, method="saliency")
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


def test_the_heat_of_an_image_does_not_depend_on_those_beside_it() -> None:
    model = classifier()
    alone = np.concatenate([heatmaps(model, IMAGES[i : i + 1]) for i in range(3)])
    assert heatmaps(model, IMAGES) == pytest.approx(alone, abs=1e-6)


def test_logistic_regression_has_no_map_and_its_saliency_is_the_size_of_its_weights() -> None:
    model = classifier("logistic", classes=["NORMAL", "PNEUMONIA"], positive=["PNEUMONIA"])
    with pytest.raises(NoMapError, match=r"backbone=logistic keeps no places.*method=saliency"):
        heatmaps(model, IMAGES)
    (weight,) = [p.detach().numpy() for p in model.parameters() if p.ndim == 2]
    expected = np.abs(weight[1] - weight[0]).reshape(128, 128) / SETTINGS["std"]
    assert heatmaps(model, IMAGES, method="saliency")[0] == pytest.approx(expected, rel=1e-4)


def test_heat_lies_over_images_of_any_size() -> None:
    model = classifier()
    assert heatmaps(model, IMAGES[:1, :, :70, :90]).shape == (1, 70, 90)
    assert map_shape(model) == (4, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "method must be one of gradcam, saliency, got 'magic'"),
        ({"side": "left"}, "side must be one of pneumonia, normal, got 'left'"),
    ],
)
def test_unknown_words_are_refused_and_the_known_ones_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heatmaps(classifier(), IMAGES, **changes)


def test_without_a_class_that_means_pneumonia_there_is_nothing_to_explain() -> None:
    with pytest.raises(ValueError, match=r"no class of .* means pneumonia"):
        heatmaps(classifier(positive=[]), IMAGES)
