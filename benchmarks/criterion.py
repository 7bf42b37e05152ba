"""Which validation should choose epoch and recipe: plain, stress or a block?

python -m benchmarks.criterion sweep=FOLDER [metric=auroc]

FOLDER holds runs with two blocks set aside (data.holdout_blocks=2), such as `python -m pneumolit.train --multirun
sweep=criterion` leaves, in one or several folders (separated by commas). One block is a criterion beside plain and
stress validation, the other stands in for test; then they change places, and every number is the mean of both. Test has
no part in it. For each criterion:

    epoch loss     the stand-in's metric at the run's best epoch less that at the epoch that the criterion chooses,
                   mean over runs; `last` takes the last epoch whatever the numbers say
    rank           Spearman's correlation of criterion and stand-in over runs, at the last epoch
    recipe loss    the stand-in's metric of its best run less that of the run that the criterion chooses

with standard errors over the runs (of the mean for the epoch loss, from resampling else). A criterion that reads the
loss chooses epochs only: losses of three and of two classes cannot be compared. The last line is one JSON object.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from benchmarks._common.arguments import read_arguments, require
from benchmarks._common.report import print_json
from pneumolit.rundir import DONE, RunDir, read_json

_BLOCKS = ("block", "block2")
_MEASURES = ("auroc", "balanced_accuracy", "loss")
_RESAMPLES = 2000
_FEWEST = 5  # runs: a rank correlation of fewer says nothing


@dataclass(frozen=True)
class Options:
    """Keys of the command line."""

    sweep: str = field(default="")
    metric: str = "auroc"  # of the stand-in: auroc | balanced_accuracy


@dataclass(frozen=True)
class Findings:
    """What a criterion does over all runs, for one choice of the stand-in.

    Attributes:
        epoch_losses: `(runs,)`.
        values: `(runs,)` at the last epoch, higher is better; None where runs cannot be compared by it.
        stand_in: `(runs,)` the stand-in's metric at the last epoch.
    """

    epoch_losses: np.ndarray
    values: np.ndarray | None
    stand_in: np.ndarray

    def rank(self, draws: np.ndarray) -> np.ndarray:
        """Correlation of criterion and stand-in over some runs, by row of `(R, runs)` draws; 0 where one is flat."""
        assert self.values is not None
        one, other = (rankdata(column[draws], axis=1) for column in (self.values, self.stand_in))
        one, other = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (one, other))
        size = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
        found: np.ndarray = (one * other).sum(axis=1) / np.where(size > 0, size, 1)
        return found

    def recipe_loss(self, draws: np.ndarray) -> np.ndarray:
        """What choosing by the criterion loses against the best of the runs of each row of draws; ties share."""
        assert self.values is not None
        values, stand_in = self.values[draws], self.stand_in[draws]
        chosen = values == values.max(axis=1, keepdims=True)
        found: np.ndarray = stand_in.max(axis=1) - (stand_in * chosen).sum(axis=1) / chosen.sum(axis=1)
        return found


def main() -> None:
    options = read_arguments(Options, sys.argv[1:], __doc__)
    require(bool(options.sweep), "sweep=FOLDER is missing; pneumolit.train --multirun sweep=criterion makes one")
    require(options.metric in _MEASURES[:2], f"metric must be auroc or balanced_accuracy, got {options.metric}")
    curves = [curve for folder in options.sweep.split(",") for curve in read_curves(Path(folder))]
    require(
        len(curves) >= _FEWEST,
        f"{options.sweep}: {len(curves)} finished runs with two blocks, it takes {_FEWEST}; check the folder, or make "
        "more with python -m pneumolit.train --multirun sweep=criterion",
    )
    rows = {name: summary(name, curves, options.metric) for name in criteria()}
    print(f"{len(curves)} runs; {options.metric} of the stand-in\n")
    print(f"  {'criterion':<26} {'epoch loss':>18} {'rank':>14} {'recipe loss':>18}")
    for name, found in rows.items():
        cells = [_text(found, *column) for column in (("epoch_loss", 5), ("rank", 2), ("recipe_loss", 5))]
        print(f"  {name:<26} {cells[0]:>18} {cells[1]:>14} {cells[2]:>18}")
    print_json("criterion", {"runs": len(curves), "metric": options.metric, "criteria": rows})


def read_curves(folder: Path) -> list[dict[str, np.ndarray]]:
    """Metrics by epoch of every finished run in a folder that has two blocks, and stress validation beside them."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        run = RunDir(path)
        if not run.status_file.is_file() or read_json(run.status_file)["state"] != DONE:
            continue
        rows = run.read_metrics()
        if rows and all(f"{name}/auroc" in rows[-1] for name in (*_BLOCKS, "stress")):
            found.append({name: np.array([row[name] for row in rows]) for name in rows[-1] if "/" in name})
    return found


def criteria() -> list[str]:
    """Names: set and metric, and the last epoch."""
    sets = ("val", "stress", "block", "stress+block")
    return ["last epoch", *(f"{name} {metric}" for name in sets for metric in _MEASURES)]


def criterion_curve(curve: dict[str, np.ndarray], name: str, block: str) -> np.ndarray:
    """`(epochs,)` values of a criterion, higher is better; `block` is the one that may choose."""
    if name == "last epoch":
        return np.arange(len(curve["val/auroc"]), dtype=np.float64)
    sets, _, metric = name.partition(" ")
    parts = [curve[f"{block if one == 'block' else one}/{metric}"] for one in sets.split("+")]
    mean: np.ndarray = np.mean(parts, axis=0)
    return -mean if metric == "loss" else mean


def findings(name: str, curves: Sequence[dict[str, np.ndarray]], metric: str, block: str) -> Findings:
    """Apply a criterion to all runs; the other block stands in for test."""
    stand_in = f"{_BLOCKS[1 - _BLOCKS.index(block)]}/{metric}"
    losses, values = [], []
    for curve in curves:
        criterion = criterion_curve(curve, name, block)
        losses.append(curve[stand_in].max() - curve[stand_in][int(criterion.argmax())])
        values.append(criterion[-1])
    compares = name != "last epoch" and not name.endswith(" loss")
    last = np.array([curve[stand_in][-1] for curve in curves])
    return Findings(np.array(losses), np.array(values) if compares else None, last)


def summary(name: str, curves: Sequence[dict[str, np.ndarray]], metric: str) -> dict[str, list[float] | None]:
    """[value, standard error] of each measure, the mean over both choices of the stand-in."""
    both = [findings(name, curves, metric, block) for block in _BLOCKS]
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(curves), (_RESAMPLES, len(curves)))
    all_runs = np.arange(len(curves))[None]
    found: dict[str, list[float] | None] = {}
    mean = np.mean([one.epoch_losses for one in both], axis=0)
    found["epoch_loss"] = [round(float(mean.mean()), 6), round(float(mean.std(ddof=1) / len(mean) ** 0.5), 6)]
    for key in ("rank", "recipe_loss"):
        found[key] = None
        if both[0].values is not None:
            value = np.mean([getattr(one, key)(all_runs)[0] for one in both])
            drawn = np.mean([getattr(one, key)(draws) for one in both], axis=0)
            found[key] = [round(float(value), 6), round(float(np.std(drawn)), 6)]
    return found


def _text(found: dict[str, list[float] | None], key: str, digits: int) -> str:
    pair = found[key]
    return "-" if pair is None else f"{pair[0]:.{digits}f} +- {pair[1]:.{digits}f}"


if __name__ == "__main__":
    main()
