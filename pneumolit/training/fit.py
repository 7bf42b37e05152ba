"""From a composed configuration to a finished run folder; used by `train` and by every job of a sweep."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console

from pneumolit.config import check_config, configuration_hash
from pneumolit.data.augment import AugmentConfig
from pneumolit.data.datamodule import ChestXrayDataModule
from pneumolit.data.dataset import BLOCK, ChestXrayData, count_classes, load_data
from pneumolit.labels import prior_log_odds
from pneumolit.model.backbone import BackboneSpec, build_backbone, find_backbone, input_statistics
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.freeze import POLICIES, FreezePlan, plan_freeze
from pneumolit.model.loss import LOSSES, class_weights
from pneumolit.model.optim import SCHEDULES, build_optimizer
from pneumolit.model.weights import WeightsSource
from pneumolit.rundir import DONE, FAILED, INTERRUPTED, RUNNING, RunDir, record_look, write_text
from pneumolit.scoring import calibrate, headline, predict_split, write_evaluation
from pneumolit.training.callbacks import AtomicCheckpointIO, build_callbacks
from pneumolit.training.console import data_progress, print_plan, print_result
from pneumolit.training.environment import describe_environment, peak_memory_gb
from pneumolit.training.page import write_page
from pneumolit.training.precision import choose_precision, lightning_precision


def fit(cfg: Mapping[str, Any], run_path: Path, console: Console) -> dict[str, Any]:
    """Carve validation, train, calibrate, report; with `test=true` score the test split once.

    Args:
        cfg: the composed `train` configuration, resolved, plain values.
        run_path: the run folder; nothing is written there before configuration, data and weights proved sound.
        console: for people.

    Returns:
        metrics.json by evaluated set: val, and where they exist block and test.

    Raises:
        ValueError, FileNotFoundError: wrong input, with a message for people; status.json says failed if it came
            after the start of training.
    """
    check_config(cfg)
    run = RunDir(run_path)
    if run.config_file.exists():
        raise ValueError(f"{run_path} already holds a run; choose another folder for a new one")
    accelerator = _accelerator(cfg["trainer"]["accelerator"])
    spec = check_names(cfg)
    check_weights(cfg["model"], spec)
    cache_dir = cache_folder(cfg["cache_dir"])
    with data_progress(console) as progress:
        data = load_data(cfg["data"], cache_dir, progress)
    if cfg["test"] and not len(data.rows("test")):
        raise ValueError(f"test=true, but the data set has no test split (splits: {', '.join(count_classes(data))})")
    datamodule = build_datamodule(cfg, data)
    monitored, _, _ = cfg["callbacks"]["checkpoint"]["monitor"].partition("/")
    if monitored not in {"train", *datamodule.val_names}:
        raise ValueError(
            f"callbacks.checkpoint.monitor={cfg['callbacks']['checkpoint']['monitor']}, but this data set gives no "
            f"{monitored} images; it has {', '.join(datamodule.val_names)}"
        )
    model, source, plan = build_model(cfg, spec, datamodule)
    precision = choose_precision(cfg["precision"], accelerator)
    _write_record(run, cfg, datamodule, model, plan, source, precision)
    print_plan(console, run=run, cfg=cfg, data=data, plan=plan, source=source, precision=precision)
    start = time.monotonic()
    try:
        with _quiet_lightning():
            trainer = build_trainer(cfg, run, console, accelerator=accelerator, precision=precision.training)
            _fit(trainer, model, datamodule)
        training_seconds = time.monotonic() - start
        results = score(cfg, run, data, datamodule, precision.scoring, console, device=model_device(accelerator))
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning ends Ctrl-C and SIGTERM as SystemExit
        run.write_status(INTERRUPTED, reason=type(error).__name__)
        raise KeyboardInterrupt from error
    except BaseException as error:
        run.write_status(FAILED, reason=f"{type(error).__name__}: {error}")
        raise
    _log_hparams(trainer, cfg, results)
    run.write_status(
        DONE,
        seconds=round(time.monotonic() - start, 1),
        training_seconds=round(training_seconds, 1),
        epochs=trainer.current_epoch,
        checkpoint=cfg["callbacks"]["checkpoint"]["use"],
        peak_memory_gb=peak_memory_gb(),
    )
    write_page(run)
    print_result(console, run, results, seconds=time.monotonic() - start, is_tested=cfg["test"])
    return results


def cache_folder(setting: str | None) -> Path:
    """Where decoded images live: the setting, else ~/.cache/pneumolit."""
    return Path(setting or "~/.cache/pneumolit").expanduser()


def check_names(cfg: Mapping[str, Any]) -> BackboneSpec:
    """Refuse names that only the libraries know, before data are touched: backbone, optimizer, policies, losses.

    Raises:
        ValueError: an unknown name, with the nearest ones.
    """
    spec = find_backbone(cfg["backbone"])
    if cfg["model"]["weights"] is not None and not Path(cfg["model"]["weights"]).expanduser().is_file():
        raise FileNotFoundError(
            f"model.weights={cfg['model']['weights']} is not a file; give a .safetensors or .pth file"
        )
    # Built once on a stand-in: an argument that the optimizer does not take must not cost a run folder.
    build_optimizer(cfg["optim"], [{"params": [torch.nn.Parameter(torch.zeros(1))]}])
    for key, value, known in (
        ("freeze.policy", cfg["freeze"]["policy"], POLICIES),
        ("loss.name", cfg["loss"]["name"], LOSSES),
        ("scheduler.name", cfg["scheduler"]["name"], SCHEDULES),
    ):
        if value not in known:
            raise ValueError(f"{key} must be one of {', '.join(known)}, got {value!r}")
    _augment_settings(cfg)
    return spec


def check_weights(settings: Mapping[str, Any], spec: BackboneSpec) -> None:
    """Refuse weights that are absent or do not fit, before images are decoded.

    Raises:
        FileNotFoundError, ValueError: as `resolve_weights` and `load_pretrained` say.
    """
    if settings["weights"] is None and (not settings["pretrained"] or not spec.has_weights):
        return
    build_backbone(
        spec,
        num_classes=2,
        in_chans=settings["in_chans"],
        image_size=settings["image_size"],
        drop_rate=0.0,
        pretrained=True,
        weights=settings["weights"],
        allow_download=settings["allow_download"],
    )


def build_datamodule(cfg: Mapping[str, Any], data: ChestXrayData) -> ChestXrayDataModule:
    """The loaders of a run over its opened data set."""
    return ChestXrayDataModule(
        data,
        batch_size=cfg["data"]["batch_size"],
        seed=cfg["seed"],
        balance=cfg["data"]["balance"],
        is_stressed=cfg["data"]["stress"],
    )


def build_model(
    cfg: Mapping[str, Any], spec: BackboneSpec, datamodule: ChestXrayDataModule
) -> tuple[PneumoniaClassifier, WeightsSource, FreezePlan]:
    """The classifier with its weights, frozen by plan; the head's start depends on `seed` alone."""
    labels = datamodule.data.labels
    settings = cfg["model"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg["seed"])
        backbone, source = build_backbone(
            spec,
            num_classes=labels.num_classes,
            in_chans=settings["in_chans"],
            image_size=settings["image_size"],
            drop_rate=float(settings["drop_rate"]),
            pretrained=settings["pretrained"],
            weights=settings["weights"],
            allow_download=settings["allow_download"],
        )
    plan = plan_freeze(backbone, cfg["freeze"]["policy"])
    # Random weights come with no statistics that they would want.
    normalize = cfg["data"]["normalize"]
    mean, std = input_statistics(spec, normalize)
    loss = dict(cfg["loss"])
    loss["class_weight"] = class_weights(loss["class_weight"], datamodule.class_counts)
    prior = datamodule.seen_prior(loss["class_weight"])
    hparams = {
        "backbone": spec.name,
        **labels.to_dict(),
        "image_size": settings["image_size"],
        "in_chans": settings["in_chans"],
        "drop_rate": float(settings["drop_rate"]),
        "mean": mean,
        "std": std,
        "prior_log_odds": prior_log_odds(prior, labels.positive_mask) if labels.is_two_class_view else 0.0,
        "seen_prior": prior,
        "seed": cfg["seed"],
        "loss": loss,
        "augment": _augment_settings(cfg),
        "mixup_alpha": cfg["augment"]["mixup_alpha"],
        "optim": dict(cfg["optim"]),
        "scheduler": dict(cfg["scheduler"]),
    }
    model = PneumoniaClassifier(hparams, backbone, plan)
    model.val_names = datamodule.val_names
    return model, source, plan


