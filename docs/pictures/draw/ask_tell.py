"""Ask and tell: two proposals at once, answered in parts and in any order."""

from __future__ import annotations

from typing import Any

from draw._style import Theme, arrow, blank, box

ROWS = (
    ("ask", "step 0: queries 0, 1, 2, 3"),
    ("ask", "step 1: queries 4, 5, 6, 7"),
    ("tell", "6 is 0.4"),
    ("tell", "2 is 0.1, 0 is 0.3"),
    ("tell", "1 is 0.2, 3 failed"),
    ("move", "step 0 is complete: x moves"),
    ("tell", "7 is 0.2, 4 is 0.5, 5 is 0.3"),
    ("move", "step 1 is complete: x moves"),
)


def figure(theme: Theme) -> Any:
    """The drawing."""
    made, axes = blank(5.2)
    box(axes, theme, 2, 2, 26, 9, "your loop", weight="bold")
    box(axes, theme, 72, 2, 26, 9, "bz.Search", weight="bold")
    for x in (15, 85):
        axes.plot([x, x], [11, 102], color=theme.line, linewidth=1.4, zorder=0)
    for i, (kind, text) in enumerate(ROWS):
        y = 20 + 11.3 * i
        if kind == "move":
            box(
                axes, theme, 26, y - 6.3, 72, 8.2, text, color=theme.green, edge=theme.green, weight="bold", fontsize=10
            )
            continue
        colour = theme.blue if kind == "ask" else theme.orange
        ends = ((85.0, y), (15.0, y)) if kind == "ask" else ((15.0, y), (85.0, y))
        arrow(axes, theme, *ends, color=colour)
        axes.text(50, y - 1.4, f"{kind}: {text}", ha="center", va="bottom", color=colour, fontsize=10)
    return made
