"""pneumolit's training command up to the end of its first training step, where this process ends.

Started like the command, arguments included: python -m benchmarks._loops.first_step [group=option] [key=value ...]
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks._common.pace import Pace
from benchmarks._common.restart import restart_as_commands_do
from benchmarks._loops.with_callback import train_with


def _first_step() -> Any:
    from pytorch_lightning import Callback

    class FirstStep(Callback):
        def on_train_batch_end(self, *arguments: Any) -> None:
            Pace.from_environment().tell()
            os._exit(0)

    return FirstStep()


if __name__ == "__main__":
    restart_as_commands_do()
    train_with(_first_step)