def build_trainer(
    cfg: Mapping[str, Any], run: RunDir, console: Console, *, accelerator: str, precision: str
) -> Trainer:
    """Lightning's Trainer with the callbacks, checkpoint writer and logger of the configuration."""
    settings = dict(cfg["trainer"])
    is_live = settings.pop("progress_bar")
    logger = TensorBoardLogger(run.tensorboard_folder, name="", version="", default_hp_metric=False)
    return Trainer(
        **{k: v for k, v in settings.items() if k != "accelerator"},
        accelerator=accelerator,
        precision=lightning_precision(precision),
        callbacks=build_callbacks(cfg["callbacks"], run, console, is_live=is_live),
        logger=logger if cfg["logger"]["tensorboard"] else False,
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=50,
        default_root_dir=run.path,
    )


def score(
    cfg: Mapping[str, Any],
    run: RunDir,
    data: ChestXrayData,
    datamodule: ChestXrayDataModule,
    precision: str,
    console: Console,
    *,
    device: torch.device,
) -> dict[str, Any]:
    """Calibrate on validation and score every set of a run with the chosen checkpoint."""
    use = cfg["callbacks"]["checkpoint"]["use"]
    model = PneumoniaClassifier.from_checkpoint(run.checkpoint(use)).to(device)
    context = {"run": run.path.name, "weights": f"{use} checkpoint", "scored in": precision}
    results = {}
    val = predict_split(model, data, datamodule.rows_of("val"), "val", precision=precision)
    calibrate(run, val)
    results["val"] = write_evaluation(run, "val", val, title="Validation", context=context)
    if len(data.rows(BLOCK)):
        block = predict_split(model, data, datamodule.rows_of(BLOCK), BLOCK, precision=precision)
        results[BLOCK] = write_evaluation(run, BLOCK, block, title="Held-out block of patient numbers", context=context)
    if cfg["test"]:
        look = note_look(cfg, run, data, purpose="train test=true")  # before: a kill must not hide that it was seen
        test = predict_split(model, data, datamodule.rows_of("test"), "test", precision=precision)
        results["test"] = write_evaluation(run, "test", test, title="Test", context={**context, "look": look})
    return results


