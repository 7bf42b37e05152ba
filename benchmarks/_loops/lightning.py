"""A plain Lightning loop as common templates write it: workers, everything logged in every step, float32."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from benchmarks._common.arguments import read_arguments
from benchmarks._common.films import training_folder
from benchmarks._common.pace import Pace
from benchmarks._common.task import Work
from benchmarks._loops.folder import endless_loader, lead_in, open_folder
from benchmarks._loops.work import make_net, wait_for


class TemplateModule(LightningModule):
    """A net, its loss, its accuracy, its optimizer."""

    def __init__(self, net: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.net = net
        self.criterion = nn.CrossEntropyLoss()
        self.train_acc = MulticlassAccuracy(num_classes)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, targets = batch
        logits = self.net(images)
        loss: Tensor = self.criterion(logits, targets)
        self.train_acc(logits.argmax(1), targets)
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Rounds(Callback):
    """Stands still at the end of a round until the next one is called for; all of it is one long epoch."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.pace = Pace.from_environment()
        self._untimed = self._left = self._steps = 0
        self._start = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pace.tell(threads=torch.get_num_threads())
        self._begin()

    def on_train_batch_end(self, *arguments: Any) -> None:
        if self._untimed:
            self._untimed -= 1
            if not self._untimed:
                self._start_clock()
            return
        self._left -= 1
        if not self._left:
            wait_for(self.work.device)
            self.pace.tell(seconds=time.perf_counter() - self._start, images=self._steps * self.work.batch_size)
            self._begin()

    def _begin(self) -> None:
        steps = self.pace.next_round()
        if steps is None:
            os._exit(0)  # without an end of training, which nobody waits for
        self._left = self._steps = steps
        self._untimed = lead_in(self.work.device)
        if not self._untimed:
            self._start_clock()

    def _start_clock(self) -> None:
        wait_for(self.work.device)
        self._start = time.perf_counter()


def main() -> None:
    work = read_arguments(Work, sys.argv[1:])
    assert work.data_root is not None
    data = open_folder(training_folder(work.data_root), work.image_size, is_augmented=True)
    net = make_net(work, in_chans=3, num_classes=len(data.classes))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=1,
            accelerator="gpu" if work.device == "cuda" else "cpu",
            devices=1,
            callbacks=[Rounds(work)],
            default_root_dir=folder,
        )
        trainer.fit(TemplateModule(net, len(data.classes)), endless_loader(data, work.batch_size))


if __name__ == "__main__":
    main()
