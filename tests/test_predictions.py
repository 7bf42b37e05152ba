"""Predictions: rows stay together, and the CSV gives back what the model said."""

from __future__ import annotations

import csv
import io
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pneumolit.labels import LabelSet
from pneumolit.predictions import Predictions

THREE = LabelSet(("NORMAL", "BACTERIA", "VIRUS"), ("BACTERIA", "VIRUS"))


def predictions(logits: np.ndarray, labels: LabelSet = THREE, prior: float = 0.0) -> Predictions:
    """Every row with its own path, patient and marks, so that mixed-up rows show."""
    count = len(logits)
    return Predictions(
        labels=labels,
        paths=np.array([f"test/{i}.jpeg" for i in range(count)], dtype=object),
        patient_ids=np.array([f"IM-{i // 2}" for i in range(count)], dtype=object),
        targets=np.arange(count, dtype=np.int64) % labels.num_classes,
        logits=np.asarray(logits, dtype=np.float64),
        prior_log_odds=prior,
        causes=np.array(["", "bacteria", "virus"], dtype=object)[np.arange(count) % 3],
        is_copy=np.arange(count) % 4 == 1,
        series=np.array(["IM", "", "NORMAL2-IM"], dtype=object)[np.arange(count) % 3],
        sharpness=np.where(np.arange(count) % 5 == 4, np.nan, np.arange(count) / 8),
    )


def assert_same(one: Predictions, other: Predictions) -> None:
    assert one.labels == other.labels and one.prior_log_odds == other.prior_log_odds
    for name in ("paths", "patient_ids", "targets", "causes", "is_copy", "series", "sharpness"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


float32_logits = st.integers(0, 7).flatmap(
    lambda count: arrays(np.float32, (count, 3), elements=st.floats(-1e6, 1e6, width=32))
)


@settings(max_examples=60)
@given(float32_logits, st.floats(-5, 5))
def test_a_table_comes_back_from_csv_with_every_float32_bit(logits: np.ndarray, prior: float) -> None:
    before = predictions(logits, prior=prior)
    after = Predictions.from_csv(before.to_csv(), THREE.positive, prior)
    assert_same(after, before)
    np.testing.assert_array_equal(after.logits.astype(np.float32), logits)
    np.testing.assert_array_equal(after.preds, before.preds)


def test_paths_with_commas_quotes_line_breaks_and_foreign_letters_come_back() -> None:
    paths = ['a,b "c".jpeg', "new\nline.jpeg", "Röntgen/胸部.jpeg", os.fsdecode(b"caf\xe9.jpeg")]
    labels = LabelSet(("no, none", "yes"), ("yes",))
    targets = np.array([0, 1, 0, 1])
    before = Predictions(labels, np.array(paths, dtype=object), np.array(["x"] * 4), targets, np.eye(4, 2))
    after = Predictions.from_csv(before.to_csv(), ("yes",), 0.0)
    assert after.paths.tolist() == paths
    assert after.labels == labels


def test_the_columns_of_the_csv_stand_for_what_they_say() -> None:
    table = predictions(np.array([[0.0, 1.0, 3.0]]), prior=0.25)
    (row,) = csv.DictReader(io.StringIO(table.to_csv()))
    assert (row["target"], row["pred"], row["cause"], row["is_copy"]) == ("NORMAL", "VIRUS", "", "0")
    assert (row["series"], row["sharpness"]) == ("IM", "0")
    assert float(row["score"]) == pytest.approx(np.log(np.e + np.e**3) - 0.25)
    assert [float(row[f"logit_{name}"]) for name in THREE.classes] == [0, 1, 3]
    assert sum(float(row[f"prob_{name}"]) for name in THREE.classes) == pytest.approx(1)


def test_the_score_is_the_two_class_logit_without_the_training_prior() -> None:
    table = predictions(np.array([[1.0, 4.0], [2.0, -3.0]]), LabelSet(("NORMAL", "PNEUMONIA"), ("PNEUMONIA",)), 0.75)
    assert table.scores.tolist() == [2.25, -5.75]


def test_the_largest_class_can_be_normal_while_the_score_speaks_for_pneumonia() -> None:
    table = predictions(np.log([[0.4, 0.3, 0.3]]))
    assert table.positive_preds.tolist() == [0]
    assert table.scores[0] == pytest.approx(np.log(0.6 / 0.4))


def test_both_kinds_of_pneumonia_count_as_positive() -> None:
    table = predictions(np.eye(3)[[2, 0, 1]])
    assert table.targets.tolist() == [0, 1, 2]
    assert table.positives.tolist() == [0, 1, 1]
    assert table.positive_preds.tolist() == [1, 0, 1]


def test_chosen_rows_keep_everything_that_belongs_to_them() -> None:
    table = predictions(np.random.default_rng(0).normal(size=(8, 3)), prior=0.5)
    mask = np.array([True, False, False, True, False, True, False, True])
    part = table.take(mask)
    assert_same(part, table.take(np.flatnonzero(mask)))
    assert part.paths.tolist() == ["test/0.jpeg", "test/3.jpeg", "test/5.jpeg", "test/7.jpeg"]
    assert part.patient_ids.tolist() == ["IM-0", "IM-1", "IM-2", "IM-3"]
    assert part.targets.tolist() == [0, 0, 2, 1]
    assert part.causes.tolist() == ["", "", "virus", "bacteria"]
    assert part.is_copy.tolist() == [False, False, True, False]
    assert part.series.tolist() == ["IM", "IM", "NORMAL2-IM", ""]
    assert part.sharpness.tolist() == [0, 3 / 8, 5 / 8, 7 / 8]
    np.testing.assert_array_equal(part.scores, table.scores[mask])
    assert len(table.take(np.zeros(8, dtype=bool))) == 0


@pytest.mark.parametrize("name", ["patient_ids", "targets", "causes", "is_copy", "series", "sharpness"])
def test_a_column_of_another_length_is_refused_by_name(name: str) -> None:
    columns = {
        "paths": np.array(["a", "b"]),
        "patient_ids": np.array(["p", "q"]),
        "targets": np.array([0, 1]),
        "logits": np.zeros((2, 3)),
        "causes": np.array(["", ""]),
        "is_copy": np.array([False, False]),
        "series": np.array(["", ""]),
        "sharpness": np.array([np.nan, np.nan]),
    }
    columns[name] = columns[name][:1]
    with pytest.raises(ValueError, match=f"{name} has 1 rows, paths has 2"):
        Predictions(labels=THREE, **columns)  # type: ignore[arg-type]


def test_logits_of_another_number_of_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"logits must be \(2, 3\), got \(2, 2\)"):
        predictions(np.zeros((2, 2)))


