"""What every page carries along: its style, and the script that sorts tables."""

from __future__ import annotations

CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
html { scroll-padding-top: .5rem; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans KR", "Noto Sans CJK KR",
  "Apple SD Gothic Neo", "Malgun Gothic", "NanumGothic", "NanumBarunGothic", sans-serif; color: #1a1a1a;
  background: #fff; max-width: 76rem; margin: 0 auto; padding: 1rem; overflow-wrap: break-word; }
:lang(ko) { word-break: keep-all; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 2px solid #0072b2; padding-bottom: .2rem; }
h3 { font-size: 1.02rem; margin: 1.4rem 0 .3rem; }
p { margin: .5rem 0; max-width: 46rem; }
ul.items { margin: .5rem 0; padding-left: 1.3rem; max-width: 46rem; }
ul.items li { margin: .3rem 0; }
a { color: #005a8c; }
dl.summary { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: 0;
  background: #f2f6fa; border-left: 4px solid #0072b2; padding: .8rem 1rem; }
dl.summary dt { color: #444; }
dl.summary dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; white-space: pre-line;
  font-variant-numeric: tabular-nums; }
nav.contents { margin: 1rem 0 0; font-size: .95rem; }
nav.contents ul { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; }
.label, .note { font-size: .85rem; color: #555; margin: .15rem 0 .3rem; max-width: 46rem; overflow-wrap: anywhere; }
.warning { border-left: 4px solid #d55e00; padding-left: .9rem; }
.open { border-left: 4px solid #bbb; padding-left: .9rem; }
.wide { overflow-x: auto; margin: .5rem 0 1.2rem; }
table { border-collapse: separate; border-spacing: 0; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, th.text, td.text { text-align: left; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
td.text { white-space: pre-line; overflow-wrap: anywhere; min-width: 6rem; max-width: 34rem; vertical-align: top; }
thead th { border-bottom: 2px solid #888; vertical-align: bottom; white-space: normal; }
thead th.long { min-width: 7rem; }
th.lines, td.lines { white-space: pre; }
.rich td { vertical-align: top; }
.rich td.text { overflow-wrap: break-word; min-width: 0; max-width: 16rem; }
.rich th:first-child, .rich td:first-child { min-width: 0; }
.board table { font-size: .82rem; } .board th, .board td { padding: .3rem .36rem; }
.board thead th.long { min-width: 0; } .board td.text { max-width: 11.5rem; }
.board td.text:nth-child(2) { min-width: 9.8rem; overflow-wrap: anywhere; }
@media (min-width: 78rem) { .board > .wide { width: max-content; min-width: 100%; max-width: calc(100vw - 3rem);
  position: relative; left: 50%; transform: translateX(-50%); } }
th button { font: inherit; text-align: inherit; white-space: inherit; color: inherit; background: none; border: 0;
  padding: 0; cursor: pointer; text-decoration: underline dotted #888; }
th[aria-sort] button::after { content: " \\25BC"; font-size: .7em; }
th[aria-sort="ascending"] button::after { content: " \\25B2"; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1rem;
  margin: .5rem 0 1.2rem; }
.gallery img { width: 100%; }
.gallery figcaption { overflow-wrap: anywhere; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1rem;
  margin: .5rem 0 1.2rem; }
figure { margin: 0; overflow-x: auto; }
figure.large { grid-column: 1 / -1; }
img { max-width: min(100%, var(--full, 100%)); height: auto; }
figcaption { font-size: .85rem; color: #555; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: .82rem; }
summary { cursor: pointer; color: #005a8c; }
details > summary > h2, details > summary > h3 { display: inline-block; }
details > summary > h2 { width: calc(100% - 1.2rem); color: #1a1a1a; }
footer { margin-top: 2rem; padding-top: .5rem; border-top: 1px solid #ccc; color: #444; }
@media (max-width: 34rem) { body { padding: .75rem; } dl.summary { grid-template-columns: 1fr; gap: 0; }
  dl.summary dd { margin-bottom: .5rem; } td.text { min-width: 8rem; }
  .rich td.text { max-width: 10rem; }
  th:first-child, td:first-child { white-space: normal; min-width: 5rem; max-width: 9rem; }
  img { max-width: none; width: max(var(--readable), min(100%, var(--full))); } }
@media print { @page { margin: 15mm; } html { font-size: 10pt; } body { max-width: none; padding: 0; font-size: 1rem; }
  p, ul.items, .label, .note { max-width: none; } figure, tr, dl, .open, .warning { break-inside: avoid; }
  h2, h3, summary, .label { break-after: avoid; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  .wide { overflow: visible; } table { font-size: 7.5pt; } th, td { white-space: normal; padding: .15rem .35rem; }
  .board table { font-size: 7pt; } .board th { font-size: 6.6pt; } .board th, .board td { padding: .15rem .1rem; }
  .board td.lines { white-space: pre-line; } .board td.text:nth-child(2) { min-width: 4rem; }
  .few td { white-space: nowrap; } .few td.text { white-space: pre-line; }
  .few td.lines { white-space: pre; }
  .few td:first-child { white-space: normal; }
  th:first-child, td:first-child { position: static; } .pictures { grid-template-columns: 1fr 1fr; }
  details::details-content { content-visibility: visible; block-size: auto; } nav.contents { break-inside: avoid; } }
"""

# The page is whole without it: every table stands in an order that says something.
SORTING = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const keys = [...body.rows].map((row) => row.cells[column].dataset.sort);
      const numeric = keys.every((key) => key !== "" && !Number.isNaN(Number(key)));
      const first = numeric ? "descending" : "ascending", second = numeric ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      const sign = order === "ascending" ? 1 : -1;
      const compare = (a, b) => numeric ? (Number(a) < Number(b) ? -1 : Number(a) > Number(b) ? 1 : 0)
        : a.localeCompare(b, undefined, { numeric: true });
      const rows = [...body.rows].map((row, i) => [keys[i], row]);
      rows.sort((a, b) => sign * compare(a[0], b[0]));
      body.append(...rows.map((pair) => pair[1]));
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
    });
  });
}
"""
