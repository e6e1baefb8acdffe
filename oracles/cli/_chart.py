"""Charts of a report, drawn by matplotlib on axes that the caller lays out."""

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

from oracles.cli._scale import Scale, fixed, log_ticks, round_ticks
from oracles.page import Chart, Layer
from oracles.words import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["EARLY", "INK", "LATE", "PAPER", "Theme", "colour_of", "draw", "drawing", "frame", "svg"]

EARLY, LATE, BAD = "#d99a2b", "#3b74d8", "#d3455b"
"""Colours of the first and last query, and of a failure; each is visible on white and on near-black."""

_RASTER = 1200
"""Draw more dots than this as pixels: as SVG elements they would be slow on a phone."""


@dataclass(frozen=True)
class Theme:
    """Colours of everything that is not a dot."""

    ink: str
    muted: str
    grid: str
    surface: str


PAPER = Theme("#1c2430", "#667085", "#e3e7ee", "#ffffff")
INK = Theme("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04")
"""The page's own colours, which follow the reader's light or dark setting; see `svg`."""

_VARIABLES = {INK.ink: "--ink", INK.muted: "--muted", INK.grid: "--grid", INK.surface: "--card"}


@contextmanager
def drawing() -> Iterator[None]:
    """Settings for drawing: text stays text, and names are never parsed as formulas."""
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


def draw(ax: Axes, chart: Chart, theme: Theme, key: bool = False) -> None:
    """Draw a chart; `key` adds a legend of its layers."""
    frame(ax, theme)
    if chart.title:
        ax.set_title(_short(chart.title, 34), color=theme.ink, fontsize=10.5, loc="left", fontweight="bold", pad=8)
    drawn = [layer for layer in chart.layers if len(layer.x)]
    x = np.concatenate([layer.x for layer in drawn]) if drawn else np.empty(0)
    y = np.concatenate([np.empty(0), *(layer.y for layer in drawn if layer.look != "crosses")])
    dots = np.concatenate([np.empty(0), *(layer.y for layer in drawn if layer.look == "dots")])
    whole = [layer for layer in drawn if layer.look == "line" or not dots.size]
    lines = np.concatenate([np.empty(0), *(layer.y + side * _spread(layer) for layer in whole for side in (-1, 1))])
    scale = None if chart.swapped else Scale.of(dots, chart.maximize, chart.linear, whole=lines)
    if scale is None:
        _ticks(ax.yaxis, y, chart)
        _ticks(ax.xaxis, x, Chart("", "", ()))
    else:
        scale.apply(ax.yaxis)
        _ticks(ax.xaxis, x, chart)
    for layer in drawn:
        _layer(ax, layer, theme, scale)
    if key and any(layer.label for layer in drawn):
        _key(ax, [layer for layer in drawn if layer.label], theme)
    small = 8.5 if chart.title else 10
    ax.set_xlabel(chart.x, color=theme.muted, fontsize=small)
    ax.set_ylabel(chart.y, color=theme.muted, fontsize=small)
    if scale is not None and scale.beyond and not chart.title:
        lies = "value lies" if scale.beyond == 1 else "values lie"
        height, side = (0.02, "bottom") if chart.maximize else (0.94, "top")
        text = f"{scale.beyond} worse {lies} beyond the edge"
        ax.text(0.995, height, text, transform=ax.transAxes, ha="right", va=side, color=theme.muted, fontsize=8.5)


def _spread(layer: Layer) -> Any:
    return layer.spread if len(layer.spread) else 0.0


def _layer(ax: Axes, layer: Layer, theme: Theme, scale: Scale | None) -> None:
    colour = colour_of(layer, theme)
    if layer.look == "crosses":
        y = np.full(len(layer.x), 0.97)
        ax.scatter(
            layer.x, y, transform=ax.get_xaxis_transform(), s=22, marker="x", c=BAD, linewidths=1.3, zorder=5,
            rasterized=len(layer.x) > _RASTER,
        )  # fmt: skip
    elif layer.look == "dots":
        _dots(ax, layer, colour, scale)
    elif layer.look == "ring":
        ax.plot(
            layer.x, layer.y, marker="o", markersize=9, markerfacecolor="none", markeredgecolor=colour,
            markeredgewidth=1.6, linestyle="none", zorder=6,
        )  # fmt: skip
    elif layer.look == "line":
        if len(layer.spread):
            ax.fill_between(
                layer.x, layer.y - layer.spread, layer.y + layer.spread, color=colour, alpha=0.18, linewidth=0, zorder=2
            )
        marks = "o" if len(layer.x) <= 60 and layer.colour != "ink" else ""
        ax.plot(
            layer.x, layer.y, color=colour, linewidth=1.9, marker=marks, markersize=4.5, zorder=5,
            solid_capstyle="round",
        )  # fmt: skip
    else:
        dashed = layer.look == "dashed"
        ax.step(
            layer.x, layer.y, where="post", color=colour, linewidth=1.2 if dashed else 1.8,
            linestyle=(0, (4, 2)) if dashed else "-", zorder=3 if dashed else 4, solid_capstyle="round",
        )  # fmt: skip


