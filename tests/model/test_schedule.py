"""Schedules of the promised shape, for every optimizer and any number of steps, and the same after a resume."""

from __future__ import annotations

import inspect
import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pneumolit.model.schedule import SCHEDULES, build_scheduler, check_scheduler, is_plateau

_CONF = Path(__file__).parents[2] / "conf" / "scheduler"
BY_STEP = [name for name in SCHEDULES if name != "plateau"]


def sgd(*rates: float, **arguments: Any) -> Optimizer:
    groups = [{"params": [nn.Parameter(torch.ones(2))], "lr": rate} for rate in rates or (1.0,)]
    return torch.optim.SGD(groups, lr=1.0, **arguments)


def build(optimizer: Optimizer, name: str, steps: int, per_epoch: int = 1, **arguments: Any) -> LRScheduler:
    made = build_scheduler({"name": name, **arguments}, optimizer, total_steps=steps, steps_per_epoch=per_epoch)
    assert isinstance(made, LRScheduler)
    return made


def rates(optimizer: Optimizer, scheduler: LRScheduler, steps: int) -> list[list[float]]:
    """Learning rates that each of the next steps is taken with."""
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return seen


def curve(name: str, steps: int, per_epoch: int = 1, **arguments: Any) -> list[float]:
    """Learning rate of every step and of one step beyond the last, of an optimizer at 1."""
    optimizer = sgd()
    return [r for (r,) in rates(optimizer, build(optimizer, name, steps, per_epoch, **arguments), steps + 1)]


@given(st.sampled_from(["constant", "cosine"]), st.integers(1, 60), st.floats(0, 0.9), st.floats(0, 1))
def test_schedule_rises_to_one_falls_to_its_end_and_never_leaves_zero_to_one(
    name: str, steps: int, warmup: float, final: float
) -> None:
    extra: dict[str, Any] = {"final_fraction": final} if name == "cosine" else {}
    values = curve(name, steps, warmup_fraction=warmup, **extra)
    first = round(warmup * steps)
    assert all(0 <= v <= 1 + 1e-12 for v in values)
    assert values[:first] == [(i + 1) / (first + 1) for i in range(first)]
    if first < steps:
        assert values[first] == pytest.approx(1.0)
        assert values[first:] == sorted(values[first:], reverse=True)
        assert values[-1] == pytest.approx(1.0 if name == "constant" else final)


def test_cosine_without_warm_up_is_that_of_torch() -> None:
    optimizer = sgd()
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20, eta_min=0.1)
    expected = [r for (r,) in rates(optimizer, reference, 20)]
    assert curve("cosine", 20, warmup_fraction=0.0, final_fraction=0.1)[:20] == pytest.approx(expected)
    assert expected[10] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))


@pytest.mark.parametrize(
    ("every", "per_epoch", "cuts"),
    [(2.0, 10, [20, 40]), (0.5, 10, list(range(5, 51, 5))), (0.28, 50, [14, 28, 42]), (9.0, 10, [])],
)
def test_step_cuts_at_exactly_the_steps_of_its_epochs(every: float, per_epoch: int, cuts: list[int]) -> None:
    values = curve("step", 50, per_epoch=per_epoch, every_epochs=every, gamma=0.5)
    assert values == [0.5 ** sum(cut <= i for cut in cuts) for i in range(51)]


def test_step_counts_the_epochs_of_the_warm_up_too() -> None:
    values = curve("step", 40, per_epoch=10, every_epochs=2, gamma=0.1, warmup_fraction=0.25)
    assert values[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert values[10:20] == [1.0] * 10 and values[20:40] == [0.1] * 20


def test_one_cycle_is_that_of_torch_with_the_groups_own_rates_at_the_top() -> None:
    optimizer, reference = sgd(0.5, 0.02, momentum=0.9), sgd(0.5, 0.02, momentum=0.9)
    scheduler = build(optimizer, "one_cycle", 20, warmup_fraction=0.3, start_factor=0.1, final_fraction=0.01)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        reference, [0.5, 0.02], total_steps=20, pct_start=0.3, div_factor=10, final_div_factor=10
    )
    for _ in range(20):
        for ours, other in zip(optimizer.param_groups, reference.param_groups, strict=True):
            assert ours["lr"] == pytest.approx(other["lr"])
            assert ours["momentum"] == pytest.approx(other["momentum"])
        for made in (optimizer, reference):
            made.step()
        scheduler.step()
        theirs.step()


