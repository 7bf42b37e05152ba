"""Learning-rate schedules by name: one call builds any of them over an optimizer's own groups.

Every group starts from its own learning rate, so that a group at 0 stays at 0. All schedules but `plateau` are
stepped once per optimizer step. Their state is plain values and resumes them exactly, when scheduler and optimizer
are built first and then both loaded.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from pneumolit.config import monitor_mode

PLATEAU = "plateau"
DEFAULT_MONITOR = "val/loss"  # of a plateau schedule
_MOMENTUM_SWING = 0.05  # to either side of the optimizer's own; at 0.9 these are the usual 0.85 and 0.95


def build_scheduler(
    settings: Mapping[str, Any], optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int
) -> LRScheduler | ReduceLROnPlateau:
    """The schedule that the group `scheduler` names.

    Args:
        settings: `name` and the arguments of that schedule.
        optimizer: with the learning rate of every group set.
        total_steps: optimizer steps of the whole run, at least 1.
        steps_per_epoch: optimizer steps of one epoch, at least 1.

    Raises:
        ValueError: an unknown schedule or key, or a value out of range; names `scheduler.<key>`.
    """
    kind = _find_schedule(settings)
    arguments = {key: value for key, value in settings.items() if key != "name"}
    return kind(optimizer, total_steps, steps_per_epoch, **arguments)


def check_scheduler(settings: Mapping[str, Any]) -> None:
    """Refuse a group `scheduler` that cannot be built, before there is a model.

    Raises:
        ValueError: an unknown schedule or key, or a value out of range; names `scheduler.<key>`.
    """
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    build_scheduler(settings, optimizer, total_steps=1, steps_per_epoch=1)


def is_plateau(settings: Mapping[str, Any]) -> bool:
    """Whether the schedule is stepped once per epoch, with the value of `scheduler.monitor`."""
    return bool(settings["name"] == PLATEAU)


def monitor_of(settings: Mapping[str, Any]) -> str:
    """The metric that a plateau schedule looks at."""
    return str(settings.get("monitor", DEFAULT_MONITOR))


def _constant(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, *, warmup_fraction: float = 0.0
) -> LRScheduler:
    """The learning rate as it is, after a linear rise from near zero over `warmup_fraction` of the steps."""
    return LambdaLR(optimizer, _after_warmup(total_steps, warmup_fraction, lambda step: 1.0))


def _cosine(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup_fraction: float = 0.05,
    final_fraction: float = 0.0,
) -> LRScheduler:
    """Half a cosine from the end of the warm-up down to `final_fraction` of the learning rate."""
    _check("final_fraction", final_fraction, lambda v: 0 <= v <= 1, "a number from 0 to 1")
    first = _warmup_steps(total_steps, warmup_fraction)

    def factor(step: int) -> float:
        progress = min((step - first) / max(total_steps - first, 1), 1.0)
        return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, _after_warmup(total_steps, warmup_fraction, factor))


def _step(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    *,
    every_epochs: float = 3.0,
    gamma: float = 0.1,
    warmup_fraction: float = 0.0,
) -> LRScheduler:
    """Times `gamma` every `every_epochs` epochs, counted from the first step, warm-up included."""
    _check("every_epochs", every_epochs, lambda v: 0 < v < math.inf, "a number above 0")
    _check("gamma", gamma, lambda v: 0 < v < 1, "a number strictly between 0 and 1")
    period = every_epochs * steps_per_epoch

    def factor(step: int) -> float:
        # 0.28 epochs of 50 steps are 14.000000000000002 steps, and the cut belongs before step 14.
        return float(gamma ** math.floor(step / period + 1e-9))

    return LambdaLR(optimizer, _after_warmup(total_steps, warmup_fraction, factor))


def _one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup_fraction: float = 0.3,
    start_factor: float = 0.04,
    final_fraction: float = 0.0,
) -> LRScheduler:
    """From `start_factor` of the learning rate up to all of it and down to `final_fraction`, along half cosines.

    Momentum, where the optimizer has any, goes down while the learning rate goes up, and back.

    Source:
        Smith and Topin, Super-Convergence, 2018 (arXiv:1708.07120).
    """
    _check_warmup(warmup_fraction)
    _check("start_factor", start_factor, lambda v: 0 < v <= 1, "a number above 0, at most 1")
    _check("final_fraction", final_fraction, lambda v: 0 <= v <= 1, "a number from 0 to 1")
    momentum = _momentum(optimizer)
    swing = min(_MOMENTUM_SWING, momentum / 2, (1 - momentum) / 2)
    return _OneCycle(
        optimizer,
        max_lr=[float(group["lr"]) for group in optimizer.param_groups],
        total_steps=max(total_steps, 2),  # torch would give a single step the last learning rate, mostly 0
        # A rise of up to one step would end where it starts: torch divides by its length.
        pct_start=float(warmup_fraction) if warmup_fraction * total_steps > 1 else 0.0,
        cycle_momentum=momentum > 0,
        base_momentum=momentum - swing,
        max_momentum=momentum + swing,
        div_factor=1 / start_factor,
        final_div_factor=start_factor / final_fraction if final_fraction else math.inf,
    )


def _plateau(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    *,
    monitor: str = DEFAULT_MONITOR,
    factor: float = 0.1,
    patience: int = 2,
    min_lr: float = 0.0,
    threshold: float = 1e-4,
) -> ReduceLROnPlateau:
    """Times `factor` after more than `patience` epochs in which `monitor` did not improve by over `threshold`."""
    if not isinstance(monitor, str):
        raise ValueError(f"scheduler.monitor must be the name of a logged metric such as val/loss, got {monitor!r}")
    _check("factor", factor, lambda v: 0 < v < 1, "a number strictly between 0 and 1")
    _check("patience", patience, lambda v: v >= 0 and isinstance(v, int), "a whole number of at least 0")
    _check("min_lr", min_lr, lambda v: 0 <= v < math.inf, "a number of at least 0")
    _check("threshold", threshold, lambda v: 0 <= v < math.inf, "a number of at least 0")
    return ReduceLROnPlateau(
        optimizer,
        mode="min" if monitor_mode(monitor) == "min" else "max",
        factor=factor,
        patience=patience,
        min_lr=min_lr,
        threshold=threshold,
        threshold_mode="abs",  # as Keras has it; relative to an AUROC of .99 it would mean another thing than to a loss
        eps=0.0,  # torch skips cuts below 1e-8, which are real ones in the first layers under layer-wise decay
    )


# A new schedule is one function here and one YAML file in conf/scheduler/; its keys are the keyword arguments.
SCHEDULES: dict[str, Callable[..., LRScheduler | ReduceLROnPlateau]] = {
    "constant": _constant,
    "cosine": _cosine,
    "step": _step,
    "one_cycle": _one_cycle,
    PLATEAU: _plateau,
}


class _OneCycle(OneCycleLR):
    """Stays at the end of the cycle, where torch's own raises on the second step beyond it."""

    def get_lr(self) -> list[float | torch.Tensor]:
        if self.last_epoch < self.total_steps:
            return super().get_lr()
        return [group["min_lr"] for group in self.optimizer.param_groups]


