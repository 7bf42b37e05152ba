"""Policies mean what they say, wrong settings are named, and a frozen run moves the head alone."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from torch import Tensor, nn

from pneumolit.config import CONFIG_DIR
from pneumolit.model.backbone import build_backbone, find_backbone
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.freeze import POLICIES, FreezePlan, check_freeze, head_parameter_names, hold_still, plan_freeze
from pneumolit.model.layers import trace_layers


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(
        find_backbone(name), num_classes=3, in_chans=1, image_size=32, drop_rate=0.0, pretrained=False
    )[0]


@functools.cache
def outline(name: str) -> nn.Module:
    """A model with shapes and no values: enough to plan on."""
    with torch.device("meta"):
        made: nn.Module = timm.create_model(name, num_classes=3, in_chans=1)
    return made


class Stack(nn.Module):
    """Some layers and a linear head, with the methods of a timm model."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.features, self.head = nn.Sequential(*layers), nn.Linear(1, 3)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward_features(self, x: Tensor) -> Tensor:
        out: Tensor = self.features(x)
        return out

    def forward_head(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def plan(name: str, policy: str, size: int = 64, **keys: Any) -> FreezePlan:
    return plan_freeze(outline(name), {"policy": policy, **keys}, image_shape=(1, size, size))


def under(name: str, *paths: str) -> set[str]:
    """Names of a model's parameters within some modules."""
    prefixes = tuple(f"{path}." for path in paths)
    found = {n for n, _ in outline(name).named_parameters() if f"{n}.".startswith(prefixes)}
    assert found
    return found


def test_one_group_of_a_resnet_is_its_last_stage_and_the_head() -> None:
    assert set(plan("resnet50", "groups", last=1).trainable) == under("resnet50", "layer4", "fc")


def test_one_group_of_a_densenet_is_its_last_block_with_the_norm_that_closes_it() -> None:
    wanted = under("densenet121", "features.denseblock4", "features.norm5", "classifier")
    assert set(plan("densenet121", "groups", last=1).trainable) == wanted


def test_two_groups_of_a_vit_are_its_last_two_blocks_with_the_last_norm() -> None:
    model = outline("test_vit")
    trainable = set(plan_freeze(model, {"policy": "groups", "last": 2}, image_shape=(1, 160, 160)).trainable)
    assert trainable == under("test_vit", "blocks.4", "blocks.5", "norm", "head")


def test_wide_layers_of_a_vgg_are_its_last_group() -> None:
    assert set(plan("vgg16", "groups", last=1).trainable) == under("vgg16", "pre_logits", "head")
    assert set(plan("vgg16", "groups", last=2).trainable) == under("vgg16", "features.28", "pre_logits", "head")


def test_last_50_layers_of_a_resnet50_are_those_of_keras() -> None:
    # Keras, `base.layers[-50:]`: all 32 layers of conv5, the 10 of conv4_block6, and of conv4_block5 the last 8,
    # 1_relu to out. So conv1 and bn1 of that block (here layer3.4) are the last that stand still.
    later = under("resnet50", "layer4", "layer3.5", *(f"layer3.4.{n}" for n in ("conv2", "bn2", "conv3", "bn3")))
    made = plan("resnet50", "layers", last=50)
    assert set(made.trainable) == later | under("resnet50", "fc")
    assert {"layer3.4.bn1", "layer3.3.bn3"} <= set(made.still_norms)
    assert {"layer3.4.bn2", "layer3.5.bn1", "layer4.0.downsample.1"} <= set(made.moving_norms)


def test_last_layers_of_a_densenet_count_activations_and_joins_like_keras() -> None:
    # From the end: norm5 and its relu, then the joining and bn, relu, conv, bn, relu, conv of each dense layer.
    trains = under("densenet121", "features.norm5", "features.denseblock4.denselayer16", "classifier")
    assert set(plan("densenet121", "layers", last=2 + 7).trainable) == trains
    more = trains | under("densenet121", "features.denseblock4.denselayer15.conv2")
    assert set(plan("densenet121", "layers", last=2 + 7 + 1).trainable) == trains  # the join holds nothing
    assert set(plan("densenet121", "layers", last=2 + 7 + 2).trainable) == more


def test_a_parameter_trains_if_any_call_of_its_module_is_among_the_last_layers() -> None:
    first, second = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    made = plan_freeze(Stack(first, second, first), {"policy": "layers", "last": 1}, image_shape=(1, 4, 4))
    assert made.trainable == ("features.0.weight", "features.0.bias", "head.weight", "head.bias")


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenetv3_small_050", "convnext_atto"])
def test_fraction_trains_that_share_of_the_layers_with_weights_in_every_family(name: str) -> None:
    model = outline(name)
    layers = [layer for layer in trace_layers(model, (1, 64, 64), head_parameter_names(model)) if layer.parameters]
    made = plan(name, "fraction", last=0.4)
    flags = [set(layer.parameters) <= set(made.trainable) for layer in layers]
    assert flags == sorted(flags)  # first those that stand still, then those that train
    assert 0.4 <= sum(flags) / len(flags) < 0.4 + 1 / len(flags)
    assert head_parameter_names(model) <= set(made.trainable)


def test_fraction_that_is_a_whole_number_of_layers_is_not_rounded_up_by_float_error() -> None:
    assert 0.28 * 25 > 7  # in floats
    model = Stack(*(nn.Conv2d(1, 1, 1, bias=False) for _ in range(25)))
    made = plan_freeze(model, {"policy": "fraction", "last": 0.28}, image_shape=(1, 4, 4))
    assert made.trainable == (*(f"features.{i}.weight" for i in range(18, 25)), "head.weight", "head.bias")


def test_class_token_and_positions_train_only_when_everything_does() -> None:
    everything = {name for name, _ in outline("test_vit").named_parameters()}
    front = {"cls_token", "pos_embed"}
    assert not front & set(plan("test_vit", "fraction", 160, last=0.95).trainable)
    assert set(plan("test_vit", "fraction", 160, last=1.0).trainable) == everything
    assert not front & set(plan("test_vit", "layers", 160, last=74).trainable)
    assert set(plan("test_vit", "layers", 160, last=75).trainable) == everything


@pytest.mark.parametrize(
    ("policy", "last", "found"),
    [("groups", 6, "5 groups below its head"), ("layers", 173, "172 layers below its head")],
)
def test_more_than_the_model_has_is_refused_with_what_it_has(policy: str, last: int, found: str) -> None:
    plan("resnet50", policy, last=last - 1)
    with pytest.raises(ValueError, match=rf"freeze\.last={last}, but ResNet has {found}; choose fewer, or .*=none"):
        plan("resnet50", policy, last=last)


def test_model_with_nothing_below_its_head_has_no_groups() -> None:
    with pytest.raises(ValueError, match=r"freeze\.last=1, but \w+ has 0 groups below its head"):
        plan_freeze(build("logistic"), {"policy": "groups", "last": 1}, image_shape=(1, 32, 32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "half"}, r"freeze\.policy must be one of none, head, groups, layers, fraction, got 'half'"),
        ({}, r"freeze\.policy must be one of .* got None"),
        ({"policy": ["head"]}, r"freeze\.policy must be one of .* got \['head'\]"),
        ({"policy": "head", "last": 2}, r"freeze\.last does nothing: freeze\.policy=head takes no further key"),
        (
            {"policy": "groups"},
            r"freeze\.last is missing: freeze\.policy=groups takes last; .* whole number of at least",
        ),
        ({"policy": "groups", "last": 1, "lats": 2}, r"freeze\.lats does nothing: freeze\.policy=groups takes last"),
        ({"policy": "groups", "last": 0}, r"freeze\.last must be a whole number of at least 1 with .*=groups, got 0"),
        ({"policy": "groups", "last": True}, r"freeze\.last must be a whole number of at least 1 .* got True"),
        ({"policy": "layers", "last": 0.4}, r"freeze\.last must be a whole number of at least 1 .* got 0\.4"),
        ({"policy": "layers", "last": "50"}, r"freeze\.last must be a whole number of at least 1 .* got '50'"),
        ({"policy": "fraction", "last": 0}, r"freeze\.last must be a number above 0, at most 1 .*=fraction, got 0"),
        ({"policy": "fraction", "last": 1.5}, r"freeze\.last must be a number above 0, at most 1 .* got 1\.5"),
        ({"policy": "fraction", "last": None}, r"freeze\.last must be a number above 0, at most 1 .* got None"),
    ],
)
def test_unsound_settings_are_named_before_there_is_a_model(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_freeze(settings)
    with pytest.raises(ValueError, match=message):
        plan_freeze(build("logistic"), settings, image_shape=(1, 32, 32))


def test_all_problems_of_the_settings_come_in_one_error() -> None:
    with pytest.raises(ValueError, match=r"freeze\.lats does nothing.*\n.*freeze\.last is missing"):
        check_freeze({"policy": "groups", "lats": 2})


def test_every_policy_has_a_file_that_works_as_it_is_and_every_file_is_a_policy() -> None:
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (CONFIG_DIR / "freeze").glob("*.yaml")}
    assert files.keys() == POLICIES.keys()
    for name, settings in files.items():
        assert settings["policy"] == name
        check_freeze(settings)


