"""The pictures of a report, drawn by matplotlib on axes that the caller lays out."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from oracles.cli._history import Axis, Floats, History
from oracles.cli._scale import Scale, fixed, log_ticks, number, round_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["INK", "PAPER", "Theme", "convergence", "drawing", "frame", "parameter", "ring", "svg"]

EARLY, LATE, BAD = "#d99a2b", "#3b74d8", "#d3455b"
"""Colours of the first and the last query, and of a failure; each stands out on white and on near-black."""

_RASTER = 1200
"""More dots than this are drawn as pixels: an SVG of each one would be slow on a phone."""


@dataclass(frozen=True)
class Theme:
    """Colours of everything that is not a dot."""

    ink: str
    muted: str
    grid: str
    surface: str


PAPER = Theme("#1c2430", "#667085", "#e3e7ee", "#ffffff")
INK = Theme("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04")
"""Stands for the page's own colours, which follow the reader's light or dark setting; see `svg`."""

_VARIABLES = {INK.ink: "--ink", INK.muted: "--muted", INK.grid: "--grid", INK.surface: "--card"}


@contextmanager
def drawing() -> Iterator[None]:
    """The settings for drawing: text stays text, and no character of a name is taken for a formula."""
    import matplotlib

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "blackbox-zo",
        "text.parse_math": False,
        "axes.unicode_minus": False,
        "font.size": 10,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a character that the font lacks is drawn as a box
        yield


def convergence(ax: Axes, history: History, theme: Theme) -> None:
    """Each query's value as a dot, the best so far as a line, failures as crosses along the top."""
    frame(ax, theme)
    rows = np.flatnonzero(~np.isnan(history.values))
    scale = Scale.of(history.values, history.maximize)
    scale.apply(ax.yaxis)
    _dots(ax, history.ids[rows], history.values[rows], rows, history.n, scale)
    _crosses(ax, history.ids[history.failed])
    if rows.size:
        best = history.best_so_far
        ax.step(history.ids, best, where="post", color=theme.ink, linewidth=1.8, zorder=4, solid_capstyle="round")
        top = history.order[0]
        ring(ax, history.ids[top], history.values[top], theme)
    last = int(history.ids[-1]) if history.n else 1
    ax.set_xlim(-0.02 * max(last, 1) - 0.5, last * 1.02 + 0.5)
    ax.set_xticks(round_ticks(0, last, 6, whole=True))
    ax.xaxis.set_major_formatter(lambda v, _: number(v))
    ax.set_xlabel("query", color=theme.muted)
    ax.set_ylabel("value" + (" (higher is better)" if history.maximize else ""), color=theme.muted)
    if scale.beyond:
        text = f"{scale.beyond} worse {'value lies' if scale.beyond == 1 else 'values lie'} beyond the edge (triangles)"
        y, side = (0.02, "bottom") if history.maximize else (0.94, "top")
        ax.text(0.995, y, text, transform=ax.transAxes, ha="right", va=side, color=theme.muted, fontsize=8.5)


def parameter(ax: Axes, history: History, axis: Axis, theme: Theme) -> None:
    """A parameter against the value; in a run of rankings, against the number of the query."""
    frame(ax, theme)
    ax.set_title(_short(axis.name, 34), color=theme.ink, fontsize=10.5, loc="left", fontweight="bold", pad=8)
    known = ~np.isnan(axis.values)
    if history.ranked:
        rows = np.flatnonzero(known)
        first = rows[history.place[rows] == 0]
        _dots(ax, history.ids[rows], axis.values[rows], rows, history.n, None, alpha=0.3)
        _dots(ax, history.ids[first], axis.values[first], first, history.n, None)
        ax.set_xlabel("query; the best of each step stands out", color=theme.muted, fontsize=8.5)
        _parameter_ticks(ax.yaxis, axis, vertical=True)
        ax.set_xticks(round_ticks(0, int(history.ids[-1]), 4, whole=True))
        ax.xaxis.set_major_formatter(lambda v, _: number(v))
        return
    rows = np.flatnonzero(known & ~np.isnan(history.values))
    scale = Scale.of(history.values, history.maximize)
    scale.apply(ax.yaxis)
    x = axis.values + (_jitter(len(axis.values)) if axis.options else 0.0)
    _dots(ax, x[rows], history.values[rows], rows, history.n, scale)
    failed = history.failed[known[history.failed]]
    _crosses(ax, x[failed])
    if rows.size:
        top = next(row for row in history.order if known[row])
        ring(ax, x[top], history.values[top], theme)
    _parameter_ticks(ax.xaxis, axis, vertical=False)