def _key(ax: Axes, layers: list[Layer], theme: Theme) -> None:
    from matplotlib.lines import Line2D

    marks = {"dots": "o", "ring": "o", "crosses": "x"}
    entries = [
        Line2D(
            [], [], color=colour_of(layer, theme), marker=marks.get(layer.look, ""),
            markerfacecolor="none" if layer.look == "ring" else None,
            linestyle="none" if layer.look in marks else "--" if layer.look == "dashed" else "-", label=layer.label,
        )
        for layer in layers
    ]  # fmt: skip
    ax.legend(
        handles=entries, loc="lower left", bbox_to_anchor=(0, 1), ncols=6, frameon=False, fontsize=9,
        labelcolor=theme.muted, borderaxespad=0,
    )  # fmt: skip


def colour_of(layer: Layer, theme: Theme) -> str:
    """The colour of a layer; "time" is the colour at its end."""
    known = {"early": EARLY, "late": LATE, "time": LATE, "bad": BAD, "ink": theme.ink, "muted": theme.muted}
    return known.get(layer.colour, layer.colour)  # a comparison gives its own colours


def _dots(ax: Axes, layer: Layer, colour: str, scale: Scale | None) -> None:
    """Draw dots, and triangles at the edge for points beyond the scale."""
    from matplotlib.colors import LinearSegmentedColormap

    n = len(layer.x)
    many, quiet = n > _RASTER, layer.colour != "time"
    look: dict[str, Any] = {
        "alpha": (0.25 if many else 0.45) if quiet else (0.35 if many else 0.8),
        "linewidths": 0,
        "zorder": 3,
        "rasterized": many,
    }
    size, good = 9 if many else 26 if n <= 300 and not quiet else 14, np.isfinite(layer.y)
    tint: Any = np.arange(n) / max(n - 1, 1)
    if quiet:
        tint = np.full(n, colour)
    else:
        look |= {"cmap": LinearSegmentedColormap.from_list("time", [EARLY, LATE]), "vmin": 0.0, "vmax": 1.0}
    inside = good
    if scale is not None and scale.cut is not None:
        inside = good & (layer.y >= scale.low) & (layer.y <= scale.high)
        beyond = good & ~inside
        edge, marker = ax.get_ylim()[0 if scale.worse < 0 else 1], "v" if scale.worse < 0 else "^"
        where = np.full(int(beyond.sum()), edge)
        ax.scatter(layer.x[beyond], where, s=size, marker=marker, c=tint[beyond], clip_on=False, **look)
    ax.scatter(layer.x[inside], layer.y[inside], s=size, c=tint[inside], **look)


def _ticks(axis: Any, values: Any, chart: Chart) -> None:
    """Set the limits of an axis, and its ticks or options."""
    vertical = axis.axis_name == "y"
    limits = axis.axes.set_ylim if vertical else axis.axes.set_xlim
    if chart.options:
        n = len(chart.options)
        limits(-0.5, n - 0.5)
        step = max(1, math.ceil(n / 8))
        shown = list(range(0, n, step))
        labels = [_short(chart.options[i], 14) for i in shown]
        axis.set_ticks(shown, labels)
        if not vertical and sum(map(len, labels)) > 30:
            for text in axis.get_ticklabels():
                text.set(rotation=30, ha="right", rotation_mode="anchor")
        return
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if chart.log_x:
        span = math.log(high / low) or 0.5
        (axis.axes.set_yscale if vertical else axis.axes.set_xscale)("log")
        low, high = low * math.exp(-0.05 * span), high * math.exp(0.05 * span)
        limits(low, high)
        fixed(axis, log_ticks(low, high, 4))
        return
    counted = bool(known.size) and low >= 0 and not chart.title and bool((known == np.round(known)).all())
    low = 0.0 if counted else low
    span = (high - low) or abs(high) * 0.1 or 1.0
    limits(low - 0.02 * span if counted else low - 0.05 * span, high + (0.02 if counted else 0.05) * span)
    axis.set_ticks(round_ticks(low, high, 6 if counted else 4, whole=counted))
    axis.set_major_formatter(lambda v, _: _thousands(v) if counted else figure(v))


def svg(drawn: Any, label: str) -> str:
    """A figure as SVG text to embed in HTML, in the page's font and colours."""
    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"font: ((?:\w+ )*)([\d.]+px) [^;\"]+", r"font: \1\2 var(--font)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(f": {colour}", f": var({variable})")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def frame(ax: Axes, theme: Theme) -> None:
    """Axes without a box: a line below, and horizontal grid lines."""
    ax.set_facecolor("none")
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(theme.muted)
    ax.spines["bottom"].set_linewidth(0.8)
    ax.grid(True, axis="y", color=theme.grid, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(colors=theme.muted, labelcolor=theme.muted, length=0, pad=5)


def _thousands(value: float) -> str:
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= unit:
            return figure(value / (unit if unit > 1e4 else 1e3)) + name
    return figure(value)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
