"""Losses by their definitions and by what other libraries compute, and the class prior that each leaves behind."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, logsumexp
from sklearn.metrics import log_loss
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from pneumolit.labels import LabelSet
from pneumolit.model.classifier import validation_numbers
from pneumolit.model.loss import LOSSES, build_loss, check_loss, class_weights, effective_prior

_CONF = Path(__file__).parents[2] / "conf" / "loss"
THREE = LabelSet(("BACTERIA", "NORMAL", "VIRUS"), ("BACTERIA", "VIRUS"))
TWO = LabelSet(("NORMAL", "PNEUMONIA"), ("PNEUMONIA",))
PRIOR = [0.5, 0.3, 0.2]
WEIGHTS = [None, [0.5, 1.0, 3.0]]


def loss_of(name: str, logits: Tensor, targets: Tensor, **arguments: Any) -> float:
    """Loss with two or three classes, as many as there are logits."""
    labels = TWO if logits.shape[1] == 2 else THREE
    loss = build_loss({"name": name, **arguments}, labels, PRIOR[: labels.num_classes])
    return float(loss(logits, targets))


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Logits `(64, 3)` of any size and targets with every class."""
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(64, 3, generator=generator), torch.randint(3, (64,), generator=generator)


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=6))
def test_balanced_weights_give_every_class_the_same_total_and_mean_one(counts: list[int]) -> None:
    weights = class_weights("balanced", counts)
    assert weights is not None
    totals = [w * n for w, n in zip(weights, counts, strict=True)]
    assert totals == pytest.approx([totals[0]] * len(counts))
    assert sum(totals) / sum(counts) == pytest.approx(1.0)


def test_no_weights_and_given_weights() -> None:
    assert class_weights(None, [3, 5]) is None
    assert class_weights("none", [3, 5]) is None
    assert class_weights([1, 2.5], [3, 5]) == [1.0, 2.5]


@pytest.mark.parametrize("setting", ["balance", [1.0], [1.0, 2.0, 3.0], [1.0, 0.0], [1.0, -2.0]])
def test_weights_that_are_not_one_positive_number_per_class_are_refused(setting: str | list[float]) -> None:
    with pytest.raises(ValueError, match=r"loss\.class_weight must be none, balanced or 2 positive numbers"):
        class_weights(setting, [3, 5])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize(("name", "gamma"), [("cross_entropy", 0.0), ("focal", 2.0), ("focal", 0.5)])
def test_cross_entropy_and_focal_loss_equal_their_definition(
    batch: tuple[Tensor, Tensor], name: str, gamma: float, smoothing: float, weight: list[float] | None
) -> None:
    logits, targets = batch
    w = np.array(weight or [1.0, 1.0, 1.0])
    log_probs, rows = log_softmax(logits.double().numpy(), axis=1), np.arange(64)
    terms = -w * (1 - np.exp(log_probs)) ** gamma * log_probs
    truths = np.full((64, 3), smoothing / 3)
    truths[rows, targets.numpy()] += 1 - smoothing
    expected = (truths * terms).sum() / w[targets.numpy()].sum()
    arguments = {"gamma": gamma} if name == "focal" else {}
    found = loss_of(name, logits, targets, label_smoothing=smoothing, class_weight=weight, **arguments)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_focal_loss_without_focus_is_cross_entropy(
    batch: tuple[Tensor, Tensor], smoothing: float, weight: list[float] | None
) -> None:
    same: dict[str, Any] = {"label_smoothing": smoothing, "class_weight": weight}
    assert loss_of("focal", *batch, gamma=0.0, **same) == pytest.approx(loss_of("cross_entropy", *batch, **same))


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_loss_of_two_classes_is_the_sigmoid_form_of_torchvision(
    batch: tuple[Tensor, Tensor], gamma: float
) -> None:
    logits, targets = batch[0][:, :2], batch[1] % 2
    scores = logits[:, 1] - logits[:, 0]
    expected = sigmoid_focal_loss(scores, targets.float(), alpha=-1, gamma=gamma, reduction="mean")
    assert loss_of("focal", logits, targets, gamma=gamma) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradient_of_the_focal_loss_is_finite_where_the_net_is_certain(gamma: float, smoothing: float) -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]], requires_grad=True)
    loss = build_loss({"name": "focal", "gamma": gamma, "label_smoothing": smoothing}, THREE, PRIOR)
    loss(logits, torch.tensor([0, 2])).backward()
    assert logits.grad is not None and bool(logits.grad.isfinite().all())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_binary_cross_entropy_equals_its_definition(
    batch: tuple[Tensor, Tensor], smoothing: float, weight: list[float] | None
) -> None:
    logits, targets = batch[0].double().numpy(), batch[1].numpy()
    probs = expit(logsumexp(logits[:, [0, 2]], axis=1) - logits[:, 1])
    truths = np.isin(targets, [0, 2]) * (1 - smoothing) + smoothing / 2
    losses = -(truths * np.log(probs) + (1 - truths) * np.log1p(-probs))
    expected = np.average(losses, weights=np.array(weight or [1.0, 1.0, 1.0])[targets])
    found = loss_of("binary_cross_entropy", *batch, label_smoothing=smoothing, class_weight=weight)
    assert found == pytest.approx(expected, rel=1e-5)


