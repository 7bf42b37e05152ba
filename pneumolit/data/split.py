"""Who is on which side: validation carved from train, folds, blocks, re-splits. A table in, a choice of rows out."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pneumolit.data.table import RecordTable

CARVES = ("random", "blocks", "official")  # official: the validation images that the data set names


def check_fraction(key: str, value: float) -> None:
    """Refuse a fraction outside (0, 1), naming the configuration key."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{key} must lie strictly between 0 and 1, got {value}; 0.1 to 0.2 is usual for this set")


def carve_patients(records: RecordTable, *, fraction: float, seed: int, is_stratified: bool = True) -> np.ndarray:
    """Draw whole patients at random, stratified by class and cause: validation, a test side, a part to train on.

    Args:
        records: the training side, any order.
        fraction: wanted share of images, strictly between 0 and 1; met as closely as whole patients allow.
        seed: the same seed and records give the same split.
        is_stratified: False draws from all patients at once, as published work does that stratifies nothing.

    Returns:
        `(N,)` bool, True for what is drawn.
    """
    check_fraction("data.val_fraction", fraction)
    rng = np.random.default_rng(seed)
    codes = records.carve_groups()
    sizes = np.bincount(codes)
    is_chosen = np.zeros(len(sizes), dtype=bool)
    strata = _groups_by_stratum(records, codes) if is_stratified else [np.unique(codes).tolist()]
    for order in strata:
        rng.shuffle(order)
        is_chosen[_take(order, sizes, fraction)] = True
    return np.take(is_chosen, codes)


def carve_block(records: RecordTable, *, fraction: float, fold: int = 0) -> np.ndarray:
    """Set aside a contiguous range of patient numbers in every series.

    The official test split consists of such blocks, which a random draw cannot imitate.

    Args:
        records: the training side; each must carry a patient number.
        fraction: wanted share of the images of every series.
        fold: which range, counted from the lowest numbers.

    Returns:
        `(N,)` bool, True for the block.
    """
    check_fraction("data.val_fraction", fraction)
    bounds = (fold * fraction, (fold + 1) * fraction)
    if bounds[1] > 1 + 1e-9:
        raise ValueError(f"{fold + 1} blocks of {fraction:g} are more than there is; use fewer or smaller ones")
    return _is_in_range(records, *bounds)


def carve_fold(records: RecordTable, *, folds: int, fold: int, seed: int, carve: str = "random") -> np.ndarray:
    """Fold number `fold` of `folds` as validation; the folds of one seed are a partition by patient.

    Returns:
        `(N,)` bool, True for the fold.

    Raises:
        ValueError: fewer than two folds, a fold that does not exist, or fewer patients than folds.
    """
    if folds < 2:
        raise ValueError(f"data.folds must be at least 2, got {folds}")
    if not 0 <= fold < folds:
        raise ValueError(f"data.fold must lie between 0 and data.folds - 1 = {folds - 1}, got {fold}")
    if carve == "blocks":
        return _is_in_range(records, fold / folds, (fold + 1) / folds)
    from sklearn.model_selection import StratifiedGroupKFold

    groups = records.carve_groups()
    patients = int(groups.max(initial=-1)) + 1
    if patients < folds:
        raise ValueError(f"data.folds={folds}, but there are only {patients} patients")
    kinds = records.kinds("label", "cause").codes
    most = int(np.bincount(kinds).max())
    if most < folds:
        raise ValueError(f"data.folds={folds}, but no class has images of that many patients, only {most} images")
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # that a kind of film is not in every fold: of classes `check_classes` says so
        warnings.simplefilter("ignore", UserWarning)
        parts = list(splitter.split(np.zeros(len(records)), kinds, groups))
    is_chosen = np.zeros(len(records), dtype=bool)
    is_chosen[parts[fold][1]] = True
    return is_chosen