def test_without_positive_classes_there_is_no_score_and_the_rest_comes_back() -> None:
    labels = LabelSet(("a", "b", "c"))
    before = predictions(np.eye(3), labels)
    assert [row["score"] for row in csv.DictReader(io.StringIO(before.to_csv()))] == ["", "", ""]
    assert_same(Predictions.from_csv(before.to_csv(), (), 0.0), before)


def test_sharpness_keeps_six_digits_and_an_unknown_one_is_an_empty_cell() -> None:
    table = predictions(np.zeros((3, 3)))
    table.sharpness[:] = [0.123456789, np.nan, 0]
    assert [row["sharpness"] for row in csv.DictReader(io.StringIO(table.to_csv()))] == ["0.123457", "", "0"]
    after = Predictions.from_csv(table.to_csv(), THREE.positive, 0.0)
    np.testing.assert_array_equal(after.sharpness, [0.123457, np.nan, 0])
    assert after.sharpness.dtype == np.float64


def test_a_table_without_what_is_known_of_images_is_read_as_unknown() -> None:
    rows = list(csv.DictReader(io.StringIO(predictions(np.eye(3)).to_csv())))
    known = ("cause", "is_copy", "series", "sharpness")
    out = io.StringIO()
    writer = csv.DictWriter(out, [name for name in rows[0] if name not in known], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    after = Predictions.from_csv(out.getvalue(), THREE.positive, 0.0)
    assert after.paths.tolist() == ["test/0.jpeg", "test/1.jpeg", "test/2.jpeg"]
    assert after.causes.tolist() == after.series.tolist() == [""] * 3
    assert not after.is_copy.any() and np.isnan(after.sharpness).all()


def test_predictions_without_what_is_known_of_images_have_it_as_unknown() -> None:
    table = Predictions(THREE, np.array(["a", "b"]), np.array(["p", "q"]), np.array([0, 1]), np.zeros((2, 3)))
    assert table.causes.tolist() == table.series.tolist() == ["", ""]
    assert table.is_copy.tolist() == [False, False] and np.isnan(table.sharpness).all()
    assert_same(Predictions.from_csv(table.to_csv(), THREE.positive, 0.0), table)


@pytest.mark.parametrize("name", ["path", "patient_id", "target", "pred", "score"])
def test_a_table_without_a_needed_column_is_refused_with_what_was_found(name: str) -> None:
    text = predictions(np.eye(3)).to_csv().replace(name, "other", 1)
    with pytest.raises(ValueError, match=rf"lack the columns \['{name}'\].*found.*'other'"):
        Predictions.from_csv(text, THREE.positive, 0.0)


def test_an_empty_file_is_no_table() -> None:
    with pytest.raises(ValueError, match="lack the columns"):
        Predictions.from_csv("", THREE.positive, 0.0)


def test_a_target_that_is_no_class_of_the_table_is_refused() -> None:
    text = predictions(np.eye(3)).to_csv().replace("IM-0,NORMAL", "IM-0,FUNGUS")
    with pytest.raises(ValueError, match="unknown class 'FUNGUS'"):
        Predictions.from_csv(text, THREE.positive, 0.0)
