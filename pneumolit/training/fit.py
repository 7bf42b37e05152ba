"""From a composed configuration to a finished run folder; used by `train` and by every job of a sweep."""

from __future__ import annotations

import contextlib
import shlex
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pneumolit.config import configuration_hash
from pneumolit.data.datamodule import ChestXrayDataModule
from pneumolit.data.dataset import BLOCKS, ChestXrayData, count_classes, load_data
from pneumolit.data.parts import Part
from pneumolit.data.store import cache_folder
from pneumolit.interrupts import RunInterruptedError, RunPrunedError
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.gradients import ROUTES
from pneumolit.model.loss import build_loss
from pneumolit.predictions import Predictions
from pneumolit.report.evaluation import TITLES
from pneumolit.report.run_page import write_page
from pneumolit.rundir import DONE, FAILED, INTERRUPTED, PRUNED, RunDir, read_json, record_look
from pneumolit.scoring import calibrate, predict_split, read_metrics, write_evaluation
from pneumolit.stage_plan import Stage, check_run, plan_stages
from pneumolit.training.board import log_results
from pneumolit.training.build import (
    build_datamodule,
    build_model,
    check_backbones,
    check_names,
    choose_accelerator,
    loss_settings,
    model_device,
    plan_of,
    refuse_without_effect,
)
from pneumolit.training.console import print_plan, print_result, print_resumption
from pneumolit.training.cuda_graphs import why_unrecorded
from pneumolit.training.distributed import describe_processes, moving_norms_of
from pneumolit.training.environment import peak_memory_gb
from pneumolit.training.errors import write_errors
from pneumolit.training.frozen import feature_seconds, has_features, scored_rows, why_images
from pneumolit.training.memory import is_out_of_memory
from pneumolit.training.place import Watch, Workplace
from pneumolit.training.precision import Precision, choose_precision, gradient_routes
from pneumolit.training.progress import data_progress
from pneumolit.training.ranks import (
    count_processes,
    refuse_other_launchers,
    refuse_unequal_parts,
    several_processes,
)
from pneumolit.training.record import (
    note_resumption,
    refuse_other_images,
    refuse_other_teacher,
    refuse_other_weights,
    write_record,
)
from pneumolit.training.resume import INSTANT, find_progress, held, is_begun, refuse_differences
from pneumolit.training.stages import Found, train_stages


def fit(
    cfg: Mapping[str, Any],
    run_path: Path,
    console: Console,
    *,
    resume: bool = False,
    watch: Watch | None = None,
    lock_seconds: float | None = INSTANT,
    is_scored: bool = True,
) -> dict[str, Any]:
    """Carve validation, train, calibrate, report; with `test=true` score the test split once.

    Args:
        cfg: the composed `train` configuration, resolved and with its stages written out, plain values.
        run_path: the run folder; nothing is written there before configuration, data and weights proved sound.
        console: for people.
        resume: go on with the run in that folder from its newest checkpoint; without one it starts.
        watch: told of every epoch; may end the run.
        lock_seconds: to wait for another process that holds the folder; None: as long as it takes.
        is_scored: whether calibration, evaluation and pages follow; without them a run ends with its checkpoints, and
            `evaluate` makes up for the rest.

    Returns:
        metrics.json by evaluated set: val, and where they exist block and test.

    Raises:
        ValueError, FileNotFoundError: wrong input, with a message for people; status.json says failed if it came
            after the start of training.
        RunInterruptedError: stopped by Ctrl-C or SIGTERM; the last whole epoch is kept.
        RunPrunedError: ended by `watch`; status.json says so.
    """
    check_run(cfg)
    refuse_other_launchers()
    run = RunDir(run_path)
    if run.config_file.exists() and not resume:
        way = f"run_dir={shlex.quote(str(run_path))}" if is_begun(run) else "resume=true with the same arguments"
        raise ValueError(f"{run_path} already holds a run; go on with it by {way}, or choose another folder")
    with held(run, lock_seconds):
        return _fit(cfg, run, console, watch, is_scored)


