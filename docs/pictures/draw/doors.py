"""Doors: four libraries ask one search for points, and give it the values that they found."""

from __future__ import annotations

from typing import Any

from draw._style import Theme, arrow, blank, box

WIDE = 22.0


def figure(theme: Theme) -> Any:
    """The drawing."""
    made, axes = blank(4.4)
    libraries = (
        ("Optuna", "Sampler", "a study"),
        ("scikit-learn", "SearchCV", "a model"),
        ("nevergrad", "BlackboxZO", "a function"),
        ("Ray", "Searcher", "a tuner"),
    )
    for i, (name, door, has) in enumerate(libraries):
        x = 2 + 24.7 * i
        middle = x + WIDE / 2
        box(axes, theme, x, 2, WIDE, 24, "", edge=theme.muted)
        axes.text(middle, 8, name, weight="bold", ha="center", va="center")
        axes.text(middle, 14.5, has, color=theme.muted, ha="center", va="center", fontsize=10)
        axes.text(middle, 20.5, door, color=theme.pink, ha="center", va="center", fontsize=10, family="monospace")
        arrow(axes, theme, (middle - 5, 46), (middle - 5, 26), color=theme.blue, mutation_scale=13)
        arrow(axes, theme, (middle + 5, 26), (middle + 5, 46), color=theme.green, mutation_scale=13)
    box(axes, theme, 2, 46, 96, 18, "", edge=theme.blue)
    axes.text(50, 51.5, 'one search: "auto", or any estimator', weight="bold", ha="center", va="center")
    text = "points go up, values come down, in any order"
    axes.text(50, 58.5, text, ha="center", va="center", color=theme.muted, fontsize=10)
    return made
