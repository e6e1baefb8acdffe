"""A run: the six things that happen in a step, what each writes to the journal, and where limits end the run."""

from __future__ import annotations

from typing import Any

from draw._style import Theme, arrow, blank, box

STEP = (
    ("ask", "n points, from the seed", "", ()),
    ("answer", "the oracle, part by part", "", ()),
    ("tell", "each part, as it comes", "ends: time, Ctrl-C", ("step 0, id 0: 5.21", "step 0, id 1: 4.87, learnt")),
    ("absorb", "what the oracle learnt", "", ()),
    ("move", "x moves by w U", "ends: budget, target,\nsteps, patience, until", ()),
    ("measure", "between steps, if due", "", ("measure centre, step 1",)),
)
HIGH, GAP, LIMITS = 11.5, 4.5, {1: 4.0, 2: 8.0}
"""Of a box, of the way to the next, and what a limit's lines add to it."""


def figure(theme: Theme) -> Any:
    """The drawing."""
    made, axes = blank(5.4)
    left, right, middle = 7.0, 50.0, 13.0
    box(axes, theme, 57, 2, 41, 104, "", edge=theme.line)
    axes.text(60, 8, "run.jsonl", weight="bold", va="center")
    axes.text(60, 15, "header: seed, x0, …", color=theme.blue, va="center", fontsize=10)
    y = 2.0
    for name, what, limits, lines in STEP:
        box(axes, theme, left, y, right - left, HIGH, "", edge=theme.green if name == "move" else theme.muted)
        axes.text(left + 3, y + 3.8, name, weight="bold", va="center")
        axes.text(left + 3, y + 8.4, what, va="center", fontsize=10, color=theme.muted)
        if lines:
            arrow(axes, theme, (right, y + HIGH / 2), (57, y + HIGH / 2), color=theme.blue, mutation_scale=13)
        for i, line in enumerate(lines):
            at = y + HIGH / 2 + 5.6 * (i - (len(lines) - 1) / 2)
            axes.text(59, at, line, color=theme.blue, va="center", fontsize=10)
        if name == "measure":
            break
        gap = GAP + LIMITS.get(limits.count("\n") + 1, 0.0) * bool(limits)
        arrow(axes, theme, (middle, y + HIGH), (middle, y + HIGH + gap), mutation_scale=12)
        if limits:
            axes.text(
                middle + 3, y + HIGH + gap / 2, limits, color=theme.orange, va="center", fontsize=10, linespacing=1.2
            )
        y += HIGH + gap
    axes.plot([left, 3, 3, left - 2], [y + HIGH / 2, y + HIGH / 2, 2 + HIGH / 2, 2 + HIGH / 2], color=theme.muted)
    arrow(axes, theme, (left - 3, 2 + HIGH / 2), (left, 2 + HIGH / 2), mutation_scale=12)
    kept = "A line is kept before\nthe search goes on."
    axes.text(60, 82, kept, color=theme.muted, va="center", fontsize=10, linespacing=1.3)
    return made
