"""The curves of a fine-tuning, on axes that the caller lays out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from oracles.cli._finetune_history import Tuning
from oracles.cli._history import Floats
from oracles.cli._plots import BAD, LATE, Theme, frame, ring
from oracles.cli._scale import Scale, fixed, number, round_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FEWEST", "running_median", "training", "validation"]

FEWEST = 5
"""Fewer losses than this have no median drawn."""

_RASTER, _POINTS = 1200, 400
"""More dots than this are drawn as pixels; most points of a running median."""


def training(ax: Axes, tuning: Tuning, theme: Theme) -> None:
    """The mean loss of each step as a dot, a running median as a line, steps without a loss as crosses on top."""
    frame(ax, theme)
    steps = np.arange(1, tuning.steps + 1, dtype=np.float64)
    good = np.isfinite(tuning.losses)
    scale = Scale.of(np.where(good, tuning.losses, np.nan), False)
    scale.apply(ax.yaxis)
    inside = good & (tuning.losses <= scale.high)
    many = tuning.steps > _RASTER
    ax.scatter(
        steps[inside],
        tuning.losses[inside],
        s=8 if many else 16,
        c=LATE,
        alpha=0.25 if many else 0.45,
        linewidths=0,
        zorder=3,
        rasterized=many,
    )
    if good.sum() >= FEWEST:
        x, y = running_median(steps[good], tuning.losses[good])
        ax.plot(x, y, color=theme.ink, linewidth=1.8, zorder=4, solid_capstyle="round")
    if not good.all():
        x = steps[~good]
        ax.scatter(
            x, np.full(len(x), 0.97), transform=ax.get_xaxis_transform(), s=22, marker="x", c=BAD, linewidths=1.3
        )
    _steps(ax, tuning.steps, theme)
    ax.set_ylabel(tuning.loss_name, color=theme.muted)
    if scale.beyond:
        text = f"{scale.beyond} higher {'loss lies' if scale.beyond == 1 else 'losses lie'} beyond the edge"
        ax.text(0.995, 0.94, text, transform=ax.transAxes, ha="right", va="top", color=theme.muted, fontsize=8.5)


def validation(ax: Axes, tuning: Tuning, name: str, theme: Theme) -> None:
    """One measure after each validation; the best one has a ring."""
    frame(ax, theme)
    measured = tuning.validations.measured
    steps = np.array(sorted(measured), dtype=np.float64)
    values = np.array([measured[int(step)].get(name, np.nan) for step in steps])
    per_cent = name != "loss"
    values = 100 * values if per_cent else values
    ax.set_title(f"{name}, %" if per_cent else name, color=theme.ink, fontsize=10.5, loc="left", fontweight="bold")
    ax.plot(steps, values, color=LATE, linewidth=1.8, marker="o", markersize=5, zorder=3, clip_on=False)
    best = tuning.validations.best(name)
    if best >= 0:
        y = values[np.searchsorted(steps, best)]
        ring(ax, best, y, theme)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    room = 0.12 * ((high - low) or abs(high) or 1.0)
    ax.set_ylim(low - room, high + room)
    fixed(ax.yaxis, round_ticks(low - room, high + room, 4))
    _steps(ax, max(tuning.steps, int(steps[-1])), theme, 4)


def running_median(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The median of y over windows of a twentieth of the points, at least five, at up to 400 places."""
    half = max(2, len(y) // 40)
    centres = np.unique(np.linspace(0, len(y) - 1, min(len(y), _POINTS)).astype(int))
    medians = [float(np.median(y[max(0, c - half) : c + half + 1])) for c in centres]
    return x[centres], np.array(medians)


def _steps(ax: Axes, last: int, theme: Theme, most: int = 6) -> None:
    ax.set_xlim(-0.02 * max(last, 1), 1.02 * max(last, 1))
    ax.set_xticks(round_ticks(0, max(last, 1), most, whole=True))
    ax.xaxis.set_major_formatter(lambda v, _: number(v))
    ax.set_xlabel("step", color=theme.muted)
