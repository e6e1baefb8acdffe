"""The paths of five rules through the same noisy valley, from the same estimates' seeds."""

from __future__ import annotations

from typing import Any

import blackbox_zo as bz
import numpy as np

from draw._style import Theme, new_figure

START = np.array([-2.0, 1.3])
STEPS = 60
RULES = (
    (bz.SGD(0.03), "SGD(0.03)"),
    (bz.Momentum(0.01), "Momentum(0.01)"),
    (bz.Adam(0.1), "Adam(0.1)"),
    (bz.SignSGD(0.05), "SignSGD(0.05)"),
    (bz.ClipUp(0.05), "ClipUp(0.05)"),
)


def valley(x: Any) -> Any:
    """Thirty times as steep across as along; least at 0."""
    return 0.5 * (x[..., 0] ** 2 + 30 * x[..., 1] ** 2)


def path(rule: bz.Rule) -> Any:
    """Where x is after each step, shape (STEPS + 1, 2)."""
    search = bz.Search(START, bz.RandomVector(1e-3, 2), rule, seed=1)
    places = [START]
    for _ in range(STEPS):
        p = search.ask()
        search.tell(p, bz.Values(valley(p.points)))
        places.append(np.array(search.x))
    return np.array(places)


def figure(theme: Theme) -> Any:
    """The drawing."""
    made, grid = new_figure(7.2, rows=5, sharex=True)
    a, b = np.meshgrid(np.linspace(-2.9, 1.2, 61), np.linspace(-1.6, 1.6, 61))
    values = valley(np.stack([a, b], axis=-1))
    for axes, (rule, name) in zip(grid, RULES, strict=True):
        axes.contour(a, b, values, levels=[0.05, 0.5, 2, 6, 14, 26], colors=theme.line, linewidths=1.0)
        axes.plot(*path(rule).T, "o-", color=theme.blue, markersize=2.5, linewidth=1.1)
        axes.plot(*START, "s", color=theme.orange, markersize=7)
        axes.plot(0, 0, "*", color=theme.green, markersize=13, markeredgecolor=theme.ink, markeredgewidth=0.6)
        axes.set_title(name, fontsize=10)
        axes.set_xlim(-2.9, 1.2)
        axes.set_ylim(-1.6, 1.6)
        axes.set_yticks([])
        axes.grid(visible=False)
    grid[-1].set_xlabel("x₁")
    return made
