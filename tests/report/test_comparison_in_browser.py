"""The page of a comparison in a real browser: quiet, whole, sortable, without network, on a phone and on paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumolit.comparison.results import write_comparison
from pneumolit.comparison.run import Settings, collect_methods, compare
from pneumolit.rundir import CompareDir
from tests.browsing import BROKEN, SMALLEST, UNFOLD, WIDTH, Browser, Page
from tests.comparison import made_runs


@pytest.fixture(scope="module")
def page_file(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs with long names, one on other images, one not scored; small pictures of what they dispute."""
    root = tmp_path_factory.mktemp("comparison")
    write = made_runs.write_run
    runs = [
        write(root / "a", settings={"backbone": "resnet18"}),
        write(root / "b", draw=1, noise=2.0, settings={"backbone": "vit_small_patch16_224"}, policy="head"),
        write(root / "c", draw=2, noise=0.6, settings={"backbone": "densenet121"}, labels=made_runs.BINARY),
        write(root / "d", draw=3, noise=3.0, settings={"backbone": "mlp", "model": {"pretrained": False}}),
        write(root / "e", draw=4, sets={"val": 40, "test": 50}),
        write(root / "f", draw=5, sets={"val": 40}),
    ]
    films = made_runs.film_names("test", 60)[0]
    for number, path in enumerate(films):
        file = root / "films" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((24, 24), 2 * number, dtype=np.uint8)).save(file)
    settings = Settings("many", num_resamples=100)
    result = compare(*collect_methods(runs, [], settings), settings)
    folder = CompareDir(root / "out")
    write_comparison(result, folder, data_root=str(root / "films"), cache_dir=root)
    return folder.page_file


def column(page: Page, number: int) -> list[str]:
    rows = "[...document.querySelector('table.sortable').tBodies[0].rows]"
    return list(page.evaluate(f"{rows}.map((r) => r.cells[{number}].innerText)"))


def test_on_a_phone_the_page_is_quiet_whole_and_asks_for_nothing(browser: Browser, page_file: Path) -> None:
    page = browser.open(page_file, width=390)
    page.evaluate(UNFOLD)
    assert page.evaluate(WIDTH) <= 390
    assert page.evaluate(BROKEN) == 0
    assert page.evaluate(SMALLEST) >= 11  # pixels
    assert page.evaluate("document.images.length") == 8 + 12  # curves, costs, agreement; disputed films
    assert page.evaluate("[...document.images].every((i) => i.alt.length > 10)") is True
    assert page.complaints == []
    assert page.requests == []


def test_on_a_wide_screen_the_whole_leaderboard_is_seen_without_scrolling(browser: Browser, page_file: Path) -> None:
    page = browser.open(page_file, width=1400)
    assert page.evaluate(WIDTH) <= 1400
    box = "document.querySelector('#leaderboard .wide')"
    assert page.evaluate(f"{box}.scrollWidth <= {box}.clientWidth + 1") is True
    assert page.evaluate(f"{box}.getBoundingClientRect().left >= 0") is True


def test_a_tap_on_a_heading_of_the_leaderboard_sorts_it(browser: Browser, page_file: Path) -> None:
    page = browser.open(page_file, width=1400)
    heads = page.evaluate("[...document.querySelector('table.sortable').tHead.rows[0].cells].map((c) => c.innerText)")
    place = next(i for i, text in enumerate(heads) if text.startswith("sensitivity"))
    assert column(page, 0) == ["1", "2", "3", "4"]
    tap = f"document.querySelector('table.sortable').querySelectorAll('th button')[{place}].click()"
    page.evaluate(tap)
    values = [float(cell.split()[0]) for cell in column(page, place)]
    assert values == sorted(values, reverse=True)
    page.evaluate(tap)
    assert [float(cell.split()[0]) for cell in column(page, place)] == sorted(values)


def test_on_paper_no_table_is_cut_off(browser: Browser, page_file: Path) -> None:
    page = browser.open(page_file, width=680, media="print")  # 180 mm
    page.evaluate(UNFOLD)
    wide = "[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > 681)"
    assert page.evaluate(f"{wide}.map((e) => e.tagName + ' ' + e.innerText)") == []
