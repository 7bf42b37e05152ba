"""What a person sees of a run on the console."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pneumolit.data.dataset import BLOCKS, ChestXrayData, count_classes
from pneumolit.model.freeze import FreezePlan, GroupRow
from pneumolit.model.weights import WeightsSource
from pneumolit.rundir import RunDir
from pneumolit.scoring import headline
from pneumolit.stage_plan import Stage
from pneumolit.training.precision import Precision


def print_plan(
    console: Console,
    *,
    run: RunDir,
    stages: Sequence[Stage],
    data: ChestXrayData,
    plans: Sequence[FreezePlan],
    reasons: Sequence[str],
    source: WeightsSource,
    precision: Precision,
    processes: Mapping[str, Any] | None = None,
) -> None:
    """What will train on what; `reasons` by stage are why it trains on images and not on stored features."""
    console.print(_image_table(data))
    weights = {
        "none": "random weights",
        "file": f"weights from {source.location}",
        "package": f"ImageNet weights from the package {source.location}",
        "cache": f"pretrained weights from the local cache ({source.location})",
        "download": f"pretrained weights downloaded ({source.location})",
    }[source.kind]
    first = stages[0].cfg
    lines = [("model", f"{source.name}, {weights}")]
    for stage, plan, reason in zip(stages, plans, reasons, strict=True):
        lines += [*_stage_lines(stage, plan), *_feature_line(stage, plan, reason)]
    lines += [
        ("seed", f"{first['seed']}, balance {first['data']['balance']}"),
        ("in", f"{precision.training} (scores in {precision.scoring})"),
        *_process_line(processes),
        ("folder", str(run.path)),
    ]
    for label, text in lines:
        console.print(f"  [bold]{label:<8}[/bold] {escape(text)}", highlight=False, soft_wrap=True)
    console.print()
    for stage, plan in zip(stages, plans, strict=True):
        if plan.frozen:
            console.print(_freeze_table(stage, plan))


def _process_line(processes: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Who trains the model together; nothing for one process."""
    if processes is None:
        return []
    count, norms = processes["processes"], processes["batch_norm"]
    return [
        ("by", f"{count} processes ({processes['strategy']}), an equal part of every batch each; batch norm: {norms}")
    ]


def _stage_lines(stage: Stage, plan: FreezePlan) -> list[tuple[str, str]]:
    cfg, model, trainer = stage.cfg, stage.cfg["model"], stage.cfg["trainer"]
    optimizer = str(cfg["optim"]["_target_"]).rpartition(".")[2]
    begin = f", from the {stage.start} epoch of stage {stage.index}" if stage.index else ""
    accumulated = trainer["accumulate_grad_batches"]
    batches = f"batches of {cfg['data']['batch_size']}" + (f" x {accumulated}" if accumulated > 1 else "")
    texts = (
        plan.describe(),
        f"{_sides(model)}, {model['in_chans']} channel{'s' * (model['in_chans'] > 1)}, {batches}",
        f"{optimizer} lr {cfg['optim']['lr']:g}, {cfg['scheduler']['name']}, "
        f"{stage.epochs} epoch{'s' * (stage.epochs > 1)}{begin}",
    )
    labels = ("trains", "input", "with")
    if stage.count > 1:
        name = "" if stage.name == str(stage.index + 1) else f"{stage.name}: "
        return [(f"stage {stage.index + 1}", name + texts[0]), ("", texts[1]), ("", texts[2])]
    return list(zip(labels, texts, strict=True))


def _sides(model: Mapping[str, Any]) -> str:
    shown = f"{model['image_size']} px"
    if model["train_size"] in (None, model["image_size"]):
        return shown
    return f"{model['train_size']} px, scored at {shown}"


def _feature_line(stage: Stage, plan: FreezePlan, reason: str) -> list[tuple[str, str]]:
    """How often the frozen part is run."""
    views = stage.cfg["trainer"]["feature_views"]
    what, verb = ("its features", "are") if plan.policy == "head" else ("its output", "is")
    if not reason:
        text = f"{views} fixed views of every image, in turn by epoch" if views else "every image once"
        return [("frozen", f"{what} {verb} computed of {text}, and stored")]
    return [("frozen", f"{what} {verb} not stored: {reason}")] if plan.frozen else []