@pytest.mark.parametrize("policy", ["none", "head", "groups", "layers", "fraction"])
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "vgg11_bn", "convnext_atto"])
def test_plan_is_a_partition_and_its_groups_add_up_to_it(name: str, policy: str) -> None:
    last = {"groups": 2, "layers": 20, "fraction": 0.3}
    keys: dict[str, Any] = {"last": last[policy]} if policy in last else {}
    made, model = plan(name, policy, **keys), outline(name)
    names = [n for n, _ in model.named_parameters()]
    assert sorted([*made.trainable, *made.frozen]) == sorted(names)
    assert made.trainable_count == sum(p.numel() for n, p in model.named_parameters() if n in made.trainable)
    rows = made.rows()
    assert sum(row["parameters"] for row in rows) == made.trainable_count + made.frozen_count
    assert sum(row["trainable"] for row in rows) == made.trainable_count
    assert sum(row["batch_norms"] for row in rows) == len(made.still_norms) + len(made.moving_norms)
    assert sum(row["still_norms"] for row in rows) == len(made.still_norms)


def test_rows_stand_in_order_of_depth_with_the_head_last() -> None:
    rows = plan("resnet18", "groups", last=1).rows()
    assert [row["name"] for row in rows] == ["conv1, bn1", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert [row["trainable"] == row["parameters"] for row in rows] == [False] * 4 + [True] * 2
    assert [(row["batch_norms"], row["still_norms"]) for row in rows] == [
        (1, 1), (4, 4), (5, 5), (5, 5), (5, 0), (0, 0),
    ]  # fmt: skip


def test_plan_is_told_in_one_line_and_stored_as_plain_values() -> None:
    made = plan("resnet18", "groups", last=1)
    assert made.describe() == (
        "8,395,267 of 11,171,779 parameters train (freeze=groups, last=1); 15 of 20 batch norms stand still"
    )
    stored = made.to_dict()
    assert json.loads(json.dumps(stored)) == stored
    assert stored["settings"] == {"policy": "groups", "last": 1}
    assert stored["groups"] == made.rows()


def test_second_classifier_is_part_of_the_head() -> None:
    head = head_parameter_names(timm.create_model("volo_d1_224", num_classes=3))
    assert {name.partition(".")[0] for name in head} == {"head", "aux_head"}


def test_frozen_part_draws_no_stochastic_depth_and_the_rest_does() -> None:
    model: Any = timm.create_model("test_vit", num_classes=3, in_chans=1, drop_path_rate=0.5)
    images = torch.rand(4, 1, 160, 160)
    made = plan_freeze(model, {"policy": "head"}, image_shape=(1, 160, 160))
    assert "blocks" in made.still_modules
    model.train()
    hold_still(model, made)
    frozen = [model.forward_features(images) for _ in range(2)]
    assert torch.equal(*frozen)
    hold_still(model.train(), plan_freeze(model, {"policy": "none"}, image_shape=(1, 160, 160)))
    assert not torch.equal(model.forward_features(images), model.forward_features(images))


def test_norm_without_parameters_stands_still_unless_everything_trains() -> None:
    model = build("test_resnet")
    model.bn1 = nn.BatchNorm2d(model.bn1.num_features, affine=False)  # type: ignore[arg-type, union-attr]
    for settings, is_still in (
        ({"policy": "none"}, False),
        ({"policy": "fraction", "last": 1.0}, False),
        ({"policy": "fraction", "last": 0.9}, True),
        ({"policy": "head"}, True),
    ):
        made = plan_freeze(model, settings, image_shape=(1, 32, 32))
        assert ("bn1" in made.still_norms) == is_still
        assert ("bn1" in made.moving_norms) != is_still


def test_norm_with_running_statistics_of_its_own_kind_stands_still_with_its_part() -> None:
    from timm.layers.evo_norm import EvoNorm2dB0

    model = Stack(EvoNorm2dB0(1), nn.Conv2d(1, 1, 1))  # no subclass of torch's batch norm, but its variance moves
    made = plan_freeze(model, {"policy": "layers", "last": 1}, image_shape=(1, 4, 4))
    assert made.still_norms == ("features.0",)
    assert plan_freeze(model, {"policy": "none"}, image_shape=(1, 4, 4)).moving_norms == ("features.0",)


def test_planning_changes_nothing() -> None:
    model = build("test_resnet").train()
    plan_freeze(model, {"policy": "layers", "last": 3}, image_shape=(1, 32, 32))
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.modules())


