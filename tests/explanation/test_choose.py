"""Which films are shown and which are checked."""

from __future__ import annotations

import numpy as np

from pneumolit.explanation.choose import choose_checked, choose_gallery
from pneumolit.report.explanations import NEAREST, RIGHT, WRONG

#                    right           wrong         right  wrong  right of the patient of the first
MARGINS = np.array([5.0, -4.0, 3.0, -6.0, 2.0, 0.1, -0.2, 4.5])
POSITIVES = np.array([1, 0, 1, 1, 0, 1, 1, 1])
PATIENTS = np.array(["a", "b", "c", "d", "e", "f", "g", "a"], dtype=object)


def test_right_ones_come_from_both_classes_in_turn_wrong_ones_the_worst_first() -> None:
    found = choose_gallery(MARGINS, POSITIVES, PATIENTS, 3)
    assert found[RIGHT].tolist() == [0, 1, 2]  # the only normal one stands second, though the third is less sure
    assert found[WRONG].tolist() == [3, 4, 6]
    assert found[NEAREST].tolist() == [5, 6, 4]


def test_no_patient_stands_twice_in_a_group() -> None:
    found = choose_gallery(MARGINS, POSITIVES, PATIENTS, 8)
    assert 7 not in found[RIGHT]
    for rows in found.values():
        assert len(set(PATIENTS[rows])) == len(rows)


def test_a_patient_with_films_of_both_classes_stands_once_among_the_surest_right_ones() -> None:
    patients = np.array(["a", "a", "b", "b"], dtype=object)
    found = choose_gallery(np.array([5.0, -5.0, 4.0, -4.0]), np.array([1, 0, 1, 0]), patients, 4)
    assert found[RIGHT].tolist() == [0, 2]


def test_a_model_without_errors_has_an_empty_group() -> None:
    found = choose_gallery(np.array([1.0, -1.0]), np.array([1, 0]), np.array(["a", "b"], dtype=object), 4)
    assert found[WRONG].tolist() == [] and found[RIGHT].tolist() == [0, 1]


def test_a_margin_of_zero_is_called_pneumonia() -> None:
    found = choose_gallery(np.zeros(2), np.array([1, 0]), np.array(["a", "b"], dtype=object), 4)
    assert found[RIGHT].tolist() == [0] and found[WRONG].tolist() == [1]


def test_images_are_checked_whose_side_was_decided_for_and_others_fill_up() -> None:
    sides = np.full(20, "pneumonia")
    called = np.where(np.arange(20) % 4 == 0, "pneumonia", "normal")
    assert choose_checked(sides, called, 5, seed=0).tolist() == [0, 4, 8, 12, 16]
    more = choose_checked(sides, called, 8, seed=0)
    assert len(more) == 8 and {0, 4, 8, 12, 16} <= set(more.tolist())
    assert choose_checked(sides, called, 99, seed=0).tolist() == list(range(20))
    assert choose_checked(sides, sides, 5, seed=0).tolist() != choose_checked(sides, sides, 5, seed=1).tolist()
