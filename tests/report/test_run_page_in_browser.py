"""The pages of a run in a real browser: quiet, whole, without network, on a phone, on paper, in both languages."""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path

import pytest

from pneumolit.report.html import Section, run_page
from pneumolit.report.run_page import write_page
from pneumolit.report.tables import Table
from pneumolit.rundir import RunDir
from tests.browsing import BROKEN, SMALLEST, UNFOLD, WIDTH, Browser

PAGES = ("report.html", "model_card.html", "may_i_use.html")


@pytest.fixture(scope="module")
def run(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in a folder with a long name without a place to break it, with a heat map."""
    folder = tmp_path_factory.mktemp("browser") / ("run_" + 40 * "x")
    shutil.copytree(finished, folder)
    write_page(RunDir(folder))
    return folder


@pytest.fixture(scope="module")
def korean(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(run, tmp_path_factory.mktemp("korean") / run.name))
    write_page(RunDir(folder), "ko")
    return folder


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_page_is_quiet_whole_and_asks_for_nothing_on_a_phone(
    browser: Browser, run: Path, korean: Path, name: str, language: str
) -> None:
    page = browser.open((run if language == "en" else korean) / name, width=390)
    page.evaluate(UNFOLD)
    assert page.evaluate("document.documentElement.lang") == language
    assert page.evaluate(BROKEN) == 0
    assert page.evaluate(WIDTH) <= 390
    assert page.evaluate(SMALLEST) >= 11  # pixels
    assert page.complaints == []
    assert page.requests == []


def test_pictures_of_the_run_are_there_with_words_for_those_who_cannot_see_them(browser: Browser, run: Path) -> None:
    page = browser.open(run / "report.html")
    page.evaluate(UNFOLD)
    assert page.evaluate("document.images.length") == 15  # seven per set, and the training curves
    assert page.evaluate("[...document.images].every((i) => i.alt.length > 10)") is True
    assert page.evaluate(BROKEN) == 0


def test_links_lead_to_the_pages_beside_it_and_contents_to_their_sections(browser: Browser, run: Path) -> None:
    page = browser.open(run / "report.html")
    links = page.evaluate("[...document.querySelectorAll('section a')].map((a) => a.getAttribute('href'))")
    assert links and all((run / link).is_file() for link in links)
    assert page.evaluate("document.querySelectorAll('nav a').length") > 10
    assert page.evaluate("[...document.querySelectorAll('nav a')].every((a) => document.querySelector(a.hash))") is True


def test_a_picture_that_would_come_from_the_network_is_blocked_and_the_page_complains(
    browser: Browser, run: Path, tmp_path: Path
) -> None:
    """Else a quiet console would prove nothing."""
    text = (run / "may_i_use.html").read_text().replace("</body>", '<img src="http://127.0.0.1:9/x.png"></body>')
    (tmp_path / "page.html").write_text(text)
    page = browser.open(tmp_path / "page.html")
    assert page.evaluate(BROKEN) == 1
    assert any("Content Security Policy" in text for text in page.complaints)


def test_a_tap_on_a_heading_sorts_by_number_and_another_turns_it_round(browser: Browser, tmp_path: Path) -> None:
    table = Table(
        ("run", "AUROC"),
        (("b", ".9"), ("a10", "n/a"), ("a9", "1.0"), ("c", ".95")),
        sort_keys=(("b", 0.9), ("a10", float("-inf")), ("a9", 1.0), ("c", 0.95)),
    )
    (tmp_path / "page.html").write_text(run_page(title="t", summary=[], sections=[Section("h", tables=[table])]))
    page = browser.open(tmp_path / "page.html")

    def tap(column: int) -> tuple[list[str], str]:
        page.evaluate(f"document.querySelectorAll('th button')[{column}].click()")
        rows = page.evaluate("[...document.querySelectorAll('tbody tr')].map((r) => r.cells[0].textContent)")
        order = page.evaluate(f"document.querySelectorAll('th')[{column}].getAttribute('aria-sort')")
        return rows, order

    assert tap(1) == (["a9", "c", "b", "a10"], "descending")  # large values first, the undefined last
    assert tap(1) == (["a10", "b", "c", "a9"], "ascending")
    assert tap(0) == (["a9", "a10", "b", "c"], "ascending")  # 9 before 10
    assert page.evaluate("document.querySelectorAll('th')[1].getAttribute('aria-sort')") is None
    assert page.complaints == []


@pytest.mark.parametrize("name", PAGES)
def test_on_paper_nothing_is_hidden_or_wider_than_the_sheet(browser: Browser, run: Path, name: str) -> None:
    page = browser.open(run / name, width=680, media="print")  # 180 mm
    assert page.evaluate(WIDTH) <= 680
    hidden = "[...document.querySelectorAll('table, img')].filter((e) => !e.checkVisibility()).length"
    assert page.evaluate(hidden) == 0
    scrolled = "[...document.querySelectorAll('.wide')].filter((e) => e.scrollWidth > e.clientWidth + 1).length"
    assert page.evaluate(scrolled) == 0
    pdf = base64.b64decode(page.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert len(re.findall(rb"/Type /Page\b", pdf)) in range(1, 30)
