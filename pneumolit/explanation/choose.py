"""Which images are shown, and which the checks are made on."""

from __future__ import annotations

import numpy as np

from pneumolit.report.explanations import NEAREST, RIGHT, WRONG

GROUPS = (RIGHT, WRONG, NEAREST)


def choose_gallery(
    margins: np.ndarray, positives: np.ndarray, patient_ids: np.ndarray, num: int
) -> dict[str, np.ndarray]:
    """The images that a reader wants to see first, of as many patients as there are images in a group.

    Args:
        margins: `(N,)` float, calibrated log odds of pneumonia less those of the threshold; >= 0 is called pneumonia.
        positives: `(N,)` 0/1, 1 is pneumonia.
        patient_ids: `(N,)` who was imaged.
        num: most images per group, >= 1.

    Returns:
        group -> rows: `RIGHT`, the surest right ones, of both classes in turn; `WRONG`, the surest wrong ones, the
        worst first; `NEAREST`, those nearest to the threshold, right or wrong. A group may have fewer rows, or none.
    """
    is_positive = np.asarray(positives) == 1
    is_right = (margins >= 0) == is_positive
    by_sureness = np.argsort(-np.abs(margins), kind="stable")
    right = [_of_distinct_patients(by_sureness[(is_right & (is_positive == side))[by_sureness]], patient_ids, num)
             for side in (True, False)]  # fmt: skip
    in_turn = np.array(
        [row for place in range(num) for rows in right for row in rows[place : place + 1]], dtype=np.int64
    )
    wrong = by_sureness[~is_right[by_sureness]]
    return {
        RIGHT: _of_distinct_patients(in_turn, patient_ids, num),  # a patient may have films of both classes
        WRONG: _of_distinct_patients(wrong, patient_ids, num),
        NEAREST: _of_distinct_patients(by_sureness[::-1], patient_ids, num),
    }


def choose_checked(sides: np.ndarray, called: np.ndarray, num: int, seed: int) -> np.ndarray:
    """Images that a check is made on, drawn at random.

    Heat for a side explains a decision where the model has decided for that side. Such images come first; where there
    are fewer than asked for, others fill up.

    Args:
        sides: `(N,)` of "pneumonia" or "normal", what the heat map of each image explains.
        called: `(N,)` likewise, what the model calls it.
        num: most images.
        seed: of the draw.

    Returns:
        `(min(num, N),)` rows in rising order.
    """
    drawn = np.random.default_rng([seed, 1]).permutation(len(sides))
    first = drawn[np.argsort(sides[drawn] != called[drawn], kind="stable")]
    return np.sort(first[:num])


def _of_distinct_patients(rows: np.ndarray, patient_ids: np.ndarray, num: int) -> np.ndarray:
    _, first = np.unique(patient_ids[rows].astype(str), return_index=True)
    found: np.ndarray = rows[np.sort(first)][:num]
    return found