def svg(figure: Any, label: str) -> str:
    """A figure as SVG text to stand inside HTML, in the page's font and colours."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"font: ((?:\w+ )*)([\d.]+px) [^;\"]+", r"font: \1\2 var(--font)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(f": {colour}", f": var({variable})")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _dots(
    ax: Axes, x: Floats | Any, y: Floats, rows: Any, n: int, scale: Scale | None, alpha: float | None = None
) -> None:
    """Dots coloured by time; those beyond the scale as triangles at its edge."""
    from matplotlib.colors import LinearSegmentedColormap

    if not len(rows):
        return
    many = len(rows) > _RASTER
    look: dict[str, Any] = {
        "c": rows / max(n - 1, 1),
        "cmap": LinearSegmentedColormap.from_list("time", [EARLY, LATE]),
        "vmin": 0.0,
        "vmax": 1.0,
        "alpha": alpha or (0.35 if many else 0.8),
        "linewidths": 0,
        "zorder": 3,
        "rasterized": many,
    }
    size = 9 if many else 26 if len(rows) <= 300 else 14
    if scale is None or scale.cut is None:
        ax.scatter(x, y, s=size, **look)
        return
    inside = (y >= scale.low) & (y <= scale.high)
    colours = look.pop("c")
    ax.scatter(x[inside], y[inside], s=size, c=colours[inside], **look)
    edge = ax.get_ylim()[0 if scale.worse < 0 else 1]
    marker = "v" if scale.worse < 0 else "^"
    ax.scatter(
        x[~inside], np.full((~inside).sum(), edge), s=size, marker=marker, c=colours[~inside], clip_on=False, **look
    )


def _crosses(ax: Axes, x: Floats | Any) -> None:
    """Failures, which have no value, above the rest."""
    if len(x):
        many = len(x) > _RASTER
        y = np.full(len(x), 0.97)
        ax.scatter(
            x, y, transform=ax.get_xaxis_transform(), s=22, marker="x", c=BAD, linewidths=1.3, zorder=5, rasterized=many
        )


def ring(ax: Axes, x: float, y: float, theme: Theme) -> None:
    """The best query."""
    ax.plot(
        [x],
        [y],
        marker="o",
        markersize=9,
        markerfacecolor="none",
        markeredgecolor=theme.ink,
        markeredgewidth=1.6,
        zorder=6,
    )


def frame(ax: Axes, theme: Theme) -> None:
    """Axes without a box: a line below, and a grid of heights."""
    ax.set_facecolor("none")
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(theme.muted)
    ax.spines["bottom"].set_linewidth(0.8)
    ax.grid(True, axis="y", color=theme.grid, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(colors=theme.muted, labelcolor=theme.muted, length=0, pad=5)


def _parameter_ticks(axis: Any, parameter: Axis, *, vertical: bool) -> None:
    limits, scale = (
        (axis.axes.set_ylim, axis.axes.set_yscale) if vertical else (axis.axes.set_xlim, axis.axes.set_xscale)
    )
    if parameter.options:
        n = len(parameter.options)
        limits(-0.5, n - 0.5)
        step = max(1, math.ceil(n / 8))
        shown = list(range(0, n, step))
        labels = [_short(parameter.options[i], 14) for i in shown]
        axis.set_ticks(shown, labels)
        if not vertical and sum(map(len, labels)) > 30:
            for text in axis.get_ticklabels():
                text.set(rotation=30, ha="right", rotation_mode="anchor")
        return
    known = parameter.values[~np.isnan(parameter.values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if parameter.log:
        span = math.log(high / low) or 0.5
        scale("log")
        low, high = low * math.exp(-0.05 * span), high * math.exp(0.05 * span)
        limits(low, high)
        fixed(axis, log_ticks(low, high, 4))
    else:
        span = (high - low) or abs(high) * 0.1 or 1.0
        low, high = low - 0.05 * span, high + 0.05 * span
        limits(low, high)
        fixed(axis, round_ticks(low, high, 4))


def _jitter(n: int) -> Floats:
    """Small fixed offsets that keep the dots of an option apart."""
    return np.asarray((np.arange(n) * 0.6180339887498949 % 1.0 - 0.5) * 0.5, dtype=np.float64)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