def _find_schedule(settings: Mapping[str, Any]) -> Callable[..., LRScheduler | ReduceLROnPlateau]:
    name = settings["name"]
    if name not in SCHEDULES:
        raise ValueError(f"scheduler.name must be one of {', '.join(SCHEDULES)}, got {name!r}")
    parameters = inspect.signature(SCHEDULES[name]).parameters.values()
    known = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    unknown = [key for key in settings if key not in {"name", *known}]
    if unknown:
        raise ValueError(f"scheduler.{unknown[0]} is no key of scheduler={name} (its keys are {', '.join(known)})")
    return SCHEDULES[name]


def _after_warmup(total_steps: int, warmup_fraction: float, factor: Callable[[int], float]) -> Callable[[int], float]:
    """`factor`, with a linear rise from near zero in its place for the first steps."""
    first = _warmup_steps(total_steps, warmup_fraction)
    return lambda step: (step + 1) / (first + 1) if step < first else factor(step)


def _warmup_steps(total_steps: int, warmup_fraction: float) -> int:
    _check_warmup(warmup_fraction)
    return round(warmup_fraction * total_steps)


def _check_warmup(warmup_fraction: float) -> None:
    _check("warmup_fraction", warmup_fraction, lambda v: 0 <= v < 1, "a number from 0 to below 1")


def _check(key: str, value: object, holds: Callable[[float], bool], words: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
        raise ValueError(f"scheduler.{key} must be {words}, got {value!r}")


def _momentum(optimizer: Optimizer) -> float:
    """The optimizer's momentum or first beta, 0 where it has none."""
    betas = optimizer.defaults.get("betas")
    value = betas[0] if betas else optimizer.defaults.get("momentum")
    return float(value or 0.0)