@given(st.integers(1, 40), st.floats(0, 0.95), st.floats(0.01, 1), st.floats(0, 1))
def test_one_cycle_of_any_length_rises_once_falls_once_and_stays_at_its_end(
    steps: int, warmup: float, start: float, final: float
) -> None:
    optimizer = sgd(0.5, 0.0)
    scheduler = build(optimizer, "one_cycle", steps, warmup_fraction=warmup, start_factor=start, final_fraction=final)
    seen = rates(optimizer, scheduler, steps + 3)
    values = [r / 0.5 for r, _ in seen]
    top = values.index(max(values))
    assert values[: top + 1] == sorted(values[: top + 1])
    assert values[top:] == pytest.approx(sorted(values[top:], reverse=True))
    assert values[0] > 0 and max(values) <= 1 + 1e-12
    assert values[steps:] == pytest.approx([final] * 3)
    if steps > 1:
        assert values[steps - 1] == pytest.approx(final)


@pytest.mark.parametrize(("warmup", "steps"), [(0.1, 10), (0.5, 2), (0.25, 4), (0.2, 5)])
def test_one_cycle_with_a_warm_up_of_one_step_does_not_divide_by_zero(warmup: float, steps: int) -> None:
    assert all(0 <= r <= 1 for r in curve("one_cycle", steps, warmup_fraction=warmup))


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2))]


@pytest.mark.parametrize(
    ("optimizer", "has_cycle"),
    [
        (torch.optim.SGD(parameters(), lr=0.1, momentum=0.98), True),
        (torch.optim.SGD(parameters(), lr=0.1, momentum=0.9, nesterov=True), True),
        (torch.optim.AdamW(parameters(), lr=0.1), True),
        (torch.optim.AdamW(parameters(), lr=0.1, betas=(0.0, 0.9)), False),
        (torch.optim.SGD(parameters(), lr=0.1), False),
        (torch.optim.RMSprop(parameters(), lr=0.1), False),
        (torch.optim.RMSprop(parameters(), lr=0.1, momentum=0.9), True),
        (torch.optim.Adagrad(parameters(), lr=0.1), False),
    ],
    ids=lambda value: f"{type(value).__name__}" if isinstance(value, Optimizer) else str(value),
)
def test_one_cycle_moves_momentum_about_the_optimizers_own_and_only_where_there_is_any(
    optimizer: Optimizer, has_cycle: bool
) -> None:
    def momentum() -> float:
        group = optimizer.param_groups[0]
        return float(group["betas"][0] if "betas" in group else group.get("momentum", 0.0))

    own = momentum()
    scheduler = build(optimizer, "one_cycle", 12)
    seen = []
    for _ in range(12):
        seen.append(momentum())
        optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
        optimizer.step()
        scheduler.step()
    assert all(0 < m < 1 for m in seen) if has_cycle else seen == [own] * 12
    if has_cycle:
        assert seen[0] > own > min(seen) and seen[-1] == pytest.approx(seen[0])
        assert (seen[0] + min(seen)) / 2 == pytest.approx(own, abs=0.02)


@pytest.mark.parametrize("name", BY_STEP)
def test_groups_keep_their_ratio_and_a_group_at_zero_stays_there(name: str) -> None:
    optimizer = sgd(0.4, 0.1, 0.0)
    for whole, quarter, none in rates(optimizer, build(optimizer, name, 30), 31):
        assert quarter == pytest.approx(whole / 4)
        assert none == 0.0


def plateau(optimizer: Optimizer, **arguments: Any) -> ReduceLROnPlateau:
    made = build_scheduler({"name": "plateau", **arguments}, optimizer, total_steps=1, steps_per_epoch=1)
    assert isinstance(made, ReduceLROnPlateau)
    return made


@pytest.mark.parametrize(("monitor", "sign"), [("val/loss", -1), ("val/auroc", 1), ("stress/accuracy", 1)])
def test_plateau_cuts_after_more_than_patience_epochs_that_are_no_better(monitor: str, sign: int) -> None:
    optimizer = sgd(0.5, 0.0)
    scheduler = plateau(optimizer, monitor=monitor, patience=2, factor=0.1)
    # 5e-5 better is below the threshold; then one clear improvement starts the count anew.
    steps = [0.5, 0.6, 0.60005, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7]
    seen = []
    for value in steps:
        scheduler.step(sign * value)
        seen.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[1]["lr"] == 0.0
    assert seen == pytest.approx([0.5] * 7 + [0.05] * 2)


