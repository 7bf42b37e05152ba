"""Formats of numbers: auto never scores in less than float32, a given format holds for both."""

from __future__ import annotations

import pytest

from pneumolit.training.precision import choose_precision, lightning_precision


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
