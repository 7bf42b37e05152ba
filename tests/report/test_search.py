"""Pictures of a search show every trial that has a value, wherever it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pneumolit.report.canvas import save
from pneumolit.report.search import TrialRow, draw_history, draw_importance, draw_slices

SCALES = {"optim.lr": "log"}


def row(number: int, state: str, value: float | None, lr: float = 1e-3, optim: Any = "sgd") -> TrialRow:
    return TrialRow(number, state, value, {"optim.lr": lr, "optim": optim})


ROWS = [
    row(0, "complete", 0.90),
    row(1, "pruned", 0.10, 1e-2, "adamw"),
    row(2, "failed", None, 1e-4),
    row(3, "complete", 0.94, 3e-3),
    row(4, "complete", 0.92, 2e-3, "adamw"),
    row(5, "pruned", float("nan"), 1.0),
    row(6, "running", None),
]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures as they were when they were saved."""
    kept: list[Figure] = []

    def kept_and_saved(figure: Figure, path: Path) -> Path:
        kept.append(figure)
        return save(figure, path)

    monkeypatch.setattr("pneumolit.report.search.save", kept_and_saved)
    return kept


def lines_of(figure: Figure, panel: int = 0) -> dict[str, list[tuple[float, float]]]:
    found = {}
    for line in figure.axes[panel].get_lines():
        name = str(line.get_marker() if line.get_linestyle() == "None" else "line")
        found[name] = [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]
    return found


def test_history_has_a_mark_per_finished_trial_and_the_best_so_far(figures: list[Figure], tmp_path: Path) -> None:
    draw_history(ROWS[::-1], tmp_path / "a.png", monitor="val/auroc", mode="max")
    found = lines_of(figures[0])
    assert found["o"] == [(0, 0.90), (3, 0.94), (4, 0.92)]
    assert found["line"] == [(0, 0.90), (3, 0.94), (4, 0.94), (4, 0.94)]
    ((number, height),) = found["v"]  # far below: at the border, or the others would be one line
    low, high = figures[0].axes[0].get_ylim()
    assert number == 1 and low <= height < 0.90 and 0.88 < low < high < 0.96
    draw_history(ROWS, tmp_path / "b.png", monitor="val/loss", mode="min")
    assert [y for _, y in lines_of(figures[1])["line"]] == [0.90] * 4


def test_slices_have_a_panel_per_setting_and_a_star_at_the_best(figures: list[Figure], tmp_path: Path) -> None:
    draw_slices(ROWS, tmp_path / "a.png", monitor="val/auroc", mode="max", scales=SCALES)
    rates, names = figures[0].axes
    assert rates.get_xscale() == "log" and names.get_xlabel() == "optim"
    assert [text.get_text() for text in names.get_xticklabels()] == ["adamw", "sgd"]
    assert lines_of(figures[0])["*"] == [(3e-3, 0.94)] and lines_of(figures[0], 1)["*"] == [(1, 0.94)]
    draw_slices(ROWS, tmp_path / "b.png", monitor="val/loss", mode="min", scales=SCALES)
    assert lines_of(figures[1])["*"] == [(1e-3, 0.90)]
    assert lines_of(figures[0], 1)["o"] == [(1, 0.90), (1, 0.94), (0, 0.92)]


def test_a_trial_that_came_to_nothing_does_not_squeeze_the_others(figures: list[Figure], tmp_path: Path) -> None:
    good = [row(number, "complete", 0.50 + number / 100) for number in range(9)]
    draw_history([*good, row(9, "complete", 21.0)], tmp_path / "a.png", monitor="val/loss", mode="min")
    draw_slices([*good, row(9, "complete", 21.0)], tmp_path / "b.png", monitor="val/loss", mode="min", scales=SCALES)
    for figure in figures:
        low, high = figure.axes[0].get_ylim()
        assert 0.4 < low < 0.5 and 0.58 < high < 0.7
    hollow, full = [line for line in figures[0].axes[0].get_lines() if line.get_marker() == "o"]
    assert hollow.get_markerfacecolor() == "none" and len(np.asarray(full.get_xydata())) == 9
    ((number, height),) = np.asarray(hollow.get_xydata())
    assert number == 9 and 0.58 < height <= figures[0].axes[0].get_ylim()[1]
    better = [row(9, "complete", 1e-3), *good]  # far better is what is looked for
    draw_history(better, tmp_path / "c.png", monitor="val/loss", mode="min")
    assert figures[2].axes[0].get_ylim()[0] < 1e-3


def test_lists_and_null_are_places_of_their_own(figures: list[Figure], tmp_path: Path) -> None:
    rows = [row(n, "complete", 0.5 + n / 10, optim=value) for n, value in enumerate([[1, 2], None, "$x", None])]
    draw_slices(rows, tmp_path / "a.png", monitor="val/auroc", mode="max", scales=SCALES)
    assert [text.get_text() for text in figures[0].axes[1].get_xticklabels()] == ["[1, 2]", "null", r"\$x"]


def test_one_trial_is_a_picture_too(figures: list[Figure], tmp_path: Path) -> None:
    for draw in (draw_history, lambda *a, **k: draw_slices(*a, scales=SCALES, **k)):
        with Image.open(draw(ROWS[:1], tmp_path / "one.png", monitor="val/loss", mode="min")) as image:
            assert np.asarray(image.convert("L")).std() > 5


def test_the_most_important_setting_is_at_the_top(figures: list[Figure], tmp_path: Path) -> None:
    draw_importance({"a": 0.2, "b": 0.7, "c": 0.1}, tmp_path / "a.png")
    (axes,) = figures[0].axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["c", "a", "b"]
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.2, 0.7]  # type: ignore[attr-defined]