def test_plateau_threshold_is_in_the_unit_of_the_metric() -> None:
    optimizer = sgd()
    scheduler = plateau(optimizer, patience=0, monitor="val/loss", threshold=1e-4)
    for value in (100.0, 99.999, 99.998):  # relative to 100 these would be no improvements
        scheduler.step(value)
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_plateau_cuts_tiny_rates_too_but_none_below_the_smallest_allowed() -> None:
    optimizer = sgd(1e-9, 1e-3, 0.0)
    scheduler = plateau(optimizer, patience=0, factor=0.1)
    for value in (1.0, 1.0, 1.0):
        scheduler.step(value)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([1e-11, 1e-5, 0.0], rel=1e-9)
    optimizer = sgd(1e-9, 1e-3, 0.0)
    scheduler = plateau(optimizer, patience=0, factor=0.1, min_lr=5e-5)
    for value in (1.0, 1.0, 1.0):
        scheduler.step(value)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([1e-9, 5e-5, 0.0], rel=1e-9)


def reloaded(state: dict[str, Any]) -> dict[str, Any]:
    """The state as a checkpoint gives it back: plain values and tensors only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
@pytest.mark.parametrize("name", list(SCHEDULES))
@pytest.mark.parametrize("cut", [0, 1, 7, 19, 20])
def test_a_resumed_schedule_goes_on_with_the_same_rates(name: str, kind: str, cut: int) -> None:
    def start() -> tuple[Optimizer, LRScheduler | ReduceLROnPlateau]:
        groups = [{"params": parameters(), "lr": rate} for rate in (0.3, 0.05, 0.0)]
        optimizer = getattr(torch.optim, kind)(groups, lr=0.3, **({"momentum": 0.9} if kind == "SGD" else {}))
        settings = {"name": name, **({"patience": 1} if name == "plateau" else {})}
        return optimizer, build_scheduler(settings, optimizer, total_steps=20, steps_per_epoch=4)

    def advance(optimizer: Optimizer, scheduler: LRScheduler | ReduceLROnPlateau, steps: range) -> list[Any]:
        seen = []
        for i in steps:
            seen.append([(g["lr"], g.get("momentum"), g.get("betas")) for g in optimizer.param_groups])
            optimizer.step()
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(1.0 / min(i + 1, 5))
            else:
                scheduler.step()
        return seen

    straight = advance(*start(), range(21))
    optimizer, scheduler = start()
    advance(optimizer, scheduler, range(cut))
    states = reloaded(optimizer.state_dict()), reloaded(scheduler.state_dict())
    optimizer, scheduler = start()
    optimizer.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    assert advance(optimizer, scheduler, range(cut, 21)) == straight[cut:]
    assert len({rate[0][0] for rate in straight}) > 1 or name == "constant"


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_the_file_of_a_schedule_states_its_keys_and_their_defaults_and_no_others(name: str) -> None:
    stated = yaml.safe_load((_CONF / f"{name}.yaml").read_text())
    arguments = inspect.signature(SCHEDULES[name]).parameters.values()
    assert stated == {"name": name, **{p.name: p.default for p in arguments if p.kind is p.KEYWORD_ONLY}}
    check_scheduler(stated)


def test_every_file_of_the_group_is_a_schedule() -> None:
    assert {path.stem for path in _CONF.glob("*.yaml")} == set(SCHEDULES)


def test_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scheduler\.name must be one of constant, cosine, .*plateau, got 'cosin'"):
        check_scheduler({"name": "cosin"})


def test_key_of_another_schedule_is_named_with_those_it_takes() -> None:
    message = r"scheduler\.final_fraction is no key of scheduler=constant \(its keys are warmup_fraction\)"
    with pytest.raises(ValueError, match=message):
        check_scheduler({"name": "constant", "final_fraction": 0.1})


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        *((name, "warmup_fraction", value) for name in BY_STEP for value in (-0.1, 1.0, math.nan, "a", True)),
        *((name, "final_fraction", value) for name in ("cosine", "one_cycle") for value in (-0.1, 1.1, None)),
        *(("step", "every_epochs", value) for value in (0, -1, math.inf)),
        *(("step", "gamma", value) for value in (0.0, 1.0, 10.0)),
        *(("one_cycle", "start_factor", value) for value in (0.0, 1.5)),
        *(("plateau", "factor", value) for value in (0.0, 1.0)),
        *(("plateau", "patience", value) for value in (-1, 1.5, True)),
        *(("plateau", "min_lr", value) for value in (-1e-9, math.nan)),
        ("plateau", "threshold", -1.0),
        ("plateau", "monitor", None),
    ],
)
def test_value_out_of_range_is_named_before_there_is_a_model(name: str, key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^scheduler\.{key} must be .*, got {value!r}"):
        check_scheduler({"name": name, key: value})


def test_only_plateau_waits_for_a_metric() -> None:
    assert [name for name in SCHEDULES if is_plateau({"name": name})] == ["plateau"]