def _fit(cfg: Mapping[str, Any], run: RunDir, console: Console, watch: Watch | None, is_scored: bool) -> dict[str, Any]:
    goes_on, stages = is_begun(run), plan_stages(cfg)
    if goes_on:
        refuse_differences(cfg, run)
        if read_json(run.status_file)["state"] == DONE:
            console.print(f"The run in {run.path} is done; nothing is left to do.", highlight=False, soft_wrap=True)
            if not run.page_file.is_file():  # killed while it was drawn
                write_page(run, cfg["report"]["language"])
            return _stored_results(run)
    found = find_progress(run, stages)
    if found and not goes_on:
        raise ValueError(f"{run.path} holds checkpoints without the record of a run; choose another folder")
    spec, *_ = [check_names(stage.cfg) for stage in stages]
    accelerator = choose_accelerator(cfg["trainer"]["accelerator"])
    if cfg["precision"] == "fp16" and accelerator == "cpu":  # where Lightning would take bf16
        raise ValueError("precision=fp16 needs a GPU; a CPU trains in bf16 or float32, or choose precision=auto")
    part = Part(count=count_processes(cfg["trainer"]["devices"], accelerator))
    check_backbones(stages, spec, needs_weights=found is None)
    datamodule = build_datamodule(cfg, _load(cfg, console), part)
    datamodule.train_sampler()  # refuses a balance that the data do not allow
    refuse_unequal_parts(stages, part.count, datamodule.data.num_drawn)
    _refuse_absent_images(cfg, stages, datamodule)
    precision = choose_precision(cfg["precision"], accelerator)
    gradients = "library" if cfg["trainer"]["compile"] else cfg["trainer"]["conv_gradients"]
    routes = gradient_routes(gradients, accelerator, precision.training)
    if goes_on:  # `auto` means what it meant where the run began
        began = read_json(run.environment_file)
        precision = Precision(**began["precision"])
        routes = tuple(name for name in ROUTES if name in began["conv_gradients"])
    cache_dir = cache_folder(cfg["cache_dir"])
    place = Workplace(run, spec, datamodule, accelerator, precision.training, console, cache_dir, routes, watch)
    model = _take_up(stages, place, found) if goes_on else _set_up(cfg, stages, place, precision)
    with _status_kept(run, stages):
        if not is_scored:
            with several_processes(cfg, place, found):
                epochs = train_stages(stages, place, model, found)
            run.write_status(DONE, epochs=epochs, checkpoint=cfg["callbacks"]["checkpoint"]["use"])
            return {}
        return _train_and_score(cfg, stages, place, precision, model, found)


def _set_up(
    cfg: Mapping[str, Any], stages: Sequence[Stage], place: Workplace, precision: Precision
) -> PneumoniaClassifier:
    """Build the first stage's classifier, write the record of a new run and print what it will do."""
    run, datamodule = place.run, place.datamodule
    model, source, _ = build_model(stages[0].cfg, place.spec, datamodule)
    plans = [plan_of(stage.cfg | {"model": stages[0].cfg["model"]}, model.backbone) for stage in stages]
    refuse_without_effect(stages, plans, model.backbone)
    reasons = []
    for stage, plan in zip(stages, plans, strict=True):
        try:
            # Which classes there are is known with the data; stages before it would have trained in vain.
            build_loss(loss_settings(stage.cfg, datamodule), datamodule.data.labels, datamodule.sampled_prior)
            reason = why_images(
                stage.cfg,
                plan,
                model,
                datamodule.data,
                precision=precision.training,
                accelerator=place.accelerator,
                cache_dir=place.cache_dir,
                processes=place.part.count,
            )
            reasons.append(reason)
            why_unrecorded(
                stage.cfg,
                accelerator=place.accelerator,
                precision=precision.training,
                is_stored=not reason,
                processes=place.part.count,
            )
        except ValueError as error:
            raise ValueError(f"stage {stage.name}: {error}" if stage.count > 1 else str(error)) from None
    processes = describe_processes(place.part.count, stages, [plan.moving_norms for plan in plans])
    write_record(
        run,
        cfg,
        stages,
        datamodule,
        plans=plans,
        source=source,
        precision=precision,
        gradient_routes=place.gradient_routes,
        processes=processes,
    )
    print_plan(
        place.console,
        run=run,
        stages=stages,
        data=datamodule.data,
        plans=plans,
        reasons=reasons,
        source=source,
        precision=precision,
        processes=processes,
    )
    return model


