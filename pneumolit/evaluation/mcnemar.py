"""Does one method decide more images rightly than another? McNemar's tests, with and without patients."""

from __future__ import annotations

import numpy as np
from scipy.stats import binom

from pneumolit.evaluation.clustered import patient_rows
from pneumolit.evaluation.paired import Difference, normal_difference

FEW_GAINS = 25  # patients on whom two methods differ, below which a sum of gains is not taken for normal


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value from the images that one method alone decides rightly; 1 where there are none.

    Source:
        McNemar, Psychometrika 12, 1947; Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91, 2013.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    return min(1.0, 2 * float(binom.cdf(fewer, total, 0.5)))


def mcnemar_mid_p(only_first: int, only_second: int) -> float:
    """As `mcnemar_exact`, with half the probability of the observed counts: less cautious, and near its level.

    Source:
        Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91, 2013.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    if not total:
        return 1.0
    tail, point = float(binom.cdf(fewer, total, 0.5)), float(binom.pmf(fewer, total, 0.5))
    return 1 - point / 2 if only_first == only_second else 2 * tail - point


def clustered_mcnemar(
    first: np.ndarray, second: np.ndarray, patient_ids: np.ndarray, *, level: float = 0.95
) -> Difference:
    """Difference of two proportions of right decisions on the same images of patients.

    Of the published tests this is the one about the difference that is printed, which counts images; Durkalski's
    (Statistics in Medicine 22, 2003) counts patients. Yang's version of it (Biometrical Journal 52, 2010) differs by
    less than a hundredth from 50 patients on.

    Args:
        first: `(N,)` 0/1, N >= 1, whether a method decides an image rightly.
        second: `(N,)` 0/1, the same of another method.
        patient_ids: `(N,)` who was imaged.
        level: of the interval.

    Returns:
        First minus second; the p-value with the variance under no difference, the interval with the variance found.

    Source:
        Obuchowski, Statistics in Medicine 17, 1998; in the short form of Yang, Sun and Hardin, Biometrical Journal
        52, 2010.
    """
    sizes, gains = patient_gains(first, second, patient_ids)
    count, images = len(sizes), float(sizes.sum())
    value = float(gains.sum()) / images
    if count < 2:
        return Difference(value, None, 1.0 if value == 0 else None)
    factor = count / (count - 1) / images**2
    rest = gains - sizes * value
    return normal_difference(value, factor * float(gains @ gains), factor * float(rest @ rest), 1 / images, level)


def sign_flip_mid_p(gains: np.ndarray) -> float:
    """Mid-p value of no difference: were the methods alike, each patient's gain might as well have the other sign.

    All signs are counted, not drawn, and half the probability of the gain that was seen, so that it is near its level
    rather than surely below it. With one image per patient it is `mcnemar_mid_p`; with more it takes the place of
    `clustered_mcnemar` where the methods differ on few patients.

    Args:
        gains: whole numbers, one per patient, from `patient_gains`.

    Source:
        Fisher, The Design of Experiments, 1935, ch. 3 (signs); Fagerland et al. as above (mid-p).
    """
    steps = np.abs(np.asarray(gains)).astype(np.int64)
    if not steps.any():
        return 1.0
    chances = np.ones(1)  # of the sums -reach, ..., reach
    for step in steps[steps > 0]:
        wider = np.zeros(len(chances) + 2 * int(step))
        wider[: len(chances)] += chances / 2
        wider[2 * int(step) :] += chances / 2
        chances = wider
    sums = np.abs(np.arange(len(chances)) - len(chances) // 2)
    seen = abs(int(np.sum(gains)))
    return float(chances[sums > seen].sum() + chances[sums == seen].sum() / 2)


def patient_gains(first: np.ndarray, second: np.ndarray, patient_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(P,)` images, and `(P,)` by how many more of them the first method decides rightly, for each patient."""
    rows, _ = patient_rows(patient_ids)
    gain = np.asarray(first).astype(np.float64) - np.asarray(second).astype(np.float64)
    return np.bincount(rows).astype(np.float64), np.bincount(rows, gain)
