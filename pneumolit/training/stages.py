"""Runs the stages of a run one after the other, from the start or from the newest checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from pneumolit.data.datamodule import ChestXrayDataModule
from pneumolit.model.backbone import BackboneSpec, transfer_weights
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.rundir import RunDir, read_json
from pneumolit.stage_plan import Stage
from pneumolit.training.build import build_logger, build_model, build_trainer, model_device, quiet_lightning
from pneumolit.training.callbacks import build_callbacks
from pneumolit.training.checkpoints import read_progress
from pneumolit.training.memory import find_batch_size, is_out_of_memory, out_of_memory_message
from pneumolit.training.resume import find_progress

_NOTHING_DONE: dict[str, Any] = {"index": -1, "epochs": 0, "steps": 0, "is_over": False}


def _progress_before(run: RunDir, stages: Sequence[Stage], stage: Stage, *, goes_on: bool) -> tuple[int, int]:
    """Epochs and optimizer steps of the earlier stages, from checkpoints.

    Raises:
        ValueError: the checkpoint of the stage before is gone or damaged, though the stage has not begun.
    """
    if goes_on:
        own = read_progress(run.checkpoint(stage.checkpoint("last"))) or _NOTHING_DONE
        return own["epochs_before"], own["steps_before"]
    if not stage.index:
        return 0, 0
    path = run.checkpoint(stages[stage.index - 1].checkpoint("last"))
    before = read_progress(path)
    if before is None:
        raise ValueError(f"{path} is gone or damaged, and stage {stage.index + 1} begins from it; put it back")
    return before["epochs"], before["steps"]


@dataclass(frozen=True)
class Workplace:
    """What every stage of a run shares.

    Attributes:
        run: its folder.
        spec: its backbone.
        datamodule: its loaders; the batch size may change from stage to stage.
        accelerator: Lightning's name of the device.
        precision: number format of training.
        console: for people.
    """

    run: RunDir
    spec: BackboneSpec
    datamodule: ChestXrayDataModule
    accelerator: str
    precision: str
    console: Console


def train_stages(stages: Sequence[Stage], place: Workplace, model: PneumoniaClassifier | None = None) -> int:
    """Train what is not trained yet.

    Args:
        stages: of the run.
        place: what they share.
        model: the first stage's classifier with its weights; needed only where no checkpoint exists.

    Returns:
        Finished epochs of the whole run.
    """
    run = place.run
    for leftover in run.checkpoint_folder.glob(".*"):  # of a writer that was killed
        leftover.unlink()
    found = find_progress(run, stages)
    at, progress = found if found is not None else (stages[0], _NOTHING_DONE)
    run.keep_epochs(progress["epochs"])
    # Points after the checkpoint are of epochs that come again.
    is_fresh = found is None and not run.tensorboard_folder.exists()
    logger = build_logger(stages[0].cfg, run, first_epoch=None if is_fresh else progress["epochs"] + 1)
    begin = at.index + 1 if progress["is_over"] else at.index
    for stage in stages[begin:]:
        goes_on = found is not None and stage.index == progress["index"]
        if model is None or stage.index or goes_on:
            model, _, _ = build_model(stage.cfg, place.spec, place.datamodule, is_pretrained=False)
        if stage.index and not goes_on:
            before = PneumoniaClassifier.from_checkpoint(
                run.checkpoint(stages[stage.index - 1].checkpoint(stage.start))
            )
            transfer_weights(before.backbone, model.backbone)
        planned = sum(s.epochs for s in stages[stage.index :])
        _train_stage(stages, stage, model, place, logger, planned=planned, goes_on=goes_on)
    last = read_progress(run.checkpoint(stages[-1].checkpoint("last")))
    assert last is not None
    return int(last["epochs"])


def _train_stage(
    stages: Sequence[Stage],
    stage: Stage,
    model: PneumoniaClassifier,
    place: Workplace,
    logger: Any,
    *,
    planned: int,
    goes_on: bool,
) -> None:
    """Fit one stage, from its beginning or from its last checkpoint."""
    run = place.run
    epochs_before, steps_before = _progress_before(run, stages, stage, goes_on=goes_on)
    cfg = _with_fitting_batches(stage, model, place)
    place.datamodule.batch_size = cfg["data"]["batch_size"]
    callbacks = build_callbacks(
        cfg["callbacks"],
        run,
        place.console,
        stage,
        epochs_before=epochs_before,
        steps_before=steps_before,
        epochs=epochs_before + planned,
        is_live=cfg["trainer"]["progress_bar"],
    )
    ckpt_path = run.checkpoint(stage.checkpoint("last")) if goes_on else None
    with quiet_lightning():
        trainer = build_trainer(
            cfg,
            run,
            callbacks,
            logger,
            accelerator=place.accelerator,
            precision=place.precision,
            epochs_before=epochs_before,
        )
        try:
            trainer.fit(model.use_channels_last(), datamodule=place.datamodule, ckpt_path=ckpt_path, weights_only=True)
        except Exception as error:
            if is_out_of_memory(error):
                size, side = cfg["data"]["batch_size"], cfg["model"]["image_size"]
                raise ValueError(out_of_memory_message(size, side, place.accelerator)) from error
            raise
    if trainer.interrupted:
        raise KeyboardInterrupt


def _with_fitting_batches(stage: Stage, model: PneumoniaClassifier, place: Workplace) -> dict[str, Any]:
    """The stage's configuration, with the batches that fit into memory where `trainer.auto_batch_size` asks for it.

    What was found is kept in the record, so that a resumed run on another machine takes the same batches.
    """
    cfg = stage.cfg
    if not cfg["trainer"]["auto_batch_size"]:
        return cfg
    asked = cfg["data"]["batch_size"]
    environment = read_json(place.run.environment_file)
    known = environment.setdefault("batch_sizes", {})
    key = str(stage.index + 1)
    if key not in known:
        found = find_batch_size(
            model,
            asked,
            device=model_device(place.accelerator),
            precision=place.precision,
            image_side=int(place.datamodule.data.store.images.shape[1]),
        )
        known[key] = found
        place.run.write_json(place.run.environment_file, environment)
    size = int(known[key])
    more = max(1, round(asked / size))
    if size != asked:
        place.console.print(
            f"  batches of {size} instead of {asked} fit into memory; gradients of {more} are accumulated",
            highlight=False,
            soft_wrap=True,
        )
    accumulate = cfg["trainer"]["accumulate_grad_batches"] * more
    return {
        **cfg,
        "data": {**cfg["data"], "batch_size": size},
        "trainer": {**cfg["trainer"], "accumulate_grad_batches": accumulate},
    }
