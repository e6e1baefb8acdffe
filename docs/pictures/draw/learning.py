"""A half-cheetah learns to run: return against steps, the median of five seeds between the least and the greatest."""

from __future__ import annotations

from typing import Any

import numpy as np

from draw._style import Theme, new_figure, result

DATA = ("rl_learning.json",)
EVERY = 50_000  # steps of the environment between two evaluations
SIDES = ("ours (auto)", "ARS V2-t, defaults of its code", "ARS V2-t")


def curves() -> dict[str, Any]:
    """Returns by side, shape (5 seeds, 20 evaluations)."""
    return {side: np.array(result(DATA[0])["HalfCheetah-v5"][side]["curves"]) for side in SIDES}


def figure(theme: Theme) -> Any:
    """The drawing."""
    made, axes = new_figure(3.9)
    look = {
        SIDES[0]: (theme.blue, "-", "auto"),
        SIDES[1]: (theme.orange, "--", "ARS, defaults of its code"),
        SIDES[2]: (theme.pink, ":", "ARS as published"),
    }
    for side, returns in curves().items():
        colour, line, name = look[side]
        millions = EVERY * np.arange(1, returns.shape[1] + 1) / 1e6
        axes.fill_between(millions, returns.min(axis=0), returns.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axes.plot(millions, np.median(returns, axis=0), line, color=colour, label=name)
    made.legend(loc="outside upper left")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=-500)
    axes.set_xlabel("steps of HalfCheetah-v5, millions")
    axes.set_ylabel("return of an episode")
    return made
