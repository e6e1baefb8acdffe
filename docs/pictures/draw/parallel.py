"""Workers: a pool gives out queries, one that hangs is ended and replaced, and a warden outlives the program."""

from __future__ import annotations

from typing import Any

from draw._style import Theme, arrow, blank, box

WIDE = 30.0


def figure(theme: Theme) -> Any:
    """The drawing."""
    made, axes = blank(5.4)
    box(axes, theme, 2, 2, 96, 17, "", edge=theme.blue)
    axes.text(50, 7.5, "your program: search, oracle, pool", weight="bold", ha="center", va="center")
    text = "gives out queries, takes answers in any order"
    axes.text(50, 13.5, text, ha="center", va="center", color=theme.muted, fontsize=10)
    workers = (
        ("worker 1", "query 4", "answers 0.31", theme.green),
        ("worker 2", "query 5", "hangs", theme.orange),
        ("worker 3", "query 6", "answers 0.27", theme.green),
    )
    for i, (name, query, how, colour) in enumerate(workers):
        x = 2 + 33.0 * i
        middle = x + WIDE / 2
        arrow(axes, theme, (middle - 5, 19), (middle - 5, 30), color=theme.blue, mutation_scale=13)
        if i != 1:
            arrow(axes, theme, (middle + 5, 30), (middle + 5, 19), color=theme.green, mutation_scale=13)
        box(axes, theme, x, 30, WIDE, 21, "", edge=colour)
        axes.text(middle, 35, name, weight="bold", ha="center", va="center")
        axes.text(middle, 40.8, query, color=theme.blue, ha="center", va="center", fontsize=10)
        axes.text(middle, 46.4, how, color=colour, ha="center", va="center", fontsize=10)
    arrow(axes, theme, (50, 51), (50, 60), color=theme.orange)
    axes.text(53, 55, "after its timeout", color=theme.orange, va="center", fontsize=10)
    text = "ended, with all that it has started;\nquery 5 has failed, and the run goes on"
    box(axes, theme, 2, 60, 96, 15, text, edge=theme.orange, fontsize=10, linespacing=1.4)
    arrow(axes, theme, (50, 75), (50, 82))
    box(axes, theme, 20, 82, 60, 8.5, "a new worker 2 takes query 7", fontsize=10)
    text = "warden: ends all workers if your program dies"
    box(axes, theme, 2, 95, 96, 10, text, edge=theme.muted, fontsize=10, color=theme.pink)
    return made
