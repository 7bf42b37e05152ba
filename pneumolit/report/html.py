"""One self-contained HTML page: works from disk, without network, on a phone and in print."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from unicodedata import east_asian_width

from PIL import Image

from pneumolit.report.evaluation import DISCLAIMER
from pneumolit.report.language import ENGLISH, translate
from pneumolit.report.page_style import CSS, SORTING
from pneumolit.report.tables import Table

_LONG = 16  # letters of a header that would be broken into many lines above narrow cells
_FEW = 7  # columns that a sheet of paper takes without breaking numbers
_FIRST_BYTES = {"png": b"\x89PNG", "jpeg": b"\xff\xd8"}
_CSS_DPI = 96  # by definition
_LARGE = 800  # pixels; a picture so wide cannot be read in half of a page
# Shares of full size, in which letters of 10 points are 8 and 9 pixels high: a picture that fits a phone whole is
# shown so, of a sheet a part is shown in any case.
_READABLE, _READABLE_PART = 0.6, 0.7


@dataclass(frozen=True)
class Section:
    """One heading of the page and what stands below it, in the order of these attributes.

    Attributes:
        heading: of the section.
        paragraphs: plain text, one paragraph each.
        tables: numbers.
        images: (PNG or JPEG file, alt text); the alt text is shown below the picture as well.
        code: commands to copy.
        label: a small line between heading and paragraphs.
        items: a list, below the paragraphs.
        links: (text, name of a file beside the page), below the items.
        parts: sections of their own below all this, with smaller headings.
        note: a small line at the end.
        tone: "warning" or "open" marks the section at its side; "" does not. "rich" is for tables whose cells have two
            lines, and with "board" also wider than the text where the window is.
        is_folded: shown after a tap on its heading, and in print.
        is_gallery: its images are small and stand in many columns.
    """

    heading: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    images: Sequence[tuple[Path, str]] = ()
    code: str = ""
    label: str = ""
    items: Sequence[str] = ()
    links: Sequence[tuple[str, str]] = ()
    parts: Sequence[Section] = ()
    note: str = ""
    tone: str = ""
    is_folded: bool = False
    is_gallery: bool = False


def run_page(
    *,
    title: str,
    summary: Sequence[tuple[str, str]],
    sections: Sequence[Section] = (),
    config_text: str = "",
    language: str = ENGLISH,
    has_contents: bool = False,
) -> str:
    """Write a page that needs no other file.

    Args:
        title: of the page; all texts are plain and escaped here.
        summary: (label, value) rows of the box at the top: what, data, result with interval, rule, look.
        sections: in order.
        config_text: the run's config.yaml, shown at the end; nothing is shown where it is empty.
        language: of labels, headings, sentences and alt texts, which come in English; code stays as it is.
        has_contents: whether a list of the headings stands below the box.

    Raises:
        FileNotFoundError: a picture is missing.
        ValueError: an unknown language.
    """
    if config_text:
        sections = [*sections, Section("Configuration", code=config_text, is_folded=has_contents)]
    writer = _Writer(language)
    box = "".join(f"<dt>{writer.text(label)}</dt><dd>{writer.text(value)}</dd>\n" for label, value in summary)
    body = "".join(writer.section(section) for section in sections)
    script = SORTING if writer.is_sortable else ""
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # An empty icon, or a browser asks the server for /favicon.ico and logs an error.
        f'<link rel="icon" href="data:,">\n<title>{writer.text(title)}</title>\n<style>{CSS}</style>\n</head>\n'
        f"<body>\n<h1>{writer.text(title)}</h1>\n"
        + (f'<dl class="summary">\n{box}</dl>\n' if summary else "")
        + (writer.contents() if has_contents else "")
        + body
        + f"<footer>{writer.text(DISCLAIMER)}</footer>\n"
        + (f"<script>{script}</script>\n" if script else "")
        + "</body>\n</html>\n"
    )


def _size(path: Path) -> tuple[int, int, float]:
    """Width and height of a picture in its own pixels, and the full width in those of a page."""
    with Image.open(path) as image:
        return *image.size, image.width * _CSS_DPI / image.info.get("dpi", (_CSS_DPI, _CSS_DPI))[0]


def _policy(script: str = "") -> str:
    """What a browser may load for the page: nothing from anywhere, and run: this script alone."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    allowed = f"; script-src 'sha256-{digest}'" if script else ""
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'{allowed}"


