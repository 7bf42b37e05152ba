"""Splits: partitions by patient, the same for the same seed, as large as asked for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumolit.data.records import PATIENT_KEYS, identify_patient, read_kaggle_folder
from pneumolit.data.split import (
    carve_block,
    carve_fold,
    carve_patients,
    check_classes,
    resplit,
    undersample,
)
from pneumolit.data.table import ImageRecord, RecordTable

SERIES = {"IM": "NORMAL", "NORMAL2-IM": "NORMAL", "bacteria": "PNEUMONIA", "virus": "PNEUMONIA"}
Pair = tuple[str, int]

pairs = st.lists(st.tuples(st.sampled_from(sorted(SERIES)), st.integers(1, 25)), min_size=2, max_size=80)
seeds = st.integers(0, 2**31)
fractions = st.floats(0.05, 0.6)
few = settings(max_examples=50, deadline=None)


def films(names: list[Pair], patient_key: str = "full") -> RecordTable:
    """One record per (series, patient number)."""
    out = []
    for i, (series, number) in enumerate(names):
        cause = series if series in {"bacteria", "virus"} else ""
        one = ImageRecord(Path(f"{i}.jpeg"), SERIES[series], f"{i}", cause, "train", series, number)
        out.append(identify_patient(one, patient_key))
    return RecordTable.of(out)


# 120 patients, every number twice in its series, so that every class is in every fold
EVEN = films([(series, n) for series in SERIES for n in range(1, 31) for _ in range(2)])


def parts_of(records: RecordTable, is_chosen: np.ndarray) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """The rest, and what was chosen."""
    return list(records.select(~is_chosen)), list(records.select(is_chosen))


def chosen(records: RecordTable, is_chosen: np.ndarray) -> list[ImageRecord]:
    return parts_of(records, is_chosen)[1]


def paths(records: Iterable[ImageRecord]) -> list[str]:
    return sorted(r.path.as_posix() for r in records)


def assert_partition(records: Iterable[ImageRecord], *parts: list[ImageRecord]) -> None:
    """Every image once, and no patient in two parts, with the cause kept and with it dropped."""
    assert paths([r for part in parts for r in part]) == paths(records)
    for key in ("full", "prefix"):
        seen = [{identify_patient(r, key).patient_id for r in part} for part in parts]
        assert sum(len(ids) for ids in seen) == len(set().union(*seen))


def coarse_series(record: ImageRecord) -> str:
    return "person" if record.cause else record.series


def assert_contiguous(rest: list[ImageRecord], block: list[ImageRecord]) -> None:
    """No number of the rest lies between two of the block, in any coarse series."""
    inside: dict[str, set[int]] = defaultdict(set)
    outside: dict[str, set[int]] = defaultdict(set)
    for part, numbers in ((block, inside), (rest, outside)):
        for r in part:
            numbers[coarse_series(r)].add(r.number or 0)
    for series, found in inside.items():
        assert not any(min(found) <= n <= max(found) for n in outside[series]), series


# Random validation


@given(pairs, fractions, seeds)
@few
def test_no_patient_is_on_both_sides_of_the_split(names: list[Pair], fraction: float, seed: int) -> None:
    records = films(names)
    train, val = parts_of(records, carve_patients(records, fraction=fraction, seed=seed))
    assert_partition(records, train, val)
    assert [r for r in records if r in train] == train and [r for r in records if r in val] == val


@given(pairs, st.randoms(use_true_random=False), seeds)
@few
def test_the_same_seed_gives_the_same_split_in_whatever_order_the_files_come(
    names: list[Pair], random: object, seed: int
) -> None:
    records = films(names)
    order = list(range(len(records)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = records.select(np.array(order))
    one, other = (chosen(r, carve_patients(r, fraction=0.3, seed=seed)) for r in (records, shuffled))
    assert paths(one) == paths(other)


def test_another_seed_gives_another_split() -> None:
    drawn = {tuple(carve_patients(EVEN, fraction=0.2, seed=seed)) for seed in range(5)}
    assert len(drawn) == 5


@given(pairs, fractions, seeds)
@few
def test_validation_is_as_large_as_whole_patients_allow(names: list[Pair], fraction: float, seed: int) -> None:
    records = films(names)
    val = chosen(records, carve_patients(records, fraction=fraction, seed=seed))
    sizes = Counter(r.carve_group for r in records)
    strata: dict[str, set[str]] = defaultdict(set)  # group -> what kinds of film it has
    for r in records:
        strata[r.carve_group].add(f"{r.label}{r.cause}")
    largest: dict[str, int] = defaultdict(int)
    for group, kinds in strata.items():
        largest["+".join(sorted(kinds))] = max(largest["+".join(sorted(kinds))], sizes[group])
    assert abs(len(val) - fraction * len(records)) <= sum(largest.values())


def test_every_class_and_cause_has_its_share_in_validation() -> None:
    val = chosen(EVEN, carve_patients(EVEN, fraction=0.2, seed=0))
    counts = Counter((r.label, r.cause) for r in val)
    assert counts[("NORMAL", "")] == 24  # a fifth of 120
    assert counts[("PNEUMONIA", "bacteria")] == counts[("PNEUMONIA", "virus")] == 12


@given(pairs, seeds)
@few
def test_validation_never_takes_all_patients_of_a_kind(names: list[Pair], seed: int) -> None:
    records = films(names)
    train, _ = parts_of(records, carve_patients(records, fraction=0.99, seed=seed))
    assert {r.label for r in train} == {r.label for r in records}


@pytest.mark.parametrize("fraction", [0.0, 1.0, 1.5, -0.1, float("nan")])
def test_a_fraction_outside_0_1_is_refused_and_named(fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"data\.val_fraction .* got {fraction}"):
        carve_patients(EVEN, fraction=fraction, seed=0)
    with pytest.raises(ValueError, match=rf"got {fraction}"):
        carve_block(EVEN, fraction=fraction)


# Folds


@given(st.integers(2, 6), seeds, st.sampled_from(["random", "blocks"]))
@settings(max_examples=20, deadline=None)
def test_the_folds_of_a_seed_are_a_partition_by_patient(folds: int, seed: int, carve: str) -> None:
    parts = []
    for fold in range(folds):
        train, val = parts_of(EVEN, carve_fold(EVEN, folds=folds, fold=fold, seed=seed, carve=carve))
        assert_partition(EVEN, train, val)
        parts.append(val)
    assert_partition(EVEN, *parts)
    assert {r.label for part in parts for r in part} == {"NORMAL", "PNEUMONIA"}
    assert max(map(len, parts)) - min(map(len, parts)) <= 16  # four films per coarse patient, four series


@given(pairs, st.integers(2, 5), st.sampled_from(PATIENT_KEYS))
@few
def test_block_folds_hold_every_image_once_under_every_reading_of_the_patient(
    names: list[Pair], folds: int, patient_key: str
) -> None:
    # A number that two series share (IM-0005 and person5 under `number`) once lay in two folds.
    records = films(names, patient_key)
    parts = [chosen(records, carve_fold(records, folds=folds, fold=i, seed=0, carve="blocks")) for i in range(folds)]
    assert paths([r for part in parts for r in part]) == paths(records)
    groups = [r.carve_group for part in parts for r in {r.carve_group: r for r in part}.values()]
    assert len(groups) == len(set(groups))


@pytest.mark.parametrize(
    ("folds", "fold", "message"),
    [
        (1, 0, r"data\.folds must be at least 2, got 1"),
        (5, 5, r"data\.fold must lie between 0 and data\.folds - 1 = 4, got 5"),
        (5, -1, r"data\.fold must lie between 0 and .* got -1"),
    ],
)
def test_folds_that_do_not_exist_are_refused(folds: int, fold: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        carve_fold(EVEN, folds=folds, fold=fold, seed=0)


def test_more_folds_than_patients_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.folds=5, but there are only 2 patients"):
        carve_fold(films([("IM", 1), ("IM", 1), ("virus", 1)]), folds=5, fold=0, seed=0)


# Blocks


@given(pairs, fractions)
@few
def test_a_block_is_a_range_of_numbers_in_every_series_and_disjoint_under_both_readings(
    names: list[Pair], fraction: float
) -> None:
    records = films(names)
    rest, block = parts_of(records, carve_block(records, fraction=fraction))
    assert_partition(records, rest, block)
    assert_contiguous(rest, block)


def test_a_block_has_its_share_of_every_series_from_the_lowest_numbers() -> None:
    rest, block = parts_of(EVEN, carve_block(EVEN, fraction=0.2))
    assert {coarse_series(r): r.number for r in sorted(block, key=lambda r: r.number or 0)} == {
        "IM": 6,
        "NORMAL2-IM": 6,
        "person": 6,
    }
    assert min(r.number or 0 for r in rest) == 7
    second = chosen(EVEN, carve_block(EVEN, fraction=0.2, fold=1))
    assert {r.number for r in second} == set(range(7, 13))


def test_a_block_beyond_the_last_patient_is_refused() -> None:
    carve_block(EVEN, fraction=0.1, fold=9)
    with pytest.raises(ValueError, match=r"11 blocks of 0\.1 are more than there is"):
        carve_block(EVEN, fraction=0.1, fold=10)


def test_blocks_of_names_without_numbers_are_refused() -> None:
    records = RecordTable.of([*EVEN, ImageRecord(Path("scan.png"), "NORMAL", "scan.png")])
    message = r"1 names have none, the first \['scan\.png'\]; use data\.carve=random and data\.holdout_fraction=0"
    with pytest.raises(ValueError, match=message):
        carve_block(records, fraction=0.2)
    with pytest.raises(ValueError, match=message):
        carve_fold(records, folds=2, fold=0, seed=0, carve="blocks")


# A new split of everything, balance, classes


@given(pairs, seeds)
@few
def test_a_new_split_is_a_partition_by_patient_and_forgets_the_old_one(names: list[Pair], seed: int) -> None:
    records = films(names)
    divided = resplit(records, fractions=[0.6, 0.2, 0.2], seed=seed)
    assert [r.path for r in divided] == [r.path for r in records]
    assert_partition(records, *([r for r in divided if r.split == side] for side in ("train", "val", "test")))


@given(pairs, fractions, seeds)
@few
def test_a_draw_that_is_not_stratified_is_one_draw_of_whole_patients(
    names: list[Pair], fraction: float, seed: int
) -> None:
    records = films(names)
    is_val = carve_patients(records, fraction=fraction, seed=seed, is_stratified=False)
    train, val = parts_of(records, is_val)
    assert_partition(records, train, val)
    groups = records.carve_groups()
    assert not set(groups[is_val]) & set(groups[~is_val])
    if len(set(groups)) > 1:
        sizes = np.bincount(groups)
        assert abs(len(val) - fraction * len(records)) <= sizes.max()


def test_a_draw_that_is_not_stratified_lets_the_share_of_a_class_vary_with_the_seed() -> None:
    def spread(is_stratified: bool) -> float:
        shares = []
        for seed in range(20):
            new = resplit(EVEN, fractions=[0.6, 0.2, 0.2], seed=seed, is_stratified=is_stratified)
            test = new.select(new.is_in("split", "test"))
            shares.append(float(test.is_in("label", "NORMAL").mean()))
        return float(np.std(shares))

    assert spread(is_stratified=True) == 0 < 0.02 < spread(is_stratified=False)


def test_a_new_split_has_the_wanted_shares() -> None:
    shares = Counter(r.split for r in resplit(EVEN, fractions=[0.64, 0.16, 0.2], seed=3))
    for side, fraction in (("train", 0.64), ("val", 0.16), ("test", 0.2)):
        assert shares[side] / len(EVEN) == pytest.approx(fraction, abs=0.03)


@pytest.mark.parametrize("wrong", [[0.8, 0.2], [0.5, 0.3, 0.3], [0.8, 0.2, 0.0], [1.1, 0.1, -0.2], []])
def test_shares_that_are_no_split_are_refused(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match=r"data\.resplit must be three positive fractions"):
        resplit(EVEN, fractions=wrong, seed=0)


@given(pairs, seeds)
@few
def test_undersampling_leaves_every_class_as_large_as_the_smallest(names: list[Pair], seed: int) -> None:
    records = films(names)
    kept = chosen(records, undersample(records, seed=seed))
    before, after = (Counter(r.label for r in rows) for rows in (records, kept))
    assert set(after.values()) == {min(before.values())} and after.keys() == before.keys()
    assert kept == chosen(records, undersample(records, seed=seed))


def test_undersampling_nothing_leaves_nothing_to_the_check_of_classes() -> None:
    assert len(undersample(RecordTable.of([]), seed=0)) == 0


def test_a_split_without_every_class_is_refused_with_its_counts() -> None:
    check_classes(EVEN, ["NORMAL", "PNEUMONIA"], "val", "draw again")
    with pytest.raises(
        ValueError, match=r"the val split holds no image of PNEUMONIA \(it has NORMAL: 2, PNEUMONIA: 0\); draw again"
    ):
        check_classes(EVEN[:2], ["NORMAL", "PNEUMONIA"], "val", "draw again")


# The real set


@pytest.fixture(scope="module")
def real(shared: Path) -> RecordTable:
    records = read_kaggle_folder(shared / "data" / "chest_xray")
    return records.select(~records.is_in("split", "test"))


def test_validation_of_the_real_set_has_a_tenth_of_every_kind(real: RecordTable) -> None:
    train, val = parts_of(real, carve_patients(real, fraction=0.1, seed=0))
    assert_partition(real, train, val)
    # Of a person with films of both causes the films are drawn together, so a cause is met less closely than a class.
    for kind, tolerance in (("label", 0.002), ("cause", 0.02)):
        whole, part = (Counter(getattr(r, kind) for r in rows) for rows in (real, val))
        assert {name: part[name] / whole[name] for name in whole} == pytest.approx(
            dict.fromkeys(whole, 0.1), abs=tolerance
        )


def test_blocks_of_the_real_set_are_ranges_disjoint_under_both_readings(real: RecordTable) -> None:
    rest, block = parts_of(real, carve_block(real, fraction=0.1))
    assert_partition(real, rest, block)
    assert_contiguous(rest, block)
    assert len(block) / len(real) == pytest.approx(0.1, abs=0.01)
