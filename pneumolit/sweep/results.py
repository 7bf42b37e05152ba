"""What a sweep leaves at its end: sweep.csv, sweep.md and sweep.html, from the folders of its jobs."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pneumolit.config import scored_epoch
from pneumolit.report.sweep import SweepRow, group_rows, sweep_csv
from pneumolit.report.sweep_page import write_sweep_page
from pneumolit.report.sweep_tables import sweep_markdown
from pneumolit.rundir import (
    DONE,
    FAILED,
    INTERRUPTED,
    RUNNING,
    WAITING,
    RunDir,
    SweepDir,
    read_json,
    read_yaml,
    write_text,
)
from pneumolit.stage_plan import plan_stages

_LOGGED = ("val/auroc", "val/loss", "stress/auroc", "block/auroc")  # shown at the scored epoch beside the monitor
_RATES = ("balanced_accuracy", "sensitivity", "specificity")  # of the primary rule on validation


def collect_row(run: RunDir, choices: Mapping[str, Any], *, monitor: str | None = None) -> SweepRow:
    """Read what a job left.

    A file that is not there leaves its numbers empty: a job may be killed at any moment.

    Args:
        run: folder of the job; it need not exist.
        choices: what varies between jobs, key -> value.
        monitor: the metric to rank by; None takes the one that chose the run's checkpoint.
    """
    status, job = _read(run.status_file), _read(run.job_file)
    state, reason = _ending(status, job)
    rows, finished = run.read_metrics(), status if state == DONE else {}
    row = SweepRow(
        name=run.path.name,
        choices=choices,
        state=state,
        reason=reason,
        seconds=finished.get("seconds", sum(row.get("seconds", 0.0) for row in rows) if rows else None),
        epochs=finished.get("epochs", int(rows[-1]["epoch"]) if rows else None),
    )
    if state != DONE:  # its last epoch is no result
        return row
    checkpoint = _checkpoint_settings(run)
    own = checkpoint.get("monitor", monitor)
    scored = scored_epoch(rows, status.get("checkpoint", checkpoint.get("use")), own)
    wanted = monitor or own
    found = _read(run.evaluation_metrics_file("val"))
    interval = found.get("intervals", {}).get("ranking", {}).get("auroc")
    logged = {name: scored[name] for name in _LOGGED if _is_known(scored, name) and name != wanted}
    return replace(
        row,
        score=scored[wanted] if wanted and _is_known(scored, wanted) else None,
        metrics=logged | _val_rates(found),
        interval=(interval[0], interval[1]) if interval else None,
    )


@dataclass(frozen=True)
class Tables:
    """Writes what a sweep says into its folder, each file whole or not at all.

    Attributes:
        sweep: its folder.
        monitor: the metric of the scores; a loss is best when it is small.
        again: command line that runs what is not done, shown where something is not.
        notes: one paragraph each, such as what was left out.
    """

    sweep: SweepDir
    monitor: str
    again: str = ""
    notes: Sequence[str] = ()

    def write_texts(self, rows: Sequence[SweepRow]) -> None:
        """Write sweep.csv and sweep.md, which take a moment only: after every job, whatever comes next."""
        write_text(self.sweep.csv_file, sweep_csv(rows, self.monitor))
        write_text(self.sweep.markdown_file, sweep_markdown(rows, **self._words(rows)))

    def write_all(self, rows: Sequence[SweepRow]) -> None:
        """Write sweep.csv, sweep.md and, with pictures, sweep.html.

        Args:
            rows: of all jobs, in any order.
        """
        self.write_texts(rows)
        write_sweep_page(self.sweep.page_file, rows, **self._words(rows))

    def _words(self, rows: Sequence[SweepRow]) -> dict[str, Any]:
        commands = winner_commands(self.sweep, rows, self.monitor)
        if self.again and any(row.state != DONE for row in rows):
            commands.append(("run what is not done", self.again))
        title = f"Sweep {self.sweep.path.name}"
        return {"title": title, "monitor": self.monitor, "commands": commands, "notes": self.notes}


def winner_commands(sweep: SweepDir, rows: Sequence[SweepRow], monitor: str) -> list[tuple[str, str]]:
    """How to score the winner on test; every seed and fold of it, so that none is picked by its luck.

    Returns:
        (what it does, command lines); empty where no job has a score.
    """
    groups = group_rows(rows, monitor)
    winners = [row for row in groups[0].rows if row.is_scored] if groups else []
    lines = [
        f"python -m pneumolit.evaluate run_dir={shlex.quote(str(sweep.job(row.name).path))} split=test"
        for row in winners
    ]
    which = "the best run" if len(lines) == 1 else f"all {len(lines)} runs of the best choices"
    return [(f"score {which} on test (once, at the end)", "\n".join(lines))] if lines else []


def _ending(status: Mapping[str, Any], job: Mapping[str, Any]) -> tuple[str, str]:
    """How a job ended, and why."""
    if status.get("state") == DONE:
        return DONE, ""
    if not status and not job:
        return WAITING, ""
    # The pool saw the process end; the run itself may not have had the time to write it down.
    state = job.get("state", status.get("state"))
    if state in (RUNNING, DONE) and status.get("state") not in (None, RUNNING, DONE):
        state = status["state"]
    reason = str(job.get("reason") or status.get("reason") or "")
    if state == RUNNING:
        return INTERRUPTED, reason or "its end was not recorded: it still runs, or was killed"
    if state == DONE:
        return FAILED, reason or "it ended without a finished run"
    return str(state), reason


def _checkpoint_settings(run: RunDir) -> Mapping[str, Any]:
    if not run.config_file.is_file():
        return {}
    cfg = read_yaml(run.config_file)
    # Those of the stage whose checkpoint is scored.
    found: Mapping[str, Any] = plan_stages(cfg)[-1].cfg["callbacks"]["checkpoint"]
    return found


def _is_known(row: Mapping[str, float], name: str) -> bool:
    return math.isfinite(row.get(name, math.nan))


def _val_rates(found: Mapping[str, Any]) -> dict[str, float]:
    primary = found.get("rules", {}).get("primary")
    rates = {key: primary[key] for key in _RATES} if primary else {}
    if not rates and "class_view" in found:  # no class means pneumonia
        rates = {"accuracy": found["class_view"]["accuracy"]}
    return {f"val {key.replace('_', ' ')}": value for key, value in rates.items() if value is not None}


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
