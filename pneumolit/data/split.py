"""Who is on which side: validation carved from train, folds, blocks, re-splits. Records in, records out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from pneumolit.data.records import ImageRecord

CARVES = ("random", "blocks")


def check_fraction(key: str, value: float) -> None:
    """Refuse a fraction outside (0, 1), naming the configuration key."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{key} must lie strictly between 0 and 1, got {value}; 0.1 to 0.2 is usual for this set")


def carve_validation(
    records: Sequence[ImageRecord], *, val_fraction: float, seed: int
) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """Draw whole patients for validation, stratified by class and cause.

    Args:
        records: the training side, any order.
        val_fraction: wanted share of images, strictly between 0 and 1; met as closely as whole patients allow.
        seed: the same seed and records give the same split.

    Returns:
        (train, val), a partition of the records in their given order.
    """
    check_fraction("data.val_fraction", val_fraction)
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for groups in _strata(records).values():
        order = sorted(groups)
        rng.shuffle(order)
        chosen.update(_take(order, {g: len(groups[g]) for g in order}, val_fraction))
    return _partition(records, lambda r: r.carve_group in chosen)


def carve_block(
    records: Sequence[ImageRecord], *, fraction: float, fold: int = 0
) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """Set aside a contiguous range of patient numbers in every series.

    The official test split consists of such blocks, which a random draw cannot imitate.

    Args:
        records: the training side; each must carry a patient number.
        fraction: wanted share of the images of every series.
        fold: which range, counted from the lowest numbers.

    Returns:
        (rest, block)
    """
    check_fraction("data.val_fraction", fraction)
    bounds = (fold * fraction, (fold + 1) * fraction)
    if bounds[1] > 1 + 1e-9:
        raise ValueError(f"data.fold={fold} with blocks of {fraction:g} lies beyond the last patient; use a lower one")
    chosen = _groups_in_range(records, *bounds)
    return _partition(records, lambda r: r.carve_group in chosen)


def carve_fold(
    records: Sequence[ImageRecord], *, folds: int, fold: int, seed: int, carve: str = "random"
) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """Fold number `fold` of `folds` as validation; the folds of one seed are a partition by patient.

    Raises:
        ValueError: fewer than two folds, a fold that does not exist, or fewer patients than folds.
    """
    if folds < 2:
        raise ValueError(f"data.folds must be at least 2, got {folds}")
    if not 0 <= fold < folds:
        raise ValueError(f"data.fold must lie between 0 and data.folds - 1 = {folds - 1}, got {fold}")
    if carve == "blocks":
        chosen = _groups_in_range(records, fold / folds, (fold + 1) / folds)
        return _partition(records, lambda r: r.carve_group in chosen)
    from sklearn.model_selection import StratifiedGroupKFold

    strata = [_stratum([r]) for r in records]
    groups = [r.carve_group for r in records]
    if len(set(groups)) < folds:
        raise ValueError(f"data.folds={folds}, but there are only {len(set(groups))} patients")
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    parts = list(splitter.split(np.zeros(len(records)), strata, groups))
    inside = set(parts[fold][1].tolist())
    train = [r for i, r in enumerate(records) if i not in inside]
    return train, [r for i, r in enumerate(records) if i in inside]