def _take_up(stages: Sequence[Stage], place: Workplace, found: Found | None) -> PneumoniaClassifier | None:
    """Make sure that a run goes on with what it began with; its classifier where no checkpoint holds it."""
    run, model = place.run, None
    refuse_other_images(run, place.datamodule.data)
    refuse_other_teacher(run, place.datamodule)
    if place.part.count > 1 and found is not None and not found[1]["is_over"] and has_features(found[0], run):
        raise ValueError(
            f"the run in {run.path} trains on stored features, which one process does alone; set trainer.devices=1"
        )
    if found is None:
        model, source, _ = build_model(stages[0].cfg, place.spec, place.datamodule)
        refuse_other_weights(run, source)
    if found is None or not found[1]["is_over"] or not found[0].is_last:
        run.forget_scores()  # of weights that are trained further
    processes = describe_processes(place.part.count, stages, moving_norms_of(run))
    note_resumption(run, found[1]["epochs"] if found else 0, processes)
    print_resumption(place.console, run, stages, found)
    return model


def _train_and_score(
    cfg: Mapping[str, Any],
    stages: Sequence[Stage],
    place: Workplace,
    precision: Precision,
    model: PneumoniaClassifier | None,
    found: Found | None,
) -> dict[str, Any]:
    run, console = place.run, place.console
    with several_processes(cfg, place, found):
        epochs = train_stages(stages, place, model, found)
    start, device = time.monotonic(), model_device(place.accelerator)
    try:
        results = score(cfg, stages[-1], place, precision.scoring, device=device)
    except Exception as error:
        if is_out_of_memory(error):
            raise ValueError(
                f"scoring does not fit into the memory of {device}. The trained weights are kept; free memory and go "
                f"on with run_dir={shlex.quote(str(run.path))}"
            ) from error
        raise
    log_results(cfg, place, results, epochs, device=device)
    # Of every process that worked on it.
    seconds = sum(row.get("seconds", 0.0) for row in run.read_metrics()) + feature_seconds(run)
    run.write_status(
        DONE,
        seconds=round(seconds + time.monotonic() - start, 1),
        training_seconds=round(seconds, 1),
        epochs=epochs,
        checkpoint=cfg["callbacks"]["checkpoint"]["use"],
        peak_memory_gb=peak_memory_gb(),
    )
    write_page(run, cfg["report"]["language"])
    print_result(console, run, results, seconds=seconds + time.monotonic() - start, is_tested=cfg["test"])
    return results


def score(
    cfg: Mapping[str, Any], last_stage: Stage, place: Workplace, precision: str, *, device: torch.device
) -> dict[str, Any]:
    """Calibrate on validation and score every set of a run with the chosen checkpoint."""
    run, data, use = place.run, place.datamodule.data, cfg["callbacks"]["checkpoint"]["use"]
    model = PneumoniaClassifier.from_checkpoint(run.checkpoint(use)).to(device)
    context = {"run": run.path.name, "weights": f"{use} checkpoint", "scored in": precision}
    results = {}
    with scored_rows(last_stage, model, place, precision) as rows_of:

        def predict(name: str) -> Predictions:
            return predict_split(model, data, rows_of(name), name, precision=precision)

        val = predict("val")
        calibrate(run, val)
        results["val"] = write_evaluation(run, "val", val, title=TITLES["val"], context=context)
        for name in BLOCKS:
            if len(data.rows(name)):
                results[name] = write_evaluation(run, name, predict(name), title=TITLES[name], context=context)
        if cfg["test"] and run.evaluation_metrics_file("test").is_file():  # a resumed run that had come this far
            results["test"] = read_metrics(run.evaluation_metrics_file("test"))
        elif cfg["test"]:
            # Before: a kill must not hide that it was seen.
            look = note_look(cfg, run, data.set_fingerprint("test"), purpose="train test=true")
            seen = {**context, "look": look}
            results["test"] = write_evaluation(run, "test", predict("test"), title=TITLES["test"], context=seen)
            images = place.datamodule.rows_of("test")
            write_errors(run, "test", images, model, what=TITLES["test"], when=f"of the {use} checkpoint")
    return results


