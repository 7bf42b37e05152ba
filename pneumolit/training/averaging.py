"""Averages of the weights, by step or by epoch, that validation and checkpoints see in their place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from pneumolit.data.datamodule import ChestXrayDataModule
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.collectives import average_buffers
from pneumolit.model.freeze import FreezePlan

NORM_BATCHES = 50  # of a new estimate: 1600 images at 32 per batch, forward only


class Pairs:
    """Averaged tensors and the moving ones beside them, sorted once: there can be thousands, and steps can be short.

    Args:
        pairs: (averaged, moving).
    """

    def __init__(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        self._fractions: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._counters: tuple[list[Tensor], list[Tensor]] = ([], [])
        for averaged, current in pairs:
            kind = self._fractions if averaged.is_floating_point() else self._counters
            kind[0].append(averaged)
            kind[1].append(current)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from chain(*(zip(*kind, strict=True) for kind in (self._fractions, self._counters)))

    @torch.no_grad()
    def approach(self, weight: float) -> None:
        """averaged += weight * (current - averaged); equal values stay bit for bit, whole numbers are copied."""
        if self._fractions[0] and weight < 1:
            torch._foreach_lerp_(*self._fractions, weight)
        for kind in (self._counters,) if weight < 1 else (self._fractions, self._counters):
            if kind[0]:
                torch._foreach_copy_(*kind)


class AveragedWeights(WeightAveraging):
    """What both averages keep to: exact after a resume, no wait for a GPU, swapped in while validating and only then.

    Lightning's callback brings the averaged copy, the swap and the places in the checkpoint: `state_dict` is the
    average, `current_model_state` the moving weights. Its own update is not used: it reads a counter back from the
    device twice per step. Its swap happens in every validation, that of `Trainer.validate` and the sanity check
    included, and an exception in validation leaves the averaged weights in the model; here both cannot be. Frozen
    weights are the same in both models: they are neither averaged nor swapped, and written once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._num_averaged = 0  # the copy's n_averaged, known without asking the device
        self._is_swapped = False
        self._pairs: tuple[Pairs, Pairs] | None = None

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Lightning's own update stays off."""
        return False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start a new average with every fit; a checkpoint is loaded later."""
        super().setup(trainer, pl_module, stage)
        if stage == TrainerFn.FITTING:
            self._num_averaged, self._latest_update_step, self._latest_update_epoch = 0, 0, -1
            self._is_swapped, self._pairs = False, None

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in place of the moving weights, during training."""
        if _is_amid_training(trainer) and not self._is_swapped:
            assert self._average_model is not None
            share_statistics(cast(PneumoniaClassifier, self._average_model.module))
            super().on_validation_epoch_start(trainer, pl_module)
            self._is_swapped = True

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the moving weights back."""
        if self._is_swapped:
            super().on_validation_epoch_end(trainer, pl_module)
            self._is_swapped = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the moving weights back if validation was cut off."""
        self.on_validation_epoch_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Average and moving weights, each in its place."""
        assert not self._is_swapped, "a checkpoint written during validation would mix up average and moving weights"
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        for name, parameter in pl_module.named_parameters():
            if not parameter.requires_grad:  # one tensor in two places takes the space of one
                checkpoint["current_model_state"][name] = checkpoint["state_dict"][name]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take up both again, and the number of models in the average."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        if self._average_model is not None:
            self._num_averaged = int(self._average_model.n_averaged)

    def state_dict(self) -> dict[str, Any]:
        """What else the next step or epoch needs."""
        return {**super().state_dict(), "latest_update_epoch": self._latest_update_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        super().load_state_dict(state_dict)
        self._latest_update_epoch = state_dict["latest_update_epoch"]

    def _include(self, pl_module: LightningModule, weight: float, *, buffer_weight: float) -> None:
        """Count the moving weights in."""
        self._approach(pl_module, weight, buffer_weight=buffer_weight)
        assert self._average_model is not None
        self._average_model.n_averaged += 1
        self._num_averaged += 1

    def _approach(self, pl_module: LightningModule, weight: float, *, buffer_weight: float) -> None:
        """Move the average towards the moving weights by a share of the distance; 1 copies them."""
        parameters, buffers = self._moving(pl_module)
        parameters.approach(weight)
        buffers.approach(buffer_weight)

    @torch.no_grad()
    def _swap_models(self, pl_module: LightningModule) -> None:
        """Lightning's own one exchanges the frozen weights too, twice per epoch."""
        for averaged, current in chain(*self._moving(pl_module)):
            kept = averaged.clone()
            averaged.copy_(current)
            current.copy_(kept)

    def _moving(self, pl_module: LightningModule) -> tuple[Pairs, Pairs]:
        """Averaged and moving tensors, of parameters and of buffers, without those that training leaves as they are."""
        if self._pairs is None:  # not in setup: a model that goes to a GPU gets new buffers there
            assert self._average_model is not None
            averaged, plan = cast(PneumoniaClassifier, self._average_model.module), pl_module.plan
            still = tuple(f"backbone.{name}." for name in plan.still_norms) if isinstance(plan, FreezePlan) else ()
            parameters = zip(averaged.parameters(), pl_module.parameters(), strict=True)
            buffers = zip(averaged.buffers(), pl_module.named_buffers(), strict=True)
            self._pairs = (
                Pairs((a, p) for a, p in parameters if p.requires_grad),
                Pairs((a, b) for a, (name, b) in buffers if not name.startswith(still)),
            )
        return self._pairs


