"""pneumolit's own training command, data and all; one more callback lets an epoch begin when it is its turn.

Started like the command, arguments included: python -m benchmarks._loops.train_command [group=option] [key=value ...]
"""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks._common.pace import Pace
from benchmarks._common.restart import restart_as_commands_do
from benchmarks._loops.with_callback import train_with
from pneumolit.allocator import describe_allocator


def _paced_callback() -> Any:
    import torch
    from pytorch_lightning import Callback, LightningModule, Trainer

    from benchmarks._loops.work import wait_for

    class EpochRounds(Callback):
        """A round is an epoch: from its begin to the end of its last batch; validation and checkpoint come after."""

        def __init__(self) -> None:
            self.pace = Pace.from_environment()
            self._start: float | None = None
            self._seconds = 0.0

        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if self._start is None:
                facts = {"precision": str(trainer.precision), "allocator": describe_allocator()}
                self.pace.tell(threads=torch.get_num_threads(), **facts)
            else:
                wait_for(pl_module.device.type)
                images = trainer.num_training_batches * trainer.datamodule.batch_size  # type: ignore[attr-defined]
                whole = time.perf_counter() - self._start
                self.pace.tell(seconds=self._seconds, epoch_seconds=whole, images=images)
            if self.pace.next_round() is None:
                os._exit(0)  # without the end of the run, which nobody waits for
            wait_for(pl_module.device.type)
            self._start = time.perf_counter()

        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
            assert self._start is not None
            if arguments[-1] + 1 == trainer.num_training_batches:
                wait_for(pl_module.device.type)
                self._seconds = time.perf_counter() - self._start

    return EpochRounds()


if __name__ == "__main__":
    restart_as_commands_do()
    train_with(_paced_callback)
