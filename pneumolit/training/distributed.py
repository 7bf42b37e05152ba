"""Lightning's side of several processes that train one model: a strategy for processes that are there already."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy

from pneumolit.data.parts import Part
from pneumolit.rundir import RunDir, read_json
from pneumolit.stage_plan import Stage


class JoinedProcesses(ClusterEnvironment):
    """Processes of one machine that have found one another before Lightning looks for them.

    Args:
        part: which of them this is.
    """

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.part = part

    @property
    def creates_processes_externally(self) -> bool:
        """They are there already."""
        return True

    @property
    def main_address(self) -> str:
        """Where they have met."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """None: they have met."""
        return 0

    @staticmethod
    def detect() -> bool:
        """Never found by Lightning itself."""
        return False

    def world_size(self) -> int:
        """How many there are."""
        return self.part.count

    def set_world_size(self, size: int) -> None:
        """It is known."""

    def global_rank(self) -> int:
        """Which of them this is."""
        return self.part.index

    def set_global_rank(self, rank: int) -> None:
        """It is known."""

    def local_rank(self) -> int:
        """All are on one machine."""
        return self.part.index

    def node_rank(self) -> int:
        """There is one machine."""
        return 0


class JoinedStrategy(DDPStrategy):
    """DDP over joined processes.

    Buffers do not travel with every step: of those only running statistics move, and their means are taken before each
    validation.

    Args:
        part: which of the processes this is.
    """

    def __init__(self, part: Part) -> None:
        super().__init__(
            cluster_environment=JoinedProcesses(part), find_unused_parameters=False, broadcast_buffers=False
        )

    def _configure_launcher(self) -> None:
        self._launcher = None  # Lightning's would set the threads, and a variable that outlives the run


def leave_signals_alone(trainer: Trainer) -> Trainer:
    """Let the run itself answer SIGTERM where several processes train; returns the trainer.

    Lightning's handler would broadcast from wherever it interrupts one process, and before every batch each process
    would ask the first one whether it did, for which a GPU waits.
    """
    trainer._signal_connector.register_signal_handlers = _do_nothing  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _do_nothing  # type: ignore[method-assign]
    return trainer


def _do_nothing() -> None: ...


@contextlib.contextmanager
def unused_weights_explained(backbone: str) -> Iterator[None]:
    """Turn DDP's message about weights without a gradient into one that names the way out.

    Args:
        backbone: name of the model.

    Raises:
        ValueError: some weights that train take no part in a step.
    """
    try:
        yield
    except RuntimeError as error:
        if "Expected to have finished reduction" not in str(error):
            raise
        raise ValueError(
            f"backbone={backbone} has weights that train but that no step uses, and several processes would wait for "
            "their gradients; set trainer.devices=1, or freeze them"
        ) from error


def describe_processes(
    count: int, stages: Sequence[Stage], moving_norms: Sequence[Sequence[str]]
) -> dict[str, Any] | None:
    """For the record: who trains the model together, and what its batch norms see; None for one process.

    Args:
        count: processes.
        stages: of the run.
        moving_norms: of every stage, names of the batch norms that collect statistics.
    """
    if count == 1:
        return None
    sizes = [s.cfg["data"]["batch_size"] // count for s, norms in zip(stages, moving_norms, strict=True) if norms]
    images = " or ".join(str(size) for size in dict.fromkeys(sizes))
    norms = f"statistics are per process ({images} images each)" if sizes else "none collects statistics"
    return {"processes": count, "strategy": "ddp", "batch_norm": norms}


def moving_norms_of(run: RunDir) -> list[Sequence[str]]:
    """Of every stage of a run that has begun, names of the batch norms that collect statistics."""
    return [plan["moving_norms"] for plan in read_json(run.freeze_plan_file)["stages"]]
