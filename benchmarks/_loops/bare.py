"""PyTorch's own bf16 step, channels-last, on one batch that is in memory already: no data, no logging, no loop."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from benchmarks._common.arguments import read_arguments
from benchmarks._common.task import Work
from benchmarks._loops.work import make_net, run_rounds

_CLASSES = 2


def channels_last_batch(batch_size: int, channels: int, side: int, device: str) -> Tensor:
    """Random images whose strides say channels-last also where there is one channel only."""
    strides = (channels * side * side, 1, side * channels, channels)
    images = torch.empty_strided((batch_size, channels, side, side), strides, device=device)
    return images.normal_()


def main() -> None:
    work = read_arguments(Work, sys.argv[1:])
    model = make_net(work, in_chans=1, num_classes=_CLASSES).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    images = channels_last_batch(work.batch_size, 1, work.image_size, work.device)
    targets = torch.randint(0, _CLASSES, (work.batch_size,), device=work.device)

    def step() -> None:
        with torch.autocast(work.device, torch.bfloat16):
            loss = nn.functional.cross_entropy(model(images), targets)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    run_rounds(work, step)


if __name__ == "__main__":
    main()
