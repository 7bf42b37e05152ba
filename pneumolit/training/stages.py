"""Runs the stages of a run one after the other, from the start or from the newest checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from pneumolit.data.datamodule import EVAL_BATCH
from pneumolit.model.backbone import transfer_weights
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.collectives import share_state
from pneumolit.model.cut import Cut
from pneumolit.model.gradients import use_fast_gradients
from pneumolit.rundir import RunDir, read_json, write_json
from pneumolit.stage_plan import Stage
from pneumolit.training.build import (
    build_logger,
    build_model,
    build_trainer,
    model_device,
    quick_device_checks,
    quiet_lightning,
)
from pneumolit.training.callbacks import build_callbacks
from pneumolit.training.checkpoints import EpochCheckpoints
from pneumolit.training.compiling import compile_backbone, compiler_errors_explained
from pneumolit.training.cuda_graphs import Recording, why_unrecorded
from pneumolit.training.distributed import unused_weights_explained
from pneumolit.training.frozen import has_features, store_features, why_images
from pneumolit.training.memory import (
    find_batch_size,
    is_out_of_memory,
    out_of_memory_message,
    validation_out_of_memory_message,
)
from pneumolit.training.place import Workplace

Found = tuple[Stage, Mapping[str, Any]]  # from `find_progress`: a stage that has begun, and how far it is


@dataclass(frozen=True)
class _Begin:
    """From where a stage is trained.

    Attributes:
        epochs: finished epochs of the earlier stages.
        steps: their optimizer steps.
        goes_on: whether the stage has a checkpoint of its own.
    """

    epochs: int = 0
    steps: int = 0
    goes_on: bool = False


def train_stages(
    stages: Sequence[Stage], place: Workplace, model: PneumoniaClassifier | None = None, found: Found | None = None
) -> int:
    """Train what is not trained yet; of several processes only the first one writes, and the others get its weights.

    Args:
        stages: of the run.
        place: what they share.
        model: the first stage's classifier with its weights; needed only where no checkpoint exists.
        found: the newest checkpoint, if there is one.

    Returns:
        Finished epochs of the whole run.
    """
    run = place.run
    done = int(found[1]["epochs"]) if found is not None else 0
    logger = _tidy_up(stages, run, done, is_new=found is None) if place.part.is_first else None
    first, begin = 0, _Begin()
    if found is not None:
        at, progress = found
        first, begin = at.index, _Begin(progress["epochs_before"], progress["steps_before"], goes_on=True)
        if progress["is_over"]:
            first, begin = at.index + 1, _Begin(progress["epochs"], progress["steps"])
    for stage in stages[first:]:
        if model is None or stage.index or begin.goes_on:
            model, _, _ = build_model(stage.cfg, place.spec, place.datamodule, is_pretrained=False)
        if stage.index and not begin.goes_on and place.part.is_first:
            before = run.checkpoint(stages[stage.index - 1].checkpoint(stage.start))
            if not before.is_file():
                raise ValueError(f"{before} is gone, and stage {stage.index + 1} begins from it; put it back")
            transfer_weights(PneumoniaClassifier.from_checkpoint(before).backbone, model.backbone)
        planned = sum(s.epochs for s in stages[stage.index :])
        progress = _train_stage(stage, model, place, logger, begin, planned=planned)
        done, begin = int(progress["epochs"]), _Begin(progress["epochs"], progress["steps"])
    return done


def _tidy_up(stages: Sequence[Stage], run: RunDir, done: int, *, is_new: bool) -> Any:
    """Take away what a killed run left behind its last checkpoint; the logger of what comes now."""
    for leftover in run.checkpoint_folder.glob(".*"):  # of a writer that was killed
        leftover.unlink()
    run.keep_epochs(done)
    # Points after the checkpoint are of epochs that come again.
    is_fresh = is_new and not run.tensorboard_folder.exists()
    return build_logger(stages[0].cfg, run, first_epoch=None if is_fresh else done + 1)


def _train_stage(
    stage: Stage, model: PneumoniaClassifier, place: Workplace, logger: Any, begin: _Begin, *, planned: int
) -> Mapping[str, Any]:
    """Fit one stage, from its beginning or from its last checkpoint; how far the run is then."""
    run, datamodule = place.run, place.datamodule
    ckpt_path = run.checkpoint(stage.checkpoint("last")) if begin.goes_on else None
    share_state(model)
    datamodule.stored, datamodule.views = {}, 0
    assert model.plan is not None
    # A stage goes on with what it began with: room on the disk decides too, and comes and goes.
    is_stored = has_features(stage, run) or not (
        begin.goes_on
        or why_images(
            stage.cfg,
            model.plan,
            model,
            datamodule.data,
            precision=place.precision,
            accelerator=place.accelerator,
            cache_dir=place.cache_dir,
            processes=place.part.count,
        )
    )
    if is_stored:
        if ckpt_path is not None:  # features are of its weights, and Lightning reads them too late
            model.load_state_dict(torch.load(ckpt_path, map_location="cpu", weights_only=True)["state_dict"])
        store_features(stage, model, place, epochs_before=begin.epochs)
    trains_head = is_stored and isinstance(model.take_apart(), Cut)
    in_vain = [f"trainer.{key}" for key in ("compile", "auto_batch_size") if stage.cfg["trainer"][key]]
    if trains_head and in_vain and place.part.is_first:
        what = f"  {' and '.join(in_vain)}: nothing to do in this stage, a head trains on stored features"
        place.console.print(what, highlight=False, soft_wrap=True)
    if not trains_head and stage.cfg["trainer"]["compile"]:
        compile_backbone(model.rear.module if is_stored else model.backbone)
    elif not trains_head:
        use_fast_gradients(model.backbone, place.gradient_routes)
    cfg = stage.cfg if trains_head else _with_fitting_batches(stage, model, place)
    datamodule.batch_size, datamodule.drawn_batch = cfg["data"]["batch_size"], model.drawn_batch
    if not is_stored and cfg["data"]["on_device"] == "auto":
        datamodule.hold_images_on(model_device(place.accelerator))
    callbacks = build_callbacks(
        cfg["callbacks"],
        run,
        place.console,
        stage,
        epochs_before=begin.epochs,
        steps_before=begin.steps,
        epochs=begin.epochs + planned,
        is_live=cfg["trainer"]["progress_bar"],
        is_quick=trains_head,
        watch=place.watch,
        part=place.part,
    )
    note = partial(_note_recording, stage, place)
    why = why_unrecorded(
        cfg,
        accelerator=place.accelerator,
        precision=place.precision,
        is_stored=is_stored,
        processes=place.part.count,
    )
    if why:
        note(f"no: {why}")
    else:
        callbacks.append(Recording(place.precision, note, is_asked=cfg["trainer"]["cuda_graphs"] is True))
    with quiet_lightning(), quick_device_checks():
        trainer = build_trainer(
            cfg,
            run,
            callbacks,
            logger,
            accelerator=place.accelerator,
            precision=place.precision,
            epochs_before=begin.epochs,
            part=place.part,
        )
        try:
            with compiler_errors_explained(), unused_weights_explained(cfg["backbone"]):
                trainer.fit(model.use_channels_last(), datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)
        except Exception as error:
            if is_out_of_memory(error):
                raise ValueError(_out_of_memory(cfg, model, place.accelerator)) from error
            raise
    if trainer.interrupted:
        raise KeyboardInterrupt
    saver = next(c for c in callbacks if isinstance(c, EpochCheckpoints))
    return saver.progress


def _out_of_memory(cfg: Mapping[str, Any], model: PneumoniaClassifier, accelerator: str) -> str:
    if not model.training:  # the trainer has forgotten what it was doing
        size = int(model.settings["image_size"])
        return validation_out_of_memory_message(
            model.drawn_batch or EVAL_BATCH, size, accelerator, is_trainings=bool(model.drawn_batch)
        )
    return out_of_memory_message(
        cfg["data"]["batch_size"], model.train_size, accelerator, is_sought=cfg["trainer"]["auto_batch_size"]
    )


def _note_recording(stage: Stage, place: Workplace, what: str) -> None:
    """Write down what of a stage's steps is recorded as CUDA graphs, or why nothing is."""
    if not place.part.is_first:
        return
    environment = read_json(place.run.environment_file)
    environment.setdefault("cuda_graphs", {})[str(stage.index + 1)] = what
    write_json(place.run.environment_file, environment)


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
        write_json(place.run.environment_file, environment)
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
