"""The processes that train one model together: how many, what each of them does, and how they reach one another.

The process that runs `fit` is the first of them. It alone writes, prints and scores; the others train along. They talk
through sockets of the machine's loopback interface, and on GPUs by NCCL. One that fails ends the run: the first one
says why, and the rest are killed. When the first one is gone, however it went, each of the others ends itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from rich.console import Console

from pneumolit.config import flatten, process_problems
from pneumolit.data.dataset import load_data
from pneumolit.data.parts import Part
from pneumolit.interrupts import RunPrunedError
from pneumolit.rundir import RunDir
from pneumolit.stage_plan import Stage, plan_stages
from pneumolit.training.build import build_datamodule, check_names
from pneumolit.training.other_ranks import DONE, READY, Failure, Others, is_lost_contact
from pneumolit.training.place import Workplace
from pneumolit.training.stages import Found, train_stages

_ONE_OF_SEVERAL = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")  # torchrun, srun, mpirun
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_GPUS = frozenset(("gpu", "cuda"))
_PATIENCE = timedelta(minutes=30)  # with one that is slower than the others; one that is gone is noticed at once
_SECONDS_TO_SAY_WHY = 10.0  # after which a process that lost contact takes that for the cause


def count_processes(devices: int | str, accelerator: str) -> int:
    """How many processes `trainer.devices` means on this machine.

    Args:
        devices: a number, or "auto" for all GPUs (one process where there is none).
        accelerator: from `choose_accelerator`.

    Raises:
        ValueError: there are fewer devices.
    """
    is_there = torch.cuda.device_count() if accelerator in _GPUS else 1
    if devices == "auto":
        return is_there
    count = int(devices)
    if accelerator in _GPUS and count > is_there:
        raise ValueError(
            f"trainer.devices={count}, but this machine has {is_there} GPU{'s' * (is_there > 1)}; set "
            f"trainer.devices={is_there} or auto"
        )
    if accelerator == "mps" and count > 1:
        raise ValueError(
            f"trainer.devices={count}, but MPS is one device; set trainer.devices=1 or trainer.accelerator=cpu"
        )
    return count


def refuse_other_launchers(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to be one of several processes that another program has started: each would train the whole run.

    Raises:
        ValueError: names the variable that says so.
    """
    for name in _ONE_OF_SEVERAL:
        value = environment.get(name, "")
        if value.isdigit() and int(value) > 1:
            raise ValueError(
                f"{name}={value} says that this process is one of several that another program (torchrun, srun, "
                "mpirun) has started; start the command once and set trainer.devices, and it starts the others itself"
            )


def refuse_unequal_parts(stages: Sequence[Stage], count: int, num_images: int) -> None:
    """Refuse what several processes cannot do, where only the machine or the data say so.

    Args:
        stages: of the run.
        count: processes.
        num_images: of the training split.

    Raises:
        ValueError: names every problem of the first stage that has one.
    """
    for stage in stages:
        problems = process_problems(flatten(stage.cfg), count)
        if not problems and num_images < stage.cfg["data"]["batch_size"] and num_images % count:
            problems = [
                f"the training split holds {num_images} images, fewer than data.batch_size="
                f"{stage.cfg['data']['batch_size']}, and they cannot be divided among {count} processes "
                f"(trainer.devices); set data.batch_size={max(num_images // count, 1) * count}"
            ]
        if problems:
            message = "\n".join(problems)
            raise ValueError(f"stage {stage.name}: {message}" if stage.count > 1 else message)


