"""Real fits (NIST StRD): queries until the gap to the certified least sum of squares has fallen by 10, 1e3, 1e5.

Each from both of NIST's starts: without bounds, with bounds as loose as people give them, b in [0, 100 |b0|] and
[-1000 |b0|, 1000 |b0|], and with bounds that are of use, [0, 5 |b0|]. Fits whose solution is outside the bounds are
left out. Peers that are over begin again from the start, moved by a normal factor of 10 %. BFGS takes no bounds, and
asks outside. A target that is not reached within 200 d queries counts as 10 times that.
Run: OMP_NUM_THREADS=1 python benchmarks/fits.py
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import math
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from _common import save
from scipy import optimize

import blackbox_zo as bz
from oracles.bench.fits import FITS, Fit

QUERIES, SEED = 200, 0
"""Queries per dimension, and the seed of the peers' restarts."""

TARGETS = (1e-1, 1e-3, 1e-5)
"""Shares of the gap at the start."""

FAR = 10.0
"""A target that is not reached counts as so many budgets."""

BOUNDS: dict[str, tuple[float, float] | None] = {
    "none": None,
    "[0, 5 |b0|]": (0, 5),
    "[0, 100 |b0|]": (0, 100),
    "[-1000 |b0|, 1000 |b0|]": (-1000, 1000),
}

_FOREVER = 10**9
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "cobyqa": ("COBYQA", {"maxfev": _FOREVER, "maxiter": _FOREVER}),
    "slsqp": ("SLSQP", {"ftol": 1e-14, "maxiter": _FOREVER}),
    "l-bfgs-b": ("L-BFGS-B", {"ftol": 0.0, "gtol": 0.0, "maxiter": _FOREVER, "maxfun": _FOREVER}),
    "bfgs": ("BFGS", {"maxiter": _FOREVER}),
    "powell": ("Powell", {"maxiter": _FOREVER, "maxfev": _FOREVER}),
    "nelder-mead": ("Nelder-Mead", {"xatol": 1e-8, "fatol": 1e-8, "maxiter": _FOREVER, "maxfev": _FOREVER}),
}


class Spent(BaseException):
    """The budget is spent; not an `Exception`, so that no solver takes it for a failure."""


def hits(fit: Fit, solve: Callable[[Callable[[Any], float], int], None]) -> list[int]:
    """After how many queries each target was reached; those reached, in order."""
    d, gap, found, asked = fit.start.size, fit(fit.start) - fit.certified, [], 0

    def f(b: Any) -> float:
        nonlocal asked
        if asked >= QUERIES * d:
            raise Spent
        asked += 1
        value = fit(b)
        while len(found) < len(TARGETS) and value - fit.certified <= TARGETS[len(found)] * gap:
            found.append(asked)
        return value

    try:
        solve(f, QUERIES * d)
    except Spent:
        pass
    return found


def peer(fit: Fit, name: str, bounds: list[tuple[float, float]] | None) -> list[int]:
    """What a method of scipy reaches."""
    method, options = PEERS[name]
    bounds = None if method == "BFGS" else bounds

    def solve(f: Callable[[Any], float], budget: int) -> None:
        rng, b = np.random.default_rng(SEED), fit.start
        while True:
            optimize.minimize(f, b, method=method, bounds=bounds, options=options)
            b = fit.start * (1 + 0.1 * rng.standard_normal(fit.start.size))

    return hits(fit, solve)


def ours(fit: Fit, bounds: list[tuple[float, float]] | None) -> list[int]:
    """What `minimize` reaches."""
    return hits(fit, lambda f, budget: bz.minimize(f, fit.start, budget=budget, bounds=bounds) and None)


def main() -> None:
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    out: dict[str, Any] = {"unit": "queries to a tenth, 1e-3 and 1e-5 of the gap at the start; null: not reached"}
    for title, factors in BOUNDS.items():
        rows: dict[str, Any] = {}
        logs: dict[str, list[float]] = {}
        beyond, outside = list[str](), list[str]()
        for fit in FITS.values():
            bounds = (
                None
                if factors is None
                else [(low * abs(b), high * abs(b)) for b in fit.start for low, high in [factors]]
            )
            if bounds and not all(low <= b <= high for b, (low, high) in zip(fit.best.tolist(), bounds, strict=True)):
                outside.append(fit.name)
                continue
            reached = {"minimize": ours(fit, bounds), **{name: peer(fit, name, bounds) for name in PEERS}}
            rows[fit.name] = {name: found + [None] * (len(TARGETS) - len(found)) for name, found in reached.items()}
            cost = {
                name: [float(n or FAR * QUERIES * fit.start.size) for n in row] for name, row in rows[fit.name].items()
            }
            best = [min(cost[name][i] for name in PEERS) for i in range(len(TARGETS))]
            for name, each in cost.items():
                logs.setdefault(name, []).extend(math.log(a / b) for a, b in zip(each, best, strict=True))
            if cost["minimize"][-1] > 3 * best[-1]:
                beyond.append(fit.name)
        means = {name: round(math.exp(statistics.fmean(each)), 2) for name, each in logs.items()}
        out[title] = {
            "geometric mean of queries ÷ the best peer's": means,
            "to 1e-5, above 3 times": beyond,
            "left out, as the solution is outside the bounds": outside,
            "fits": rows,
        }
    save(__file__, out)


if __name__ == "__main__":
    main()
