"""From the configuration of a stage to the parts that train: names checked, loaders, classifier, trainer."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import nn

from pneumolit.data.augment import AugmentConfig
from pneumolit.data.datamodule import ChestXrayDataModule
from pneumolit.data.dataset import ChestXrayData
from pneumolit.data.parts import WHOLE, Part
from pneumolit.data.teacher import teacher_log_odds
from pneumolit.labels import prior_log_odds
from pneumolit.model.backbone import BackboneSpec, build_backbone, find_backbone, input_statistics, transfer_weights
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.freeze import FreezePlan, check_freeze, plan_freeze, trains_head_alone
from pneumolit.model.heads import BUILD_ERRORS, in_eval_mode
from pneumolit.model.loss import check_loss, class_weights, effective_prior
from pneumolit.model.mixstyle import attach_mixstyle, can_mix
from pneumolit.model.optim import check_optimizer
from pneumolit.model.schedule import check_scheduler
from pneumolit.model.weights import WeightsSource
from pneumolit.rundir import RunDir
from pneumolit.stage_plan import Stage
from pneumolit.training.checkpoints import AtomicCheckpointIO
from pneumolit.training.distributed import JoinedStrategy, leave_signals_alone
from pneumolit.training.precision import lightning_precision

_OWN_KEYS = frozenset(
    ("progress_bar", "auto_batch_size", "accelerator", "devices", "strategy", "max_epochs", "cache_features",
     "feature_views", "conv_gradients", "compile", "cuda_graphs")
)  # fmt: skip  # of the group `trainer` that are not Lightning's, or not as they stand
_NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
_MIXING = ("mixup_alpha", "cutmix_alpha")  # of the group `augment`, but about whole batches


def check_names(cfg: Mapping[str, Any]) -> BackboneSpec:
    """Refuse names that only the libraries know, before data are touched: backbone, optimizer, policies, losses.

    Args:
        cfg: complete configuration of one stage.

    Raises:
        ValueError: an unknown name, with the nearest ones, or a key that its option does not have.
    """
    spec = find_backbone(cfg["backbone"])
    # Built once on a stand-in: an argument that the optimizer does not take must not cost a run folder.
    check_optimizer(cfg["optim"])
    check_freeze(cfg["freeze"])
    check_loss(cfg["loss"])
    check_scheduler(cfg["scheduler"])
    _augment_settings(cfg)
    return spec


def check_backbones(stages: Sequence[Stage], spec: BackboneSpec, *, needs_weights: bool) -> None:
    """Build the backbone as every stage wants it, before images are decoded.

    Args:
        stages: of the run.
        spec: from `check_names`.
        needs_weights: whether the first stage still has to load pretrained weights.

    Raises:
        FileNotFoundError, ValueError: weights are absent or do not fit, an image size or a pooling is not possible,
            or the weights of one stage cannot be carried over to the image size of the next.
    """
    first = stages[0].cfg["model"]
    if needs_weights and first["weights"] is not None and not Path(first["weights"]).expanduser().is_file():
        raise FileNotFoundError(f"model.weights={first['weights']} is not a file; give a .safetensors or .pth file")
    sizes = [stage.cfg["model"]["image_size"] for stage in stages]
    has_own_sizes = any(stage.cfg["model"]["train_size"] not in (None, sizes[stage.index]) for stage in stages)
    is_pretrained = needs_weights and (first["weights"] is not None or spec.has_weights) and first["pretrained"]
    is_plain = len(set(sizes)) == 1 and not has_own_sizes and first["head"] == "linear" and first["pool"] == "default"
    if not is_pretrained and is_plain:
        return  # what can go wrong will go wrong soon, and cheaply
    before, _ = make_backbone(first, spec, num_classes=2, is_pretrained=is_pretrained)
    for stage in stages:
        if stage.index and stage.cfg["model"]["image_size"] != sizes[stage.index - 1]:
            after, _ = make_backbone(stage.cfg["model"], spec, num_classes=2, is_pretrained=False)
            transfer_weights(before, after)
            before = after
        _check_train_size(before, stage.cfg["model"], spec)


def _check_train_size(backbone: nn.Module, settings: Mapping[str, Any], spec: BackboneSpec) -> None:
    """One image of the size that training has, where it is another than that of scoring."""
    side = settings["train_size"]
    if side in (None, settings["image_size"]):
        return
    try:
        with in_eval_mode(backbone), torch.no_grad():
            backbone(torch.zeros(1, settings["in_chans"], side, side))
    except BUILD_ERRORS as error:
        raise ValueError(
            f"model.train_size={side}: backbone={spec.name}, built for model.image_size={settings['image_size']}, does "
            f"not take images of that size ({str(error) or type(error).__name__}); leave model.train_size out"
        ) from error


def make_backbone(
    settings: Mapping[str, Any], spec: BackboneSpec, *, num_classes: int, is_pretrained: bool
) -> tuple[nn.Module, WeightsSource]:
    """The backbone that the `model` group describes."""
    return build_backbone(
        spec,
        num_classes=num_classes,
        in_chans=settings["in_chans"],
        image_size=settings["image_size"],
        drop_rate=float(settings["drop_rate"]),
        pretrained=is_pretrained,
        weights=settings["weights"] if is_pretrained else None,
        allow_download=settings["allow_download"],
        head=settings["head"],
        hidden=settings["hidden"],
        pool=settings["pool"],
    )


def build_datamodule(cfg: Mapping[str, Any], data: ChestXrayData, part: Part = WHOLE) -> ChestXrayDataModule:
    """The loaders of a run over its opened data set, in one of the processes that train it."""
    return ChestXrayDataModule(
        data,
        batch_size=cfg["data"]["batch_size"],
        seed=cfg["seed"],
        balance=cfg["data"]["balance"],
        is_stressed=cfg["data"]["stress"],
        num_workers=cfg["data"]["num_workers"],
        teacher=_teacher(cfg, data),
        part=part,
    )


def _teacher(cfg: Mapping[str, Any], data: ChestXrayData) -> np.ndarray | None:
    pattern = cfg["distill"]["teacher"]
    if pattern is None:
        return None
    if not data.labels.is_two_class_view:
        raise ValueError(
            f"distill.teacher={pattern} gives log odds of pneumonia, but no class of this set means pneumonia; leave "
            "it out, or name such classes with data.positive"
        )
    return teacher_log_odds(data.records.select(data.rows("train")), str(pattern))


def _scoring_batch(cfg: Mapping[str, Any], plan: FreezePlan) -> dict[str, Any]:
    """Which batch norms use the statistics of the scored batch, and which films a batch holds."""
    way = cfg["model"]["bn_inference"]
    norms = list(plan.moving_norms) if way != "running" else []
    # Where none does, as in a stage that trains the head alone, films are scored as ever.
    return {
        "batch_statistics": norms,
        "drawn_batch": cfg["data"]["batch_size"] if norms and way == "drawn_batch" else 0,
    }


def build_model(
    cfg: Mapping[str, Any], spec: BackboneSpec, datamodule: ChestXrayDataModule, *, is_pretrained: bool | None = None
) -> tuple[PneumoniaClassifier, WeightsSource, FreezePlan]:
    """The classifier of a stage, frozen by plan; the head's start depends on `seed` alone.

    Args:
        cfg: complete configuration of the stage.
        spec: from `check_names`.
        datamodule: knows classes and counts.
        is_pretrained: whether to look for weights; None follows `model.pretrained`. A later stage and a resumed run
            get theirs from a checkpoint.
    """
    labels = datamodule.data.labels
    settings = cfg["model"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg["seed"])
        wants = settings["pretrained"] if is_pretrained is None else is_pretrained
        backbone, source = make_backbone(settings, spec, num_classes=labels.num_classes, is_pretrained=wants)
    plan = plan_of(cfg, backbone)
    mean, std = input_statistics(spec, cfg["data"]["normalize"])
    loss = loss_settings(cfg, datamodule)
    prior, odds = seen_prior(cfg, datamodule)
    hparams = {
        "backbone": spec.name,
        **labels.to_dict(),
        **{key: settings[key] for key in ("image_size", "train_size", "in_chans", "head", "hidden", "pool")},
        "drop_rate": float(settings["drop_rate"]),
        **_scoring_batch(cfg, plan),
        "mean": mean,
        "std": std,
        "prior_log_odds": odds,
        "seen_prior": prior,
        "sampled_prior": datamodule.sampled_prior,
        "seed": cfg["seed"],
        "loss": loss,
        "augment": _augment_settings(cfg),
        **{key: cfg["augment"].get(key, 0.0) for key in _MIXING},
        "val_augment": cfg["data"]["val_augment"],
        "distill": {key: cfg["distill"][key] for key in ("share", "temperature")},
        "optim": dict(cfg["optim"]),
        "scheduler": dict(cfg["scheduler"]),
        "epochs": cfg["trainer"]["max_epochs"],
    }
    model = PneumoniaClassifier(hparams, backbone, plan)
    attach_mixstyle(backbone, settings["mixstyle_prob"], image_shape=_train_shape(cfg))
    model.val_names = datamodule.val_names
    return model, source, plan


def loss_settings(cfg: Mapping[str, Any], datamodule: ChestXrayDataModule) -> dict[str, Any]:
    """The `loss` group of a stage with class weights as numbers."""
    loss = dict(cfg["loss"])
    if "class_weight" in loss:
        loss["class_weight"] = class_weights(loss["class_weight"], datamodule.class_counts)
    return loss


def seen_prior(cfg: Mapping[str, Any], datamodule: ChestXrayDataModule) -> tuple[list[float], float]:
    """Class prior that the logits of a stage carry, sampling and loss included, and its two-class log odds."""
    labels = datamodule.data.labels
    prior = effective_prior(loss_settings(cfg, datamodule), datamodule.data.labels, datamodule.sampled_prior)
    return prior, prior_log_odds(prior, labels.positive_mask) if labels.is_two_class_view else 0.0


def plan_of(cfg: Mapping[str, Any], backbone: nn.Module) -> FreezePlan:
    """What the `freeze` group of a stage means for a backbone of its image size."""
    model = cfg["model"]
    shape = (model["in_chans"], model["image_size"], model["image_size"])
    return plan_freeze(backbone, cfg["freeze"], image_shape=shape)


def build_logger(
    cfg: Mapping[str, Any], run: RunDir, *, first_epoch: int | None = None, suffix: str = ""
) -> TensorBoardLogger | None:
    """TensorBoard's writer of a run.

    Args:
        cfg: the run's configuration.
        run: its folder.
        first_epoch: of a resumed run: points of this epoch and later ones in older files count no longer.
        suffix: end of the name of event files whose points stand beside all others.
    """
    if not cfg["logger"]["tensorboard"]:
        return None
    # A new run says that it begins as well: TensorBoard drops points only at the second beginning that it sees.
    begins = None if suffix else first_epoch or 1
    return TensorBoardLogger(
        run.tensorboard_folder,
        name="",
        version="",
        default_hp_metric=False,
        purge_step=begins,
        filename_suffix=suffix,
    )


def build_trainer(
    cfg: Mapping[str, Any],
    run: RunDir,
    callbacks: Sequence[Callback],
    logger: TensorBoardLogger | None,
    *,
    accelerator: str,
    precision: str,
    epochs_before: int = 0,
    part: Part = WHOLE,
) -> Trainer:
    """Lightning's Trainer of a stage; its epochs go on counting from those of the earlier stages."""
    is_alone, settings = part.count == 1, cfg["trainer"]
    # What is asked for is how several processes do it; one has nothing to share.
    asked = "auto" if settings["strategy"] == "ddp" else settings["strategy"]
    trainer = Trainer(
        **{k: v for k, v in settings.items() if k not in _OWN_KEYS},
        max_epochs=epochs_before + settings["max_epochs"],
        accelerator=accelerator,
        devices=part.count,
        strategy=asked if is_alone else JoinedStrategy(part),
        precision=lightning_precision(precision),
        callbacks=list(callbacks),
        logger=logger if logger is not None else False,
        plugins=_plugins(is_alone=is_alone),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=run.path,
    )
    progress = trainer.fit_loop.epoch_progress
    for counter in (progress.current, progress.total):
        for name in ("ready", "started", "processed", "completed"):
            setattr(counter, name, epochs_before)
    return trainer if is_alone else leave_signals_alone(trainer)


