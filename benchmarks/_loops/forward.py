"""Inference without pneumolit: a notebook's loop over files, or forward passes of one batch in memory."""

from __future__ import annotations

import sys

import torch

from benchmarks._common.arguments import read_arguments
from benchmarks._common.films import training_folder
from benchmarks._common.task import Forward, Work
from benchmarks._loops.bare import channels_last_batch
from benchmarks._loops.folder import endless_loader, lead_in, open_folder
from benchmarks._loops.work import make_net, run_rounds


def main() -> None:
    work = read_arguments(Forward, sys.argv[1:])
    {"folder": run_folder, "float32": run_float32, "bf16": run_bf16}[work.mode](work)


def run_folder(work: Work) -> None:
    assert work.data_root is not None
    data = open_folder(training_folder(work.data_root), work.image_size, is_augmented=False)
    batches = iter(endless_loader(data, work.batch_size))
    model = make_net(work, in_chans=3, num_classes=len(data.classes)).eval()
    probs = []

    def step() -> None:
        images, _ = next(batches)
        with torch.no_grad():
            probs.append(torch.softmax(model(images.to(work.device)), 1).cpu())

    run_rounds(work, step, lead_in=lead_in(work.device))


def run_float32(work: Work) -> None:
    model = make_net(work, in_chans=1, num_classes=2).eval()
    images = torch.randn((work.batch_size, 1, work.image_size, work.image_size), device=work.device)

    def step() -> None:
        with torch.inference_mode():
            model(images)

    run_rounds(work, step)


def run_bf16(work: Work) -> None:
    model = make_net(work, in_chans=1, num_classes=2).to(memory_format=torch.channels_last).eval()
    images = channels_last_batch(work.batch_size, 1, work.image_size, work.device)

    def step() -> None:
        with torch.inference_mode(), torch.autocast(work.device, torch.bfloat16):
            model(images)

    run_rounds(work, step)


if __name__ == "__main__":
    main()
