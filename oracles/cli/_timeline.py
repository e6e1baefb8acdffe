"""A timeline of a report, drawn by matplotlib: lanes, work and waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oracles.cli._chart import EARLY, LATE, Theme
from oracles.page import Bar, Timeline
from oracles.words import span

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_timeline"]

_HEIGHT = 0.62
"""Of a bar; lanes are 1 apart."""

_CHARACTER = 0.082
"""Width of a character in inches, at 10 points."""


def draw_timeline(ax: Axes, timeline: Timeline, theme: Theme, share: float, above: bool) -> None:
    """Draw a timeline.

    Args:
        ax: The axes.
        timeline: The timeline.
        theme: Its colours.
        share: How much of its time is shown, from the beginning.
        above: Whether the names of lanes stand above them, for narrow pictures, and not beside.
    """
    begin, end = timeline.begin, timeline.begin + share * (timeline.end - timeline.begin)
    ax.set_facecolor("none")
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(theme.muted)
    ax.tick_params(colors=theme.muted, labelcolor=theme.muted, length=0, pad=5)
    ax.set_xlim(begin, end)
    ax.set_ylim(len(timeline.lanes) - 0.5, -0.62 if above else -0.5)
    ax.set_yticks([] if above else range(len(timeline.lanes)), [] if above else list(timeline.lanes))
    if above:
        for i, name in enumerate(timeline.lanes):
            ax.text(begin, i - 0.36, name, color=theme.muted, fontsize=10, va="bottom", ha="left")
    per_second = (4.2 if above else 8.2) / max(end - begin, 1e-12)  # inches, about
    for bar in timeline.bars:
        if bar.end > begin and bar.begin < end and bar.end > bar.begin:
            _draw(ax, bar, max(bar.begin, begin), min(bar.end, end), per_second, theme)
    ticks = [begin + i * (end - begin) / 4 for i in range(5)]
    ax.set_xticks(ticks, [span(t - begin) if i else "0" for i, t in enumerate(ticks)])


def _draw(ax: Axes, bar: Bar, begin: float, end: float, per_second: float, theme: Theme) -> None:
    colour = {"early": EARLY, "late": LATE, "wait": "none"}[bar.colour]
    wait = bar.colour == "wait"
    ax.barh(
        bar.lane, end - begin, _HEIGHT, begin, color=colour, edgecolor=theme.muted if wait else theme.surface,
        linewidth=0.6 if wait else 1.2, hatch="////" if wait else "", alpha=0.55 if wait else 1.0, zorder=2,
    )  # fmt: skip
    room = (end - begin) * per_second
    if bar.label and room > _CHARACTER * len(bar.label) + 0.06:
        box = {"facecolor": theme.surface, "edgecolor": "none", "pad": 1.5} if wait else None
        ax.text(
            (begin + end) / 2, bar.lane, bar.label, ha="center", va="center", fontsize=10, zorder=3, bbox=box,
            color=theme.ink if wait else "#ffffff" if bar.colour == "late" else "#1c2430",
        )  # fmt: skip
