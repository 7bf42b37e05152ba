"""The tables and pictures of a comparison say what was found, digit by digit, and nothing covers anything."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pneumolit.evaluation.paired import Difference
from pneumolit.report import comparison_curves, comparison_figures
from pneumolit.report.comparison import AbsentRow, MethodRow, PairRow, comparison_csv, pairs_csv
from pneumolit.report.comparison_curves import MOST_LINES, PRECISION_RECALL, ROC, Curve, draw_overlay, draw_panels
from pneumolit.report.comparison_figures import Cost, draw_frontier, draw_matrix
from pneumolit.report.comparison_page import Comparison, comparison_markdown
from pneumolit.report.comparison_tables import (
    MOST_PAIRS,
    counted,
    differing,
    leaderboard,
    p_text,
    pair_table,
    resampled_table,
    signed,
    stacked,
)

METHOD = MethodRow(
    number=1, name="resnet18, head", kind="run", source="out/a", rule="primary", num_images=624, num_patients=300,
    right=571,
    numbers={"accuracy": 571 / 624, "sensitivity": 0.95, "specificity": 0.86, "macro_f1": 0.9, "auroc": 1 / 3},
    intervals={"accuracy": [0.89, 0.93], "auroc": [0.9, 0.98]}, counts=(201, 33, 20, 370),
    facts={"model": "resnet18", "trained": "head", "epochs": 5, "train_accuracy": 0.97, "train_loss": 0.1,
           "parameters": 11_180_000, "seconds": 754.0, "val_auroc": 0.99, "seed": 0},
)  # fmt: skip
OTHER = replace(METHOD, number=2, name="mlp", right=500, facts={"model": "mlp"}, is_reference=True)
PAIR = PairRow(
    first="1  resnet18, head", second="2  mlp", accuracy=Difference(0.1, [0.05, 0.15], 0.00004), accuracy_holm=0.0002,
    only_first=90, only_second=19, both_wrong=33, sign_flip_p=0.001, mcnemar_exact=0.5, mcnemar_mid_p=0.4, kappa=0.7,
    auroc=Difference(-0.00123, [-0.01, 0.008], 0.6), auroc_holm=1.0, delong=Difference(-0.00123, [-0.01, 0.008], 0.5),
    resampled={"auroc": (-0.00123, [-0.01, 0.007]), "specificity": (0.0, None)},
)  # fmt: skip


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved from here on."""
    saved: list[Figure] = []

    def save(figure: Figure, path: Path) -> Path:
        figure.savefig(path)
        saved.append(figure)
        return path

    for module in (comparison_figures, comparison_curves):
        monkeypatch.setattr(module, "save", save)
    return saved


def overlapping(texts: list[Any]) -> list[tuple[str, str]]:
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text() and text.get_visible()]
    return [(a[0], b[0]) for a, b in combinations(boxes, 2) if a[1].overlaps(b[1])]


# Tables


def test_the_leaderboard_has_the_columns_of_the_write_ups() -> None:
    table = leaderboard([METHOD, OTHER])
    header = [" ".join(text.split()) for text in table.header]
    assert header == [
        "#", "model", "what trained", "epochs", "train accuracy", "train loss (nats)", "accuracy", "sensitivity",
        "specificity", "macro F1", "AUROC", "right / wrong", "parameters", "training time", "validation AUROC",
    ]  # fmt: skip
    first = table.rows[0]
    assert first[6] == "0.915\n[0.890, 0.930]" and first[11] == "571 / 53" and first[12] == "11.2 M"
    assert table.rows[1][1] == "mlp\n(reference)" and table.rows[1][3] == "n/a"


def test_what_is_not_known_sorts_behind_everything() -> None:
    table = leaderboard([METHOD, OTHER])
    seconds = [key[13] for key in table.sort_keys]
    assert seconds == [754.0, float("-inf")]


def test_a_loss_that_was_only_logged_is_marked_and_the_mark_explained() -> None:
    page = Comparison("t", "Test", [], [replace(METHOD, is_loss_logged=True)])
    text = comparison_markdown(page)
    assert "0.100*" in text and "* logged while training, with augmentation" in text
    assert "0.100*" not in comparison_markdown(replace(page, methods=[METHOD]))


def test_the_csv_has_every_digit_and_no_broken_row() -> None:
    odd = AbsentRow("b", "out/b", "two\nlines, and a comma", "")
    rows = list(csv.DictReader(io.StringIO(comparison_csv([METHOD], [odd]))))
    assert float(rows[0]["auroc"]) == 1 / 3 and float(rows[0]["accuracy"]) == 571 / 624
    assert (rows[0]["tn"], rows[0]["fp"], rows[0]["wrong"], rows[0]["seconds"]) == ("201", "33", "53", "754.0")
    assert rows[0]["specificity_low"] == ""
    assert rows[1]["reason"] == "two lines, and a comma"