def _plugins(*, is_alone: bool) -> list[Any]:
    # Lightning would answer Slurm's signals with a checkpoint in the middle of an epoch and a requeue of its own.
    slurm = [SLURMEnvironment(auto_requeue=False)] if is_alone and SLURMEnvironment.detect() else []
    return [AtomicCheckpointIO(), *slurm]


def choose_accelerator(name: str) -> str:
    """The device kind that `trainer.accelerator` means here: cpu, gpu, cuda or mps.

    Raises:
        ValueError: an unknown name, or there is no such device.
    """
    if name != "auto":
        is_there = {"gpu": torch.cuda.is_available(), "cuda": torch.cuda.is_available()}
        is_there["mps"] = torch.backends.mps.is_available()
        if not is_there.get(name, True):
            raise ValueError(f"trainer.accelerator={name}, but there is no such device; use auto or cpu")
        if name not in {"cpu", "gpu", "cuda", "mps"}:
            raise ValueError(f"trainer.accelerator must be one of auto, cpu, gpu, mps, got {name!r}")
        return name
    if torch.cuda.is_available():
        return "gpu"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def model_device(accelerator: str) -> torch.device:
    """The device that Lightning's accelerator name stands for."""
    return torch.device("cuda" if accelerator in {"gpu", "cuda"} else accelerator)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Lightning's advice that this design has already answered stays off the user's screen."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # The loaders hand out whole batches from memory; a worker process would only add copies.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Short runs have fewer batches than the logging interval.
        warnings.filterwarnings("ignore", message=".*The number of training batches.*")
        # Lightning 2.6.6 still uses a class that torch 2.15 renames.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        # Frozen batch norms start in eval mode on purpose.
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
        # The thread of the backward pass meets the GPU for the first time.
        warnings.filterwarnings("ignore", message=".*there was no current CUDA context.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        # Its new name is not known to the oldest torch that is allowed.
        warnings.filterwarnings("ignore", message=".*.broadcast_buffers. is deprecated.*")
        # What several processes log is the same in each already.
        warnings.filterwarnings("ignore", message=".*It is recommended to use .self.log.*sync_dist=True.*")
        try:
            yield
        finally:
            logger.setLevel(level)


@contextlib.contextmanager
def quick_device_checks() -> Iterator[None]:
    """Let torch ask the CUDA runtime whether there is a GPU, as it does of itself.

    Adam asks before every step, and Lightning makes it ask NVIDIA's management library, which is opened anew each time
    (0.4 to 1 ms where there is none: half a step of a head).
    """
    before = os.environ.get(_NVML_CHECK)
    os.environ[_NVML_CHECK] = "0"
    try:
        yield
    finally:
        os.environ.pop(_NVML_CHECK)
        os.environ.update({} if before is None else {_NVML_CHECK: before})


def refuse_without_effect(stages: Sequence[Stage], plans: Sequence[FreezePlan], backbone: nn.Module) -> None:
    """Refuse choices for a whole run that act in none of its stages, before the first of them trains.

    Raises:
        ValueError: names the key.
    """
    first = stages[0].cfg
    if first["data"]["val_augment"] and all(_leaves_images(stage.cfg) for stage in stages):
        raise ValueError(
            "data.val_augment=true has no effect because augment changes no image; choose another one, such as "
            "augment=light, or leave it out"
        )
    statistics = first["model"]["bn_inference"]
    if statistics != "running" and not any(plan.moving_norms for plan in plans):
        raise ValueError(
            f"model.bn_inference={statistics} has no effect because no batch norm collects statistics; leave it out, "
            "or train more than freeze does"
        )
    if all(trains_head_alone(backbone, plan) for plan in plans):
        for stage, (key, usual) in product(stages, (("backbone_lr_scale", 1.0), ("layer_decay", None))):
            if (found := stage.cfg["optim"].get(key, usual)) != usual:
                raise ValueError(
                    f"optim.{key}={found} has no effect because only the head trains; leave it out, or train more"
                )
    if probability := first["model"]["mixstyle_prob"]:
        shape = _train_shape(first)
        if not any(can_mix(backbone, plan, image_shape=shape) for plan in plans):
            raise ValueError(
                f"model.mixstyle_prob={probability:g} has no effect because the early layers whose maps it mixes are "
                "frozen; leave it out, or train more"
            )


def _leaves_images(cfg: Mapping[str, Any]) -> bool:
    return AugmentConfig(**_augment_settings(cfg)).is_identity


def _train_shape(cfg: Mapping[str, Any]) -> tuple[int, int, int]:
    """Of what the backbone takes while training."""
    size = cfg["model"]["train_size"] or cfg["model"]["image_size"]
    return (cfg["model"]["in_chans"], size, size)


def _augment_settings(cfg: Mapping[str, Any]) -> dict[str, Any]:
    settings = {k: v for k, v in cfg["augment"].items() if k not in _MIXING}
    known = AugmentConfig.__dataclass_fields__
    unknown = [k for k in settings if k not in known]
    if unknown:
        raise ValueError(
            f"augment.{unknown[0]} is no key that does anything; the keys are {', '.join([*known, *_MIXING])}"
        )
    AugmentConfig(**settings).refuse_idle()
    return settings
