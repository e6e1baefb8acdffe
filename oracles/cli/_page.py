"""A report as one HTML file that needs nothing else: no script, no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from oracles.cli._history import History
from oracles.cli._plots import EARLY, INK, LATE, convergence, drawing, parameter, svg
from oracles.cli._summary import Failure, Summary

__all__ = ["command", "document", "facts", "page", "tiles"]

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
.best { display: grid; grid-template-columns: minmax(200px, 1fr) minmax(0, 2fr); gap: 12px; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 12px; }
.panels .card { padding: 10px 8px 4px 12px; }
svg { display: block; width: 100%; height: auto; } .narrow { display: none; }
.key { display: flex; align-items: center; gap: 8px; flex-wrap: wrap; margin: 0 0 10px; font-size: 13px; }
.key span { color: var(--muted); }
.key i { width: 72px; height: 8px; border-radius: 4px; background: linear-gradient(90deg, EARLY, LATE); }
.scroll { overflow-x: auto; padding: 4px 16px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: right; color: var(--muted); font-weight: 500; }
th, td { padding: 6px 0 6px 18px; white-space: nowrap; text-align: right; border-top: 1px solid var(--grid); }
tr:first-child > * { border-top: 0; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
details { border-top: 1px solid var(--grid); padding: 8px 0; } details:first-of-type { border-top: 0; }
summary { cursor: pointer; overflow-wrap: anywhere; } summary b { color: var(--bad); font-weight: 600; }
details pre { margin: 8px 0 4px; padding: 10px 12px; background: var(--bg); border-radius: 6px; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 4px 18px; margin: 0; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 640px) { .wide { display: none; } .narrow { display: block; } .best { grid-template-columns: 1fr; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 8px; } }
"""


def page(history: History, summary: Summary) -> str:
    """The whole file as text."""
    body = [
        f"<h1>{escape(summary.title)}</h1>",
        f'<pre class="command muted">{command(summary.command)}</pre>' if summary.command else "",
        f'<p class="card note">{escape(summary.note)}</p>' if summary.note else "",
        tiles(summary.tiles),
        _best(summary),
        _convergence(history),
        _parameters(history),
        _table(summary),
        _failures(summary),
        facts("The run", summary.facts),
    ]
    return document(summary.title, body)


def document(title: str, parts: Iterable[str]) -> str:
    """A whole file around parts of a page; empty ones are left out."""
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


def command(text: str) -> str:
    """A command that is broken between its words, not at their hyphens."""
    return " ".join(f"<span>{escape(word)}</span>" for word in text.split(" "))


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """Large figures, each with its label, from pairs of label and figure."""
    cards = "".join(
        f'<div class="card"><b>{escape(figure)}</b><span>{escape(label)}</span></div>' for label, figure in pairs
    )
    return f'<div class="tiles">{cards}</div>'


def _best(summary: Summary) -> str:
    if not summary.best:
        return ""
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in summary.best)
    table = f'<div class="card scroll"><table>{rows}</table></div>'
    if not summary.best_command:
        return f"<h2>Best parameters</h2>{table}"
    again = f'<div class="card"><pre>{command(summary.best_command)}</pre></div>'
    return f'<h2>Best parameters, and the command to run them</h2><div class="best">{table}{again}</div>'


def _key(history: History) -> str:
    entries = ["<span>first query</span><i></i><span>last query</span>"]
    if not history.ranked:
        entries.append("<span>○ best</span>")
    if len(history.failed):
        entries.append("<span>× failed</span>")
    return f'<div class="key">{" ".join(entries)}</div>'


def _convergence(history: History) -> str:
    if not history.n or history.ranked:
        return ""
    from matplotlib.figure import Figure

    pictures = []
    for kind, size in (("wide", (9.6, 3.4)), ("narrow", (4.4, 3.2))):
        with drawing():
            figure = Figure(figsize=size, layout="constrained")
            convergence(figure.subplots(), history, INK)
            pictures.append(f'<div class="{kind}">{svg(figure, "value of each query, and the best so far")}</div>')
    return f'<h2>Convergence</h2>{_key(history)}<div class="card">{"".join(pictures)}</div>'


def _parameters(history: History) -> str:
    if history.no_axes:
        return f"<h2>Parameters</h2><p class='muted'>They cannot be drawn. {escape(history.no_axes)}</p>"
    if not history.axes:
        return ""
    from matplotlib.figure import Figure

    cards = []
    for axis in history.drawn:
        with drawing():
            figure = Figure(figsize=(3.4, 2.6), layout="constrained")
            parameter(figure.subplots(), history, axis, INK)
            cards.append(f'<div class="card">{svg(figure, escape(axis.name, quote=True))}</div>')
    more = len(history.axes) - len(history.drawn)
    left = f"<p class='muted'>The {len(history.drawn)} of {len(history.axes):,} that vary most.</p>" if more else ""
    what = "over the run" if history.ranked else "against the value"
    return f'<h2>Parameters {what}</h2>{left}{_key(history)}<div class="panels">{"".join(cards)}</div>'


def _table(summary: Summary) -> str:
    if not summary.rows:
        return ""
    head = _row("th", summary.columns)
    rows = "".join(_row("td", row) for row in summary.rows)
    return f'<h2>Best {len(summary.rows)}</h2><div class="card scroll"><table>{head}{rows}</table></div>'


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _failures(summary: Summary) -> str:
    if not summary.kinds:
        return ""
    kinds = "".join(
        f'<tr><td class="text">{escape(error)}</td><td>{count:,}</td></tr>' for error, count in summary.kinds[:10]
    )
    total = sum(count for _, count in summary.kinds)
    shown = len(summary.failures)
    which = "" if shown == total else f"<p class='muted'>The latest {shown} of {total:,}:</p>"
    return (
        f'<h2>Failures</h2><div class="card scroll"><table>{kinds}</table></div>{which or "<p></p>"}'
        f'<div class="card">{"".join(_details(summary.failures))}</div>'
    )


def _details(failures: Iterable[Failure]) -> Iterable[str]:
    for number, failure in enumerate(failures):
        values = f"<p class='muted'>{escape(failure.values)}</p>" if failure.values else ""
        tail = f"<pre>{escape(_visible(failure.tail))}</pre>" if failure.tail else "<p class='muted'>No output.</p>"
        head = f"<summary>query {failure.query}: <b>{escape(failure.error)}</b></summary>"
        yield f"<details{' open' if number == 0 else ''}>{head}{values}{tail}</details>"


def _visible(text: str) -> str:
    """Control characters, such as terminal colours, as signs that can be seen."""
    return "".join(c if c in "\n\t" or c.isprintable() else chr(0x2400 + ord(c)) if ord(c) < 32 else "�" for c in text)


def facts(title: str, pairs: Iterable[tuple[str, str]]) -> str:
    """A table of names and values under a heading."""
    entries = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f'<h2>{escape(title)}</h2><div class="card"><dl>{entries}</dl></div>'
