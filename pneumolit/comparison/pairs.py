"""Two methods against each other, as often as asked, with a correction for how often that was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from pneumolit.comparison.rows import RowGroup
from pneumolit.evaluation.agreement import cohen_kappa, common_errors
from pneumolit.evaluation.mcnemar import (
    FEW_GAINS,
    clustered_mcnemar,
    mcnemar_exact,
    mcnemar_mid_p,
    patient_gains,
    sign_flip_mid_p,
)
from pneumolit.evaluation.metrics import auroc
from pneumolit.evaluation.multiplicity import holm
from pneumolit.evaluation.paired import Difference, Pair, auroc_differences, resampled_intervals, resampled_metrics
from pneumolit.report.comparison import RESAMPLED, PairRow


def against_one(group: RowGroup, reference: int) -> list[Pair]:
    """Every other method against the reference."""
    return [(place, reference) for place in range(len(group.methods)) if place != reference]


def all_pairs(group: RowGroup) -> list[Pair]:
    """Every method against every later one."""
    return list(combinations(range(len(group.methods)), 2))


def compare_pairs(
    group: RowGroup, pairs: Sequence[Pair], titles: Sequence[str], *, num_resamples: int = 2000, seed: int = 0
) -> list[PairRow]:
    """Test each pair on the images of a group.

    Args:
        group: of methods with the same images.
        pairs: columns of the group; differences are the first minus the second.
        titles: of the methods, in the order of the group.
        num_resamples: of patients.
        seed: of the draws.

    Returns:
        One row per pair, in the same order; the corrected p-values count these pairs, AUROC and accuracy apart. Where
        two methods differ on fewer than `FEW_GAINS` patients, the p-value of the accuracy is that of flipped signs.
    """
    if not pairs:
        return []
    correct, patients = group.correct, group.patient_ids
    accuracies = [clustered_mcnemar(correct[:, one], correct[:, other], patients) for one, other in pairs]
    gains = [patient_gains(correct[:, one], correct[:, other], patients)[1] for one, other in pairs]
    flipped = [sign_flip_mid_p(own) for own in gains]
    is_few = [int(np.count_nonzero(own)) < FEW_GAINS for own in gains]
    for i, found in enumerate(accuracies):
        if is_few[i] and found.p_value is not None:
            accuracies[i] = replace(found, p_value=flipped[i])
    aurocs: list[Difference | None] = [None] * len(pairs)
    delongs: list[Difference | None] = [None] * len(pairs)
    scores = group.scores if group.has_scores else None
    if scores is not None and _has_patients(group):
        aurocs = list(auroc_differences(group.positives, scores, patients, pairs))
    if scores is not None and min(np.bincount(group.positives)) > 1:
        delongs = list(auroc_differences(group.positives, scores, np.arange(len(scores)), pairs))
    drawn = resampled_metrics(
        group.positives,
        scores,
        # Without a two-class view only the accuracy is asked for: call an image what it is where that is right.
        group.called
        if scores is not None
        else np.where(correct, group.positives[:, None], 1 - group.positives[:, None]),
        patients,
        num_resamples=num_resamples,
        seed=seed,
    )
    seen = _observed(group, scores)
    intervals = {name: resampled_intervals(drawn[name], pairs) for name in RESAMPLED if name in drawn}
    kappa, errors = (
        cohen_kappa(np.column_stack([m.decisions for m in group.methods]).astype(str)),
        common_errors(correct),
    )
    auroc_holm = holm([None if found is None else found.p_value for found in aurocs])
    accuracy_holm = holm([found.p_value for found in accuracies])
    rows = []
    for i, (one, other) in enumerate(pairs):
        only_first = int((correct[:, one] & ~correct[:, other]).sum())
        only_second = int((correct[:, other] & ~correct[:, one]).sum())
        rows.append(
            PairRow(
                first=titles[one],
                second=titles[other],
                accuracy=accuracies[i],
                accuracy_holm=accuracy_holm[i],
                only_first=only_first,
                only_second=only_second,
                both_wrong=int(errors[one, other]),
                sign_flip_p=flipped[i],
                is_sign_flip=is_few[i],
                mcnemar_exact=mcnemar_exact(only_first, only_second),
                mcnemar_mid_p=mcnemar_mid_p(only_first, only_second),
                kappa=float(kappa[one, other]),
                auroc=aurocs[i],
                auroc_holm=auroc_holm[i],
                delong=delongs[i],
                resampled={
                    name: (float(seen[name][one] - seen[name][other]), found[i]) for name, found in intervals.items()
                },
            )
        )
    return rows


def _has_patients(group: RowGroup) -> bool:
    """Whether each class has images of two patients, so that there is a variance between them."""
    return all(len(set(group.patient_ids[group.positives == side])) > 1 for side in (0, 1))


def _observed(group: RowGroup, scores: np.ndarray | None) -> dict[str, np.ndarray]:
    """By name of `RESAMPLED` each method's number on the images as they are, `(M,)`."""
    correct, positives = group.correct, group.positives
    found = {"accuracy": correct.mean(axis=0)}
    if scores is not None:
        found["sensitivity"], found["specificity"] = (correct[positives == side].mean(axis=0) for side in (1, 0))
        found["balanced_accuracy"] = (found["sensitivity"] + found["specificity"]) / 2
        found["auroc"] = np.array([auroc(positives, column) for column in scores.T])
    return found
