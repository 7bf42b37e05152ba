"""A frozen part is frozen: same bits after any number of steps, while the rest moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pneumolit.model.backbone import build_backbone, find_backbone
from pneumolit.model.freeze import apply_freeze, head_parameter_names, hold_still, plan_freeze


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(
        find_backbone(name), num_classes=3, in_chans=1, image_size=32, drop_rate=0.0, pretrained=False
    )[0]


def after_two_steps(model: nn.Module, policy: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State before and after two large steps with weight decay on all parameters."""
    plan = plan_freeze(model, policy)
    apply_freeze(model, plan)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        model.train()
        hold_still(model, plan)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(8, 1, 32, 32)), torch.arange(8) % 3).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return before, model.state_dict()


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_frozen_backbone_keeps_every_bit_of_weights_and_buffers_while_the_head_moves(name: str) -> None:
    model = build(name)
    head = head_parameter_names(model)
    before, after = after_two_steps(model, "head")
    assert head
    for key, value in after.items():
        assert torch.equal(value, before[key]) == (key not in head), key


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_without_freezing_every_parameter_and_every_running_statistic_moves(name: str) -> None:
    before, after = after_two_steps(build(name), "none")
    still = [key for key, value in after.items() if torch.equal(value, before[key])]
    assert still == []


def test_plan_counts_add_up_and_names_are_a_partition() -> None:
    model = build("test_resnet")
    plan = plan_freeze(model, "head")
    names = {name for name, _ in model.named_parameters()}
    assert set(plan.trainable) | set(plan.frozen) == names
    assert not set(plan.trainable) & set(plan.frozen)
    assert plan.trainable_count + plan.frozen_count == sum(p.numel() for p in model.parameters())
    assert plan.moving_norms == () and len(plan.still_norms) == 15
    assert plan.describe().endswith("15 of 15 batch norms stand still")


def test_planning_changes_nothing() -> None:
    model = build("test_resnet")
    plan_freeze(model, "head")
    assert all(p.requires_grad for p in model.parameters())


def test_unknown_policy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"freeze\.policy must be one of none, head, got 'half'"):
        plan_freeze(build("logistic"), "half")


def test_model_without_a_classifier_is_refused() -> None:
    model = build("test_resnet")
    model.reset_classifier(0)  # type: ignore[operator]
    with pytest.raises(ValueError, match="no classifier with parameters"):
        plan_freeze(model, "head")


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
