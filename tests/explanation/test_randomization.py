"""Random weights: what is replaced in which order, and correlations against scipy."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from pneumolit.explanation.methods import heat_of
from pneumolit.explanation.randomization import (
    NUM_DRAWS,
    cascade,
    check_randomization,
    correlate,
    num_maps,
    replaced,
    untrained,
)
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.layers import timm_groups

SETTINGS: dict[str, Any] = {
    "backbone": "test_resnet", "classes": ["NORMAL", "PNEUMONIA"], "positive": ["PNEUMONIA"], "image_size": 96,
    "in_chans": 1, "drop_rate": 0.0, "mean": 0.5, "std": 0.25, "prior_log_odds": 0.0, "seed": 0,
    "loss": {"name": "cross_entropy"}, "augment": {}, "mixup_alpha": 0.0, "optim": {}, "scheduler": {},
}  # fmt: skip
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(256, size=(6, 32, 32), dtype=np.uint8)
SIDES = np.array(["pneumonia", "normal"] * 3)


@pytest.fixture(scope="module")
def model() -> PneumoniaClassifier:
    torch.manual_seed(5)
    made = PneumoniaClassifier(SETTINGS)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
    return made.eval()


def test_tables_that_attention_keeps_from_earlier_calls_are_forgotten_with_the_weights() -> None:
    net = PneumoniaClassifier(SETTINGS | {"backbone": "levit_128s", "image_size": 224}).eval()
    pixels = torch.rand(1, 1, 224, 224)
    start = untrained(net, seed=0)
    bodies: list[Any] = [net.backbone]
    with torch.no_grad():
        for name, parameter in start.backbone.named_parameters():
            if name.endswith("attention_biases"):
                parameter.normal_(std=3.0)
        bodies[0].forward_features(pixels)  # its tables are made here
        mixed = replaced(net, start, {name for name, _ in net.backbone.named_parameters()})
        bodies = [mixed.backbone, start.backbone]
        found, expected = (body.forward_features(pixels) for body in bodies)
    assert torch.equal(found, expected)


def test_correlations_are_scipys_ties_included() -> None:
    first, second = RNG.integers(0, 5, (4, 32, 32)).astype(np.float32), RNG.random((4, 32, 32)).astype(np.float32)
    second[1] = first[1]
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)]
    assert correlate(first, second) == pytest.approx(expected, abs=1e-6)


def test_a_map_that_is_the_same_everywhere_has_no_correlation() -> None:
    flat = np.zeros((1, 32, 32), dtype=np.float32)
    assert np.isnan(correlate(flat, RNG.random((1, 32, 32)).astype(np.float32))).all()


def test_weights_become_random_from_the_head_down_until_only_the_first_layers_are_trained(
    model: PneumoniaClassifier,
) -> None:
    steps = cascade(model.backbone)
    names = [name for name, _ in model.backbone.named_parameters()]
    assert steps[0][0] == 1 and steps[0][1] == {"fc.weight", "fc.bias"}
    for (fewer, before), (more, after) in itertools.pairwise(steps):
        assert fewer < more and before < after
    assert "conv1.0.weight" in set(names) - steps[-1][1] or "conv1.weight" in set(names) - steps[-1][1]


def test_buffers_go_with_the_weights_beside_them_and_all_else_stays(model: PneumoniaClassifier) -> None:
    before = copy.deepcopy(model.state_dict())
    start = untrained(model, seed=1)
    names = {name for name, _ in model.backbone.named_parameters() if name.startswith("layer4")}
    mixed, other = replaced(model, start, names).backbone.state_dict(), start.backbone.state_dict()
    for name, value in model.backbone.state_dict().items():
        is_random = name in names or (name.startswith("layer4") and "running" in name)
        assert torch.equal(mixed[name], other[name] if is_random else value), name
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_random_weights_are_those_of_the_seed_and_leave_other_random_numbers_alone(model: PneumoniaClassifier) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first, again, other = (untrained(model, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["backbone.fc.weight"], other["backbone.fc.weight"])


def test_random_weights_are_not_those_that_a_run_of_the_same_seed_began_with(model: PneumoniaClassifier) -> None:
    # Heat maps of a logistic regression on seed 0 once resembled a third of the "random" ones.
    torch.manual_seed(0)
    began = PneumoniaClassifier(SETTINGS).state_dict()
    assert not torch.equal(began["backbone.fc.weight"], untrained(model, seed=0).state_dict()["backbone.fc.weight"])


def test_the_check_tells_of_every_step_and_every_draw(model: PneumoniaClassifier) -> None:
    heat, told = heat_of(model, IMAGES, SIDES, "gradcam"), [0]
    found, draws = check_randomization(model, IMAGES, SIDES, heat, "gradcam", seed=0, advance=told.append)
    assert draws.shape == (NUM_DRAWS, *heat.shape) and sum(told) == num_maps(model.backbone) * len(IMAGES)
    assert len(found["cascade"]) == len(cascade(model.backbone)) + 1
    assert found["cascade"][-1]["groups"] == found["num_groups"] and found["cascade"][-1]["share_random"] == 1
    by_draw = np.stack([correlate(heat, one) for one in draws])
    means = np.nanmean(by_draw[:, np.isfinite(by_draw).any(0)], axis=0)
    assert found["median"] == pytest.approx(np.median(means)) and found["num_images"] == len(means)


def test_maps_without_heat_are_counted_among_all_that_were_made(
    model: PneumoniaClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pneumolit.explanation import randomization

    monkeypatch.setattr(randomization, "heat_of", lambda model, images, *rest: np.zeros(images.shape, np.float32))
    heat = IMAGES.astype(np.float32)
    found, _ = check_randomization(model, IMAGES, SIDES, heat, "gradcam", seed=0)
    assert found["num_images"] == 0
    assert found["num_empty_after"] == found["num_maps"] == NUM_DRAWS * len(IMAGES)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "logistic"])
def test_only_the_first_group_is_left_whatever_the_network(backbone: str) -> None:
    net = PneumoniaClassifier({**SETTINGS, "backbone": backbone}).backbone
    groups = timm_groups(net, is_coarse=True)
    steps = cascade(net)
    assert [count for count, _ in steps] == sorted({count for count, _ in steps})
    assert not steps or steps[-1] == (len(groups) - 1, {name for group in groups[1:] for name in group})


def test_a_network_without_groups_of_its_own_is_taken_by_its_parts() -> None:
    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))
            self.stem, self.head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

        def group_matcher(self, coarse: bool = False) -> None:
            raise NotImplementedError

    head = {"head.weight", "head.bias"}
    assert cascade(Plain()) == [(1, head), (2, head | {"stem.weight", "stem.bias"})]


def test_a_map_that_knows_no_weights_is_found_out(model: PneumoniaClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    from pneumolit.explanation import randomization

    monkeypatch.setattr(randomization, "heat_of", lambda model, images, *rest: images.astype(np.float32))
    found, _ = check_randomization(model, IMAGES, SIDES, IMAGES.astype(np.float32), "edges", seed=0)
    assert found["median"] == pytest.approx(1)