def test_binary_cross_entropy_of_three_classes_is_the_log_loss_of_the_added_probabilities(
    batch: tuple[Tensor, Tensor],
) -> None:
    probs = batch[0].double().softmax(1).numpy()[:, [0, 2]].sum(axis=1)
    expected = log_loss(np.isin(batch[1].numpy(), [0, 2]), probs)
    assert loss_of("binary_cross_entropy", *batch) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "arguments", [{"label_smoothing": 0.1}, {"class_weight": [3.0, 0.5]}, {"label_smoothing": 0.0}], ids=str
)
def test_with_two_classes_both_cross_entropies_are_the_same(
    batch: tuple[Tensor, Tensor], arguments: dict[str, Any]
) -> None:
    logits, targets = batch[0][:, :2], batch[1] % 2
    expected = loss_of("cross_entropy", logits, targets, **arguments)
    assert loss_of("binary_cross_entropy", logits, targets, **arguments) == pytest.approx(expected, rel=1e-5)


def test_binary_cross_entropy_does_not_ask_which_pneumonia_it_is(batch: tuple[Tensor, Tensor]) -> None:
    logits, targets = batch
    swapped = torch.tensor([2, 1, 0])[targets]
    assert loss_of("binary_cross_entropy", logits, targets) == loss_of("binary_cross_entropy", logits, swapped)


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("labels", [TWO, THREE], ids=["two", "three"])
def test_validation_loss_is_the_log_loss_of_what_was_trained(
    batch: tuple[Tensor, Tensor], name: str, labels: LabelSet
) -> None:
    # Binary cross entropy trains one score only: how its K logits share the mass within a side means nothing.
    logits, targets = batch[0][:, : labels.num_classes], batch[1] % labels.num_classes
    loss = build_loss({"name": name}, labels, PRIOR[: labels.num_classes])
    found = validation_numbers(logits, targets, labels, is_two_class_loss=loss.is_two_class)["loss"]
    probs = np.exp(log_softmax(logits.double().numpy(), axis=1))
    sick = labels.positive_mask
    two_class = log_loss(sick[targets.numpy()], probs[:, sick].sum(axis=1), labels=[False, True])
    all_classes = log_loss(targets.numpy(), probs, labels=range(labels.num_classes))
    assert found == pytest.approx(two_class if name == "binary_cross_entropy" else all_classes, rel=1e-5)
    if name in ("binary_cross_entropy", "cross_entropy"):
        assert found == pytest.approx(float(loss(logits, targets)), rel=1e-5)