def note_look(cfg: Mapping[str, Any], run: RunDir, data: ChestXrayData, *, purpose: str) -> str:
    """Enter a test look into the ledger and say which it is."""
    look, configuration = record_look(
        run.ledger_folder(Path(cfg["output_dir"])),
        run=run.path.as_posix(),
        configuration=configuration_hash(cfg),
        test_set=data.set_fingerprint("test"),
        purpose=purpose,
    )
    return f"look {look} of this test set, configuration {configuration}"


def model_device(accelerator: str) -> torch.device:
    """The device that Lightning's accelerator name stands for."""
    return torch.device("cuda" if accelerator in {"gpu", "cuda"} else accelerator)


def _accelerator(name: str) -> str:
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


def _augment_settings(cfg: Mapping[str, Any]) -> dict[str, Any]:
    settings = {k: v for k, v in cfg["augment"].items() if k != "mixup_alpha"}
    known = AugmentConfig.__dataclass_fields__
    unknown = [k for k in settings if k not in known]
    if unknown:
        raise ValueError(f"augment.{unknown[0]} is no key that does anything; the keys are {', '.join(known)}")
    AugmentConfig(**settings)
    return settings


def _write_record(
    run: RunDir,
    cfg: Mapping[str, Any],
    datamodule: ChestXrayDataModule,
    model: PneumoniaClassifier,
    plan: FreezePlan,
    source: WeightsSource,
    precision: Any,
) -> None:
    data = datamodule.data
    run.path.mkdir(parents=True, exist_ok=True)
    write_text(run.config_file, yaml.safe_dump(dict(cfg), sort_keys=False, allow_unicode=True))
    counts = count_classes(data)
    run.write_json(
        run.data_file,
        {
            **data.labels.to_dict(),
            "counts": counts,
            "class_counts": datamodule.class_counts,
            "seen_prior": model.settings["seen_prior"],
            "prior_log_odds": model.settings["prior_log_odds"],
            "store": data.store.key,
            "stored_side": int(data.store.images.shape[1]),
            "fingerprints": {name: data.set_fingerprint(name) for name in counts},
            "unreadable": {data.records[i].path.as_posix(): why for i, why in sorted(data.store.errors.items())},
        },
    )
    run.write_split(data.split_rows())
    run.write_json(run.freeze_plan_file, plan.to_dict())
    run.write_json(
        run.environment_file,
        {**describe_environment(), "weights": source.to_dict(), "precision": precision._asdict()},
    )
    run.write_status(RUNNING, configuration=configuration_hash(cfg))


def _log_hparams(trainer: Trainer, cfg: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """The same hyperparameter and metric keys in every run, or TensorBoard's table loses runs."""
    from pneumolit.training.hparams import final_metrics, table_hparams

    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(table_hparams(cfg), final_metrics(results))
            from pneumolit.report.figures import confusion_figure

            view = results["val"]["class_view"]
            figure = confusion_figure(view["confusion"], results["val"]["classes"], title="Validation, largest logit")
            logger.experiment.add_figure("images/val_confusion", figure, trainer.current_epoch)
            logger.finalize("success")


def _fit(trainer: Trainer, model: PneumoniaClassifier, datamodule: ChestXrayDataModule) -> None:
    trainer.fit(model.use_channels_last(), datamodule=datamodule)
    if trainer.interrupted:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
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
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        try:
            yield
        finally:
            logger.setLevel(level)


def headline_line(results: Mapping[str, Any]) -> str:
    """The first evaluated set's numbers in one line."""
    name = "test" if "test" in results else "val"
    return f"{name}: " + ", ".join(f"{label} {value}" for label, value in headline(results[name]))