def _image_table(data: ChestXrayData) -> Table:
    counts = count_classes(data)
    table = Table(box=box.SIMPLE, title="images", title_justify="left")
    table.add_column("split")
    for name in data.labels.classes:
        table.add_column(escape(name), justify="right")
    table.add_column("patients", justify="right")
    notes = {
        "dropped": "left out: copies or balancing",
        "unreadable": "left out: unreadable",
        "block": "held-out block",
        "block2": "second block",
        "block3": "third block",
    }
    patients = data.records.patients()
    for split in ("train", "val", *BLOCKS, "test", "dropped", "unreadable"):
        if split in counts:
            shown = len(np.unique(patients[data.rows(split)]))
            cells = [str(counts[split][name]) for name in data.labels.classes]
            table.add_row(notes.get(split, split), *cells, str(shown))
    return table


def _freeze_table(stage: Stage, plan: FreezePlan) -> Table:
    """What trains, front to back; neighbours of one kind are joined."""
    title = "what trains" + (f" in stage {stage.index + 1}" if stage.count > 1 else "")
    table = Table(box=box.SIMPLE, title=title, title_justify="left")
    table.add_column("part", overflow="fold")
    for name in ("parameters", "of them train", "batch norms", "of them still"):
        table.add_column(name, justify="right")
    for rows in _joined(plan.groups):
        ends = rows[0].name.partition(",")[0], rows[-1].name.rpartition(", ")[2]
        name = rows[0].name if len(rows) == 1 else " ... ".join(ends)
        sums = [
            sum(getattr(row, field) for row in rows)
            for field in ("parameters", "trainable", "batch_norms", "still_norms")
        ]
        table.add_row(escape(name), *(f"{value:,}" for value in sums))
    return table


def _joined(groups: Sequence[GroupRow]) -> list[list[GroupRow]]:
    joined: list[list[GroupRow]] = []
    kinds: list[str] = []
    for row in groups:
        kind = "frozen" if not row.trainable else "trains" if row.trainable == row.parameters else row.name
        is_head = row is groups[-1]
        if joined and kinds[-1] == kind and not is_head:
            joined[-1].append(row)
        else:
            joined.append([row])
        kinds.append(kind)
    return joined


def print_resumption(
    console: Console, run: RunDir, stages: Sequence[Stage], found: tuple[Stage, Mapping[str, Any]] | None
) -> None:
    """From where a run goes on."""
    planned = sum(stage.epochs for stage in stages)
    if found is None:
        text = f"The run in {run.path} holds no checkpoint yet; it starts from the beginning."
    else:
        stage, progress = found
        place = f" (stage {stage.index + 1} of {stage.count})" if stage.count > 1 else ""
        checkpoint = run.checkpoint(stage.checkpoint("last"))
        text = f"Going on with {run.path} after epoch {progress['epochs']} of {planned}{place}, from {checkpoint.name}."
    console.print(text, highlight=False, soft_wrap=True)


def say_duration(seconds: float) -> str:
    """Seconds in words.

    >>> say_duration(0.7), say_duration(59.6), say_duration(95)
    ('1 second', '1.0 minutes', '1.6 minutes')
    """
    whole = round(seconds)
    return f"{seconds / 60:.1f} minutes" if whole >= 60 else f"{whole} second{'s' * (whole != 1)}"


def print_result(console: Console, run: RunDir, results: Mapping[str, Any], *, seconds: float, is_tested: bool) -> None:
    """The closing table, where to look, and the next command."""
    over = "patients" if all(metrics.get("has_patients", True) for metrics in results.values()) else "images"
    table = Table(box=box.SIMPLE, title=f"result, with 95 % intervals over {over}", title_justify="left")
    table.add_column("")
    for name in results:
        table.add_column(f"{name} ({results[name]['num_images']})", justify="right")
    columns = [dict(headline(metrics)) for metrics in results.values()]
    for label in columns[0]:
        table.add_row(label, *(column.get(label, "") for column in columns))
    console.print(table)
    if "rules" in results["val"]:
        console.print(
            "  Decisions by the primary rule: calibrated on validation, probability >= .5 at prevalence .5.",
            highlight=False,
            soft_wrap=True,
        )
    if is_tested:
        console.print(f"  Test: {results['test']['context']['look']}.", highlight=False, soft_wrap=True)
    console.print("  Research software, not a medical device.", highlight=False, soft_wrap=True)
    folder = shlex.quote(str(run.path))
    steps = [("page", str(run.page_file)), ("curves", f"tensorboard --logdir {folder}")]
    command = f"python -m pneumolit.evaluate run_dir={folder}"
    steps.append(
        ("again", f"{command} split=val") if is_tested else ("next", f"{command} split=test   (once, at the end)")
    )
    console.print(f"\n  done in {say_duration(seconds)}", highlight=False, soft_wrap=True)
    for label, text in steps:
        console.print(f"  [bold]{label:<7}[/bold] {escape(text)}", highlight=False, soft_wrap=True)
