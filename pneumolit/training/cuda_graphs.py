"""When the passes of the backbone are recorded as CUDA graphs, and the callback that does it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from pneumolit.data.datamodule import EVAL_BATCH
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.cuda_graphs import record_backbone

Note = Callable[[str], None]
RECORDED = "forward and backward pass"


def why_unrecorded(
    cfg: Mapping[str, Any], *, accelerator: str, precision: str, is_stored: bool, processes: int = 1
) -> str:
    """Why the steps of a stage are not recorded; empty where they are.

    Args:
        cfg: complete configuration of the stage.
        accelerator: Lightning's name of its device.
        precision: number format of training.
        is_stored: whether it trains on stored features.
        processes: that train the model together.

    Raises:
        ValueError: `trainer.cuda_graphs=true`, and it cannot be.
    """
    settings = cfg["trainer"]
    accumulated = settings["accumulate_grad_batches"]
    reasons = (
        (not settings["cuda_graphs"], "trainer.cuda_graphs=false"),
        (accelerator not in {"gpu", "cuda"}, f"the device is {accelerator} and no NVIDIA GPU"),
        (processes > 1, f"{processes} processes average their gradients within the backward pass"),
        (settings["compile"], "trainer.compile=true"),
        (cfg["model"]["mixstyle_prob"] > 0, "model.mixstyle_prob draws numbers within the passes"),
        (is_stored, "the stage trains on stored features"),
        # A replay overwrites the gradients of the one before.
        (accumulated > 1, f"gradients of {accumulated} batches are accumulated"),
        (precision == "fp16", "precision is fp16"),
    )
    why = next((reason for holds, reason in reasons if holds), "")
    if why and settings["cuda_graphs"] is True:
        raise ValueError(f"trainer.cuda_graphs=true cannot be: {why}; leave it at auto")
    return why


class Recording(Callback):
    """Records the passes before the first training batch, and forgets them with the fit.

    Args:
        precision: number format of training, "float32" or "bf16".
        note: told what is recorded, or why nothing is.
        is_asked: whether it is an error that a model cannot be recorded.
    """

    def __init__(self, precision: str, note: Note, *, is_asked: bool = False) -> None:
        self.precision = precision
        self.note = note
        self.is_asked = is_asked
        self._is_over = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record, before the module seeds the random numbers of the epoch."""
        if self._is_over:
            return
        self._is_over = True
        model = cast(PneumoniaClassifier, pl_module)
        reason = self._record(model, len(batch["target"]))
        if reason:
            _release(model)  # here, where no traceback holds what was made
            if self.is_asked:
                raise ValueError(
                    f"trainer.cuda_graphs=true, but this backbone cannot be recorded: {reason}; go on with "
                    "trainer.cuda_graphs=auto"
                )
        self.note(f"no: {reason}" if reason else RECORDED)

    def _record(self, model: PneumoniaClassifier, count: int) -> str:
        """Record batches of so many images; why that cannot be, empty where it could."""
        images = model.empty_batch(count, model.train_size)
        beside = model.empty_batch(EVAL_BATCH, int(model.settings["image_size"]))
        try:
            model.recorded = record_backbone(model.backbone, images, beside=beside, precision=self.precision)
        except (RuntimeError, AssertionError) as error:
            return str(error).partition("\n")[0] or type(error).__name__
        return ""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the memory of the recorded passes back; a fit that fails has no teardown."""
        _release(cast(PneumoniaClassifier, pl_module))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the memory of the recorded passes back."""
        _release(cast(PneumoniaClassifier, pl_module))


def _release(model: PneumoniaClassifier) -> None:
    model.recorded = None
    for parameter in model.parameters():
        parameter.grad = None  # gradients lie in that memory
    gc.collect()  # graphs are parts of reference cycles
    torch.cuda.empty_cache()
