"""PneumoniaClassifier: the LightningModule, from a batch to logits, loss and validation numbers."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.utilities import GradClipAlgorithmType
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics.functional.classification import binary_auroc, multiclass_auroc

from pneumolit.data.augment import AugmentConfig, BatchAugment, resize_batch
from pneumolit.data.datamodule import EVAL_BATCH
from pneumolit.data.mixing import apply_mix, draw_mix
from pneumolit.data.sending import send
from pneumolit.labels import LabelSet
from pneumolit.model.backbone import build_backbone, find_backbone
from pneumolit.model.collectives import equal_rows_of_all, mean_of_all, num_processes, process_index, rows_of_all
from pneumolit.model.cuda_graphs import RecordedBackbone
from pneumolit.model.cut import Cut, features_of, head_logits
from pneumolit.model.freeze import FreezePlan, apply_freeze, hold_still
from pneumolit.model.front import FrontCut, Rear, cut_for, front_output
from pneumolit.model.gathered import Gathered
from pneumolit.model.loss import build_loss, taught_loss
from pneumolit.model.optim import build_optimizer, parameter_groups
from pneumolit.model.schedule import build_scheduler, is_plateau, monitor_of
from pneumolit.run_checks import MODEL_SETTINGS, check_record

_VAL_STREAM = 0x76616C  # added to the seed for the draws of augmented validation
_NEVER = 10**9  # epochs; Lightning's own step of a plateau schedule would come after the epoch's checkpoint


class TrainingDivergedError(ValueError):
    """The loss became NaN or infinite."""


class PneumoniaClassifier(LightningModule):
    """A backbone with K logits, its preprocessing, its loss and its optimizer.

    Args:
        hparams: plain values only (they are stored in the checkpoint and read with `weights_only=True`):
            backbone, classes, positive, image_size, in_chans, drop_rate, head, hidden, pool, mean, std,
            prior_log_odds, sampled_prior, seed, loss, augment, mixup_alpha, cutmix_alpha, optim, scheduler, epochs
            (of this stage), batch_statistics (names of the batch norms that use the scored batch's statistics),
            drawn_batch (rows of a scored batch in a drawn order; 0 scores rows in their order).
        backbone: the model; None builds one without pretrained weights, to be filled from a checkpoint.
        plan: what trains; None trains everything.
    """

    def __init__(
        self, hparams: Mapping[str, Any], backbone: nn.Module | None = None, plan: FreezePlan | None = None
    ) -> None:
        super().__init__()
        # Not to the logger: nested values would give every run other columns in TensorBoard's table.
        self.save_hyperparameters({"hparams": dict(hparams)}, logger=False)
        settings = dict(hparams)
        self.settings = settings
        self.labels = LabelSet(tuple(settings["classes"]), tuple(settings["positive"]))
        self.backbone = backbone if backbone is not None else _empty_backbone(settings)
        self.plan = plan
        if plan is not None:
            apply_freeze(self.backbone, plan)
            hold_still(self.backbone, plan)  # Lightning takes modules in the mode they come in and calls no train()
        uniform = [1 / len(self.labels.classes)] * len(self.labels.classes)
        self.loss = build_loss(settings["loss"], self.labels, settings.get("sampled_prior", uniform))
        self.augment = BatchAugment(AugmentConfig(**settings["augment"]), seed=int(settings["seed"]))
        # Apart from training's draws, which go by place in an epoch as well.
        self.val_augment = BatchAugment(self.augment.config, seed=int(settings["seed"]) + _VAL_STREAM)
        self.val_names = ["val"]
        self.is_channels_last = False
        self.recorded: RecordedBackbone | None = None  # of training batches, while a fit lasts
        self.cut: Cut | FrontCut | None = None
        self._rear: Rear | None = None
        self._outputs = _nothing_gathered()
        self.validated: dict[str, Mapping[str, Tensor]] = {}  # set -> logits, target and more of the last validation
        self._losses = (torch.zeros(()), 0)  # sum over the images of the epoch so far, and how many they are

    @classmethod
    def from_checkpoint(cls, path: Any) -> PneumoniaClassifier:
        """Rebuild a model from a checkpoint, in eval mode on the CPU; nothing but tensors and plain values is read."""
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        hparams = checkpoint["hyper_parameters"]["hparams"]
        check_record(hparams, Path(path), MODEL_SETTINGS)
        model = cls(hparams)
        model.load_state_dict(checkpoint["state_dict"])
        return model.use_channels_last().eval()

    def __setattr__(self, name: str, value: Any) -> None:
        """As ever, but for what Lightning notes around every hook, some forty times per step of a head."""
        if name == "_current_fx_name":  # a text; what modules do to find parameters takes longer than the rest
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, K)` of gray images `(B, 1, S, S)`, float in [0, 1], S = image_size."""
        inputs = self._input(images)
        if self.training and self.recorded is not None and self.recorded.fits(inputs):
            return self.recorded(inputs)
        try:
            logits: Tensor = self.backbone(inputs)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                "batch norms of the backbone need more than one image, found a batch of one "
                f"({'data.batch_size' if self.training else 'model.bn_inference=batch'}); set data.batch_size to 2 or "
                "more, or model.bn_inference=running where it is scoring that fails"
            ) from error
        return logits

    def empty_batch(self, count: int, size: int) -> Tensor:
        """What the backbone takes of so many black images of a side in pixels."""
        return self._input(torch.zeros(count, 1, size, size, device=self.device))

    @property
    def train_size(self) -> int:
        """Side of augmented training images in pixels; that of scored ones is `image_size`."""
        return int(self.settings.get("train_size") or self.settings["image_size"])

    @property
    def drawn_batch(self) -> int:
        """Rows of a scored batch, which come in a drawn order; 0 where scoring takes them in their order."""
        return int(self.settings.get("drawn_batch", 0))

    @property
    def needs_batch(self) -> bool:
        """Whether the score of a film depends on the films beside it."""
        return bool(self.settings.get("batch_statistics"))

    def features(self, images: Tensor) -> Tensor:
        """What the head, or what trains, sees of gray images, in eval mode: `(B, *cut.shape)`.

        `take_apart` comes before.
        """
        assert self.cut is not None and not self.training
        if isinstance(self.cut, FrontCut):
            return front_output(self.backbone, self.cut, self._input(images))
        return features_of(self.backbone, self.cut, self._input(images))

    def take_apart(self) -> Cut | FrontCut:
        """Find where what trains begins (without a plan the head), so that batches may bring `features` for images.

        Raises:
            NoCutError: this cannot be trained alone.
        """
        if self.cut is None:
            size = int(self.settings["image_size"])
            shape = (int(self.settings["in_chans"]), size, size)
            self.cut = cut_for(self.backbone, shape, drop_rate=float(self.settings["drop_rate"]), plan=self.plan)
        return self.cut

    def _input(self, images: Tensor) -> Tensor:
        """Gray images in [0, 1] as the backbone takes them."""
        images = (images - self.settings["mean"]) / self.settings["std"]
        if self.settings["in_chans"] == 3:
            images = images.expand(-1, 3, -1, -1)
        return _with_channels_last_strides(images) if self.is_channels_last else images

    @property
    def rear(self) -> Rear:
        """What lies behind a frozen front."""
        if self._rear is None:
            assert isinstance(self.cut, FrontCut)
            self._rear = Rear(self.backbone, self.cut)
        return self._rear

    def _from_features(self, features: Tensor) -> Tensor:
        assert self.cut is not None
        return head_logits(self.backbone, self.cut, features) if isinstance(self.cut, Cut) else self.rear(features)

    def use_channels_last(self) -> PneumoniaClassifier:
        """Hold weights and images in channels-last order, which convolutions are faster in; returns itself."""
        self.is_channels_last = any(p.ndim == 4 for p in self.backbone.parameters())
        if self.is_channels_last:
            self.backbone.to(memory_format=torch.channels_last)
        return self

    def logits_of(self, batch: Mapping[str, Any]) -> Tensor:
        """Float32 logits of a batch: of stored images `(B, 1, H, W)` uint8 as they are, or of stored features."""
        if "features" in batch:
            return self._from_features(batch["features"]).float()
        logits: Tensor = self(resize_batch(batch["image"], self.settings["image_size"]))
        return logits.float()

    def train(self, mode: bool = True) -> PneumoniaClassifier:
        """Training mode, in which frozen batch norms stay in eval."""
        super().train(mode)
        if mode and self.plan is not None:
            hold_still(self.backbone, self.plan)
        self._use_batch_statistics(collect=mode)
        return self

    def _use_batch_statistics(self, *, collect: bool) -> None:
        for name in self.settings.get("batch_statistics", ()):
            norm = self.backbone.get_submodule(name)
            norm.train()
            assert isinstance(norm, _BatchNorm)
            norm.track_running_stats = collect  # outside of training the batch is used and nothing is collected

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Draw dropout from (seed, epoch), whatever ran in this process before.

        Not at the start of the epoch: between it and the first batch a loader draws numbers of its own, and not as
        many after a resume.
        """
        if batch_idx == 0:
            # Lightning ends validation by setting modes one by one, without train().
            self._use_batch_statistics(collect=True)
            # Each of several processes draws for images of its own, the first one what a single process draws.
            own = [process_index()] if process_index() else []
            state = np.random.SeedSequence([int(self.settings["seed"]), self.current_epoch, *own]).generate_state(1)
            torch.manual_seed(int(state[0]))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Loss of an augmented batch, or of one of stored features.

        Raises:
            TrainingDivergedError: the loss is no finite number (checked at once on the CPU; elsewhere every 50 steps
                and by the validation of the epoch, since reading it back would make a GPU wait).
        """
        targets = batch["target"]
        if "features" in batch:
            loss = self._taught_loss(self._from_features(batch["features"]), targets, batch.get("teacher"))
        else:
            loss = self._loss_of_images(batch, batch_idx)
        if loss.device.type == "cpu" or batch_idx % 50 == 49:
            self._check_finite(float(loss.detach()), batch_idx)
        total, images = self._losses if batch_idx else (torch.zeros((), device=loss.device), 0)
        self._losses = total + loss.detach() * len(targets), images + len(targets)
        share = self._share_of_step(batch_idx)
        return loss if share == 1 else loss * share

    def _share_of_step(self, batch_idx: int) -> float:
        """Factor on a loss, which Lightning divides by `accumulate_grad_batches` also where the last step has fewer."""
        if self._trainer is None:  # a step by hand
            return 1.0
        most = self.trainer.accumulate_grad_batches
        rest = int(self.trainer.num_training_batches) % most
        return most / rest if batch_idx >= self.trainer.num_training_batches - rest else 1.0

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the mean loss of the epoch at its end; a log in every step costs 0.3 ms, and a GPU waits for its work."""
        if batch_idx + 1 == self.trainer.num_training_batches:
            total, images = self._losses
            mean = mean_of_all(total / images)  # every process has equally many
            self.log("train/loss", mean, on_step=False, on_epoch=True, batch_size=1, logger=False)

    def _loss_of_images(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        epoch, targets, teacher = int(batch["epoch"]), batch["target"], batch.get("teacher")
        images = self.augment(batch["image"], batch["position"], epoch=epoch, size=self.train_size)
        count, own = len(targets), process_index() * len(targets)
        mix = draw_mix(
            count * num_processes(),
            mixup_alpha=float(self.settings["mixup_alpha"]),
            cutmix_alpha=float(self.settings.get("cutmix_alpha", 0.0)),
            seed=int(self.settings["seed"]),
            epoch=epoch,
            batch=batch_idx,
        )
        if mix is None:
            return self._taught_loss(self(images), targets, teacher)
        # A partner may be in the part of the batch that another process has.
        mix = replace(mix, order=send(mix.order[own : own + count], images.device))
        logits = self(apply_mix(images, mix, equal_rows_of_all(images)))
        others = equal_rows_of_all(targets)[mix.order]
        teacher_of_others = None if teacher is None else equal_rows_of_all(teacher)[mix.order]
        own_loss = self._taught_loss(logits, targets, teacher)
        return mix.share * own_loss + (1 - mix.share) * self._taught_loss(logits, others, teacher_of_others)

    def _taught_loss(self, logits: Tensor, targets: Tensor, teacher: Tensor | None) -> Tensor:
        """The loss of the labels, and beside it what a teacher's log odds `(B,)` at prevalence one half ask for."""
        loss = self._mean_loss(logits, targets)
        if teacher is None:
            return loss
        share, prior = float(self.settings["distill"]["share"]), float(self.settings["prior_log_odds"])
        is_positive, temperature = self.labels.positive_mask.tolist(), float(self.settings["distill"]["temperature"])
        taught = taught_loss(logits, teacher + prior, is_positive, temperature=temperature)
        return (1 - share) * loss + share * taught

    def _mean_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of this process's part of a batch, such that the mean over processes is the loss of the batch."""
        loss: Tensor = self.loss(logits, targets)
        if num_processes() == 1 or self.loss.weight is None:
            return loss
        weight = self.loss.weight[targets].sum()  # what the loss has divided by
        return loss * weight / mean_of_all(weight)

    def _check_finite(self, loss: float, batch_idx: int) -> None:
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"the loss became {loss} in epoch {self.current_epoch + 1}, step {batch_idx + 1} (optimizer step "
                f"{self.global_step}){self._remedy()}"
            )

    def _remedy(self) -> str:
        ways = [f"lower optim.lr (now {self.settings['optim']['lr']})", "set trainer.gradient_clip_val=1"]
        if not str(self.trainer.precision).startswith("32"):
            ways.append("use precision=float32")
        return f"; {', '.join(ways[:-1])} or {ways[-1]}"

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect logits, in the precision of training; numbers are made once at the end of the epoch."""
        if self.settings.get("val_augment") and self.val_names[dataloader_idx] == "val":
            size, epoch = int(self.settings["image_size"]), self.current_epoch
            batch = {**batch, "image": self.val_augment(batch["image"], batch["index"], epoch=epoch, size=size)}
        logits = self._logits_in_one_shape(batch)
        kept = {"logits": logits, "target": batch["target"], "family": batch["family"]}
        if num_processes() > 1 or self.drawn_batch:
            kept["index"] = batch["index"]
        for key, value in kept.items():
            self._outputs[self.val_names[dataloader_idx]][key].add(value.detach())

    def _logits_in_one_shape(self, batch: Mapping[str, Any]) -> Tensor:
        """Logits of a validation batch; anywhere but on a CPU the last one is filled up with its last row.

        A new shape has kernels chosen for it, or compiled, and a GPU waits. Where the batch's statistics count, a row
        that stands there many times would bend them.
        """
        count = len(batch["target"])
        if not count:  # of several processes this one has no row of the set
            return torch.empty((0, len(self.labels.classes)), device=self.device)
        if self.device.type == "cpu" or self.needs_batch or count == EVAL_BATCH:
            return self.logits_of(batch)
        key = "features" if "features" in batch else "image"
        rows = batch[key]
        full = torch.cat([rows, rows[-1:].expand(EVAL_BATCH - count, *rows.shape[1:])])
        return self.logits_of({key: full})[:count]

    def on_validation_epoch_end(self) -> None:
        """Log loss, accuracy and AUROC of every validation set, in each of several processes the same."""
        outputs, self._outputs = self._outputs, _nothing_gathered()
        if self.trainer.sanity_checking:
            return
        for name, gathered in outputs.items():
            joined = _in_order({key: rows_of_all(values.rows().cpu()) for key, values in gathered.items()})
            self.validated[name] = joined
            if not bool(joined["logits"].isfinite().all()):
                # Before any checkpoint of this epoch: the last good one stays.
                raise TrainingDivergedError(
                    f"the logits of {name} are no numbers after epoch {self.current_epoch + 1}{self._remedy()}"
                )
            families = sorted(set(joined["family"].tolist()))
            tables = [
                validation_numbers(
                    joined["logits"][joined["family"] == f],
                    joined["target"][joined["family"] == f],
                    self.labels,
                    is_two_class_loss=self.loss.is_two_class,
                )
                for f in families
            ]
            # Families are averaged, not pooled: a shift of all scores under one distortion is no ranking error.
            mean = {key: float(np.mean([t[key] for t in tables])) for key in tables[0]}
            self.log_dict({f"{name}/{key}": value for key, value in mean.items()}, logger=False)

    def on_train_epoch_end(self) -> None:
        """Step a plateau schedule, before the epoch's checkpoint so that resuming continues with the new rate."""
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(self.trainer.callback_metrics[monitor_of(self.settings["scheduler"])])

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as Lightning does in float32, in mixed precision too.

        There Lightning refuses fused optimizers, although only the scaler of fp16 gets in their way, with which
        `configure_optimizers` lets none through.
        """
        algorithm = GradClipAlgorithmType(gradient_clip_algorithm or GradClipAlgorithmType.NORM)
        Precision.clip_gradients(self.trainer.precision_plugin, optimizer, gradient_clip_val or 0.0, algorithm)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The configured optimizer over fixed groups, and the schedule over the steps of this stage."""
        settings = self.settings
        frozen = self.plan.frozen if self.plan is not None else ()
        groups = parameter_groups(self.backbone, settings["optim"], frozen)
        # With fp16 a fused step unscales gradients itself, and they could not be clipped.
        is_scaled = self.trainer.precision == "16-mixed"
        if is_scaled and settings["optim"].get("fused") and self.trainer.gradient_clip_val:
            raise ValueError(
                "optim.fused=true and trainer.gradient_clip_val cannot be together in fp16, where a fused step scales "
                "gradients back itself; leave optim.fused out"
            )
        is_fused = self.device.type in {"cpu", "cuda"} and not is_scaled
        optimizer = build_optimizer(settings["optim"], groups, is_fused=is_fused)
        # Not `estimated_stepping_batches`: it would make the loader before a resumed run knows its epoch.
        batches = self.trainer.datamodule.num_train_batches(self.trainer.limit_train_batches)  # type: ignore[attr-defined]
        steps_per_epoch = math.ceil(batches / self.trainer.accumulate_grad_batches)
        epochs = settings.get("epochs", self.trainer.max_epochs)
        scheduler = build_scheduler(
            settings["scheduler"], optimizer, total_steps=steps_per_epoch * epochs, steps_per_epoch=steps_per_epoch
        )
        if is_plateau(settings["scheduler"]):
            monitor = monitor_of(settings["scheduler"])
            by_epoch = {"scheduler": scheduler, "interval": "epoch", "frequency": _NEVER, "monitor": monitor}
            return {"optimizer": optimizer, "lr_scheduler": by_epoch}  # type: ignore[typeddict-item]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def validation_numbers(
    logits: Tensor, targets: Tensor, labels: LabelSet, *, is_two_class_loss: bool = False
) -> dict[str, float]:
    """Loss, accuracy, balanced accuracy and AUROC of some logits.

    The loss is plain cross entropy, that of the two-class logit where only that was trained, and decides there.

    AUROC is that of the two-class logit where there is one, else the mean over the classes that occur, each against
    the rest; it is .5 where only one class occurs, since nothing can be ranked.
    """
    numbers = {
        "loss": float(nn.functional.cross_entropy(logits, targets)),
        "accuracy": float((logits.argmax(1) == targets).float().mean()),
    }
    if not labels.is_two_class_view:
        recalls = [float((logits.argmax(1) == targets)[targets == k].float().mean()) for k in torch.unique(targets)]
        auroc = _mean_auroc(logits.softmax(1), targets)
        return {**numbers, "balanced_accuracy": float(np.mean(recalls)), "auroc": auroc}
    mask = torch.from_numpy(labels.positive_mask)
    positives = mask[targets]
    is_right = mask[logits.argmax(1)] == positives
    scores = logits[:, mask].logsumexp(1) - logits[:, ~mask].logsumexp(1)
    if is_two_class_loss:  # what tells one positive class from another was not trained and must not decide
        is_right = (scores > 0) == positives
        numbers["loss"] = float(nn.functional.binary_cross_entropy_with_logits(scores, positives.to(scores.dtype)))
    has_both = bool(positives.any() and (~positives).any())
    recalls = [float(is_right[positives == side].float().mean()) for side in (True, False) if (positives == side).any()]
    return {
        **numbers,
        "accuracy": float(is_right.float().mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        # Ranks decide, and torchmetrics would push logits through a sigmoid that saturates at float32.
        "auroc": float(binary_auroc(_ranks(scores), positives.long())) if has_both else 0.5,
    }


def _mean_auroc(probs: Tensor, targets: Tensor) -> float:
    present = torch.unique(targets)
    if len(present) < 2:
        return 0.5
    with warnings.catch_warnings():  # of classes that do not occur, which are left out
        warnings.simplefilter("ignore", UserWarning)
        each = multiclass_auroc(probs, targets, probs.shape[1], average=None)
    return float(each[present].mean())


def _nothing_gathered() -> defaultdict[str, defaultdict[str, Gathered]]:
    """Validation set -> logits, target, family."""
    return defaultdict(partial(defaultdict, Gathered))


def _in_order(joined: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The rows of several processes, or of a drawn order, in the order of the set, so that sums are the same."""
    if "index" not in joined:
        return joined
    order = joined["index"].argsort()
    return {key: values[order] for key, values in joined.items()}


def _with_channels_last_strides(images: Tensor) -> Tensor:
    # With one channel a plain tensor counts as channels-last already, `contiguous` copies nothing, and every layer
    # behind it would run in the slower order (float32 inference: half as fast). Only the strides tell them apart.
    _, channels, height, width = images.shape
    strides = (channels * height * width, 1, width * channels, channels)
    out = torch.empty_strided(images.shape, strides, dtype=images.dtype, device=images.device)
    return out.copy_(images)


def _ranks(scores: Tensor) -> Tensor:
    unique, inverse = torch.unique(scores.double(), sorted=True, return_inverse=True)
    ranks: Tensor = inverse.double() / max(len(unique), 1)
    return ranks


def _empty_backbone(settings: Mapping[str, Any]) -> nn.Module:
    model, _ = build_backbone(
        find_backbone(settings["backbone"]),
        num_classes=len(settings["classes"]),
        in_chans=settings["in_chans"],
        image_size=settings["image_size"],
        drop_rate=settings["drop_rate"],
        pretrained=False,
        head=settings.get("head", "linear"),
        hidden=settings.get("hidden", 256),
        pool=settings.get("pool", "default"),
    )
    return model
