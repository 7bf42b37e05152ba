"""A sheet of films: each where it belongs, its words under it, heat beside it on one scale."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from pneumolit.report.films import film_sheet

NOTE = ("NORMAL2-IM-1427-0001-0002-with-a-name-longer-than-its-film.jpeg", "PNEUMONIA, called no pneumonia, p 0.031")


def sheet(count: int, heat: np.ndarray | None = None, **changes: str) -> Figure:
    films = np.random.default_rng(0).integers(0, 256, (count, 24, 24)).astype(np.uint8)
    texts = {"title": "Validation after epoch 1000: 11 errors in 53400 films, and the 1 film nearest to an error"}
    return film_sheet(films, [NOTE] * count, heat=heat, **{**texts, **changes})


def pixels(figure: Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]


@pytest.mark.parametrize("has_heat", [False, True])
@pytest.mark.parametrize("count", [1, 5, 12])
def test_no_text_leaves_the_sheet_or_lies_on_another(count: int, has_heat: bool) -> None:
    figure = sheet(count, np.ones((count, 7, 7), np.float32) if has_heat else None, caption="p: probability " * 20)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)
    assert all(box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert min(float(text.get_fontsize()) for text in figure.axes[0].texts) >= 9


def test_a_film_stays_gray_where_no_heat_lies_and_is_coloured_where_some_does() -> None:
    heat = np.zeros((2, 8, 8), np.float32)
    heat[1, :4] = 1.0
    seen = pixels(sheet(2, heat)).astype(int)
    colour = np.ptp(seen[58:], axis=2)  # below the head, which holds the scale
    first, second = colour[:, : 12 + 2 * 168], colour[:, 12 + 2 * 168 + 18 :]
    assert first.max() == 0
    assert (second[:168, 168:336] > 30).mean() > 0.4  # the upper half, and nothing of the plain film beside it
    assert second[:168, :168].max() == 0


def test_a_film_as_large_as_its_place_is_shown_bit_by_bit() -> None:
    films = np.random.default_rng(0).integers(0, 256, (2, 312, 312)).astype(np.uint8)
    seen = pixels(film_sheet(films, [NOTE] * 2, title="two"))
    for film, left in zip(films, (12, 12 + 312 + 18), strict=True):
        shown = seen[58 : 58 + 312, left : left + 312]
        assert np.array_equal(shown, np.repeat(film[..., None], 3, axis=2))


def test_one_scale_holds_for_all_films() -> None:
    heat = np.ones((2, 8, 8), np.float32)
    alone = pixels(sheet(2, heat))
    beside = pixels(sheet(2, np.stack([heat[0], 10 * heat[1]])))
    right = slice(12 + 168, 12 + 336)
    assert not np.array_equal(alone[58 : 58 + 168, right], beside[58 : 58 + 168, right])  # a tenth of the other's now


def test_films_without_any_heat_are_drawn_without_a_warning_and_say_so() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = sheet(1, np.zeros((1, 4, 4), np.float32))
        pixels(figure)
    assert "none at all" in [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("has_heat", [False, True])
def test_a_decision_is_read_whole_and_a_long_name_loses_its_middle(has_heat: bool) -> None:
    figure = sheet(1, np.ones((1, 7, 7), np.float32) if has_heat else None)
    (note,) = [text.get_text() for text in figure.axes[0].texts if "p 0.031" in text.get_text()]
    name, decision = note.split("\n")
    assert decision == NOTE[1]
    assert name.startswith("NORMAL2-IM") and name.endswith(".jpeg") and len(name) < len(NOTE[0])


def test_other_numbers_of_notes_or_maps_are_refused() -> None:
    films = np.zeros((2, 8, 8), np.uint8)
    with pytest.raises(ValueError, match="2 films need as many notes"):
        film_sheet(films, [NOTE], title="")
    with pytest.raises(ValueError, match="2 films need as many notes"):
        film_sheet(films, [NOTE, NOTE], title="", heat=np.zeros((1, 4, 4)))


def test_a_name_that_is_no_utf8_is_drawn_with_a_mark_for_its_bytes() -> None:
    films = np.zeros((1, 24, 24), np.uint8)
    figure = film_sheet(films, [("caf\udce9_0.jpeg", "NORMAL")], heat=None, title="Validation")
    figure.canvas.draw()
    assert "caf\ufffd_0.jpeg\nNORMAL" in [text.get_text() for text in figure.axes[0].texts]
