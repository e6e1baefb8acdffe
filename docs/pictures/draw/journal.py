"""A journal: one line for the run, one line for each answer; read again, the run goes on."""

from __future__ import annotations

from typing import Any

from draw._style import Theme, arrow, blank, box


def figure(theme: Theme) -> Any:
    """The drawing."""
    made, axes = blank(5.1)
    box(axes, theme, 2, 2, 96, 50, "", edge=theme.line)
    axes.text(5, 8, "run.jsonl", weight="bold", va="center")
    lines = (
        ("header", "seed, x0, estimator, rule", theme.blue),
        ("answer", "query 0 of step 0: 5.21", theme.ink),
        ("answer", "query 1 of step 0: 4.87", theme.ink),
        ("answer", "query 2 of step 0: failed", theme.ink),
    )
    for i, (kind, text, colour) in enumerate(lines):
        y = 15.5 + 8 * i
        axes.text(5, y, kind, color=theme.muted, va="center", fontsize=10)
        axes.text(25, y, text, color=colour, va="center")
    axes.text(25, 47, "…", va="center")
    arrow(axes, theme, (50, 52), (50, 61))
    box(axes, theme, 2, 61, 96, 15, "replay: the seed gives the points,\nthe file gives the answers", linespacing=1.4)
    arrow(axes, theme, (50, 76), (50, 85))
    text = "the same x, to the last bit;\nthe next query is asked"
    box(axes, theme, 2, 85, 96, 15, text, edge=theme.green, color=theme.green, weight="bold", linespacing=1.4)
    return made
