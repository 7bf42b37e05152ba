"""A trial of a search: what the process that runs it tells the study, and the value that counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumolit.interrupts import RunPrunedError
from pneumolit.rundir import DONE, PRUNED, RunDir, read_json
from pneumolit.stage_plan import plan_stages
from pneumolit.sweep.job import Job, configuration_of, refuse_absent_gpu

if TYPE_CHECKING:
    from optuna.trial import Trial


class Reporter:
    """Tells the study how a run is getting on; ends it where the pruner says so.

    Args:
        trial: of the study.
        monitor: what is optimised.
        epochs: that the run has in all.
    """

    def __init__(self, trial: Trial, monitor: str, epochs: int) -> None:
        self.trial, self.monitor, self.epochs = trial, monitor, epochs
        self._told: set[int] = set()

    def replay(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Report the epochs of a run that goes on: it may have been another trial's, whose process was killed."""
        for row in rows:
            self._report(row)

    def watch(self, row: Mapping[str, float]) -> None:
        """Report an epoch.

        Raises:
            RunPrunedError: other trials were better by then.
        """
        if self._report(row):
            self.prune(int(row["epoch"]))

    def prune(self, epoch: int) -> None:
        """Ask the pruner; after the last epoch nothing would be saved, and the trial's value would be lost.

        Raises:
            RunPrunedError: other trials were better by then.
        """
        if 0 < epoch < self.epochs and self.trial.should_prune():
            raise RunPrunedError(f"behind other trials after epoch {epoch} of {self.epochs}")

    def diverged(self) -> None:
        """Tell the study that no number came of it: the sampler counts it among the worst."""
        self.trial.report(math.nan, max(self._told, default=0) + 1)

    def _report(self, row: Mapping[str, float]) -> bool:
        """Whether the epoch is new; one that is repeated after a restart has been reported."""
        epoch = int(row["epoch"])
        if epoch in self._told or self.monitor not in row:
            return False
        self._told.add(epoch)
        self.trial.report(row[self.monitor], epoch)
        return True


def tune_job(job: Job) -> None:
    """Train a trial's run, from its newest checkpoint where there is one, and report every epoch to the study.

    Args:
        job: `extra` holds what `open_trial` needs, and the monitor.

    Raises:
        RunPrunedError: other trials were better, or the run diverged.
    """
    from rich.console import Console

    from pneumolit.model.classifier import TrainingDivergedError
    from pneumolit.search.strategy import quiet_optuna
    from pneumolit.training.fit import fit

    cfg = configuration_of(job)
    refuse_absent_gpu(cfg)
    with quiet_optuna():
        reporter = Reporter(open_trial(job), job.extra["monitor"], epochs_of(cfg))
        rows = job.run.read_metrics()
        reporter.replay(rows)
        if rows and not is_done(job.run):
            try:
                reporter.prune(int(rows[-1]["epoch"]))
            except RunPrunedError as error:
                job.run.write_status(PRUNED, reason=str(error))
                raise
        try:
            fit(
                cfg, Path(job.folder), Console(width=120), resume=True, watch=reporter.watch,
                lock_seconds=job.lock_seconds,
            )  # fmt: skip
        except TrainingDivergedError as error:
            # No failure of the search: it says that these settings are bad, which is what was asked.
            reporter.diverged()
            raise RunPrunedError(f"diverged: {error}") from error


def open_trial(job: Job) -> Trial:
    """The trial in the study's storage, as a process of its own sees it.

    Args:
        job: `extra` holds storage (null: the journal), journal, study, trial (its number) and pruner.
    """
    import optuna

    from pneumolit.search.storage import open_storage
    from pneumolit.search.strategy import build_pruner

    extra = job.extra
    storage = open_storage(extra["storage"], Path(extra["journal"]))
    pruner = build_pruner(extra["pruner"], epochs_of(job.cfg))
    # Nothing is drawn here, so the sampler is the one that does nothing.
    study = optuna.load_study(
        study_name=extra["study"], storage=storage, pruner=pruner, sampler=optuna.samplers.RandomSampler()
    )
    study_id = storage.get_study_id_from_name(extra["study"])
    return optuna.trial.Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, extra["trial"]))


def epochs_of(cfg: Mapping[str, Any]) -> int:
    """Planned epochs of all stages."""
    return sum(stage.epochs for stage in plan_stages(cfg))


def is_done(run: RunDir) -> bool:
    """Whether a run has come to its end."""
    return run.status_file.is_file() and read_json(run.status_file)["state"] == DONE


def scored_value(run: RunDir, cfg: Mapping[str, Any], monitor: str) -> float:
    """The monitor at the epoch whose weights were scored; NaN where there is none.

    Args:
        run: a finished run.
        cfg: its configuration.
        monitor: a column of metrics.csv.
    """
    from pneumolit.config import scored_epoch

    chosen_by = plan_stages(cfg)[-1].cfg["callbacks"]["checkpoint"]["monitor"]
    return scored_epoch(run.read_metrics(), cfg["callbacks"]["checkpoint"]["use"], chosen_by).get(monitor, math.nan)
