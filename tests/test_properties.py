"""Any name, any value, any text: what must hold whatever a person, a file system or a crash brings."""

from __future__ import annotations

import copy
import csv
import json
import os
import string
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pneumolit.config import SCHEMA, check_config, check_values, configuration_hash, flatten, job_hash
from pneumolit.data.records import PATIENT_KEYS, identify_patient, parse_name
from pneumolit.data.split import carve_fold, carve_patients, resplit
from pneumolit.data.table import ImageRecord, RecordTable
from pneumolit.labels import LabelSet
from pneumolit.predictions import Predictions
from pneumolit.rundir import LEDGER_NAME, RunDir, read_json, read_looks, read_split_csv, record_look, write_json

Compose = Callable[..., dict[str, Any]]

any_text = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates too
# What ends a cell, a row or a line, is quoted, steers a terminal or is no UTF-8, more often than by chance.
awkward = st.text(st.sampled_from(list("a,\"\n\r;\t '=|\\é흉🫁\u2028\x85\x1b\udce9\ufeff")), max_size=8)
texts = any_text | awkward
file_names = st.binary(min_size=1, max_size=20).map(lambda name: os.fsdecode(name.replace(b"\0", b"0")))
file_names |= awkward.filter(bool)

quickly = settings(max_examples=100, deadline=None)
in_one_folder = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


# Names


class Name(NamedTuple):
    """A name of the Kaggle form and what it says."""

    series: str
    number: int
    cause: str
    text: str


@st.composite
def kaggle_names(draw: st.DrawFn) -> Name:
    series = draw(st.sampled_from(["IM", "NORMAL2-IM", "bacteria", "virus"]))
    number, film = draw(st.integers(0, 10**18 - 1)), draw(st.integers(0, 10**6))
    shown = "0" * draw(st.integers(0, 5)) + str(number)
    trailing = draw(st.sampled_from(["", "1", "0002"]))
    suffix = draw(st.sampled_from([".jpeg", ".JPG", ".png", ".dcm", ""]))
    if series in {"bacteria", "virus"}:
        stem = f"person{shown}_{series}_{film}" + ("_" + trailing if trailing else "")
        return Name(series, number, series, stem + suffix)
    return Name(series, number, "", f"{series}-{shown}-{film:04d}" + ("-" + trailing if trailing else "") + suffix)


@given(texts | st.from_regex(r"(person|IM-|NORMAL2-IM-)[\d_\-a-z.]*", fullmatch=True))
@example("person" + "9" * 5000 + "_virus_1.jpeg")  # more digits than `int` takes
@example("IM-\u0661\u0662-0001.jpeg")  # digits of another script
@quickly
def test_any_text_is_a_name_of_the_form_or_none(name: str) -> None:
    found = parse_name(name)
    if found is not None:
        series, number, cause = found
        assert series in {"IM", "NORMAL2-IM", "bacteria", "virus"} and 0 <= number < 10**18
        assert cause == (series if series in {"bacteria", "virus"} else "")


@given(kaggle_names(), texts)
@quickly
def test_a_name_says_the_same_in_any_folder(name: Name, folder: str) -> None:
    assert parse_name(name.text) == name[:3]
    assert parse_name(f"{folder}/{name.text}") == name[:3]


def record(name: Name) -> ImageRecord:
    label = "PNEUMONIA" if name.cause else "NORMAL"
    return ImageRecord(Path(label) / name.text, label, f"{label}/{name.text}", name.cause, "", name.series, name.number)


@given(st.lists(kaggle_names(), min_size=2, max_size=6))
@quickly
def test_every_coarser_reading_keeps_together_what_a_finer_one_joins(names: list[Name]) -> None:
    records = [record(name) for name in names]
    ids = {key: [identify_patient(r, key).patient_id for r in records] for key in PATIENT_KEYS}
    assert all(all(row) for row in ids.values())
    for fine, coarse in (("full", "prefix"), ("prefix", "class_number"), ("class_number", "number")):
        assert len(set(zip(ids[fine], ids[coarse], strict=True))) == len(set(ids[fine])), (fine, coarse)
    # Under the finest reading a split still keeps the persons together whose cause alone differs.
    groups = [identify_patient(r, "full").carve_group for r in records]
    assert len(set(zip(groups, ids["prefix"], strict=True))) == len(set(groups)) == len(set(ids["prefix"]))


# Splits


@st.composite
def film_sets(draw: st.DrawFn, patient_key: str = "full") -> RecordTable:
    """Films of the four series, few numbers for many films, so that patients have several."""
    series = ("IM", "NORMAL2-IM", "bacteria", "virus")
    pairs = draw(st.lists(st.tuples(st.sampled_from(series), st.integers(1, 12)), min_size=3, max_size=60))
    films = []
    for i, (name, number) in enumerate(pairs):
        cause = name if name in {"bacteria", "virus"} else ""
        one = ImageRecord(Path(f"{i}.png"), "PNEUMONIA" if cause else "NORMAL", f"{i}", cause, "", name, number)
        films.append(identify_patient(one, patient_key))
    return RecordTable.of(films)


