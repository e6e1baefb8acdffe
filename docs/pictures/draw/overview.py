"""What can be asked, and what comes back."""

from __future__ import annotations

from typing import Any

from draw._style import Theme, arrow, blank, box

ORACLES = (
    ("a Python function", "its value"),
    ("any program", "a number that it prints"),
    ("a language model", "a loss, or its accuracy"),
    ("a simulator", "the return of an episode"),
    ("people", "which is better"),
)


def figure(theme: Theme) -> Any:
    """The drawing."""
    made, axes = blank(4.2)
    box(axes, theme, 2, 2, 29, 80, "", edge=theme.blue)
    axes.text(16.5, 20, "blackbox_zo", weight="bold", ha="center", va="center")
    axes.text(16.5, 33, "asks about\nn points", ha="center", va="center", color=theme.blue, linespacing=1.4)
    axes.text(16.5, 55, "moves x\nby n answers", ha="center", va="center", color=theme.orange, linespacing=1.4)
    for i, (who, what) in enumerate(ORACLES):
        y = 2 + 16.5 * i
        box(axes, theme, 51, y, 47, 14, "")
        axes.text(74.5, y + 4.6, who, weight="bold", ha="center", va="center")
        axes.text(74.5, y + 10, what, ha="center", va="center", color=theme.orange, fontsize=10)
        arrow(axes, theme, (31, y + 4.6), (51, y + 4.6), color=theme.blue, mutation_scale=13)
        arrow(axes, theme, (51, y + 10), (31, y + 10), color=theme.orange, mutation_scale=13)
    return made