@pytest.mark.parametrize("name", ['=HYPERLINK("http://x")', "+1", "@a", "\t=a"])
def test_a_name_is_no_formula_for_a_spreadsheet(name: str) -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_csv([replace(METHOD, name=name)], []))))
    assert rows[0]["name"] == f"'{name.strip()}"


def test_pairs_as_csv_say_which_tests_take_images_for_patients() -> None:
    (row,) = csv.DictReader(io.StringIO(pairs_csv([PAIR])))
    assert float(row["auroc_difference"]) == -0.00123 and float(row["accuracy_p_holm"]) == 0.0002
    assert float(row["delong_p_if_images_were_independent"]) == 0.5
    assert row["accuracy_p_is"] == "McNemar by patients" and float(row["accuracy_sign_flip_mid_p"]) == 0.001
    assert row["bootstrap_specificity"] == "0.0" and row["bootstrap_specificity_low"] == ""


def test_p_values_of_flipped_signs_are_called_so_where_they_stand() -> None:
    few, page = replace(PAIR, is_sign_flip=True), Comparison("t", "Test", [], [METHOD], [PAIR])
    said = "In 1 of 2 comparisons the methods differ in accuracy on fewer than 25 patients"
    assert said in comparison_markdown(replace(page, pairs=[PAIR, few]))
    assert "fewer than 25 patients; their p" not in comparison_markdown(page)
    (row,) = csv.DictReader(io.StringIO(pairs_csv([few])))
    assert row["accuracy_p_is"] == "sign-flip mid-p"


def test_an_ensemble_goes_by_its_name_in_the_leaderboard_with_its_kind_behind_it() -> None:
    row = replace(METHOD, kind="ensemble", name="g", facts={"model": "greedy of 2 runs"})
    table = leaderboard([row, replace(row, name="greedy of 2 runs"), replace(METHOD, kind="file", facts={})])
    assert [line[1] for line in table.rows] == ["g\ngreedy of 2 runs", "greedy of 2 runs", "resnet18, head\nfile"]


def test_a_number_with_its_interval_below_it_never_prints_that_as_a_point() -> None:
    assert stacked(0.942, [0.921, 0.96]) == "0.942\n[0.921, 0.960]"
    assert stacked(0.9999, [0.9996, 1.0]) == "0.9999\n[0.9996, 1.0000]"
    assert stacked(0.9, None) == "0.900"


def test_differences_carry_a_sign_and_nothing_carries_none() -> None:
    assert signed(Difference(0.0004, [-0.01, 0.02], 0.9)) == "0.000\n[-0.010, +0.020]"
    assert signed(Difference(-0.00123, None, None), 4) == "-0.0012"
    assert signed(None) == "n/a"
    cells = resampled_table([PAIR], is_against_one=True).rows[0]
    assert cells[-1] == "0.000"  # no draw differs: no width can be told


@pytest.mark.parametrize(
    ("value", "text"), [(0.0312, ".031"), (0.0004, "< .001"), (1.0, "1"), (0.9996, "1"), (0.999, ".999"), (None, "n/a")]
)
def test_p_values_are_written_as_one_writes_them(value: float | None, text: str) -> None:
    assert p_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (451_000, "451 k"),
        (3.37e6, "3.37 M"),
        (8.6e7, "86 M"),
        (1.2e9, "1.2 G"),
        (999_700, "1 M"),
        (999_400, "999 k"),
        (12, "12"),
    ],
)
def test_parameters_carry_their_unit(value: float, text: str) -> None:
    assert counted(value) == text


def test_of_many_pairs_the_surest_are_shown_and_the_sentence_counts_all() -> None:
    many = [replace(PAIR, first=f"{i}  m{i}", accuracy=Difference(0.1, None, 1 / (i + 1))) for i in range(1, 80)]
    table = pair_table(many, is_against_one=False)
    assert len(table.rows) == MOST_PAIRS and table.rows[0][0] == "79"
    assert "for 79 comparisons): AUROC none, accuracy 79" in differing(many)


# Pictures


