"""Shares of the targets on COCO's functions by queries: `minimize`, and the best of its peers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oracles.bench.shares import Shares
from oracles.bench.store import load

from draw._style import Theme, new_figure

DATA = ("bbob.json",)
ROOT = Path(__file__).resolve().parents[3]
D = 10
LOOK = {
    "ours": ("blue", "minimize, no method named"),
    "slsqp": ("orange", "SLSQP, restarted"),
    "cma": ("pink", "CMA-ES (pycma), BIPOP restarts"),
    "bfgs": ("green", "BFGS, restarted"),
}
QUERIES = [round(10 * 10 ** (i / 20)) for i in range(0, 41)]
"""A dimension."""


def shares() -> dict[str, list[float]]:
    """By solver, at each number of queries."""
    found = Shares(load(ROOT / "benchmarks" / DATA[0]), D)
    return {solver: [found.share(solver, n) for n in QUERIES] for solver in LOOK}


def figure(theme: Theme) -> Any:
    """The drawing."""
    made, axes = new_figure(3.6)
    for solver, values in shares().items():
        colour, name = LOOK[solver]
        width = 2.6 if solver == "ours" else 1.6
        axes.plot(QUERIES, values, color=getattr(theme, colour), label=name, linewidth=width)
    axes.set_xscale("log")
    axes.set_xticks([10, 30, 100, 300, 1000], ["10", "30", "100", "300", "1,000"], minor=False)
    axes.minorticks_off()
    axes.set_xlabel(f"queries a dimension, d = {D}")
    axes.set_ylabel("share of targets reached")
    axes.set_ylim(0, 0.8)
    made.legend(loc="outside upper left")
    return made