@contextlib.contextmanager
def several_processes(cfg: Mapping[str, Any], place: Workplace, found: Found | None) -> Iterator[None]:
    """In here the other processes of a run train along; of a run in one process there are none.

    Args:
        cfg: the run's configuration.
        place: of the first process.
        found: the newest checkpoint, from which all go on.

    Raises:
        ValueError, RuntimeError: another process failed: what it said, or how it ended.
    """
    part = place.part
    if part.count == 1:
        yield
        return
    threads = torch.get_num_threads()
    own = max(1, threads // part.count)
    with _environment_for_others(), contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        orders = [_Orders.of(cfg, place, found, k, own, port) for k in range(1, part.count)]
        others = Others(place.run, _train_along, orders, partial(_break_off, place.accelerator))
        torch.set_num_threads(own)
        try:
            others.start()
            with _joined(part, place.accelerator, port, listener):
                yield
            others.leave()
        except (KeyboardInterrupt, SystemExit, RunPrunedError):
            raise
        except Exception as error:
            failure = others.cause(_SECONDS_TO_SAY_WHY if is_lost_contact(error) else 0.0)
            if failure is not None:
                raise failure.as_error(part.count) from error
            raise
        finally:
            others.kill()
            torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Orders:
    """What a further process needs to know to train along."""

    cfg: Mapping[str, Any]
    run_path: Path
    cache_dir: Path
    found: Found | None
    part: Part
    accelerator: str
    precision: str
    gradient_routes: tuple[str, ...]
    threads: int
    port: int

    @classmethod
    def of(
        cls, cfg: Mapping[str, Any], place: Workplace, found: Found | None, index: int, threads: int, port: int
    ) -> _Orders:
        """The orders of one process, out of the place of the first one."""
        return cls(
            cfg=cfg,
            run_path=place.run.path.absolute(),
            cache_dir=place.cache_dir,
            found=None if found is None else (found[0], dict(found[1])),
            part=Part(index, place.part.count),
            accelerator=place.accelerator,
            precision=place.precision,
            gradient_routes=place.gradient_routes,
            threads=threads,
            port=port,
        )


def _train_along(orders: _Orders, pipe: connection.Connection) -> None:
    """What a further process does: the same training, without a word or a file."""
    threading.Thread(target=_end_with_the_first, name="first", daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the first process ends the others
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    warnings.simplefilter("ignore")  # the first process has the same
    logging.disable(logging.WARNING)
    try:
        torch.set_num_threads(orders.threads)
        if orders.accelerator in _GPUS:
            torch.cuda.set_device(orders.part.index)
        stages = plan_stages(orders.cfg)
        data = load_data(orders.cfg["data"], orders.cache_dir)
        place = Workplace(
            RunDir(orders.run_path),
            check_names(stages[0].cfg),
            build_datamodule(orders.cfg, data, orders.part),
            orders.accelerator,
            orders.precision,
            Console(quiet=True),
            orders.cache_dir,
            orders.gradient_routes,
        )
        pipe.send(READY)
        with _joined(orders.part, orders.accelerator, orders.port):
            train_stages(stages, place, found=orders.found)
        pipe.send(DONE)
    except BaseException as error:
        with contextlib.suppress(OSError):  # nobody listens any more
            pipe.send(Failure.of(orders.part.index, error))
        os._exit(1)  # without the end of the interpreter, which would wait for the other processes


def _end_with_the_first() -> NoReturn:
    first = parent_process()
    assert first is not None
    # Workers that the first process forked hold its end of the pipe for seconds more.
    while not connection.wait([first.sentinel], timeout=0.5) and os.getppid() == first.pid:
        pass
    os._exit(1)


@contextlib.contextmanager
def _joined(part: Part, accelerator: str, port: int, listener: socket.socket | None = None) -> Iterator[None]:
    """In here torch's collectives reach the other processes.

    Args:
        part: which of them this is.
        accelerator: Lightning's name of the device.
        port: where the first one listens.
        listener: its socket, in the first process.
    """
    store = dist.TCPStore(  # type: ignore[attr-defined]  # torch documents it here
        "127.0.0.1",
        port,
        part.count,
        is_master=listener is not None,
        timeout=_PATIENCE,
        wait_for_workers=False,
        master_listen_fd=listener.detach() if listener is not None else None,
    )
    backend = "cpu:gloo,cuda:nccl" if accelerator in _GPUS else "gloo"
    dist.init_process_group(backend, store=store, rank=part.index, world_size=part.count, timeout=_PATIENCE)
    try:
        yield
    except BaseException:
        _break_off(accelerator)  # what is under way would be waited for
        raise
    finally:
        dist.destroy_process_group()


def _break_off(accelerator: str) -> None:
    """Let a GPU no longer wait for other processes; sockets notice by themselves that one is gone."""
    if accelerator in _GPUS and dist.is_initialized():
        with contextlib.suppress(Exception):  # not yet, or no longer, in use
            dist.distributed_c10d._get_default_group()._get_backend(torch.device("cuda")).abort()


@contextlib.contextmanager
def _environment_for_others() -> Iterator[None]:
    """Variables that processes which start in here begin with; what the user has set stays."""
    names = [name for _, name in socket.if_nameindex() if name in {"lo", "lo0"}] if os.name == "posix" else []
    wanted = dict.fromkeys(_INTERFACES, names[0]) if names else {}
    # Python's own janitor cleans up behind the loaders of a process that was killed, and would say so.
    wanted["PYTHONWARNINGS"] = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker"]))
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update({name: value for name, value in wanted.items() if name == "PYTHONWARNINGS" or not before[name]})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})
