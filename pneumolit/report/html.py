"""One self-contained HTML page: works from disk, without network, on a phone and in print."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pneumolit.report.evaluation import DISCLAIMER
from pneumolit.report.tables import Table

_CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #1a1a1a;
  background: #fff; max-width: 66rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 2px solid #0072b2; padding-bottom: .2rem; }
dl.summary { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: 0;
  background: #f2f6fa; border-left: 4px solid #0072b2; padding: .8rem 1rem; }
dl.summary dt { color: #444; }
dl.summary dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; margin: 0 0 1.4rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, th.text, td.text { text-align: left; }
td.text { white-space: pre-line; overflow-wrap: anywhere; min-width: 6rem; max-width: 34rem; vertical-align: top; }
thead th { border-bottom: 2px solid #888; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
figure { margin: 0; }
img { max-width: 100%; height: auto; }
figcaption { font-size: .85rem; color: #555; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: .82rem; }
footer { margin-top: 2rem; padding-top: .5rem; border-top: 1px solid #ccc; color: #444; }
@media (max-width: 34rem) { dl.summary { grid-template-columns: 1fr; gap: 0; }
  dl.summary dd { margin-bottom: .5rem; } }
@media print { body { max-width: none; padding: 0; font-size: 11pt; } figure, tr, dl { break-inside: avoid; }
  h2 { break-after: avoid; } pre { white-space: pre-wrap; } details > * { display: block; } }
"""


@dataclass(frozen=True)
class Section:
    """One heading of the page and what stands below it, in this order.

    Attributes:
        heading: of the section.
        paragraphs: plain text, one paragraph each.
        tables: numbers.
        images: (PNG file, alt text); the alt text is shown below the picture as well.
        code: commands to copy.
    """

    heading: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    images: Sequence[tuple[Path, str]] = ()
    code: str = ""


def run_page(
    *,
    title: str,
    summary: Sequence[tuple[str, str]],
    sections: Sequence[Section] = (),
    config_text: str = "",
) -> str:
    """Write a page that needs no other file.

    Args:
        title: of the page; all texts are plain and escaped here.
        summary: (label, value) rows of the box at the top: what, data, result with interval, rule, look.
        sections: in order.
        config_text: the run's config.yaml, shown at the end; nothing is shown where it is empty.

    Raises:
        FileNotFoundError: a picture is missing.
    """
    box = "".join(f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>\n" for label, value in summary)
    config = f"<section>\n<h2>Configuration</h2>\n<pre>{escape(config_text)}</pre>\n</section>\n"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # An empty icon, or a browser asks the server for /favicon.ico and logs an error.
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n'
        f'<body>\n<h1>{escape(title)}</h1>\n<dl class="summary">\n{box}</dl>\n'
        + "".join(_section(section) for section in sections)
        + (config if config_text else "")
        + f"<footer>{escape(DISCLAIMER)}</footer>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.heading)}</h2>"]
    parts += [f"<p>{escape(text)}</p>" for text in section.paragraphs]
    parts += [_table(table) for table in section.tables]
    if section.images:
        pictures = "\n".join(_picture(path, alt) for path, alt in section.images)
        parts.append(f'<div class="pictures">\n{pictures}\n</div>')
    if section.code:
        parts.append(f"<pre>{escape(section.code)}</pre>")
    return "<section>\n" + "\n".join(parts) + "\n</section>\n"


def _table(table: Table) -> str:
    # The first column is a label anyway; further texts may be long and are wrapped.
    kinds = ["", *[' class="text"'] * (table.num_labels - 1), *[""] * (len(table.header) - table.num_labels)]
    head = "".join(f'<th scope="col"{kind}>{escape(t)}</th>' for kind, t in zip(kinds, table.header, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{escape(t)}</td>" for kind, t in zip(kinds, row, strict=True)) + "</tr>"
        for row in table.rows
    )
    rows = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    # The box scrolls sideways on a narrow screen, so that the page does not.
    return f'<div class="wide"><table>\n{rows}\n</table></div>'


def _picture(path: Path, alt: str) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"the picture {path} is missing; draw the evaluation before its page")
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    text = escape(alt)
    image = f'<img src="data:image/png;base64,{data}" alt="{text}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"
