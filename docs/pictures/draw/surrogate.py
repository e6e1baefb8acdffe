"""Queries to a gap on a quadratic of 300 dimensions: the surrogate's, and those of finite differences."""

from __future__ import annotations

import math
from typing import Any

from draw._style import Theme, new_figure, result

DATA = ("surrogate.json",)
CASE = "mean of the clients"
GAPS = (0.1, 0.01, 0.001)
SIDES = (
    "Surrogate(0.1, 20, history=300)",
    "RandomVector(0.01, 20, orthogonal, forward)",
    "RandomVector(0.01, 10, gaussian, central)",
)


def queries() -> dict[str, list[float]]:
    """Queries to each gap, by method; infinite where it is not reached in 3,000."""
    return {side: result(DATA[0])[CASE][side]["best rule"] for side in SIDES}


def figure(theme: Theme) -> Any:
    """The drawing."""
    made, axes = new_figure(3.4)
    look = {
        SIDES[0]: (theme.blue, "Surrogate"),
        SIDES[1]: (theme.orange, "RandomVector, orthogonal, forward"),
        SIDES[2]: (theme.pink, "RandomVector, Gaussian, central"),
    }
    for i, (side, counts) in enumerate(queries().items()):
        colour, name = look[side]
        for j, count in enumerate(counts):
            y = j + 0.27 * (i - 1)
            axes.barh(y, min(count, 3000), 0.25, color=colour, label=name if j == 0 else None)
            text = f"{count:,.0f}" if math.isfinite(count) else "not in 3,000"
            if count > 2500:  # no room behind the bar
                on_bar = "#ffffff" if theme.name == "light" else "#000000"
                axes.text(min(count, 3000) - 40, y, text, va="center", ha="right", fontsize=10, color=on_bar)
            else:
                axes.text(count + 40, y, text, va="center", fontsize=10)
    axes.set_yticks(range(3), [f"{gap:g}" for gap in GAPS])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 3050)
    axes.set_xlabel("queries")
    axes.set_ylabel("gap left, share of the first")
    made.legend(loc="outside upper left")
    return made