def resplit(records: Sequence[ImageRecord], *, fractions: Sequence[float], seed: int) -> list[ImageRecord]:
    """Forget the given split and draw train, val and test anew, stratified, by whole patients.

    Args:
        records: all images.
        fractions: (train, val, test), each > 0, summing to 1.
        seed: the same seed and records give the same split.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            f"data.resplit must be three positive fractions [train, val, test] that sum to 1, got {list(fractions)}"
        )
    rest, test = carve_validation(records, val_fraction=fractions[2], seed=seed)
    train, val = carve_validation(rest, val_fraction=fractions[1] / (fractions[0] + fractions[1]), seed=seed + 1)
    side = {r.path: name for name, part in (("train", train), ("val", val), ("test", test)) for r in part}
    return [replace(r, split=side[r.path]) for r in records]


def undersample(records: Sequence[ImageRecord], *, seed: int) -> list[ImageRecord]:
    """Leave out images at random until every class has as many as the smallest."""
    rng = np.random.default_rng(seed)
    counts = Counter(r.label for r in records)
    smallest = min(counts.values(), default=0)
    keep: set[int] = set()
    for label in sorted(counts, key=str):
        rows = [i for i, r in enumerate(records) if r.label == label]
        keep.update(rng.permutation(rows)[:smallest].tolist())
    return [r for i, r in enumerate(records) if i in keep]


def check_classes(records: Sequence[ImageRecord], classes: Sequence[str], name: str) -> None:
    """Refuse a split that does not hold every class."""
    counts = Counter(r.label for r in records)
    absent = [c for c in classes if not counts[c]]
    if absent:
        raise ValueError(
            f"the {name} split holds no image of {', '.join(absent)} (it has "
            f"{', '.join(f'{c}: {counts[c]}' for c in classes)}); use a larger data.val_fraction, fewer data.folds, "
            "another data.seed, or a data set with more patients"
        )


def _stratum(records: Sequence[ImageRecord]) -> str:
    return "+".join(sorted({f"{r.label}/{r.cause}" for r in records}))


def _strata(records: Sequence[ImageRecord]) -> dict[str, dict[str, list[ImageRecord]]]:
    by_group: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in records:
        by_group[record.carve_group].append(record)
    strata: dict[str, dict[str, list[ImageRecord]]] = defaultdict(dict)
    for group in sorted(by_group):
        strata[_stratum(by_group[group])][group] = by_group[group]
    return dict(sorted(strata.items()))


def _take(order: list[str], sizes: dict[str, int], fraction: float) -> list[str]:
    """The first groups of `order` whose images come nearest to the wanted share, never all of them."""
    wanted = fraction * sum(sizes.values())
    taken: list[str] = []
    count = 0
    for group in order[: len(order) - 1]:
        if abs(count + sizes[group] - wanted) >= abs(count - wanted):
            break
        taken.append(group)
        count += sizes[group]
    return taken


def _groups_in_range(records: Sequence[ImageRecord], low: float, high: float) -> set[str]:
    unnumbered = [r.path.as_posix() for r in records if r.number is None]
    if unnumbered:
        raise ValueError(
            f"blocks of patient numbers need numbers in the file names, but {len(unnumbered)} names have none, the "
            f"first {unnumbered[:3]}; use data.carve=random"
        )
    numbering = _numberings(records)
    by_series: dict[str, dict[str, list[ImageRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        by_series[numbering[_coarse_series(record)]][record.carve_group].append(record)
    chosen: set[str] = set()
    for groups in by_series.values():
        total = sum(len(rows) for rows in groups.values())
        before = 0
        for group in sorted(groups, key=lambda g: (min(r.number or 0 for r in groups[g]), g)):
            middle = (before + len(groups[group]) / 2) / total
            before += len(groups[group])
            if low <= middle < high:
                chosen.add(group)
    return chosen


def _coarse_series(record: ImageRecord) -> str:
    # Bacteria and virus share one range: cut apart, person 80 could lie on both sides with the cause dropped.
    return "person" if record.cause else record.series


def _numberings(records: Sequence[ImageRecord]) -> dict[str, str]:
    """Series -> the numbering it belongs to; series that share a group are one, else the group lay in two ranges."""
    numbering = {_coarse_series(r): _coarse_series(r) for r in records}
    first: dict[str, str] = {}
    for record in records:
        series = _coarse_series(record)
        one, other = numbering[series], numbering[first.setdefault(record.carve_group, series)]
        if one != other:
            numbering = {series: one if name == other else name for series, name in numbering.items()}
    return numbering


def _partition(
    records: Sequence[ImageRecord], is_chosen: Callable[[ImageRecord], bool]
) -> tuple[list[ImageRecord], list[ImageRecord]]:
    rest: list[ImageRecord] = []
    chosen: list[ImageRecord] = []
    for record in records:
        (chosen if is_chosen(record) else rest).append(record)
    return rest, chosen
