"""A run in two processes of which one can be told to fail.

Takes one JSON object as its argument: `cfg`, `folder`, and where it fails: `process` (0 or 1), `step` (of training,
from 1) and `how` ("kill", "raise", "diverge", "wait", or "" for not at all; before it waits a file `waiting` appears
beside the folder). The further process imports this file as well, so that it finds its orders here, and fails when it
writes below the folder. Prints what `fit` raised.
"""

from __future__ import annotations

import io
import json
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.collectives import process_index
from pneumolit.training.fit import fit

JOB = json.loads(sys.argv[1])


def fail_in_step() -> None:
    whole, calls = PneumoniaClassifier.training_step, 0

    def step(self: PneumoniaClassifier, batch: Any, batch_idx: int) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls != JOB["step"] or process_index() != JOB["process"]:
            return whole(self, batch, batch_idx)
        if JOB["how"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if JOB["how"] == "diverge":
            self._check_finite(math.nan, batch_idx)
        if JOB["how"] == "raise":
            raise RuntimeError("a bug of this process")
        Path(JOB["folder"]).with_name("waiting").touch()
        time.sleep(120)
        return whole(self, batch, batch_idx)

    method: Any = PneumoniaClassifier
    method.training_step = step


def refuse_writing(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and str(arguments[0]).startswith(JOB["folder"]) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        raise RuntimeError(f"the further process writes {arguments[0]}")


if JOB["how"]:
    fail_in_step()
if __name__ != "__main__":
    sys.addaudithook(refuse_writing)

if __name__ == "__main__":
    try:
        fit(JOB["cfg"], Path(JOB["folder"]), Console(file=io.StringIO()), resume=True)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}")
        raise SystemExit(getattr(error, "exit_code", 1)) from None
