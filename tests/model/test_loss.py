"""The loss: class weights and smoothing as torch defines them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pneumolit.model.loss import CrossEntropy, class_weights


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
@pytest.mark.parametrize("weight", [None, [0.5, 1.0, 3.0]])
def test_loss_equals_its_definition(smoothing: float, weight: list[float] | None) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(32, 3, dtype=torch.float64), torch.randint(3, (32,))
    w = torch.tensor(weight or [1.0, 1.0, 1.0], dtype=torch.float64)
    minus_log = -logits.log_softmax(1)
    spread = (minus_log * w).sum(1) / 3
    own = minus_log[torch.arange(32), targets] * w[targets]
    expected = ((1 - smoothing) * own + smoothing * spread).sum() / w[targets].sum()
    loss = CrossEntropy(label_smoothing=smoothing, class_weight=weight)(logits, targets)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_half_precision_logits_are_reduced_in_float32() -> None:
    assert CrossEntropy()(torch.randn(4, 3).bfloat16(), torch.tensor([0, 1, 2, 0])).dtype == torch.float32
