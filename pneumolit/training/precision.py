"""Which number formats training and scoring use on this device."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

LightningPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]


class Precision(NamedTuple):
    """Formats by purpose: "float32", "bf16" or "fp16" (autocast; weights stay float32)."""

    training: str
    scoring: str


def choose_precision(setting: str, accelerator: str) -> Precision:
    """Resolve the `precision` key.

    Args:
        setting: `auto` trains in bf16 where the hardware multiplies it natively and scores in float32; any other
            value holds for both.
        accelerator: "cpu", "gpu", "cuda" or "mps".
    """
    if setting != "auto":
        return Precision(setting, setting)
    return Precision("bf16" if _has_bf16(accelerator) else "float32", "float32")


def gradient_routes(setting: str, accelerator: str, training: str) -> tuple[str, ...]:
    """Which ways of `model.gradients` a run takes on this device.

    Args:
        setting: `trainer.conv_gradients`, "auto" or "library".
        accelerator: "cpu", "gpu", "cuda" or "mps".
        training: number format of training.

    Returns:
        Names of routes: on a CPU that of the poolings, with native bf16 that of the depthwise layers too.
    """
    if setting != "auto" or accelerator != "cpu":
        return ()
    return ("depthwise", "pooling") if training == "bf16" and _has_bf16("cpu") else ("pooling",)


def lightning_precision(name: str) -> LightningPrecision:
    """Lightning's word for a format."""
    words: dict[str, LightningPrecision] = {"float32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
    return words[name]


def _has_bf16(accelerator: str) -> bool:
    if accelerator in {"gpu", "cuda"}:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if accelerator == "cpu":
        # Without these instructions bf16 is emulated and slower than float32.
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, lambda: False)() for name in checks)
    return False
