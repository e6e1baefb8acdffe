"""Two themes, and what all drawings share: colours for every kind of sight, and text that a phone can show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
WIDTH = 5.0  # inches: 360 points, or 480 pixels of a page


@dataclass(frozen=True)
class Theme:
    """Colours on a page. The four hues are Okabe and Ito's, which colour-blind people can tell apart."""

    name: str
    ink: str
    muted: str
    line: str
    card: str
    blue: str
    orange: str
    green: str
    pink: str


LIGHT = Theme("light", "#1f2328", "#59636e", "#d1d9e0", "#f3f5f8", "#0072b2", "#d55e00", "#00805f", "#a8457f")
DARK = Theme("dark", "#e6edf3", "#9da7b3", "#3d444d", "#1c222b", "#56b4e9", "#f09138", "#2fc79a", "#e39bc4")


def style(theme: Theme) -> Any:
    """What matplotlib is to know of a theme. Text stays text, so it is small and can be searched."""
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "blackbox_zo",
        "font.size": 11.0,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
        "axes.labelsize": 11.0,
        "xtick.labelsize": 10.0,
        "ytick.labelsize": 10.0,
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.edgecolor": theme.muted,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "grid.color": theme.line,
        "grid.linewidth": 0.7,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11.0,
        "axes.titlelocation": "left",
        "lines.linewidth": 2.0,
        "legend.frameon": False,
        "legend.fontsize": 10.0,
        "figure.constrained_layout.use": True,
    }


def result(name: str) -> Any:
    """A committed result of a benchmark."""
    return json.loads((BENCHMARKS / name).read_text("utf-8"))


def new_figure(height: float, rows: int = 1, columns: int = 1, **more: Any) -> Any:
    """A figure as wide as all others, and its axes.

    Args:
        height: In inches.
        rows: Of axes.
        columns: Of axes.
        **more: For `Figure.subplots`.
    """
    from matplotlib.figure import Figure

    made = Figure((WIDTH, height))
    return made, made.subplots(rows, columns, **more)


def blank(height: float) -> Any:
    """A figure for boxes and arrows, and its axes: x from 0 to 100, y from 0 at the top, in the same unit."""
    made, axes = new_figure(height)
    made.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, 100)
    axes.set_ylim(100 * height / WIDTH, 0)
    return made, axes


def box(axes: Any, theme: Theme, x: float, y: float, w: float, h: float, text: str, **more: Any) -> None:
    """A rounded box with a text in its middle; `edge` is its colour."""
    from matplotlib.patches import FancyBboxPatch

    edge = more.pop("edge", theme.muted)
    shape = f"round,pad=0,rounding_size={min(2.0, h / 3)}"
    axes.add_patch(FancyBboxPatch((x, y), w, h, boxstyle=shape, facecolor=theme.card, edgecolor=edge, linewidth=1.4))
    axes.text(x + w / 2, y + h / 2, text, ha="center", va="center", **more)


def arrow(axes: Any, theme: Theme, start: tuple[float, float], end: tuple[float, float], **more: Any) -> None:
    """An arrow; `color` is its colour."""
    look = {"arrowstyle": "-|>", "color": theme.muted, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0} | more
    axes.annotate("", end, start, arrowprops=look)
