"""A job of a sweep: what it is, and what the process that runs it does."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

from pneumolit.interrupts import RunPrunedError
from pneumolit.rundir import DONE, FAILED, INTERRUPTED, PRUNED, RunDir, read_json, utc_now, write_json
from pneumolit.sweep.devices import VISIBLE, Device

ORPHANED = 75  # exit code of a process whose sweep is gone (EX_TEMPFAIL): it can be done again
_EXPECTED = (ValueError, OSError)  # a user's mistake has its message; of all else the traceback is of interest


@dataclass(frozen=True)
class Job:
    """One run of a sweep or a search.

    Attributes:
        number: its place in the sweep, from 0.
        folder: of the run.
        cfg: complete `train` configuration, plain values.
        overrides: what its command line would say.
        choices: what varies between the jobs, by key.
        lock_seconds: how long to wait for another process that works in the folder; None: as long as it takes.
        extra: what a target other than `train_job` needs.
    """

    number: int
    folder: str
    cfg: Mapping[str, Any]
    overrides: tuple[str, ...] = ()
    choices: Mapping[str, Any] = field(default_factory=dict)
    lock_seconds: float | None = 30.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def run(self) -> RunDir:
        """Its folder."""
        return RunDir(self.folder)


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a job ended.

    Attributes:
        job: which.
        state: done, failed, interrupted or pruned.
        reason: of a failure or a stop.
        seconds: of this attempt, the start of the process included.
        device: where it ran.
    """

    job: Job
    state: str
    reason: str = ""
    seconds: float = 0.0
    device: str = ""


Outcomes = Generator[Outcome, None, None]  # whoever closes it stops what runs


class Waiting:
    """Jobs that have not begun, read one by one as there is room for them.

    Args:
        jobs: None among them says that there is nothing to begin with at this moment.

    Attributes:
        is_over: whether the last one was taken.
    """

    def __init__(self, jobs: Iterable[Job | None]) -> None:
        self._jobs = iter(jobs)
        self.is_over = False

    def take(self) -> Job | None:
        """The next job; None where there is none now, or none any more."""
        try:
            return None if self.is_over else next(self._jobs)
        except StopIteration:
            self.is_over = True
            return None


Target = Callable[[Job], None]  # a function of a module, so that a process of its own finds it


def train_job(job: Job) -> None:
    """Train a job's run from its start or from its newest checkpoint; nothing is left to do where it is done."""
    from rich.console import Console

    from pneumolit.training.fit import fit

    cfg = configuration_of(job)
    refuse_absent_gpu(cfg)
    fit(cfg, Path(job.folder), Console(width=120), resume=True, lock_seconds=job.lock_seconds)


def refuse_absent_gpu(cfg: Mapping[str, Any]) -> None:
    """A training that was given a GPU must not go to the CPU in silence, for hours and in another precision.

    Args:
        cfg: what the job trains with.

    Raises:
        ValueError: torch cannot use the GPU that this process was given.
    """
    given = os.environ.get(VISIBLE, "").strip()
    if given in ("", "-1") or cfg["trainer"]["accelerator"] not in ("auto", "gpu"):
        return
    import torch

    if not torch.cuda.is_available():
        raise ValueError(
            f"torch {torch.__version__} cannot use GPU {given}, which this job was given; give GPUs that are there "
            "with hydra.launcher.gpus, none with hydra.launcher.gpus=[] to train on the CPU, or install a build of "
            "torch for them"
        )


def configuration_of(job: Job) -> dict[str, Any]:
    """What to train with: a begun run keeps its own configuration, with the places of now.

    Raises:
        ValueError: it was begun for another kind of device than the one that is asked for.
    """
    from pneumolit.config import flatten
    from pneumolit.training.resume import is_begun, read_config, with_places_of

    if not is_begun(job.run):
        return dict(job.cfg)
    stored, key = read_config(job.run), "trainer.accelerator"
    begun, asked = flatten(stored).get(key), flatten(job.cfg).get(key)
    if asked not in (begun, "auto", None):
        raise ValueError(
            f"this job was begun with {key}={begun} and goes on so, not with {key}={asked}; give {key}={begun}, or "
            f"remove {job.folder} to begin it anew"
        )
    return with_places_of(stored, job.cfg, list(flatten(job.cfg)))


def run_in_process(target: Target, job: Job, device: Device, answer: Any) -> None:
    """Body of a job's process: keep to the device, write to the log, end with the sweep, say how it went.

    Args:
        target: what to do.
        job: with what.
        device: where.
        answer: end of a pipe for (state, reason).
    """
    os.setsid()  # Ctrl-C on the terminal is the sweep's, and whatever this starts can be ended with it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _print_to(job.run.log_file, f"{utc_now()} on {device.name}: {' '.join(job.overrides)}")
    state, reason, code = DONE, "", 0
    try:
        device.enter()
        _wait_for_folder(job)
        target(job)
    except RunPrunedError as error:
        state, reason = PRUNED, str(error)
    except KeyboardInterrupt as error:  # RunInterruptedError is one
        state, reason, code = INTERRUPTED, str(error) or "stopped", 1
    except SystemExit as error:
        state, reason, code = FAILED, f"ended itself (SystemExit: {error.code})", 1
    except _EXPECTED as error:
        traceback.print_exc()
        state, reason, code = FAILED, str(error) or type(error).__name__, 1
    except BaseException as error:
        traceback.print_exc()
        state, reason, code = FAILED, f"{type(error).__name__}: {error}", 1
    sys.stdout.flush()
    sys.stderr.flush()
    answer.send((state, reason))
    # No wait for threads of libraries, and no handler of theirs at exit: all that counts is written.
    os._exit(code)


def note(job: Job, state: str, **details: Any) -> None:
    """Write down how a job stands; attempts are counted by their beginnings.

    A run that has begun and is not done says so too.
    """
    run = job.run
    known = read_json(run.job_file) if run.job_file.is_file() else {}
    known.pop("reason", None)
    known |= {"number": job.number, "overrides": list(job.overrides), "choices": dict(job.choices)}
    write_json(run.job_file, {**known, "state": state, "time": utc_now(), **details})
    if state in (FAILED, INTERRUPTED) and run.status_file.is_file() and read_json(run.status_file)["state"] != DONE:
        run.write_status(state, reason=str(details.get("reason", "")))


def attempts_of(run: RunDir) -> int:
    """How often a job was begun."""
    return int(read_json(run.job_file).get("attempts", 0)) if run.job_file.is_file() else 0


def _stop(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt("stopped before training began")


def _end_with_parent() -> None:
    """End at once when the process of the sweep is gone: checkpoints are whole at any moment."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)
        os._exit(ORPHANED)


def _print_to(path: Path, header: str) -> None:
    """Send all that this process and its children print to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(handle, f"== {header}\n".encode("utf-8", "surrogateescape"))
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.close(handle)
    # Whatever these were in the process that was forked, from here on they are the file, line by line.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _wait_for_folder(job: Job) -> None:
    """A predecessor that is about to end, or a job of a cluster, may still hold the folder."""
    from pneumolit.training.resume import is_held

    end = None if job.lock_seconds is None else time.monotonic() + job.lock_seconds
    while is_held(job.run) and (end is None or time.monotonic() < end):
        time.sleep(0.2)
