"""Formats of numbers: auto never scores in less than float32, a given format holds for both."""

from __future__ import annotations

import pytest

from pneumolit.model.gradients import ROUTES
from pneumolit.training import precision
from pneumolit.training.precision import choose_precision, gradient_routes, lightning_precision


@pytest.mark.parametrize("setting", ["float32", "bf16", "fp16"])
def test_given_format_holds_for_training_and_scoring(setting: str) -> None:
    assert choose_precision(setting, "cpu") == (setting, setting)


@pytest.mark.parametrize("accelerator", ["cpu", "mps"])
def test_auto_scores_in_float32(accelerator: str) -> None:
    precision = choose_precision("auto", accelerator)
    assert precision.scoring == "float32"
    assert precision.training in ({"float32", "bf16"} if accelerator == "cpu" else {"float32"})


def test_every_format_has_a_word_of_lightning() -> None:
    assert [lightning_precision(n) for n in ("float32", "bf16", "fp16")] == ["32-true", "bf16-mixed", "16-mixed"]


BOTH = ("depthwise", "pooling")


@pytest.mark.parametrize(
    ("setting", "accelerator", "training", "has_bf16", "expected"),
    [
        ("auto", "cpu", "bf16", True, BOTH),
        ("library", "cpu", "bf16", True, ()),
        ("auto", "cpu", "float32", True, ("pooling",)),
        ("auto", "cpu", "bf16", False, ("pooling",)),  # emulated: depthwise layers were not measured there
        ("auto", "gpu", "bf16", True, ()),
    ],
)
def test_fast_gradients_are_those_measured_for_the_device_and_its_formats(
    setting: str,
    accelerator: str,
    training: str,
    has_bf16: bool,
    expected: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "_has_bf16", lambda name: has_bf16)
    assert gradient_routes(setting, accelerator, training) == expected


def test_every_route_that_a_run_may_take_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_has_bf16", lambda name: True)
    assert set(gradient_routes("auto", "cpu", "bf16")) == set(ROUTES)