def test_norms_inside_a_frozen_part_are_held_still_and_others_go_on() -> None:
    model = build("test_resnet")
    made = plan_freeze(model, {"policy": "groups", "last": 1}, image_shape=(1, 32, 32))
    model.train()
    hold_still(model, made)
    assert made.still_norms and not any(model.get_submodule(name).training for name in made.still_norms)
    assert made.moving_norms and all(model.get_submodule(name).training for name in made.moving_norms)


def test_model_without_a_classifier_is_refused() -> None:
    model = build("test_resnet")
    model.reset_classifier(0)  # type: ignore[operator]
    with pytest.raises(ValueError, match="no classifier with parameters"):
        plan_freeze(model, {"policy": "head"}, image_shape=(1, 32, 32))


def test_training_a_run_with_frozen_backbone_moves_the_head_alone(
    tiny_config: Callable[..., dict[str, Any]], train_only: Callable[..., Any], tmp_path: Path
) -> None:
    # The whole way: Lightning calls train() itself, averages weights and buffers, and writes the checkpoint.
    cfg = tiny_config("freeze=head", "trainer.max_epochs=1", "data.stress=false", "optim.lr=0.1")
    fresh = build("test_resnet")  # the same draw as the run's: both have seed 0
    trained = train_only(cfg, tmp_path / "run")
    saved = torch.load(trained.run.checkpoint("last"), weights_only=True)["state_dict"]
    head = head_parameter_names(fresh)
    for key, value in fresh.state_dict().items():
        assert torch.equal(saved[f"backbone.{key}"], value) == (key not in head), key


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_a_frozen_front_records_no_graph_under_autocast_and_channels_last(name: str) -> None:
    size = find_backbone(name).native_size if name == "test_vit" else 64
    settings = {
        "backbone": name, "classes": ["A", "B", "C"], "positive": [], "image_size": size, "in_chans": 1,
        "drop_rate": 0.0, "mean": 0.5, "std": 0.5, "prior_log_odds": 0.0, "seed": 0, "loss": {"name": "cross_entropy"},
        "augment": {}, "mixup_alpha": 0.0, "optim": {}, "scheduler": {},
    }  # fmt: skip
    backbone = PneumoniaClassifier(settings).backbone

    def remembered(policy: dict[str, Any]) -> tuple[int, list[bool]]:
        """Bytes that a training step keeps for its way back, and whether outputs of the frozen parts have a graph."""
        plan = plan_freeze(backbone, policy, image_shape=(1, size, size))
        model = PneumoniaClassifier(settings, backbone, plan).use_channels_last().train()
        kept: dict[int, int] = {}
        graphs: list[bool] = []

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        handles = [
            model.backbone.get_submodule(path).register_forward_hook(lambda m, i, out: graphs.append(out.requires_grad))
            for path in plan.still_modules
        ]
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16),
        ):
            model(torch.rand(8, 1, size, size)).sum()
        for handle in handles:
            handle.remove()
        return sum(kept.values()), graphs

    features: Any = backbone.num_features
    whole, _ = remembered({"policy": "none"})
    last, graphs = remembered({"policy": "groups", "last": 1})
    head, more = remembered({"policy": "head"})
    assert graphs and more and not any(graphs + more)
    assert last < whole / 2
    assert head < 2 * 4 * (8 * (features + 3) + features * 3)  # inputs and weights of one layer, twice over
