"""What processes tell one another arrives as it was; one process keeps what it has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from pneumolit.model.collectives import (
    average_buffers,
    equal_rows_of_all,
    mean_of_all,
    num_processes,
    process_index,
    rows_of_all,
    share_state,
)


class Mixed(nn.Module):
    """A parameter, a frozen one in another order of memory, and buffers of several number formats."""

    flags: Tensor

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3, 2), value))
        self.frozen = nn.Parameter(torch.full((2, 3, 4, 4), value).to(memory_format=torch.channels_last), False)
        self.register_buffer("count", torch.tensor(int(value)))
        self.register_buffer("coarse", torch.full((3,), value, dtype=torch.bfloat16))
        self.register_buffer("flags", torch.tensor([value > 1, True]), persistent=False)


def test_one_process_keeps_what_it_has() -> None:
    rows = torch.arange(6.0).view(3, 2)
    assert (num_processes(), process_index()) == (1, 0)
    for keep in (mean_of_all, rows_of_all, equal_rows_of_all):
        assert keep(rows) is rows
    share_state(Mixed(1.0))
    average_buffers([rows])
    torch.testing.assert_close(rows, torch.arange(6.0).view(3, 2))


def check_all(index: int, file: str) -> None:
    """Run in each of two processes."""
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=index, world_size=2)
    assert (num_processes(), process_index()) == (2, index)
    own = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    for counts in ((2, 1), (0, 3), (3, 0)):
        part = own[: counts[0]] if index == 0 else own[counts[0] :]
        torch.testing.assert_close(rows_of_all(part), own)
    torch.testing.assert_close(equal_rows_of_all(own[index : index + 1]), own[:2])
    torch.testing.assert_close(mean_of_all(torch.tensor(float(index))), torch.tensor(0.5))
    model = Mixed(float(index + 1))
    share_state(model)
    for tensor, expected in zip(model.state_dict().values(), Mixed(1.0).state_dict().values(), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=0, atol=0)
    assert model.flags.tolist() == [False, True]
    assert model.frozen.is_contiguous(memory_format=torch.channels_last)
    mean, variance = torch.full((4,), float(index)), torch.full((2, 2), 4.0 * index)
    average_buffers([mean, variance])
    assert mean.tolist() == [0.5] * 4 and variance.tolist() == [[2.0, 2.0]] * 2
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_hear_what_the_other_one_has(tmp_path: Path) -> None:
    spawn(check_all, (str(tmp_path / "meeting"),), nprocs=2)  # type: ignore[no-untyped-call]
