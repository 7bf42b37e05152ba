"""The head-only loop of the write-ups: everything but the last layer without gradient, and yet in train() mode.

A round takes `steps` training batches and validates on one batch for every nine of them.
"""

from __future__ import annotations

import sys
import time

import torch
from torch import nn

from benchmarks._common.arguments import read_arguments
from benchmarks._common.films import training_folder
from benchmarks._common.pace import Pace
from benchmarks._common.task import Work
from benchmarks._loops.folder import endless_loader, open_folder
from benchmarks._loops.work import make_net


def main() -> None:
    work = read_arguments(Work, sys.argv[1:])
    assert work.data_root is not None
    data = open_folder(training_folder(work.data_root), work.image_size, is_augmented=False)
    train, val = (iter(endless_loader(data, work.batch_size)) for _ in range(2))
    model = make_net(work, in_chans=3, num_classes=len(data.classes))
    head = model.get_classifier()  # type: ignore[operator]
    model.requires_grad_(False)
    head.requires_grad_(True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    running = {"loss": 0.0, "correct": 0}

    def count(outputs: torch.Tensor, loss: torch.Tensor, labels: torch.Tensor) -> None:
        running["loss"] += loss.item() * len(labels)
        running["correct"] += int((outputs.argmax(1) == labels).sum().item())

    def step() -> None:
        images, labels = (part.to(work.device) for part in next(train))
        optimizer.zero_grad()
        outputs = model(images)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        count(outputs, loss, labels)

    def validate() -> None:
        images, labels = (part.to(work.device) for part in next(val))
        with torch.no_grad():
            outputs = model(images)
            count(outputs, criterion(outputs, labels), labels)

    pace = Pace.from_environment()
    pace.tell(threads=torch.get_num_threads())
    while (steps := pace.next_round()) is not None:
        start = time.perf_counter()
        model.train()
        for _ in range(steps):
            step()
        trained = time.perf_counter()
        model.eval()
        validated = max(1, steps // 9)
        for _ in range(validated):
            validate()
        seconds, end = trained - start, time.perf_counter()
        pace.tell(
            seconds=end - start,
            train_rate=steps * work.batch_size / seconds,
            val_rate=validated * work.batch_size / (end - trained),
        )


if __name__ == "__main__":
    main()
