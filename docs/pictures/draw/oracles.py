"""How what an oracle learns travels: the search owns it, a proposal carries it, the journal keeps the evidence."""

from __future__ import annotations

from typing import Any

from draw._style import Theme, arrow, blank, box

CODE = {"family": ["DejaVu Sans Mono", "monospace"], "fontsize": 10}


def figure(theme: Theme) -> Any:
    """The drawing."""
    made, axes = blank(5.7)
    box(axes, theme, 2, 2, 96, 17, "", edge=theme.green)
    axes.text(6, 7.5, "search", weight="bold", va="center")
    axes.text(6, 13.5, "owns the state of the oracle: 40 values, mean 2.1", color=theme.green, va="center", fontsize=10)
    arrow(axes, theme, (30, 19), (30, 30), color=theme.blue)
    axes.text(33, 24, "ask: a proposal with the state", color=theme.blue, va="center", fontsize=10)
    box(axes, theme, 2, 30, 82, 33, "", edge=theme.line)
    axes.text(6, 35, "Repeat, or any other wrapper, passes it on", color=theme.muted, va="center", fontsize=10)
    box(axes, theme, 6, 39.5, 74, 20, "")
    axes.text(10, 44, "your oracle", weight="bold", va="center")
    axes.text(10, 49.7, "proposal.state(self)", va="center", color=theme.blue, **CODE)
    axes.text(10, 55, "proposal.learn(self, id, evidence)", va="center", color=theme.orange, **CODE)
    arrow(axes, theme, (30, 63), (30, 74), color=theme.orange)
    axes.text(33, 68, "tell: values and evidence", color=theme.orange, va="center", fontsize=10)
    box(axes, theme, 2, 74, 82, 14, "")
    axes.text(6, 78.6, "journal", weight="bold", va="center")
    axes.text(6, 84, "keeps the evidence beside the value", va="center", color=theme.orange, fontsize=10)
    arrow(axes, theme, (30, 88), (30, 97))
    axes.text(33, 92.2, "when the step is complete", va="center", color=theme.muted, fontsize=10)
    box(axes, theme, 2, 97, 82, 15, "", edge=theme.green)
    axes.text(6, 101.7, "absorb(state, evidence)", va="center", **CODE)
    axes.text(6, 107.2, "the next state: 44 values, mean 1.9", color=theme.green, va="center", fontsize=10)
    axes.plot([84, 91, 91], [104.5, 104.5, 22], color=theme.green, linewidth=1.6)
    arrow(axes, theme, (91, 24), (91, 19), color=theme.green)
    return made
