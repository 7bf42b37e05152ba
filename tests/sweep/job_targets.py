"""What jobs do in the tests of sweeps: good and bad ends, chosen by the job or by the environment.

Imported by name in the processes of jobs, so the tests put this folder on the path.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pneumolit.interrupts import RunPrunedError
from pneumolit.sweep.job import Job, train_job

CAUSES = "SWEEP_TEST_CAUSES"  # in the environment: JSON, number of the job -> how it ends


def end(how: str) -> None:
    """End this process in some way; returns for those that it does not know."""
    if how == "raise":
        raise RuntimeError("boom")
    if how == "value":
        raise ValueError("optim.lr must be small, got 7")
    if how == "exit":
        sys.exit(3)
    if how == "leave":
        os._exit(5)
    if how == "prune":
        raise RunPrunedError("others were better")
    if how == "kill":  # from outside: by another process
        subprocess.run(["kill", "-9", str(os.getpid())], check=False)
        time.sleep(60)
    if how == "hoard":
        taken = []
        while True:
            taken.append(bytearray(b"1" * 10**7))
    if how == "hang":
        time.sleep(600)


def act(job: Job) -> None:
    """Write down where and when this ran, and end as the job says."""
    import torch

    beginning = time.time()
    time.sleep(float(job.extra.get("seconds", 0)))
    how = str(job.extra.get("how", ""))
    if how == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tell(job, child=subprocess.Popen(["sleep", "600"]).pid)
        time.sleep(600)
    end(how)
    tell(
        job,
        pid=os.getpid(), gpu=os.environ.get("CUDA_VISIBLE_DEVICES"), threads=torch.get_num_threads(),
        cores=sorted(os.sched_getaffinity(0)), begin=beginning, end=time.time(),
        maps=Path("/proc/self/maps").read_text(), modules=sorted(sys.modules),
        counted=getattr(torch.cuda, "_cached_device_count", None),
    )  # fmt: skip


def tell(job: Job, **facts: Any) -> None:
    """Leave facts in the folder of the job."""
    (Path(job.folder) / "facts.json").write_text(json.dumps(facts))


def train_or_end(job: Job) -> None:
    """Train as ever, unless the environment names a bad end for this job."""
    with (Path(job.folder).parent / "begun.txt").open("a") as handle:
        handle.write(f"{job.number}\n")
    end(json.loads(os.environ.get(CAUSES, "{}")).get(str(job.number), ""))
    train_job(job)
