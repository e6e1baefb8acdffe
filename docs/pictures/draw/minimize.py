"""`minimize` on Rosenbrock's function in two dimensions: every point asked about, and the best value so far."""

from __future__ import annotations

from typing import Any

import blackbox_zo as bz
import numpy as np

from draw._style import Theme, new_figure

START, BUDGET = [-1.0, 2.0], 300


def f(x: Any) -> Any:
    """Rosenbrock's function, least at (1, 1)."""
    return (x[0] - 1) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def run() -> tuple[Any, Any]:
    """Points asked about, shape (BUDGET, 2), and their values, shape (BUDGET,)."""
    points = []

    def counted(x: Any) -> float:
        points.append(x.copy())
        return float(f(x))

    bz.minimize(counted, START, budget=BUDGET)
    return np.array(points), np.array([f(x) for x in points])


def figure(theme: Theme) -> Any:
    """The drawing."""
    from matplotlib.colors import LinearSegmentedColormap

    points, values = run()
    made, (plane, curve) = new_figure(6.6, rows=2, height_ratios=[3, 2])
    a, b = np.meshgrid(np.linspace(-2, 2, 161), np.linspace(-1, 3, 161))
    plane.contour(
        a, b, np.log10(f([a, b]) + 1e-9), levels=[-1, 0, 1, 2, 3], colors=theme.muted, linewidths=0.7, alpha=0.6
    )
    shades = LinearSegmentedColormap.from_list("time", [theme.orange, theme.blue])
    dots = plane.scatter(*points.T, c=np.arange(1, BUDGET + 1), cmap=shades, s=16, linewidths=0)
    plane.plot(*START, "s", color=theme.orange, markersize=8)
    plane.plot(1, 1, "*", color=theme.green, markersize=14, markeredgecolor=theme.ink, markeredgewidth=0.6)
    plane.set_xlim(-2, 2)
    plane.set_ylim(-1, 3)
    plane.set_xlabel("x₁")
    plane.set_ylabel("x₂")
    plane.grid(visible=False)
    made.colorbar(dots, ax=plane, label="query").outline.set_visible(False)
    number = np.arange(1, BUDGET + 1)
    curve.semilogy(number, values, "o", color=theme.muted, markersize=2.5, linewidth=0, label="asked")
    curve.semilogy(number, np.minimum.accumulate(values), color=theme.blue, drawstyle="steps-post", label="best so far")
    curve.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    curve.set_xlabel("queries")
    curve.set_ylabel("f")
    curve.set_xlim(0, BUDGET)
    curve.legend(loc="lower left")
    return made
