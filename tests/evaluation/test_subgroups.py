"""Parts of a set: the right images in each, and the numbers of these images alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import recall_score, roc_auc_score

from pneumolit.evaluation.clustered import auroc_interval, proportion_interval
from pneumolit.evaluation.subgroups import subgroups

Columns = dict[str, np.ndarray]


def example_set(seed: int = 0, count: int = 120) -> Columns:
    """Half normal films of two series, half pneumonia of two causes, some of each unknown; one to three per patient."""
    rng = np.random.default_rng(seed)
    positives = np.repeat([0, 1], count // 2)
    scores = 1.2 * positives + rng.normal(size=count)
    return {
        "positives": positives,
        "scores": scores,
        "preds": (scores > 0.6).astype(int),
        "patient_ids": np.array([f"person{i // 2}" for i in range(count)], dtype=object),
        "causes": np.where(positives == 1, rng.choice(["bacteria", "virus", ""], count), ""),
        "series": np.where(positives == 0, rng.choice(["IM", "NORMAL2-IM", ""], count), ""),
        "sharpness": np.where(rng.random(count) < 0.1, np.nan, rng.gamma(2, size=count)),
    }


def called(columns: Columns, **changed: np.ndarray) -> dict[str, dict[str, Any]]:
    columns = columns | changed
    base = [columns.pop(name) for name in ("positives", "scores", "preds", "patient_ids")]
    return {row["name"]: row for row in subgroups(*base, **columns)}  # type: ignore[arg-type]


def test_groups_come_by_cause_by_series_and_by_thirds_of_sharpness() -> None:
    found = called(example_set())
    assert [(row["kind"], name) for name, row in found.items()] == [
        ("cause", "bacteria"),
        ("cause", "virus"),
        ("series", "IM"),
        ("series", "NORMAL2-IM"),
        ("sharpness", "blurred third"),
        ("sharpness", "middle third"),
        ("sharpness", "sharp third"),
    ]


@pytest.mark.parametrize("cause", ["bacteria", "virus"])
def test_a_cause_has_the_sensitivity_of_its_images_and_is_ranked_against_all_normal_films(cause: str) -> None:
    columns = example_set()
    found, rows = called(columns)[cause], columns["causes"] == cause
    assert found["num_images"] == rows.sum()
    assert found["num_patients"] == len(set(columns["patient_ids"][rows]))
    assert found["sensitivity"] == pytest.approx(recall_score(columns["positives"][rows], columns["preds"][rows]))
    assert found["specificity"] is found["intervals"]["specificity"] is None
    ranked = rows | (columns["positives"] == 0)
    of = [columns[name][ranked] for name in ("positives", "scores", "patient_ids")]
    assert found["auroc"] == pytest.approx(roc_auc_score(of[0], of[1]), abs=1e-12)
    assert found["intervals"]["auroc"] == pytest.approx(auroc_interval(*of), abs=1e-12)
    hits = columns["preds"][rows] == 1
    assert found["intervals"]["sensitivity"] == proportion_interval(hits, columns["patient_ids"][rows])


@pytest.mark.parametrize("series", ["IM", "NORMAL2-IM"])
def test_a_series_has_the_specificity_of_its_films_and_is_ranked_against_all_pneumonia(series: str) -> None:
    columns = example_set()
    found, rows = called(columns)[series], columns["series"] == series
    recall = recall_score(columns["positives"][rows], columns["preds"][rows], pos_label=0)
    assert found["specificity"] == pytest.approx(recall)
    assert found["sensitivity"] is found["intervals"]["sensitivity"] is None
    ranked = rows | (columns["positives"] == 1)
    expected = roc_auc_score(columns["positives"][ranked], columns["scores"][ranked])
    assert found["auroc"] == pytest.approx(expected, abs=1e-12)
    hits = columns["preds"][rows] == 0
    assert found["intervals"]["specificity"] == proportion_interval(hits, columns["patient_ids"][rows])


def test_thirds_hold_equally_many_known_images_from_blurred_to_sharp_and_are_ranked_within() -> None:
    columns = example_set()
    sharpness, found = columns["sharpness"], called(columns)
    order = np.argsort(sharpness)[: np.isfinite(sharpness).sum()]  # unknown ones last, left out
    for name, rows in zip(("blurred third", "middle third", "sharp third"), np.array_split(order, 3), strict=True):
        assert found[name]["num_images"] == pytest.approx(len(rows), abs=1)
    blurred = sharpness <= np.quantile(sharpness[np.isfinite(sharpness)], 1 / 3)
    of = [columns[name][blurred] for name in ("positives", "scores", "preds")]
    assert found["blurred third"]["num_images"] == blurred.sum()
    assert found["blurred third"]["auroc"] == pytest.approx(roc_auc_score(of[0], of[1]), abs=1e-12)
    assert found["blurred third"]["sensitivity"] == pytest.approx(recall_score(of[0], of[2]))
    assert found["blurred third"]["specificity"] == pytest.approx(recall_score(of[0], of[2], pos_label=0))


def test_unknown_causes_series_and_sharpness_make_no_group() -> None:
    columns = example_set()
    none, count = np.full(120, ""), len(columns["positives"])
    assert called(columns, causes=none, series=none, sharpness=np.full(count, np.nan)) == {}
    few = np.where(np.arange(count) < 2, 1.0, np.nan)  # two known images are no thirds
    assert called(columns, causes=none, series=none, sharpness=few) == {}


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0, 1.0, 2.0], [0.0, 1.0]])
def test_films_of_which_too_many_are_equally_sharp_make_no_thirds(values: list[float]) -> None:
    columns = example_set()
    found = called(columns, sharpness=np.resize(values, len(columns["positives"])))
    assert {row["kind"] for row in found.values()} == {"cause", "series"}


def test_a_cause_of_a_normal_film_and_a_series_of_pneumonia_count_for_nothing() -> None:
    columns = example_set()
    causes, series = columns["causes"].copy(), columns["series"].copy()
    causes[columns["positives"] == 0], series[columns["positives"] == 1] = "bacteria", "IM"
    assert called(columns, causes=causes, series=series) == called(columns)


def test_a_level_is_that_of_every_interval() -> None:
    columns = example_set()
    wide, narrow = called(columns), called(columns, level=0.5)  # type: ignore[arg-type]
    for name, row in wide.items():
        for key, limits in row["intervals"].items():
            if limits is not None:
                assert np.diff(narrow[name]["intervals"][key]) < 0.7 * np.diff(limits)


def test_one_class_has_no_auroc_and_no_group_of_the_other() -> None:
    columns = {name: column[60:] for name, column in example_set().items()}
    found = called(columns)
    assert {row["kind"] for row in found.values()} == {"cause", "sharpness"}
    assert all(row["auroc"] is row["intervals"]["auroc"] is row["specificity"] is None for row in found.values())


groups = st.lists(
    st.tuples(st.integers(0, 1), st.integers(-3, 3), st.integers(0, 6), st.sampled_from("xy "), st.integers(0, 4)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60)
@given(groups)
def test_every_group_holds_images_and_every_number_lies_in_its_interval(
    drawn: list[tuple[int, int, int, str, int]],
) -> None:
    positives, scores, ids, words, sharp = (np.array(column) for column in zip(*drawn, strict=True))
    words = np.char.strip(words)
    known = np.where(sharp == 4, np.nan, sharp)
    found = subgroups(positives, scores, scores > 0, ids, causes=words, series=words, sharpness=known)
    for row in found:
        assert row["num_images"] >= row["num_patients"] >= 1
        for key, limits in row["intervals"].items():
            assert limits is None or (limits[0] <= row[key] + 1e-9 and row[key] - 1e-9 <= limits[1])
            assert row[key] is not None or limits is None
    thirds = sum(row["num_images"] for row in found if row["kind"] == "sharpness")
    assert thirds in (0, np.isfinite(known).sum())
    values = known[np.isfinite(known)].tolist()
    assert thirds or len(values) < 3 or len(set(values)) < len(values)
