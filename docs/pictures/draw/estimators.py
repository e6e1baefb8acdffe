"""Where each estimator asks in its first 150 queries, in the same valley."""

from __future__ import annotations

from typing import Any

import blackbox_zo as bz
import numpy as np

from draw._style import Theme, new_figure

BUDGET = 150
START = np.array([-1.5, 0.9])
ESTIMATORS = (
    bz.RandomVector(0.3, 1),
    bz.Coordinatewise(0.3),
    bz.AugmentedRandomSearch(0.3, 2),
    bz.PGPE(0.3, 2),
    bz.RankBased(0.3, 4),
    bz.RankSGD(0.3, 4),
    bz.PreferenceGP(0.5, 5),
    bz.Surrogate(0.3, 2, history=40),
    bz.EvolutionStrategy(0.5),
    bz.ConsensusBased(1.0, 10, alpha=10.0),
)


def valley(x: Any) -> Any:
    """Ten times as steep across as along, and slanted; least at 0."""
    along, across = 0.9 * x[..., 0] - 0.44 * x[..., 1], 0.44 * x[..., 0] + 0.9 * x[..., 1]
    return along**2 + 10 * across**2


def asked(estimator: bz.Estimator) -> Any:
    """The points asked about, shape (BUDGET, 2)."""
    points = []

    def counted(x: Any) -> float:
        points.append(x.copy())
        return float(valley(x))

    bz.minimize(counted, START, estimator, budget=BUDGET)
    return np.array(points)


def figure(theme: Theme) -> Any:
    """The drawing."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("time", [theme.orange, theme.blue])
    made, grid = new_figure(9.0, rows=5, columns=2, sharex=True, sharey=True)
    a, b = np.meshgrid(np.linspace(-2.6, 1.6, 57), np.linspace(-1.1, 1.9, 41))
    values = valley(np.stack([a, b], axis=-1))
    for axes, estimator in zip(grid.flat, ESTIMATORS, strict=True):
        axes.contour(a, b, values, levels=[0.1, 0.8, 3, 8, 16], colors=theme.line, linewidths=1.0)
        for i, part in enumerate(np.split(asked(estimator), BUDGET // 10)):  # few shades, a small file
            axes.plot(*part.T, "o", color=shades(10 * i / BUDGET), markersize=3, markeredgewidth=0)
        axes.plot(*START, "s", color=theme.orange, markersize=6)
        axes.plot(0, 0, "*", color=theme.green, markersize=11, markeredgecolor=theme.ink, markeredgewidth=0.6)
        axes.set_title(type(estimator).__name__, fontsize=10)
        axes.set_aspect("equal")
        axes.grid(visible=False)
    grid[0, 0].set_xlim(-2.6, 1.6)
    grid[0, 0].set_ylim(-1.1, 1.9)
    for axes in grid[-1]:
        axes.set_xlabel("x₁")
    for axes in grid[:, 0]:
        axes.set_ylabel("x₂")
    return made
