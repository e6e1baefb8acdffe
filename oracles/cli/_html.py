"""A report as one self-contained HTML file, without scripts or network access."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from matplotlib.figure import Figure

from oracles.cli._chart import EARLY, INK, LATE, colour_of, draw, drawing, svg
from oracles.cli._timeline import draw_timeline
from oracles.page import Chart, Commands, Facts, Failure, Layer, Media, Page, Part, Section, Table, Timeline

__all__ = ["html"]

_STYLE = """
:root { color-scheme: light dark; --bg: #f5f6f8; --card: #ffffff; --ink: #1c2430; --muted: #5f6b7d; --grid: #e3e7ee;
  --bad: #b8324a; --font: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
@media (prefers-color-scheme: dark) {
  :root { --bg: #0f1216; --card: #181c22; --ink: #e9edf3; --muted: #9aa5b5; --grid: #2b323d; --bad: #f0788c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 15px/1.5 var(--font); }
main { max-width: 1080px; margin: 0 auto; padding: 28px 16px 56px; }
h1 { font-size: 24px; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 36px 0 12px; }
p { margin: 8px 0; max-width: 75ch; } .muted { color: var(--muted); }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
pre span { display: inline-block; max-width: 100%; }
.card { background: var(--card); border: 1px solid var(--grid); border-radius: 10px; padding: 14px 16px; }
.note { border-left: 4px solid var(--muted); margin: 16px 0 0; }
.command { margin-top: 12px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; margin-top: 16px; }
.tiles b { display: block; font-size: clamp(18px, 4.4vw, 24px); line-height: 1.25; font-weight: 650; }
.tiles span { color: var(--muted); }
.beside { display: grid; grid-template-columns: minmax(200px, 1fr) minmax(0, 2fr); gap: 12px; }
.below > .card { margin-bottom: 12px; } .below p { margin: 0 0 4px; color: var(--muted); }
.media { display: grid; grid-template-columns: minmax(200px, 420px) minmax(0, 1fr); gap: 12px; }
.media .card:first-child { padding: 0; overflow: hidden; line-height: 0; }
.media img { width: 100%; height: auto; }
.timeline { margin-bottom: 12px; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 12px; }
.panels .card { padding: 10px 8px 4px 12px; }
svg { display: block; width: 100%; height: auto; } .narrow { display: none; }
.key { display: flex; align-items: center; gap: 6px 18px; flex-wrap: wrap; margin: 0 0 10px; font-size: 13px; }
.key div { display: flex; align-items: center; gap: 8px; } .key span { color: var(--muted); }
.key b { width: 22px; height: 0; border-top: 2px solid currentColor; } .key b.dashed { border-top-style: dashed; }
.key b.dots { width: 8px; height: 8px; border: 0; border-radius: 4px; background: currentColor; }
.key i { width: 72px; height: 8px; border-radius: 4px; background: linear-gradient(90deg, EARLY, LATE); }
.scroll { overflow-x: auto; padding: 4px 16px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: right; color: var(--muted); font-weight: 500; }
th, td { padding: 6px 0 6px 18px; white-space: nowrap; text-align: right; border-top: 1px solid var(--grid); }
tr:first-child > * { border-top: 0; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
th.text { text-align: left; }
td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 9em; }
details { border-top: 1px solid var(--grid); padding: 8px 0; } details:first-of-type { border-top: 0; }
summary { cursor: pointer; overflow-wrap: anywhere; } summary b { color: var(--bad); font-weight: 600; }
details pre { margin: 8px 0 4px; padding: 10px 12px; background: var(--bg); border-radius: 6px; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 4px 18px; margin: 0; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 640px) { .wide { display: none; } .narrow { display: block; }
  .beside, .media { grid-template-columns: 1fr; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 8px; } }
"""


def html(page: Page) -> str:
    """The whole file as text."""
    return _document(
        page.title,
        [
            f"<h1>{escape(page.title)}</h1>",
            f'<pre class="command muted">{_words(page.subject)}</pre>' if page.subject else "",
            f'<p class="card note">{escape(page.note)}</p>' if page.note else "",
            _tiles(page.tiles),
            *map(_section, page.sections),
        ],
    )


def _document(title: str, parts: Iterable[str]) -> str:
    """Wrap parts of a page into a whole file; empty parts are left out."""
    style = _STYLE.replace("EARLY", EARLY).replace("LATE", LATE)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">\n'
        f"<title>{escape(title)} · blackbox-zo</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _words(text: str) -> str:
    """A command that wraps between words, not at hyphens."""
    return " ".join(f"<span>{escape(word)}</span>" for word in text.split(" "))


def _tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """Large figures with their labels, from pairs (label, figure)."""
    cards = "".join(
        f'<div class="card"><b>{escape(figure)}</b><span>{escape(label)}</span></div>' for label, figure in pairs
    )
    return f'<div class="tiles">{cards}</div>'


def _section(section: Section) -> str:
    charts = [part for part in section.parts if isinstance(part, Chart)]
    failures = [part for part in section.parts if isinstance(part, Failure)]
    timelines = [part for part in section.parts if isinstance(part, Timeline)]
    rest = [part for part in section.parts if not isinstance(part, Chart | Failure | Timeline)]
    note = f"<p class='muted'>{escape(section.note)}</p>" if section.note else ""
    body = ""
    if charts:
        drawn = [_wide(charts[0])] if len(charts) == 1 and not charts[0].title else [_panel(c) for c in charts]
        layout = "panels" if len(drawn) > 1 or charts[0].title else "wide-chart"
        body += f'{_key(charts)}<div class="{layout}">{"".join(drawn)}</div>'
    body += "".join(map(_timeline, timelines))
    cards = [_part(part) for part in rest]
    body += f'<div class="{"beside" if len(cards) == 2 else "below"}">{"".join(cards)}</div>' if cards else ""
    if failures:
        body += f'<p></p><div class="card">{"".join(_failures(failures))}</div>'
    return f"<h2>{escape(section.title)}</h2>{note}{body}"


def _part(part: Part) -> str:
    match part:
        case Table():
            return _table(part)
        case Facts():
            return f'<div class="card">{_pairs(part.rows)}</div>'
        case Commands():
            return "".join(
                f'<div class="card">{f"<p>{escape(what)}</p>" if what else ""}<pre>{_words(text)}</pre></div>'
                for what, text in part.rows
            )
        case Media():
            data = base64.b64encode(part.data).decode()
            size = f'width="{part.width}" height="{part.height}"'
            picture = f'<img src="data:{part.kind};base64,{data}" {size} alt="{escape(part.alt, quote=True)}">'
            beside = f'<div class="card">{_pairs(part.facts)}</div>' if part.facts else ""
            return f'<div class="media"><div class="card">{picture}</div>{beside}</div>'
    raise TypeError(part)


def _timeline(timeline: Timeline) -> str:
    pictures = ""
    for kind, size, share, above in (("wide", (9.6, 2.9), 1.0, False), ("narrow", (4.4, 3.5), 0.5, True)):
        with drawing():
            drawn = Figure(figsize=size, layout="constrained")
            draw_timeline(drawn.subplots(), timeline, INK, share, above)
            pictures += f'<div class="{kind}">{svg(drawn, escape(timeline.alt, quote=True))}</div>'
    return f'<div class="card timeline">{pictures}</div>'


def _table(table: Table) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        kinds = [' class="text"' if i in table.text else "" for i in range(len(cells))]
        inner = "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))
        return f"<tr>{inner}</tr>"

    head = row("th", table.head) if table.head else ""
    return f'<div class="card scroll"><table>{head}{"".join(row("td", cells) for cells in table.rows)}</table></div>'


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows) + "</dl>"


def _key(charts: Sequence[Chart]) -> str:
    """A shared legend of some charts."""
    layers = {layer.label or layer.colour: layer for chart in charts for layer in chart.layers if len(layer.x)}
    entries = []
    if any(layer.colour == "time" for layer in layers.values()):
        entries.append("<div><span>first</span><i></i><span>last</span></div>")
    named = [layer for layer in layers.values() if layer.label]
    entries += [f"<div>{_mark(layer)}<span>{escape(layer.label)}</span></div>" for layer in named]
    return f'<div class="key">{"".join(entries)}</div>' if entries else ""


def _mark(layer: Layer) -> str:
    names = {INK.ink: "var(--ink)", INK.muted: "var(--muted)"}
    colour = colour_of(layer, INK)
    signs = {"crosses": "×", "ring": "○"}
    if layer.look in signs:
        return f'<span class="sign">{signs[layer.look]}</span>'
    return f'<b class="{layer.look}" style="color:{names.get(colour, colour)}"></b>'


def _wide(chart: Chart) -> str:
    pictures = [
        f'<div class="{kind}">{_drawn(chart, size)}</div>'
        for kind, size in (("wide", (9.6, 3.5)), ("narrow", (4.4, 3.3)))
    ]
    return f'<div class="card">{"".join(pictures)}</div>'


def _panel(chart: Chart) -> str:
    return f'<div class="card">{_drawn(chart, (3.4, 2.6))}</div>'


def _drawn(chart: Chart, size: tuple[float, float]) -> str:
    label = chart.title or f"{chart.y} against {chart.x}"
    with drawing():
        drawn = Figure(figsize=size, layout="constrained")
        draw(drawn.subplots(), chart, INK)
        return svg(drawn, escape(label, quote=True))


def _failures(failures: Iterable[Failure]) -> Iterable[str]:
    for number, failure in enumerate(failures):
        values = f"<p class='muted'>{escape(failure.values)}</p>" if failure.values else ""
        tail = f"<pre>{escape(_visible(failure.output))}</pre>" if failure.output else "<p class='muted'>No output.</p>"
        head = f"<summary>query {failure.query}: <b>{escape(failure.reason)}</b></summary>"
        yield f"<details{' open' if number == 0 else ''}>{head}{values}{tail}</details>"


def _visible(text: str) -> str:
    """Replace control characters, such as terminal colours, by visible symbols."""
    return "".join(c if c in "\n\t" or c.isprintable() else chr(0x2400 + ord(c)) if ord(c) < 32 else "�" for c in text)
