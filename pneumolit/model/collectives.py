"""What several processes that train one model tell one another; in one process all of it is the tensor itself.

Only tensors travel: objects would have to be unpickled.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def num_processes() -> int:
    """How many processes train this model together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_index() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if num_processes() > 1 else 0


def mean_of_all(tensor: Tensor) -> Tensor:
    """The mean over processes of a float tensor, the same bits in each."""
    if num_processes() == 1:
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total / num_processes()


def rows_of_all(rows: Tensor) -> Tensor:
    """`(N, ...)`: the rows of every process, one process behind the other; how many each one has may differ."""
    if num_processes() == 1:
        return rows
    count = torch.tensor(len(rows), device=rows.device)
    counts = [int(n) for n in torch.stack(_gathered(count)).tolist()]
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows
    return torch.cat([part[:n] for part, n in zip(_gathered(padded), counts, strict=True)])


def equal_rows_of_all(rows: Tensor) -> Tensor:
    """`rows_of_all` where every process has equally many; a GPU does not wait."""
    return torch.cat(_gathered(rows)) if num_processes() > 1 else rows


def share_state(module: nn.Module) -> None:
    """Give every process the first one's parameters and buffers, where they lie on the CPU."""
    if num_processes() == 1:
        return
    tensors = [t.detach() for t in (*module.parameters(), *module.buffers())]
    for dtype in sorted({t.dtype for t in tensors}, key=str):
        _take_over([t for t in tensors if t.dtype == dtype])


def average_buffers(buffers: Iterable[Tensor]) -> None:
    """Replace float buffers by their mean over processes."""
    tensors = list(buffers)
    if num_processes() == 1 or not tensors:
        return
    mean = mean_of_all(torch.cat([t.reshape(-1) for t in tensors]))
    for tensor, values in zip(tensors, torch.split(mean, [t.numel() for t in tensors]), strict=True):
        tensor.copy_(values.view(tensor.shape))


def _gathered(tensor: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(num_processes())]
    dist.all_gather(parts, tensor.contiguous())
    return parts


def _take_over(tensors: list[Tensor]) -> None:
    """Copy the first process's values into tensors of one number format."""
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.broadcast(flat.view(torch.uint8), 0)  # as bytes: not every number format travels
    for tensor, values in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
        tensor.copy_(values.view(tensor.shape))
