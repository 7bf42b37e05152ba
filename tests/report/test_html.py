from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pneumolit.report.html import Section, run_page
from pneumolit.report.tables import (
    Table,
)


class _Page(HTMLParser):
    """Collects tags, and fails on a tag that is closed but not open."""

    VOID = ("meta", "link", "img", "br", "wbr")

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_well_formed_escaped_and_self_contained(tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    Image.new("L", (4, 4)).save(picture)
    evil = "<script>alert('x')</script> & \"quoted\""
    page = run_page(
        title=evil,
        summary=[(evil, evil)],
        sections=[Section(evil, [evil], [Table((evil, "b"), ((evil, "1"),))], [(picture, evil)])],
        config_text=evil,
    )
    parsed = _Page()
    parsed.feed(page)
    assert parsed.open == []
    names = [tag for tag, _ in parsed.tags]
    assert "script" not in names
    image = next(attributes for tag, attributes in parsed.tags if tag == "img")
    assert image["alt"] == evil
    assert base64.b64decode((image["src"] or "").partition("base64,")[2]) == picture.read_bytes()
    # Title twice, box twice, heading, paragraph, header, cell, caption, configuration.
    assert parsed.text.count(evil) == 10
    sources = [a.get("src") or a.get("href") for _, a in parsed.tags if a.get("src") or a.get("href")]
    assert all((source or "").startswith("data:") for source in sources)
    assert "://" not in page
    assert "Research software, not a medical device." in page


def test_a_path_in_a_table_can_be_broken_behind_its_folders_alone() -> None:
    table = Table(("image", "n"), (("test/NORMAL/IM-1.jpeg", "1 / 2"), ("<b>/i", "a</b>")))
    page = run_page(title="t", summary=[], sections=[Section("h", tables=[table])])
    assert "test/<wbr>NORMAL/<wbr>IM-1.jpeg" in page and "1 / 2" in page
    assert "&lt;b&gt;/i" in page and "a&lt;/b&gt;" in page


def test_a_page_runs_the_script_that_sorts_and_nothing_else() -> None:
    rows = (("a", "1"), ("b", "2"))
    plain, sortable = (
        run_page(title="t", summary=[], sections=[Section("h", tables=[Table(("name", "n"), rows, sort_keys=keys)])])
        for keys in ((), rows)
    )
    assert "<script" not in plain and "script-src" not in plain
    (script,) = re.findall(r"<script>(.*?)</script>", sortable, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert re.findall(r"script-src ([^;\"]*)", sortable) == [f"'sha256-{digest}'"]


def test_a_picture_that_is_wide_stands_by_itself(tmp_path: Path) -> None:
    files = [tmp_path / "narrow.png", tmp_path / "wide.jpeg", tmp_path / "dense.png"]
    Image.new("L", (500, 4)).save(files[0])
    Image.new("L", (900, 4)).save(files[1])
    Image.new("L", (900, 4)).save(files[2], dpi=(192, 192))  # 450 pixels of a page
    page = run_page(title="t", summary=[], sections=[Section("h", images=[(file, file.stem) for file in files])])
    assert re.findall(r'<figure( class="large")?>.*?alt="(\w+)"', page) == [
        ("", "narrow"), (' class="large"', "wide"), ("", "dense"),
    ]  # fmt: skip
    assert page.count("data:image/png;") == 2 and page.count("data:image/jpeg;") == 1


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"roc\.png is missing"):
        run_page(title="t", summary=[], sections=[Section("h", images=[(tmp_path / "roc.png", "ROC")])])


def test_what_is_no_picture_stands_on_no_page(tmp_path: Path) -> None:
    (tmp_path / "roc.png").write_text("of another file")
    with pytest.raises(ValueError, match=r"roc\.png is no PNG picture"):
        run_page(title="t", summary=[], sections=[Section("h", images=[(tmp_path / "roc.png", "ROC")])])


def test_reports_are_made_without_torch_sklearn_or_pyplot() -> None:
    code = (
        "import sys, pneumolit.report.figures, pneumolit.report.html, pneumolit.evaluation.summary; "
        "print([m for m in ('torch', 'sklearn', 'matplotlib.pyplot') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
