"""A picture of shares against queries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oracles.bench.shares import Shares, reference
from oracles.bench.solvers import OURS
from oracles.bench.trials import Trial

__all__ = ["plot"]

_POINTS = 60
_LINES = ("-", "--", "-.", ":")


def plot(trials: Sequence[Trial], path: Path) -> None:
    """Draw a panel for each dimension: share of (function, target) pairs against queries per dimension.

    Args:
        trials: Of one suite without noise.
        path: An image file; its ending says of what kind.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib import colormaps, rc_context
    from matplotlib.figure import Figure

    dimensions = sorted({trial.task.d for trial in trials})
    names = list(dict.fromkeys(trial.task.solver for trial in trials))
    columns = min(2, len(dimensions))
    rows = math.ceil(len(dimensions) / columns)
    figure = Figure(figsize=(6 * columns, 4.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    for panel, d in zip(axes.flat, dimensions, strict=False):
        shares = Shares(trials, d)
        for i, name in enumerate(names):
            if name in shares.solvers:
                last = max(trial.task.budget for trial in shares.longest(name).values())
                at = np.geomspace(1, last, _POINTS)
                look = {"color": colours[i % 10], "ls": _LINES[i // 10]}
                look = {"color": "black", "lw": 2.2} if name == OURS else look
                panel.plot(at, [shares.share(name, b) for b in at], label=name, **look)
        at = np.geomspace(1, max(t.task.budget for t in trials if t.task.d == d), _POINTS)
        best = [reference(shares.suite, d, b) for b in at]
        if not np.isnan(best).all():
            panel.plot(at, best, color="grey", lw=4, alpha=0.4, label="COCO's virtual best solver")
        panel.set(xscale="log", title=f"{shares.suite}, d = {d}", xlabel="queries / d", ylabel="share of pairs reached")
        panel.grid(alpha=0.3)
    for panel in list(axes.flat)[len(dimensions) :]:
        panel.axis("off")
    handles = {label: h for p in axes.flat for h, label in zip(*p.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside right center", fontsize=8, frameon=False)
    same = {"Date": None} if path.suffix == ".svg" else None  # the same trials, the same file
    with rc_context({"svg.hashsalt": "bench"}):
        figure.savefig(path, dpi=120, metadata=same)
