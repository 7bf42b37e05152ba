"""The loop of the write-ups: ImageFolder, DataLoader with two workers, float32, Adam, loss.item() in every step."""

from __future__ import annotations

import sys

import torch
from torch import nn

from benchmarks._common.arguments import read_arguments
from benchmarks._common.films import training_folder
from benchmarks._common.task import Work
from benchmarks._loops.folder import endless_loader, lead_in, open_folder
from benchmarks._loops.work import make_net, run_rounds


def main() -> None:
    work = read_arguments(Work, sys.argv[1:])
    assert work.data_root is not None
    data = open_folder(training_folder(work.data_root), work.image_size, is_augmented=True)
    batches = iter(endless_loader(data, work.batch_size))
    model = make_net(work, in_chans=3, num_classes=len(data.classes)).train()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    running = {"loss": 0.0, "correct": 0}

    def step() -> None:
        images, labels = next(batches)
        images, labels = images.to(work.device), labels.to(work.device)
        optimizer.zero_grad()
        outputs = model(images)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        running["loss"] += loss.item() * len(labels)
        running["correct"] += int((outputs.argmax(1) == labels).sum().item())

    run_rounds(work, step, lead_in=lead_in(work.device))


if __name__ == "__main__":
    main()