seeds = st.integers(0, 2**32 - 2)
carves = st.sampled_from(["random", "blocks"])


@given(st.data(), st.sampled_from(PATIENT_KEYS), seeds, st.floats(0.05, 0.6))
@quickly
def test_under_every_reading_a_patient_is_on_one_side(data: st.DataObject, key: str, seed: int, share: float) -> None:
    records = data.draw(film_sets(key))
    is_val = carve_patients(records, fraction=share, seed=seed)
    train, val = ({r.patient_id for r in records.select(rows)} for rows in (~is_val, is_val))
    assert not train & val and len(train | val) == len({r.patient_id for r in records})


@given(film_sets(), st.integers(2, 4), seeds, carves, st.randoms(use_true_random=False))
@quickly
def test_folds_are_a_partition_and_the_same_in_whatever_order_the_files_come(
    records: RecordTable, folds: int, seed: int, carve: str, random: Random
) -> None:
    order = list(range(len(records)))
    random.shuffle(order)
    shuffled = records.select(np.array(order))
    seen: list[Path] = []
    try:
        for fold in range(folds):
            one, other = (
                {r.path for r in some.select(carve_fold(some, folds=folds, fold=fold, seed=seed, carve=carve))}
                for some in (records, shuffled)
            )
            assert one == other
            seen += one
    except ValueError as refusal:
        assert "patients" in str(refusal)  # fewer than folds
        return
    assert sorted(seen) == sorted(r.path for r in records)


@given(film_sets(), st.integers(2, 4))
@quickly
def test_a_fold_of_blocks_is_a_range_of_numbers_in_every_series(records: RecordTable, folds: int) -> None:
    for fold in range(folds):
        try:
            is_val = carve_fold(records, folds=folds, fold=fold, seed=0, carve="blocks")
        except ValueError:
            return
        for series in ("IM", "NORMAL2-IM", "person"):
            inside, outside = (
                {r.number or 0 for r in records.select(rows) if ("person" if r.cause else r.series) == series}
                for rows in (is_val, ~is_val)
            )
            assert not inside or not any(min(inside) <= number <= max(inside) for number in outside)


@given(film_sets(), seeds)
@quickly
def test_a_new_split_is_the_same_for_the_same_seed(records: RecordTable, seed: int) -> None:
    one, other = (resplit(records, fractions=[0.6, 0.2, 0.2], seed=seed) for _ in range(2))
    assert [r.split for r in one] == [r.split for r in other]


