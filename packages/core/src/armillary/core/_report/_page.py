"""The HTML of a report: its page, its style, its tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from armillary.core.hookspecs import ReportSection

# The policy lets the page load nothing: it is one file, to be kept and sent. Nor does it run script.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="subtitle">{subtitle}</p>
</header>
<nav aria-label="Sections">{links}</nav>
<main>
{sections}
</main>
</body>
</html>
"""

_STYLE = """\
:root {
  --text: #1b1f24; --soft: #57606a; --page: #f6f7f9; --card: #ffffff; --line: #d5dae0; --link: #0b5cad;
  --good: #14692f; --good-bg: #e3f4e7; --fair: #7a4b00; --fair-bg: #fdf0d2; --bad: #a31022; --bad-bg: #fde4e5;
  --unknown: #4b535c; --unknown-bg: #e9ecef;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e6e9ed; --soft: #a9b2bc; --page: #14171b; --card: #1d2126; --line: #3a4149; --link: #79b8ff;
    --good: #8fdda3; --good-bg: #17351f; --fair: #f3cd7a; --fair-bg: #3a2d10; --bad: #ffaab0; --bad-bg: #451a1e;
    --unknown: #c3cad1; --unknown-bg: #2d333a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 70rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: anywhere;
}
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 0 0 .75rem; }
h3 { font-size: 1.05rem; margin: 1.25rem 0 .5rem; }
p { margin: .5rem 0; }
a { color: var(--link); }
.subtitle, .note, figcaption { color: var(--soft); }
.note { font-size: .875rem; }
nav { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .25rem 1rem; font-size: .9375rem; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.25rem; margin: 1rem 0;
  overflow-x: auto;
}
figure { margin: .5rem 0; }
.verdict { border-left: 5px solid; border-radius: 6px; padding: .6rem .9rem; font-weight: 500; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: .75rem 0; }
.tile { border-radius: 8px; padding: .6rem .8rem; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { display: block; font-size: .8125rem; }
.good { color: var(--good); background: var(--good-bg); border-color: var(--good); }
.fair { color: var(--fair); background: var(--fair-bg); border-color: var(--fair); }
.bad { color: var(--bad); background: var(--bad-bg); border-color: var(--bad); }
.unknown { color: var(--unknown); background: var(--unknown-bg); border-color: var(--unknown); }
.scroll { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: .2rem; }
thead th { color: var(--soft); font-weight: 600; border-bottom-width: 2px; }
tbody th { font-weight: 500; }
td.fair, td.bad { border-bottom-color: var(--line); }
tr.best th, tr.best td { font-weight: 700; }
img { max-width: 100%; height: auto; background: #ffffff; border-radius: 6px; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 42rem), 1fr)); gap: .5rem; }
.pair { display: flex; flex-wrap: wrap; gap: .5rem; }
.pair img { flex: 1 1 19rem; min-width: 0; width: 19rem; max-width: 36rem; }
img.wide { max-width: none; }
details { margin: .75rem 0; }
summary { cursor: pointer; font-weight: 600; }
ul { padding-left: 1.25rem; margin: .5rem 0; }
li { margin: .25rem 0; }
pre {
  overflow-x: auto; font: .8125rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  background: var(--page); border: 1px solid var(--line); border-radius: 6px; padding: .75rem; overflow-wrap: normal;
}
code { font: .875em ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre code { font-size: inherit; }
section > :last-child, section > :last-child > :last-child { margin-bottom: 0; }
@media (max-width: 34rem) {
  body { padding: 1rem .6rem 2rem; }
  section { padding: .9rem .8rem; }
  h1 { font-size: 1.4rem; }
}
@media print { body { max-width: none; background: none; } nav { display: none; } }
"""


def page(title: str, subtitle: str, sections: Iterable[ReportSection]) -> str:
    """The whole file. Titles are text; the bodies of the sections are HTML."""
    sections = list(sections)
    links = "\n".join(f'<a href="#section-{i}">{escape(s.title)}</a>' for i, s in enumerate(sections))
    bodies = "\n".join(
        f'<section id="section-{i}" aria-labelledby="heading-{i}">\n'
        f'<h2 id="heading-{i}">{escape(s.title)}</h2>\n{s.html}\n</section>'
        for i, s in enumerate(sections)
    )
    return _PAGE.format(title=escape(title), subtitle=escape(subtitle), style=_STYLE, links=links, sections=bodies)


@dataclass(frozen=True)
class Marked:
    """A cell of a table with a CSS class, such as ``"bad"``."""

    text: str
    style: str


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str | Marked]], *, best: int | None = None) -> str:
    """A table that scrolls by itself where the page is narrow; the first cell of a row is its heading.

    Args:
        caption: what it holds, for a reader who does not see it.
        head: the headings of the columns.
        rows: the cells, as text, the first of each plain.
        best: the row to set in bold.
    """
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = []
    for i, (first, *others) in enumerate(rows):
        cells = "".join(map(_cell, others))
        row = '<tr class="best">' if i == best else "<tr>"
        body.append(f'{row}<th scope="row">{escape(str(first))}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0">\n<table>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody>\n</table>\n</div>"
    )


def _cell(cell: str | Marked) -> str:
    if isinstance(cell, Marked):
        return f'<td class="{escape(cell.style)}">{escape(cell.text)}</td>'
    return f"<td>{escape(cell)}</td>"


def note(text: str) -> str:
    """A remark under a table or a figure."""
    return f'<p class="note">{escape(text)}</p>'


def bullets(texts: Iterable[str]) -> str:
    """A list of lines of text."""
    return "<ul>\n" + "\n".join(f"<li>{escape(text)}</li>" for text in texts) + "\n</ul>"


def code(text: str) -> str:
    """Code as it is, scrolling by itself."""
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'