def test_binary_cross_entropy_without_a_two_class_view_is_refused_with_a_way_out() -> None:
    with pytest.raises(ValueError, match=r"loss\.name=binary_cross_entropy .*\['A', 'B'\].* data\.positive, or use"):
        build_loss({"name": "binary_cross_entropy"}, LabelSet(("A", "B")), [0.5, 0.5])


@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_logit_adjusted_loss_equals_its_definition(batch: tuple[Tensor, Tensor], tau: float, smoothing: float) -> None:
    logits, targets = batch[0].double().numpy(), batch[1].numpy()
    log_probs = log_softmax(logits + tau * np.log(PRIOR), axis=1)
    own, spread = log_probs[np.arange(64), targets], log_probs.mean(axis=1)
    expected = -((1 - smoothing) * own + smoothing * spread).mean()
    assert loss_of("logit_adjusted", *batch, tau=tau, label_smoothing=smoothing) == pytest.approx(expected, rel=1e-5)


def test_logit_adjusted_loss_names_a_class_without_images() -> None:
    with pytest.raises(ValueError, match=r"logit_adjusted needs training images of every class, but VIRUS has none"):
        build_loss({"name": "logit_adjusted"}, THREE, [0.5, 0.5, 0.0])


# What the minimum over all logits carries can be told without a net: with one bin per class mix, the best logits of
# images that say nothing are the log of the prior that the loss sees.
@pytest.mark.parametrize(
    "settings",
    [
        {"name": "cross_entropy"},
        {"name": "cross_entropy", "class_weight": [0.5, 1.0, 3.0]},
        {"name": "logit_adjusted"},
        {"name": "logit_adjusted", "tau": 0.4},
        {"name": "cross_entropy", "label_smoothing": 0.2, "class_weight": [0.5, 1.0, 3.0]},
        {"name": "logit_adjusted", "tau": 0.4, "label_smoothing": 0.2},
        {"name": "focal", "label_smoothing": 0.2, "class_weight": [0.5, 1.0, 3.0]},
    ],
    ids=str,
)
def test_effective_prior_is_what_the_loss_teaches_of_images_that_say_nothing(settings: dict[str, Any]) -> None:
    targets = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)  # as PRIOR
    learned = fitted(settings, targets).softmax(0)
    assert effective_prior(settings, THREE, PRIOR) == pytest.approx(learned.tolist(), abs=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_effective_prior_of_binary_cross_entropy_has_the_right_two_class_odds(smoothing: float) -> None:
    settings = {"name": "binary_cross_entropy", "class_weight": [0.5, 1.0, 3.0], "label_smoothing": smoothing}
    learned = fitted(settings, torch.tensor([0] * 5 + [1] * 3 + [2] * 2)).softmax(0)
    assert effective_prior(settings, THREE, PRIOR)[1] == pytest.approx(float(learned[1]), abs=1e-3)


def fitted(settings: dict[str, Any], targets: Tensor) -> Tensor:
    """Logits `(3,)` that minimise a loss when they are the same for every image."""
    loss = build_loss(settings, THREE, PRIOR)
    logits = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], lr=0.5, max_iter=100)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(logits.expand(len(targets), 3), targets)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return logits.detach()


def test_effective_prior_sums_to_one_and_is_uniform_after_full_adjustment() -> None:
    assert effective_prior({"name": "cross_entropy", "class_weight": [1.0, 1.0, 2.0]}, THREE, PRIOR) == pytest.approx(
        [5 / 12, 3 / 12, 4 / 12]
    )
    assert effective_prior({"name": "logit_adjusted", "tau": 1.0}, THREE, PRIOR) == pytest.approx([1 / 3] * 3)
    assert effective_prior({"name": "cross_entropy"}, THREE, PRIOR) == pytest.approx(PRIOR)


