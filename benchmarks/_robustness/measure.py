"""What a run or a saved ensemble says of distorted films."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks._common.arguments import require
from benchmarks._results.ensembles import members_of
from benchmarks._robustness.distortions import distorted, names_of
from pneumolit.rundir import RunDir

NUMBERS = ("auroc", "argmax_sensitivity", "argmax_specificity", "primary_sensitivity", "primary_specificity")
Found = dict[str, dict[str, float]]


def measure(run: RunDir, split: str, kind: str, root: Path | None, cache: Path | None) -> Found:
    """Numbers under every distortion.

    Args:
        run: folder of a run or of a saved ensemble, whose members score every film anew.
        split: `block` or `val`.
        kind: `stress` or `curves`.
        root: where the run's images lie now, if they moved.
        cache: folder of decoded images; None: as for every command.
    """
    from rich.console import Console

    from pneumolit.data.store import cache_folder
    from pneumolit.prediction.opening import open_scorer
    from pneumolit.rundir import read_json
    from pneumolit.training.rescore import reopen_data

    scorer = open_scorer(run.path)
    require(scorer.calibration is not None, f"{run.path}: no class of this run means pneumonia; leave it out of runs=")
    is_there = split in read_json(run.data_file)["fingerprints"]
    if scorer.is_ensemble:
        missing = f"its members have no {split} images in common; give the members' folders in runs= instead"
    else:
        missing = f"the run has no split {split}; train with data.holdout_fraction=0.1, which sets a block aside"
    require(is_there, f"{run.path}: {missing}")

    first = members_of(run)[0]  # members of an ensemble share their data
    place = cache_folder(None if cache is None else str(cache))
    data = reopen_data(first, first.read_config(), None if root is None else str(root), place, Console(stderr=True))
    rows = data.rows(split)
    films, positives = np.asarray(data.store.images[rows]), np.array(data.labels.positive_mask)[data.targets(rows)]
    is_positive = np.array(scorer.labels.positive_mask)
    found: Found = {}
    for name in names_of(kind):
        said = scorer.score({films.shape[1]: distorted(films, name, rows)})
        found[name] = numbers_of(positives, said.log_odds, is_positive[said.probs.argmax(axis=1)])
    return found


def numbers_of(positives: np.ndarray, log_odds: np.ndarray, largest: np.ndarray) -> dict[str, float]:
    """AUROC, and sensitivity and specificity by the largest logit and by the primary rule.

    Args:
        positives: `(N,)` bool, the truth.
        log_odds: `(N,)` calibrated, of pneumonia at prevalence one half.
        largest: `(N,)` bool, whether the largest logit is one of pneumonia.
    """
    from pneumolit.evaluation.metrics import auroc

    numbers = {"auroc": float(auroc(positives.astype(np.int64), log_odds))}
    for rule, called in {"argmax": largest, "primary": log_odds >= 0}.items():
        numbers[f"{rule}_sensitivity"] = float(called[positives].mean())
        numbers[f"{rule}_specificity"] = float(1 - called[~positives].mean())
    return numbers
