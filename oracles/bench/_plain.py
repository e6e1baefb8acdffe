"""Functions for dimensions beyond every suite: a sphere, a quadratic and Rosenbrock's function."""

from __future__ import annotations

import numpy as np

from blackbox_zo._typing import Floats
from oracles.bench.problem import Problem, start_of

__all__ = ["plain"]


def plain(function: int, d: int, instance: int) -> Problem:
    """1 the sphere, 2 a quadratic with eigenvalues from 1 to 100 in random order, 3 Rosenbrock's chained function.

    They have no bounds. The optimum is uniform in [-4, 4]^d, or of Rosenbrock's function the ones. The lowest value is
    0, and targets go from f(x0) to 1e-10 f(x0).
    """
    rng = np.random.default_rng([function, d, instance, 2])
    best, start = rng.uniform(-4.0, 4.0, d), start_of(function, d, instance)
    weights = rng.permutation(np.geomspace(1.0, 100.0, d)) if function == 2 else np.ones(d)

    def quadratic(x: Floats) -> float:
        z = x - best
        return float(z @ (weights * z))

    def rosenbrock(x: Floats) -> float:
        first, off = x[:-1], x[1:] - x[:-1] ** 2
        return float(100.0 * (off @ off) + (1.0 - first) @ (1.0 - first))

    if function not in (1, 2, 3):
        raise ValueError(f"`function` must be 1, 2 or 3 in plain, got {function}.")
    f = rosenbrock if function == 3 else quadratic
    return Problem("plain", function, d, instance, f, 0.0, start, None, scale=f(start) / 100.0)