@pytest.mark.parametrize(("gamma", "odds"), [(0.0, 1.046), (1.0, 0.590), (2.0, 0.391), (5.0, 0.188)])
def test_focal_loss_carries_less_of_the_prior_the_more_it_focuses(gamma: float, odds: float) -> None:
    prior = effective_prior({"name": "focal", "gamma": gamma}, TWO, [0.26, 0.74])
    assert math.log(prior[1] / prior[0]) == pytest.approx(odds, abs=2e-3)
    assert effective_prior({"name": "focal", "gamma": gamma}, THREE, [1 / 3] * 3) == pytest.approx([1 / 3] * 3)


def test_balanced_weights_of_a_class_without_images_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"class_weight=balanced, but a class has no training image \(counts \[10, 0\]"
    ):
        class_weights("balanced", [10, 0])


@pytest.mark.parametrize("name", list(LOSSES))
def test_half_precision_logits_are_reduced_in_float32(name: str, batch: tuple[Tensor, Tensor]) -> None:
    loss = build_loss({"name": name}, THREE, PRIOR)
    reduced = loss(batch[0].bfloat16(), batch[1])
    assert reduced.dtype == torch.float32 and reduced.shape == ()
    assert torch.equal(reduced, loss(batch[0].bfloat16().float(), batch[1]))


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_holds_nothing_that_a_checkpoint_would_store(name: str) -> None:
    weighted = {} if name == "logit_adjusted" else {"class_weight": [0.5, 1.0, 3.0]}
    assert build_loss({"name": name, **weighted}, THREE, PRIOR).state_dict() == {}


@pytest.mark.parametrize("name", list(LOSSES))
def test_the_file_of_a_loss_states_its_keys_and_their_defaults_and_no_others(name: str) -> None:
    stated = yaml.safe_load((_CONF / f"{name}.yaml").read_text())
    arguments = inspect.signature(LOSSES[name]).parameters.values()
    defaults = {p.name: p.default for p in arguments if p.kind is p.KEYWORD_ONLY}
    if "class_weight" in defaults:
        defaults["class_weight"] = "none"
    assert stated == {"name": name, **defaults}
    check_loss(stated)


def test_every_file_of_the_group_is_a_loss() -> None:
    assert {path.stem for path in _CONF.glob("*.yaml")} == set(LOSSES)


def test_class_weights_may_be_words_before_there_are_data() -> None:
    check_loss({"name": "focal", "class_weight": "balanced"})
    check_loss({"name": "cross_entropy", "class_weight": [1.0, 2.0, 3.0]})


def test_an_adjustment_by_so_much_that_no_prior_is_left_is_refused() -> None:
    with pytest.raises(ValueError, match=r"loss\.tau must be at most 10\.0, got 1000"):
        build_loss({"name": "logit_adjusted", "tau": 1000}, LabelSet(("A", "B")), [0.5, 0.5])


def test_unknown_loss_is_refused() -> None:
    with pytest.raises(ValueError, match=r"loss\.name must be one of cross_entropy, .*, got 'hinge'"):
        check_loss({"name": "hinge"})


def test_key_of_another_loss_is_named_with_those_it_takes() -> None:
    message = r"loss\.gamma is no key of loss=cross_entropy \(its keys are label_smoothing, class_weight\)"
    with pytest.raises(ValueError, match=message):
        check_loss({"name": "cross_entropy", "gamma": 2.0})


def test_class_weights_and_logit_adjustment_are_refused_together_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"loss\.class_weight .*loss=logit_adjusted: it corrects the class mix itself"):
        check_loss({"name": "logit_adjusted", "class_weight": "balanced"})


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        *((name, "label_smoothing", value) for name in LOSSES for value in (-0.1, 1.0)),
        *(("focal", "gamma", value) for value in (-1.0, math.inf, math.nan, None, "2", True)),
        *(("logit_adjusted", "tau", value) for value in (-0.5, math.nan, None)),
    ],
)
def test_value_out_of_range_is_named_before_there_are_data(name: str, key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^loss\.{key} must be a number .*got {value!r}"):
        check_loss({"name": name, key: value})