# Configurations

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([0, 1, 2, 10**400, -1])
    | st.floats() | texts | st.sampled_from(["auto", "none", "", "~nosuchperson/x", "val/loss", "x" * 5000, "a\0b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.integers(), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def default(compose_config: Compose) -> dict[str, Any]:
    return compose_config("data.root=/films")


def changed(cfg: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    cfg = copy.deepcopy(cfg)
    *path, leaf = key.split(".")
    place = cfg
    for part in path:
        place = place.setdefault(part, {})
    place[leaf] = value
    return cfg


@given(st.sampled_from(sorted(SCHEMA)), values)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_of_any_key_is_taken_or_refused_by_its_name(default: dict[str, Any], key: str, value: Any) -> None:
    cfg = changed(default, key, value)
    for check in (check_config, check_values):
        try:
            check(cfg)
        except ValueError as refusal:
            assert type(refusal) is ValueError and key in str(refusal)
    flatten(cfg)


# What a stage may be is looked at elsewhere.
@given(st.sampled_from(sorted(SCHEMA.keys() - {"stages"})), values)
@example("data.positive", [{"": 0, 0: 0}])  # no order of such keys
@example("model.weights", 3)
@example("model.weights", "~nosuchperson/x")
@example("data.split_file", "x" * 5000)
@example("data.split_file", "a\0b")
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_taken_has_its_hashes(default: dict[str, Any], key: str, value: Any) -> None:
    cfg = changed(default, key, value)
    try:
        check_config(cfg)
    except ValueError:
        return
    for take_hash in (configuration_hash, job_hash):
        assert take_hash(cfg) == take_hash(copy.deepcopy(cfg)) and len(take_hash(cfg)) == 12


@given(st.sampled_from(["", "data.", "model.", "trainer.", "callbacks.ema.", "logger."]), texts.filter(bool), values)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_key_that_nobody_reads_is_refused_by_its_name(
    default: dict[str, Any], group: str, name: str, value: Any
) -> None:
    key, plain = group + name.replace(".", "_"), flatten(default)
    if any(known == key or known.startswith(f"{key}.") for known in plain):
        return
    with pytest.raises(ValueError) as refusal:
        check_config(changed(default, key, value))
    assert key in str(refusal.value)


# The ledger of test looks

looks = st.fixed_dictionaries(
    {"run": texts, "configuration": texts, "test_set": st.sampled_from(["a", "b"]) | texts, "purpose": texts}
)
# What may lie at the end of the file after a crash: the beginning of a line, or zeros.
remains = st.tuples(looks, st.floats(0, 1)).map(
    lambda pair: json.dumps({"time": "", **pair[0]})[: int(pair[1] * (len(json.dumps(pair[0])) - 1))].encode()
) | st.integers(1, 9).map(bytes)  # fmt: skip


@given(st.lists(looks | remains, max_size=8))
@in_one_folder
def test_no_look_is_forgotten_whatever_a_crash_leaves_between_them(
    tmp_path_factory: pytest.TempPathFactory, events: list[dict[str, str] | bytes]
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    done: list[dict[str, str]] = []
    for event in events:
        if isinstance(event, bytes):
            with (folder / LEDGER_NAME).open("ab") as handle:
                handle.write(event)
            continue
        same = [look["configuration"] for look in done if look["test_set"] == event["test_set"]]
        configurations = list(dict.fromkeys([*same, event["configuration"]]))
        expected = (len(same) + 1, configurations.index(event["configuration"]) + 1)
        assert record_look(folder, **event) == expected
        done.append(event)
        assert [{key: look[key] for key in event} for look in read_looks(folder)] == done
        assert (folder / LEDGER_NAME).read_bytes().endswith(b"\n")


@given(st.lists(values.map(lambda value: json.dumps(value, default=str)), min_size=1, max_size=4))
@in_one_folder
def test_a_line_of_the_ledger_that_is_no_look_stops_nothing(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    look = {"run": "r", "configuration": "c", "test_set": "t", "purpose": "p"}
    record_look(folder, **look)
    with (folder / LEDGER_NAME).open("a") as handle:
        handle.writelines(f"{line}\n" for line in lines)
    assert record_look(folder, **look) == (2, 1)


# Tables


def table(draw: st.DrawFn, names: st.SearchStrategy[str]) -> Predictions:
    """Any number of rows, every text of them any."""
    classes = draw(st.lists(names, min_size=2, max_size=4, unique=True))
    labels = LabelSet(tuple(classes), tuple(classes[1 : draw(st.integers(1, len(classes)))]))
    count = draw(st.integers(0, 5))

    def column(cells: st.SearchStrategy[Any], dtype: Any = object) -> np.ndarray:
        out = np.empty(count, dtype=dtype)
        out[:] = draw(st.lists(cells, min_size=count, max_size=count))
        return out

    logits = draw(
        st.lists(st.floats(-1e4, 1e4, width=32), min_size=count * len(classes), max_size=count * len(classes))
    )
    return Predictions(
        labels, column(names), column(names), column(st.integers(0, len(classes) - 1), np.int64),
        np.array(logits, dtype=np.float64).reshape(count, len(classes)), draw(st.floats(-3, 3)),
        column(names), column(st.booleans(), bool), column(names),
    )  # fmt: skip


in_memory = st.composite(lambda draw: table(draw, texts))
on_disk = st.composite(lambda draw: table(draw, file_names))


def assert_same(after: Predictions, before: Predictions) -> None:
    assert after.labels == before.labels
    for name in ("paths", "patient_ids", "causes", "series", "targets", "is_copy", "preds"):
        assert getattr(after, name).tolist() == getattr(before, name).tolist(), name
    np.testing.assert_array_equal(after.logits.astype(np.float32), before.logits.astype(np.float32))


@given(in_memory())
@quickly
def test_predictions_come_back_from_csv_with_any_text_in_any_cell(before: Predictions) -> None:
    assert_same(Predictions.from_csv(before.to_csv(), before.labels.positive, before.prior_log_odds), before)


@given(on_disk())
@in_one_folder
def test_predictions_come_back_from_a_file_with_any_file_name(tmp_path: Path, before: Predictions) -> None:
    run = RunDir(tmp_path)
    write_json(run.data_file, {"positive": list(before.labels.positive), "prior_log_odds": before.prior_log_odds})
    run.write_predictions("val", before)
    assert_same(run.read_predictions("val"), before)


@given(st.lists(st.fixed_dictionaries({"path": file_names, "split": file_names, "label": file_names}), min_size=1))
@in_one_folder
def test_a_split_comes_back_from_a_file_with_any_file_name(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    run = RunDir(tmp_path)
    run.write_split(rows)
    assert list(read_split_csv(run.split_file)) == rows
    with run.split_file.open(newline="", encoding="utf-8", errors="surrogateescape") as handle:
        assert list(csv.DictReader(handle)) == rows  # nor does another program need to know more


@given(st.dictionaries(file_names, file_names | st.lists(file_names), max_size=3))
@in_one_folder
def test_json_comes_back_from_a_file_with_any_file_name(tmp_path: Path, content: dict[str, Any]) -> None:
    write_json(tmp_path / "x.json", content)
    assert read_json(tmp_path / "x.json") == content


def test_rows_without_odd_letters_end_with_a_line_feed_alone(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_split([{"path": letter, "split": "train"} for letter in string.ascii_letters])
    assert b"\r" not in run.split_file.read_bytes() and b'"' not in run.split_file.read_bytes()
