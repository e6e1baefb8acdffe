"""A journal: a line for the run, and one for each answer and each measure; read again, the run goes on."""

from __future__ import annotations

from typing import Any

from draw._style import Theme, arrow, blank, box


def figure(theme: Theme) -> Any:
    """The drawing."""
    made, axes = blank(5.9)
    box(axes, theme, 2, 2, 96, 66, "", edge=theme.line)
    axes.text(5, 8, "run.jsonl", weight="bold", va="center")
    lines = (
        ("header", "seed, x0, estimator, rule", theme.blue),
        ("measure", "centre, before step 0: 5.30", theme.green),
        ("answer", "query 0 of step 0: 5.21", theme.ink),
        ("answer", "query 1 of step 0: 4.87, learnt 0.3", theme.ink),
        ("answer", "query 2 of step 0: failed", theme.ink),
        ("measure", "centre, before step 1: 4.60", theme.green),
    )
    for i, (kind, text, colour) in enumerate(lines):
        y = 15.5 + 8 * i
        axes.text(5, y, kind, color=theme.muted, va="center", fontsize=10)
        axes.text(25, y, text, color=colour, va="center")
    axes.text(25, 63, "…", va="center")
    arrow(axes, theme, (50, 68), (50, 77))
    text = "replay: the seed gives the points,\nthe file the answers and what oracles learnt"
    box(axes, theme, 2, 77, 96, 15, text, linespacing=1.4)
    arrow(axes, theme, (50, 92), (50, 101))
    text = "the same x, to the last bit;\nthe next query is asked"
    box(axes, theme, 2, 101, 96, 15, text, edge=theme.green, color=theme.green, weight="bold", linespacing=1.4)
    return made
