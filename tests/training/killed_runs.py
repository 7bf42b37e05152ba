"""Runs that kill themselves: a process that imports everything once and forks one child per run.

Reads one JSON line per run from standard input: `cfg`, `folder`, `kill` ({"at": where, "count": n} or null), `between`
(seconds from one checkpoint of a quick stage to the next, null for the usual ones), and answers with the child's exit
code, -9 for a child that SIGKILL ended. Children share no state with one another.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import torch
from rich.console import Console

from pneumolit.data.augment import resize_batch
from pneumolit.model import features
from pneumolit.model.backbone import transfer_weights
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.rundir import RunDir
from pneumolit.training import callbacks, checkpoints, stages
from pneumolit.training.fit import fit


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_at(count: int, function: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
    """The function, but the process ends in its call number `count`."""
    calls = 0

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count and not after:
            die()
        result = function(*arguments, **keywords)
        if calls == count:
            die()
        return result

    return wrapped


def torn_save(content: Any, handle: Any) -> None:
    """Half a checkpoint, then the end."""
    whole = io.BytesIO()
    torch.save(content, whole)
    handle.write(whole.getvalue()[: whole.tell() // 2])
    handle.flush()
    die()


def tear_checkpoint(count: int, *, is_late: bool = False) -> None:
    """The end comes in the middle of a checkpoint; a late one waits for the row of the epoch after it."""
    real, append, calls = torch.save, RunDir.append_metrics, 0
    rows: SimpleQueue[float] = SimpleQueue()  # epochs in the order in which they get to metrics.csv

    def appended(run: RunDir, row: Mapping[str, float]) -> None:
        append(run, row)
        rows.put(row["epoch"])

    def save(content: Any, handle: Any) -> None:
        nonlocal calls
        calls += not (is_late and content["stage"]["is_over"])
        if calls != count:
            real(content, handle)
            return
        while is_late and rows.get() <= content["stage"]["epochs"]:
            pass
        torn_save(content, handle)

    cls: Any = RunDir
    cls.append_metrics = appended
    vars(checkpoints)["torch"] = SimpleNamespace(save=save, load=torch.load)


def prepare(at: str, count: float) -> None:
    """Arrange the end of this process."""
    module: Any = PneumoniaClassifier
    if at == "batch":
        module.training_step = dies_at(int(count), module.training_step)
    elif at == "validation":
        module.validation_step = dies_at(int(count), module.validation_step)
    elif at == "write":  # in the middle of writing checkpoint number `count`
        tear_checkpoint(int(count))
    elif at == "behind":  # the same, but of those with an epoch after them, and when that one is in metrics.csv
        tear_checkpoint(int(count), is_late=True)
    elif at == "copied":  # best.ckpt is new, last.ckpt not yet
        vars(checkpoints)["_put_copy"] = dies_at(int(count), checkpoints._put_copy, after=True)
    elif at == "features":  # features of batch number `count` are not computed
        vars(features)["resize_batch"] = dies_at(int(count), resize_batch)
    elif at == "stages":  # the next stage is built, nothing of it is trained
        vars(stages)["transfer_weights"] = dies_at(int(count), transfer_weights, after=True)
    elif at == "seconds":
        timer = threading.Timer(count, die)
        timer.daemon = True
        timer.start()
    else:
        raise ValueError(at)


def main() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                torch.set_num_threads(1)
                if job["kill"]:
                    prepare(**job["kill"])
                if job["between"] is not None:
                    vars(callbacks)["SECONDS_BETWEEN"] = job["between"]
                fit(job["cfg"], Path(job["folder"]), Console(file=io.StringIO()), resume=True)
                code = 0
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
