"""The learning curve of a training, on axes that the caller lays out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from oracles.cli._history import Floats
from oracles.cli._plots import BAD, EARLY, LATE, Theme, frame, ring
from oracles.cli._rl_history import Career
from oracles.cli._scale import fixed, number, round_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["learning"]

_RASTER = 1200
"""More dots than this are drawn as pixels."""


def learning(ax: Axes, career: Career, theme: Theme) -> None:
    """Mean and highest return of each step's candidates, and evaluated returns, against steps of the environment."""
    frame(ax, theme)
    x, good = career.played, np.isfinite(career.mean)
    done = [e for e in career.evaluations.done.values() if np.isfinite(e.mean)]
    at, mean, stderr = (np.array([float(getattr(e, n)) for e in done]) for n in ("steps", "mean", "stderr"))
    low, high = _limits(np.concatenate([career.mean[good], mean]), np.concatenate([career.highest[good], mean]))
    ax.set_ylim(low, high)
    fixed(ax.yaxis, round_ticks(low, high, 5))
    many = len(x) > _RASTER
    size = 7 if many else 14
    ax.scatter(x[good], career.mean[good], s=size, c=EARLY, alpha=0.55, linewidths=0, zorder=3, rasterized=many)
    if good.any():
        ax.step(x, career.best_so_far, where="post", color=theme.muted, linewidth=1.2, linestyle=(0, (4, 2)), zorder=3)
    if career.barren.any():
        ax.scatter(
            x[career.barren],
            np.full(np.count_nonzero(career.barren), 0.97),
            transform=ax.get_xaxis_transform(),
            s=22,
            marker="x",
            c=BAD,
            linewidths=1.3,
        )
    if len(done):
        spread = np.where(np.isfinite(stderr), stderr, 0.0)
        ax.fill_between(at, mean - spread, mean + spread, color=LATE, alpha=0.18, linewidth=0, zorder=2)
        marks = "o" if len(done) <= 60 else ""
        ax.plot(at, mean, color=LATE, linewidth=2.0, marker=marks, markersize=4.5, zorder=5, solid_capstyle="round")
        best = career.evaluations.best
        if best is not None:
            ring(ax, best.steps, best.mean, theme)
    last = max(float(x[-1]) if len(x) else 0.0, float(at.max()) if len(at) else 0.0, 1.0)
    ax.set_xlim(-0.02 * last, 1.02 * last)
    ax.set_xticks(round_ticks(0, last, 6, whole=True))
    ax.xaxis.set_major_formatter(lambda v, _: _thousands(v))
    ax.set_xlabel("steps of the environment", color=theme.muted)
    ax.set_ylabel("return of an episode", color=theme.muted)


def _limits(usual: Floats, highest: Floats) -> tuple[float, float]:
    """What the axis shows: all but means that are far below all the rest."""
    if not usual.size:
        return 0.0, 1.0
    high, low = float(max(usual.max(), highest.max())), float(usual.min())
    few, middle = np.quantile(usual, [0.02, 0.5])
    if usual.size >= 50 and low < few - 2 * (middle - few) - 1e-12:
        low = float(few - (middle - few))
    room = 0.06 * ((high - low) or abs(high) or 1.0)
    return low - room, high + room


def _thousands(value: float) -> str:
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= unit:
            return number(value / unit) + name
    return number(value)
