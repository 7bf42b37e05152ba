"""What a person sees of a run on the console."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from pneumolit.data.dataset import ChestXrayData, count_classes
from pneumolit.data.store import Progress as StoreProgress
from pneumolit.model.freeze import FreezePlan
from pneumolit.model.weights import WeightsSource
from pneumolit.rundir import RunDir
from pneumolit.scoring import headline
from pneumolit.training.precision import Precision


@contextlib.contextmanager
def data_progress(console: Console) -> Iterator[StoreProgress]:
    """A bar while images are hashed and decoded for the first time."""
    progress = Progress(
        TextColumn("{task.description} images"), BarColumn(), MofNCompleteColumn(), console=console, transient=True
    )
    tasks: dict[str, Any] = {}

    def advance(what: str, done: int, total: int) -> None:
        if not tasks:
            progress.start()  # not before: an existing store needs no bar, not even an empty line
        if what not in tasks:
            tasks[what] = progress.add_task(what, total=total)
        progress.update(tasks[what], completed=done)

    try:
        yield advance
    finally:
        if tasks:
            progress.stop()


def print_plan(
    console: Console,
    *,
    run: RunDir,
    cfg: Mapping[str, Any],
    data: ChestXrayData,
    plan: FreezePlan,
    source: WeightsSource,
    precision: Precision,
) -> None:
    """What will train on what."""
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
    }
    for split in ("train", "val", "block", "test", "dropped", "unreadable"):
        if split in counts:
            patients = len({r.patient_id for r in data.records if r.split == split})
            cells = [str(counts[split][name]) for name in data.labels.classes]
            table.add_row(notes.get(split, split), *cells, str(patients))
    weights = {
        "none": "random weights",
        "file": f"weights from {source.location}",
        "package": f"ImageNet weights from the package {source.location}",
        "cache": f"pretrained weights from the local cache ({source.location})",
        "download": f"pretrained weights downloaded ({source.location})",
    }[source.kind]
    optimizer = str(cfg["optim"]["_target_"]).rpartition(".")[2]
    console.print(table)
    model, trainer = cfg["model"], cfg["trainer"]
    lines = {
        "model": f"{source.name}, {weights}",
        "trains": plan.describe(),
        "input": f"{model['image_size']} px, {model['in_chans']} channel, batches of {cfg['data']['batch_size']}, "
        f"balance {cfg['data']['balance']}",
        "with": f"{optimizer} lr {cfg['optim']['lr']:g}, {cfg['scheduler']['name']}, {trainer['max_epochs']} epochs, "
        f"seed {cfg['seed']}",
        "in": f"{precision.training} (scores in {precision.scoring})",
        "folder": str(run.path),
    }
    for label, text in lines.items():
        console.print(f"  [bold]{label:<7}[/bold] {escape(text)}", highlight=False, soft_wrap=True)
    console.print()


def print_result(console: Console, run: RunDir, results: Mapping[str, Any], *, seconds: float, is_tested: bool) -> None:
    """The closing table, where to look, and the next command."""
    table = Table(box=box.SIMPLE, title="result, with 95 % intervals over patients", title_justify="left")
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
    console.print(f"\n  done in {seconds / 60:.1f} minutes", highlight=False, soft_wrap=True)
    for label, text in steps:
        console.print(f"  [bold]{label:<7}[/bold] {escape(text)}", highlight=False, soft_wrap=True)
