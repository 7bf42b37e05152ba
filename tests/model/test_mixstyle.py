"""MixStyle: statistics of early maps are exchanged while training, and at no other time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from pneumolit.model.freeze import apply_freeze, hold_still, plan_freeze
from pneumolit.model.mixstyle import _ends_of_early_stages, attach_mixstyle, can_mix, mix_styles
from pneumolit.training.build import refuse_without_effect

Configure = Callable[..., dict[str, Any]]
SHAPE = (3, 64, 64)


def statistics(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    variance, mean = torch.var_mean(maps, dim=(2, 3))
    return mean, variance.sqrt()


def test_mixed_statistics_lie_on_the_line_between_an_image_and_its_partner_and_the_pattern_stays() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 5, 16, 16) * torch.tensor([1.0, 4.0])[:, None, None, None] + 3
    torch.manual_seed(3)  # which does not make each its own partner
    mixed = mix_styles(maps, 1.0)
    (mean, deviation), (mean_after, deviation_after) = statistics(maps), statistics(mixed)
    share = (mean_after - mean.flip(0)) / (mean - mean.flip(0))
    assert float((mean_after - mean).abs().max()) > 1e-3
    for image in range(2):
        torch.testing.assert_close(share[image], share[image, :1].expand(5), atol=1e-3, rtol=0)
        expected = share[image, 0] * deviation[image] + (1 - share[image, 0]) * deviation[1 - image]
        torch.testing.assert_close(deviation_after[image], expected, atol=1e-3, rtol=1e-3)
    pattern = (maps - mean[..., None, None]) / deviation[..., None, None]
    torch.testing.assert_close(
        (mixed - mean_after[..., None, None]) / deviation_after[..., None, None], pattern, atol=1e-3, rtol=1e-3
    )


def test_at_probability_0_nothing_is_mixed_and_at_a_half_every_second_image() -> None:
    torch.manual_seed(0)
    maps = torch.randn(400, 3, 4, 4) * torch.linspace(0.5, 5, 400)[:, None, None, None]
    torch.testing.assert_close(mix_styles(maps, 0.0), maps)
    changed = (mix_styles(maps, 0.5) - maps).abs().amax(dim=(1, 2, 3)) > 1e-3
    # Beta(.1, .1) leaves about a third of the chosen ones where they are, within this tolerance.
    assert 0.25 < float(changed.float().mean()) < 0.5


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("resnet18", ["layer1", "layer2"]),
        ("tf_efficientnet_lite0", ["blocks.1", "blocks.2"]),
        ("densenet121", ["features.transition1"]),  # whose first stage ends there
        ("convnext_atto", ["stages.0", "stages.1"]),
    ],
)
def test_what_is_mixed_are_the_last_maps_at_a_quarter_and_an_eighth_of_the_side(name: str, ends: list[str]) -> None:
    model = timm.create_model(name, num_classes=2)
    found = _ends_of_early_stages(model, SHAPE)
    paths = {module: path for path, module in model.named_modules()}
    assert [paths[module] for module in found] == ends
    assert model.training


def test_images_of_a_batch_meet_in_training_and_never_in_evaluation_also_in_a_copy() -> None:
    model = timm.create_model("test_resnet", num_classes=2)
    for module in model.modules():  # which would let images meet as well
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    plain = copy.deepcopy(model)
    attach_mixstyle(model, 1.0, image_shape=SHAPE)
    images = torch.rand(6, *SHAPE) * torch.linspace(0.2, 1, 6)[:, None, None, None]
    torch.manual_seed(3)
    for mixed in (model, copy.deepcopy(model)):
        assert (mixed.train()(images) - plain.train()(images)).abs().max() > 1e-3
        torch.testing.assert_close(mixed.eval()(images), plain.eval()(images), atol=0, rtol=0)
        mixed.train()
        torch.testing.assert_close(mixed(images[:1]), plain.train()(images[:1]), atol=0, rtol=0)  # nobody to meet


def test_nothing_is_mixed_while_batch_norms_alone_collect_statistics() -> None:
    model = timm.create_model("vgg11_bn", num_classes=2).eval()  # whose maps at a quarter come from a batch norm
    attach_mixstyle(model, 1.0, image_shape=SHAPE)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert any(norm._forward_hooks for norm in norms)
    plain = copy.deepcopy(model)
    for norm in plain.modules():
        norm._forward_hooks.clear()
    for one in (model, plain):
        for module in one.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train()
    images = torch.rand(4, *SHAPE)
    torch.testing.assert_close(model(images), plain(images), atol=0, rtol=0)


def test_gradients_flow_through_mixed_maps() -> None:
    model = timm.create_model("test_resnet", num_classes=2)
    attach_mixstyle(model, 1.0, image_shape=SHAPE)
    model(torch.rand(4, *SHAPE)).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize(("name", "why"), [("test_vit", "which VisionTransformer does not have")])
def test_a_backbone_without_early_maps_is_refused(name: str, why: str) -> None:
    model = timm.create_model(name, num_classes=2)
    pretrained: Any = model.pretrained_cfg
    size = int(pretrained["input_size"][1])
    with pytest.raises(ValueError, match=rf"model\.mixstyle_prob=0\.5 needs feature maps .* {why}"):
        attach_mixstyle(model, 0.5, image_shape=(3, size, size))


@pytest.mark.parametrize(
    ("settings", "mixes"),
    [({"policy": "none"}, True), ({"policy": "head"}, False), ({"policy": "groups", "last": 1}, False),
     ({"policy": "groups", "last": 3}, True)],
)  # fmt: skip
def test_only_layers_that_train_are_mixed(settings: dict[str, Any], mixes: bool) -> None:
    model = timm.create_model("resnet18", num_classes=2)
    plan = plan_freeze(model, settings, image_shape=SHAPE)
    assert can_mix(model, plan, image_shape=SHAPE) is mixes
    apply_freeze(model, plan)
    attach_mixstyle(model, 1.0, image_shape=SHAPE)
    hold_still(model.train(), plan)
    seen: list[bool] = []
    for module in _ends_of_early_stages(model, SHAPE):
        module.register_forward_hook(lambda m, *_: seen.append(m.training))
    model(torch.rand(2, *SHAPE))
    assert any(seen) is mixes


def test_a_choice_that_acts_in_no_stage_is_refused_before_any_trains_and_one_that_acts_in_some_is_not(
    tiny_config: Configure,
) -> None:
    from pneumolit.stage_plan import plan_stages

    model = timm.create_model("test_resnet", num_classes=3)

    def refuse(*choices: str) -> None:
        stages = plan_stages(tiny_config("model.in_chans=3", *choices))
        shape = (3, 64, 64)
        plans = [plan_freeze(model, stage.cfg["freeze"], image_shape=shape) for stage in stages]
        refuse_without_effect(stages, plans, model)

    refuse("model.mixstyle_prob=0.5", "stages=[{freeze: head, epochs: 1}, {freeze: none, epochs: 1}]")
    refuse("data.val_augment=true", "stages=[{augment: none, epochs: 1}, {augment: light, epochs: 1}]")
    with pytest.raises(ValueError, match=r"model\.mixstyle_prob=0\.5 has no effect because the early layers"):
        refuse("model.mixstyle_prob=0.5", "stages=[{freeze: head, epochs: 1}, {freeze: head, epochs: 1}]")
    with pytest.raises(ValueError, match=r"data\.val_augment=true has no effect because augment changes no image"):
        refuse("data.val_augment=true", "augment=none")


def test_a_run_with_mixed_styles_repeats_itself_bit_for_bit_and_differs_from_one_without(
    tiny_config: Configure, train_only: Callable[..., Any], tmp_path: Path
) -> None:
    def weights(folder: str, *choices: str) -> dict[str, torch.Tensor]:
        cfg = tiny_config("trainer.max_epochs=1", "data.stress=false", *choices)
        trained = train_only(cfg, tmp_path / folder)
        state: dict[str, torch.Tensor] = torch.load(trained.run.checkpoint("last"), weights_only=True)["state_dict"]
        return state

    first, again = (weights(name, "model.mixstyle_prob=0.5") for name in "ab")
    assert [key for key in first if not torch.equal(first[key], again[key])] == []
    assert not torch.equal(first["backbone.fc.weight"], weights("c")["backbone.fc.weight"])