def resplit(records: RecordTable, *, fractions: Sequence[float], seed: int, is_stratified: bool = True) -> RecordTable:
    """Forget the given split and draw train, val and test anew, by whole patients.

    Args:
        records: all images.
        fractions: (train, val, test), each > 0, summing to 1.
        seed: the same seed and records give the same split.
        is_stratified: by class and cause; False draws from all patients at once.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            f"data.resplit must be three positive fractions [train, val, test] that sum to 1, got {list(fractions)}"
        )
    is_test = carve_patients(records, fraction=fractions[2], seed=seed, is_stratified=is_stratified)
    rest = np.flatnonzero(~is_test)
    val_fraction = fractions[1] / (fractions[0] + fractions[1])
    is_val = carve_patients(records.select(rest), fraction=val_fraction, seed=seed + 1, is_stratified=is_stratified)
    val = rest[is_val]
    return records.with_split("train", rest).with_split("val", val).with_split("test", is_test)


def undersample(records: RecordTable, *, seed: int) -> np.ndarray:
    """Leave out images at random until every class has as many as the smallest.

    Returns:
        `(N,)` bool, True for what stays.
    """
    rng = np.random.default_rng(seed)
    kinds = records.kinds("label")
    smallest = np.bincount(kinds.codes).min(initial=len(records))
    stays = np.zeros(len(records), dtype=bool)
    for code in range(len(kinds.values)):
        stays[rng.permutation(np.flatnonzero(kinds.codes == code))[:smallest]] = True
    return stays


def check_classes(records: RecordTable, classes: Sequence[str], name: str, remedy: str) -> None:
    """Refuse a split that does not hold every class, with what would help."""
    counts = {c: int(records.is_in("label", c).sum()) for c in classes}
    absent = [c for c in classes if not counts[c]]
    if absent:
        raise ValueError(
            f"the {name} split holds no image of {', '.join(absent)} (it has "
            f"{', '.join(f'{c}: {count}' for c, count in counts.items())}); {remedy}"
        )


def _groups_by_stratum(records: RecordTable, codes: np.ndarray) -> list[list[int]]:
    """Groups that hold the same kinds of film together, in the order of their names."""
    kinds = records.kinds("label", "cause")
    groups, found = np.divmod(np.unique(codes * len(kinds.values) + kinds.codes), max(1, len(kinds.values)))
    strata: dict[str, list[int]] = defaultdict(list)
    names = ["/".join(kind) for kind in kinds.values]
    for start, end in pairwise([*np.flatnonzero(np.diff(groups, prepend=-1)).tolist(), len(groups)]):
        strata["+".join(sorted(names[kind] for kind in found[start:end]))].append(int(groups[start]))
    return [strata[name] for name in sorted(strata)]


def _take(order: list[int], sizes: np.ndarray, fraction: float) -> list[int]:
    """The first groups of `order` whose images come nearest to the wanted share, never all of them."""
    wanted = fraction * int(sizes[order].sum())
    taken: list[int] = []
    count = 0
    for group in order[: len(order) - 1]:
        if abs(count + sizes[group] - wanted) >= abs(count - wanted):
            break
        taken.append(group)
        count += int(sizes[group])
    return taken


def _is_in_range(records: RecordTable, low: float, high: float) -> np.ndarray:
    """`(N,)` bool: groups whose middle lies in this share of their numbering, counted in images."""
    unnumbered = records.select(~records.is_numbered).texts("path")
    if unnumbered:
        raise ValueError(
            f"blocks of patient numbers need numbers in the file names, but {len(unnumbered)} names have none, the "
            f"first {list(unnumbered[:3])}; use data.carve=random and data.holdout_fraction=0"
        )
    groups = records.carve_groups()
    lowest = np.full(groups.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(lowest, groups, records.patient_numbers)
    is_chosen = np.zeros(len(lowest), dtype=bool)
    numbering = _numberings(records, groups)
    for one in np.unique(numbering):
        sizes = np.bincount(groups[numbering == one], minlength=len(lowest))
        inside = np.flatnonzero(sizes)
        inside = inside[np.argsort(lowest[inside], kind="stable")]  # of one number, in the order of their names
        middle = (np.cumsum(sizes[inside]) - sizes[inside] / 2) / sizes.sum()
        is_chosen[inside] = (low <= middle) & (middle < high)
    return np.take(is_chosen, groups)


def _numberings(records: RecordTable, groups: np.ndarray) -> np.ndarray:
    """`(N,)` which numbering a film belongs to; series that share a group are one, else it lay in two ranges."""
    kinds = records.kinds("cause", "series")
    # Bacteria and virus share one range: cut apart, person 80 could lie on both sides with the cause dropped.
    coarse = ["person" if cause else series for cause, series in kinds.values]
    one_of = {name: place for place, name in enumerate(dict.fromkeys(coarse))}
    series = np.array([one_of[name] for name in coarse], dtype=np.int64)[kinds.codes]
    numbering = np.arange(len(one_of))
    first = np.full(groups.max(initial=-1) + 1, -1)
    for pair in np.unique(groups * len(one_of) + series):
        group, place = divmod(int(pair), len(one_of))
        if first[group] < 0:
            first[group] = place
        numbering[numbering == numbering[place]] = numbering[first[group]]
    found: np.ndarray = numbering[series]
    return found
