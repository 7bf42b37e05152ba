"""The page of an explanation in a real browser: quiet, whole, without network, on a phone and on a wide screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from pneumolit.report.explanation_page import write_explanation
from pneumolit.rundir import ExplanationDir
from tests.browsing import BROKEN, WIDTH, Browser
from tests.report.made_explanation import explanation

# Film and heat map side by side: neither cut off nor too small to see.
FILM_WIDTHS = "[...document.images].filter((i) => i.alt.includes('.jpeg: ')).map((i) => i.clientWidth)"


@pytest.fixture(scope="module")
def page_file(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = ExplanationDir(tmp_path_factory.mktemp("explanation") / "val")
    write_explanation(explanation(), target, run_name="run_" + 60 * "x")
    return target.page_file


@pytest.mark.parametrize("width", [375, 1280])
def test_the_page_is_quiet_whole_and_fits(browser: Browser, page_file: Path, width: int) -> None:
    page = browser.open(page_file, width=width)
    assert page.evaluate("document.images.length") == 7 and page.evaluate(BROKEN) == 0
    assert page.evaluate(WIDTH) <= width
    films = page.evaluate(FILM_WIDTHS)
    assert len(films) == 3 and all(300 <= film <= width - 16 for film in films)
    assert page.evaluate("[...document.images].every((i) => i.alt.length > 10)") is True
    assert page.complaints == [] and page.requests == []