class EmaWeights(AveragedWeights):
    """Exponential moving average of weights and buffers, by optimizer step.

    The first update copies the weights; from the second on the decay rises from 2/11 to its final value,
    min(decay, (1 + n) / (10 + n)) after n updates, so that the start's random head is soon forgotten.

    Args:
        decay: per optimizer step, in (0, 1).
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        """Include the weights after a step; with accumulated gradients not every batch takes one."""
        if trainer.global_step > self._latest_update_step:
            count = self._num_averaged
            weight = 1 - min(self.decay, (1 + count) / (10 + count)) if count else 1.0
            self._include(pl_module, weight, buffer_weight=weight)
            self._latest_update_step = trainer.global_step


class SwaWeights(AveragedWeights):
    """Stochastic weight averaging: the equal average of the weights at the ends of epochs.

    Until the first of these epochs is over the average is the moving weights. An epoch enters before its validation,
    so validation and the checkpoint of an epoch see the same average. Batch norms that move get new running
    statistics for every average, from the epoch's first training batches; all else in eval mode, as scoring will
    find it, so no random number is drawn.

    Args:
        first_epoch: the first one to enter, from 0, in epochs of the whole run.

    Source:
        Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, UAI 2018.
    """

    def __init__(self, first_epoch: int) -> None:
        super().__init__()
        self.first_epoch = first_epoch

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Include the epoch if it is over, then swap."""
        if _is_amid_training(trainer):
            self._look(trainer, pl_module, is_over=trainer.is_last_batch)
        super().on_validation_epoch_start(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Include the epoch if no validation did, before its checkpoint is written."""
        self._look(trainer, pl_module, is_over=True)

    def _look(self, trainer: Trainer, pl_module: LightningModule, *, is_over: bool) -> None:
        """Bring the average up to date for those who are about to see it."""
        epoch = trainer.current_epoch
        if is_over and epoch >= self.first_epoch and epoch > self._latest_update_epoch:
            # Buffers are copied: positions and counters have no average, and statistics are estimated anew.
            self._include(pl_module, 1 / (self._num_averaged + 1), buffer_weight=1.0)
            self._latest_update_epoch = epoch
            self._estimate_norms(trainer, epoch)
        elif not self._num_averaged:
            self._approach(pl_module, 1.0, buffer_weight=1.0)

    @torch.no_grad()
    def _estimate_norms(self, trainer: Trainer, epoch: int) -> None:
        """Running statistics of the averaged weights: plain means over batches, augmented as in training, unmixed."""
        assert self._average_model is not None
        model = cast(PneumoniaClassifier, self._average_model.module.eval())
        norms = _moving_norms(model)
        if not norms:
            return
        for norm in norms:
            norm.train()
        datamodule: ChestXrayDataModule = trainer.datamodule  # type: ignore[attr-defined]
        rows, size = datamodule.rows_of("train"), model.train_size
        # No loader: it would start its own workers and draw from torch's generator.
        indices = islice(datamodule.train_sampler(epoch), int(min(NORM_BATCHES, trainer.num_training_batches)))
        with trainer.precision_plugin.train_step_context():
            for number, index in enumerate(indices, start=1):
                batch = trainer.strategy.batch_to_device(rows[index])
                for norm in norms:
                    norm.momentum = 1 / number  # the mean so far; None would mean that, but reads a counter back
                model(model.augment(batch["image"], batch["position"], epoch=epoch, size=size))


class SharedStatistics(Callback):
    """Several processes validate with the same running statistics of batch norms: the means of what each one has seen.

    It stands before an average, which puts its own statistics in place of these.
    """

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace what this process has by the mean over processes."""
        share_statistics(cast(PneumoniaClassifier, pl_module))


@torch.no_grad()
def share_statistics(model: PneumoniaClassifier) -> None:
    """Replace running statistics of moving batch norms by their means over processes."""
    norms = _moving_norms(model)
    average_buffers(b for n in norms for b in (n.running_mean, n.running_var) if b is not None)


def _is_amid_training(trainer: Trainer) -> bool:
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking


def _moving_norms(model: PneumoniaClassifier) -> list[_BatchNorm]:
    """Batch norms whose running statistics training changes and scoring reads."""
    still = set(model.plan.still_norms) if model.plan is not None else set()
    left_out = still.union(model.settings.get("batch_statistics", ()))
    return [
        module
        for name, module in model.backbone.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None and name not in left_out
    ]
