"""The parts around a search that can be your own, and the method that each must have."""

from __future__ import annotations

from typing import Any

from draw._style import Theme, arrow, blank, box


def figure(theme: Theme) -> Any:
    """The drawing."""
    made, axes = blank(5.3)
    own = (
        (2.0, "Estimator", "start, sample, estimate", "where to ask, what it means"),
        (29.0, "Rule", "start, update", "from an estimate to a move"),
        (56.0, "Directions", "add_", "k vectors, for an estimator"),
        (83.0, "Oracle", "answer", "what is asked"),
    )
    for y, name, methods, what in own:
        box(axes, theme, 2, y, 57, 20, "", edge=theme.blue)
        axes.text(5, y + 5.2, name, weight="bold", color=theme.blue, va="center")
        axes.text(5, y + 10.6, methods, va="center", family=["DejaVu Sans Mono", "monospace"], fontsize=10)
        axes.text(5, y + 15.6, what, va="center", color=theme.muted, fontsize=10)
        arrow(axes, theme, (59, y + 10), (72, y + 10), mutation_scale=14)
    box(axes, theme, 72, 2, 26, 101, "Search\n\nbudget\nbest point\nany order\njournal\nresume", linespacing=1.9)
    return made
