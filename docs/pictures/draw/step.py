"""One step in two dimensions, with its real numbers: directions, points, answers, weights, move."""

from __future__ import annotations

from typing import Any

import blackbox_zo as bz
import numpy as np

from draw._style import Theme, arrow, blank, box

RADIUS, RATE, SEED = 0.5, 0.1, 1


def f(x: Any) -> Any:
    """A bowl whose least value is at (1.2, 0.7)."""
    return 2 * (x[..., 0] - 1.2) ** 2 + 3 * (x[..., 1] - 0.7) ** 2


def step() -> dict[str, Any]:
    """What a `RandomVector` does at x = 0."""
    variable, estimator = bz.Vector(np.zeros(2)), bz.RandomVector(RADIUS, 2, "orthogonal")
    state = estimator.start(variable)
    queries = estimator.sample(state, variable, bz.Key(seed=SEED, step=0))
    points = queries.points()
    answers = f(points)
    _, made = estimator.estimate(state, variable, queries, bz.Values(answers))
    u = queries.directions.rows
    return {"U": u, "C": queries.matrix, "points": points, "answers": answers, "w": made.w, "move": -RATE * made.w @ u}


def pairs(rows: Any) -> str:
    """Points as text."""
    return ", ".join(f"({a:.2f}, {b:.2f})" for a, b in rows + 0.0).replace("-", "−")


def plane(axes: Any, theme: Theme, made: dict[str, Any]) -> None:
    """The plane: contours of f, the points with their answers, and the move."""
    a, b = np.meshgrid(np.linspace(-0.85, 1.55, 121), np.linspace(-0.75, 0.95, 121))
    values = f(np.stack([a, b], axis=-1))
    axes.contour(a, b, values, levels=[0.05, 0.4, 1.2, 2.5, 4.2, 6.5, 9.5], colors=theme.line, linewidths=1.0)
    axes.plot(1.2, 0.7, marker="*", color=theme.green, markersize=13)
    for u in made["U"]:
        for sign in (1, -1):
            axes.plot(*zip((0, 0), sign * RADIUS * u, strict=True), color=theme.blue, linewidth=1.2, linestyle=":")
    axes.plot(*made["points"].T, "o", color=theme.blue, markersize=8)
    for point, answer in zip(made["points"], made["answers"], strict=True):
        aside = 17 * np.array([[0.5, 0.87], [-0.87, 0.5]]) @ point / RADIUS  # outwards, and off the dotted line
        at = {"ha": "center", "va": "center", "textcoords": "offset points"}
        axes.annotate(f"{answer:.2f}", point, aside, color=theme.blue, **at)
    arrow(axes, theme, (0, 0), tuple(made["move"]), color=theme.orange, linewidth=2.5, mutation_scale=18)
    axes.plot(0, 0, "o", color=theme.ink, markersize=6)
    axes.text(0.02, -0.14, "x", weight="bold")
    axes.text(1.2, 0.79, "least f", color=theme.green, ha="center", fontsize=10)
    axes.set_aspect("equal")
    axes.set_axis_off()


def figure(theme: Theme) -> Any:
    """The drawing."""
    made = step()
    figure, axes = blank(7.3)
    plane(figure.add_axes((0.02, 0.5, 0.96, 0.48)), theme, made)
    rows = [
        ("U", f"k = 2 directions, drawn from the seed\n{pairs(made['U'])}", theme.blue),
        ("C", f"how far along each, ±{RADIUS}: n = 4 points x + C U", theme.blue),
        ("f", "the oracle answers for each point\n" + ", ".join(f"{v:.2f}" for v in made["answers"]), theme.blue),
        (
            "w",
            "k = 2 weights, from the differences of answers\n"
            + ", ".join(f"{v:.2f}" for v in made["w"]).replace("-", "−"),
            theme.orange,
        ),
        ("x", f"x moves by −{RATE} w U, to {pairs(made['move'][None])}", theme.orange),
    ]
    y = 75.0
    for i, (symbol, text, colour) in enumerate(rows):
        high = 12.5 if "\n" in text else 8.5
        box(axes, theme, 2, y, 9, high, symbol, weight="bold", color=colour, edge=colour)
        box(axes, theme, 13, y, 85, high, text, edge=theme.line, linespacing=1.4)
        if i < len(rows) - 1:
            arrow(axes, theme, (6.5, y + high), (6.5, y + high + 2.8), mutation_scale=12)
        y += high + 2.8
    return figure