class _Writer:
    """Turns sections into HTML in one language and remembers the headings."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.headings: dict[str, str] = {}  # anchor -> heading in English
        self.is_sortable = False  # whether any table written so far can be sorted

    def text(self, english: str) -> str:
        """A text in the page's language, escaped."""
        return escape(translate(english, self.language))

    def contents(self) -> str:
        """Links to all sections written so far."""
        links = "\n".join(f'<li><a href="#{key}">{self.text(text)}</a></li>' for key, text in self.headings.items())
        return f'<nav class="contents" aria-label="{self.text("Contents")}">\n<ul>\n{links}\n</ul>\n</nav>\n'

    def section(self, section: Section) -> str:
        """One section with its parts."""
        tone = f' class="{escape(section.tone)}"' if section.tone else ""
        anchor = self._anchor(section.heading)
        return f'<section id="{anchor}"{tone}>\n{self._content(section, "h2")}\n</section>\n'

    def _anchor(self, heading: str) -> str:
        name = re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") or "section"
        anchor, number = name, 1
        while anchor in self.headings:
            number += 1
            anchor = f"{name}-{number}"
        self.headings[anchor] = heading
        return anchor

    def _content(self, section: Section, level: str) -> str:
        heading = f"<{level}>{self.text(section.heading)}</{level}>" if section.heading else ""
        parts = [f'<p class="label">{self.text(section.label)}</p>'] if section.label else []
        parts += [f"<p>{self.text(text)}</p>" for text in section.paragraphs]
        if section.items:
            items = "\n".join(f"<li>{self.text(text)}</li>" for text in section.items)
            parts.append(f'<ul class="items">\n{items}\n</ul>')
        parts += [f'<p><a href="{escape(file)}">{self.text(text)}</a></p>' for text, file in section.links]
        parts += [self._table(table) for table in section.tables]
        if section.images:
            pictures = "\n".join(self._picture(path, alt) for path, alt in section.images)
            kind = "gallery" if section.is_gallery else "pictures"
            parts.append(f'<div class="{kind}">\n{pictures}\n</div>')
        if section.code:
            parts.append(f"<pre>{escape(section.code)}</pre>")
        for part in section.parts:
            tone = f' class="{escape(part.tone)}"' if part.tone else ""
            parts.append(f"<div{tone}>\n{self._content(part, 'h3')}\n</div>")
        if section.note:
            parts.append(f'<p class="note">{self.text(section.note)}</p>')
        body = "\n".join(parts)
        if section.is_folded:
            return f"<details>\n<summary>{heading}</summary>\n{body}\n</details>"
        return f"{heading}\n{body}"

    def _table(self, table: Table) -> str:
        # The first column is a label anyway; further texts may be long and are wrapped.
        kinds = ["", *["text"] * (table.num_labels - 1), *[""] * (len(table.header) - table.num_labels)]
        head = "".join(
            f'<th scope="col"{_cell_class(k, translate(t, self.language), is_head=True)}>{self.text(t)}</th>'
            for k, t in zip(kinds, table.header, strict=True)
        )
        self.is_sortable |= bool(table.sort_keys)
        body = "\n".join(
            "<tr>"
            + "".join(
                f"<td{_cell_class(kind, t)}{_sort_key(key)}>{_breakable(self.text(t))}</td>"
                for kind, t, key in zip(kinds, row, keys, strict=True)
            )
            + "</tr>"
            for row, keys in zip(table.rows, table.sort_keys or [[None] * len(kinds)] * len(table.rows), strict=True)
        )
        rows = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
        # The box scrolls sideways on a narrow screen, so that the page does not.
        kinds = ["few"] * (len(table.header) <= _FEW) + ["sortable"] * bool(table.sort_keys)
        names = f' class="{" ".join(kinds)}"' if kinds else ""
        return f'<div class="wide"><table{names}>\n{rows}\n</table></div>'

    def _picture(self, path: Path, alt: str) -> str:
        if not path.is_file():
            raise FileNotFoundError(f"the picture {path} is missing; draw the evaluation before its page")
        content = path.read_bytes()
        kind = "png" if path.suffix == ".png" else "jpeg"
        if not content.startswith(_FIRST_BYTES[kind]):
            raise ValueError(f"{path} is no {kind.upper()} picture; remove it, and run the command again")
        data = base64.b64encode(content).decode("ascii")
        text = self.text(alt)
        width, height, full = _size(path)
        readable = (_READABLE_PART if full > _LARGE else _READABLE) * full  # a phone shows it no narrower
        size = f'width="{width}" height="{height}" style="--full: {full:.0f}px; --readable: {readable:.0f}px"'
        image = f'<img src="data:image/{kind};base64,{data}" alt="{text}" {size}>'
        large = ' class="large"' if full > _LARGE else ""
        return f"<figure{large}>{image}<figcaption>{text}</figcaption></figure>"


def _breakable(text: str) -> str:
    """A path may be broken behind its folders; what is copied from the page stays as it was."""
    return re.sub(r"(?<=\w)/(?=\w)", "/<wbr>", text)


def _cell_class(kind: str, text: str, *, is_head: bool = False) -> str:
    kind = kind or ("lines" if "\n" in text else "")
    if is_head and sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text) > _LONG:
        kind = f"{kind} long".strip()
    return f' class="{kind}"' if kind else ""


def _sort_key(key: float | str | None) -> str:
    if key is None:
        return ""
    # As JavaScript reads numbers.
    text = key if isinstance(key, str) else repr(float(key)).replace("inf", "Infinity")
    return f' data-sort="{escape(text)}"'