def note_look(cfg: Mapping[str, Any], run: RunDir, test_set: str, *, purpose: str) -> str:
    """Enter a test look into the ledger and say which it is.

    Args:
        cfg: of the run, with the `output_dir` that the ledger belongs to.
        run: that looks.
        test_set: fingerprint of the run's test split, of which a look may be at a part.
        purpose: of the look, for people.
    """
    look, configuration = record_look(
        run.ledger_folder(Path(cfg["output_dir"])),
        run=run.path.as_posix(),
        configuration=configuration_hash(cfg),
        test_set=test_set,
        purpose=purpose,
    )
    return f"look {look} of this test set, configuration {configuration}"


def _load(cfg: Mapping[str, Any], console: Console) -> ChestXrayData:
    with data_progress(console) as progress:
        return load_data(cfg["data"], cache_folder(cfg["cache_dir"]), progress)


def _refuse_absent_images(cfg: Mapping[str, Any], stages: Sequence[Stage], datamodule: ChestXrayDataModule) -> None:
    """Refuse to score or to watch images that this data set does not have."""
    data = datamodule.data
    if cfg["test"] and not len(data.rows("test")):
        raise ValueError(f"test=true, but the data set has no test split (splits: {', '.join(count_classes(data))})")
    for stage in stages:
        callbacks, scheduler = stage.cfg["callbacks"], stage.cfg["scheduler"]
        for key, monitor in (
            ("callbacks.checkpoint.monitor", callbacks["checkpoint"]["monitor"]),
            *(("callbacks.checkpoint.also", m) for m in callbacks["checkpoint"]["also"]),
            ("callbacks.early_stopping.monitor", callbacks["early_stopping"]["monitor"]),
            ("scheduler.monitor", scheduler.get("monitor")),
        ):
            name = str(monitor).partition("/")[0]
            if monitor is not None and name not in {"train", *datamodule.val_names}:
                raise ValueError(
                    f"{key}={monitor}, but this data set gives no {name} images; "
                    f"it has {', '.join(datamodule.val_names)}"
                )


def _stored_results(run: RunDir) -> dict[str, Any]:
    names = [name for name in ("val", *BLOCKS, "test") if run.evaluation_metrics_file(name).is_file()]
    return {name: read_metrics(run.evaluation_metrics_file(name)) for name in names}


def _note_end(run: RunDir, state: str, reason: str) -> None:
    # On a full disk what ended the work says more than that this cannot be written either.
    with contextlib.suppress(OSError):
        run.write_status(state, reason=reason)


@contextlib.contextmanager
def _status_kept(run: RunDir, stages: Sequence[Stage]) -> Iterator[None]:
    """Whatever ends the work inside, status.json says so."""
    received: list[int] = []

    def stop(number: int, frame: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    # Signals can be handled in the main thread only; elsewhere whoever started the thread deals with them.
    is_main = threading.current_thread() is threading.main_thread()
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)} if is_main else {}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    except BaseException as error:
        for number in before:
            signal.signal(number, signal.SIG_IGN)  # a second one must not cut off what is written now
        if isinstance(error, RunPrunedError):
            _note_end(run, PRUNED, str(error))
            raise
        # Lightning ends Ctrl-C as SystemExit, and worker processes that were stopped as well raise on the way out.
        if not received and not isinstance(error, KeyboardInterrupt | SystemExit):
            _note_end(run, FAILED, f"{type(error).__name__}: {error}")
            raise
        is_terminated = bool(received) and received[0] == signal.SIGTERM
        _note_end(run, INTERRUPTED, "SIGTERM" if is_terminated else "Ctrl-C")
        found = find_progress(run, stages)
        done, planned = found[1]["epochs"] if found else 0, sum(stage.epochs for stage in stages)
        raise RunInterruptedError(
            f"stopped after {done} of {planned} epochs, which are kept. Go on with: "
            f"python -m pneumolit.train run_dir={shlex.quote(str(run.path))}",
            exit_code=143 if is_terminated else 130,
        ) from error
    finally:
        for number, handler in before.items():
            # Lightning leaves Ctrl-C ignored behind.
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