def test_numbers_of_methods_that_cost_the_same_do_not_cover_each_other(figures: list[Figure], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    heights = [0.95, *(0.95 + 0.01 * (rng.integers(0, 5, 11)))]  # several decide alike
    costs = [Cost(i + 1, float(height), (0.93, 0.97), 11.2e6, i == 0) for i, height in enumerate(heights)]
    costs.append(Cost(13, 0.96, (0.93, 0.97), 1.1e9, False))
    draw_frontier(costs, "parameters", tmp_path / "p.png")
    (axes,) = figures[0].axes
    assert len(axes.texts) == 13
    assert overlapping(list(axes.texts)) == []
    assert axes.get_xlabel() == "parameters (millions), logarithmic"


def test_the_frontier_joins_those_that_none_beats_at_the_same_or_a_lower_cost(
    figures: list[Figure], tmp_path: Path
) -> None:
    given = [(60.0, 0.90), (120.0, 0.88), (240.0, 0.95), (480.0, 0.95), (960.0, 0.97)]
    costs = [Cost(i + 1, accuracy, None, seconds, False) for i, (seconds, accuracy) in enumerate(given)]
    draw_frontier(costs, "seconds", tmp_path / "p.png")
    line = figures[0].axes[0].lines[0]
    assert np.asarray(line.get_ydata())[:-1].tolist() == [0.90, 0.95, 0.97]
    assert np.asarray(line.get_xdata())[:-1].tolist() == pytest.approx([1, 4, 16])
    assert figures[0].axes[0].get_xlabel() == "training time (minutes), logarithmic"


def curves(count: int, name: str = "densenet121.tv_in1k, last 2 groups, augment=light, lr=0.0001") -> list[Curve]:
    found = []
    for i in range(count):
        x = np.linspace(0, 1, 50)
        y = x ** (0.03 + 0.02 * i)
        band = np.stack([np.clip(y - 0.05, 0, 1), np.clip(y + 0.02, 0, 1)])
        found.append(Curve(f"{i + 1}  {name}", ".987 [.980, .993]", x, y, x, band, is_reference=i == 0))
    return found


@pytest.mark.parametrize("kind", [ROC, PRECISION_RECALL])
def test_curves_differ_in_more_than_colour_and_their_names_cover_nothing(
    figures: list[Figure], tmp_path: Path, kind: str
) -> None:
    draw_overlay(curves(8), kind, tmp_path / "p.png", chance=0.6 if kind == PRECISION_RECALL else None)
    figure = figures[0]
    lines = [line for line in figure.axes[0].lines if not str(line.get_label()).startswith("_")]
    assert len(lines) == MOST_LINES
    assert len({str(line.get_linestyle()) + str(line.get_marker()) for line in lines}) == MOST_LINES
    assert len({line.get_marker() for line in lines}) == MOST_LINES
    texts = figure.legends[0].get_texts()
    assert overlapping([*texts, figure.axes[0].xaxis.label]) == []
    assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in texts)
    assert all("[.980, .993]" in text.get_text() for text in texts)


def test_titles_of_small_pictures_stay_apart_and_inside(figures: list[Figure], tmp_path: Path) -> None:
    draw_panels(curves(7), ROC, tmp_path / "p.png")
    figure = figures[0]
    titles = [axes._left_title for axes in figure.axes]  # type: ignore[attr-defined]
    assert overlapping(titles) == []
    boxes = [title.get_window_extent() for title in titles]
    assert all(box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 for box in boxes)
    ticks = [label for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    seen = [label for label in ticks if label.get_visible() and label.get_text()]
    assert not any(
        box.overlaps(label.get_window_extent()) for box in boxes for label in seen if label.get_window_extent().width
    )


def test_one_method_that_fails_does_not_make_the_pictures_of_the_others_tiny(
    figures: list[Figure], tmp_path: Path
) -> None:
    x = np.linspace(0, 1, 50)
    good = [replace(curve, y=x ** (0.005 * (i + 1))) for i, curve in enumerate(curves(5))]
    failed = Curve("6  vit", ".5", x, x, x, np.stack([x, x]))
    draw_panels([*good, failed], ROC, tmp_path / "p.png")
    ends = [axes.get_xlim()[1] for axes in figures[0].axes]
    assert len(set(ends[:5])) == 1 and ends[0] < 0.5
    assert ends[5] == 1.0


def test_every_cell_of_a_matrix_can_be_read_on_its_ground(figures: list[Figure], tmp_path: Path) -> None:
    values = np.array([[1.0, 0.42, 0.9], [0.42, 1.0, 0.7], [0.9, 0.7, 1.0]])
    file = draw_matrix(values, ["1  a", "2  b", "3  c"], tmp_path / "p.png", label="kappa", is_count=False)
    axes = figures[0].axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", ".42", ".90", ".42", "1", ".70", ".90", ".70", "1"]
    image = axes.images[0]
    for text, value in zip(axes.texts, values.ravel(), strict=True):
        red, green, blue, _ = image.to_rgba(np.array([[value]]))[0, 0]
        light = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
        contrast = (max(light, 1.0) + 0.05) / (light + 0.05) if text.get_color() == "white" else (light + 0.05) / 0.05
        assert contrast >= 3  # WCAG 2.1, large or bold; all cells are at least this clear
    assert Image.open(file).size[0] > 100
