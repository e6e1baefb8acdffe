"""`auto`: the method of `minimize` where none is named."""

from __future__ import annotations

from typing import Any

import numpy as np

from blackbox_zo._typing import Tree
from blackbox_zo.estimators import BlockDescent, Estimator, EvolutionStrategy, Portfolio, QuasiNewton, TrustRegion
from blackbox_zo.variables import Vector

__all__ = ["auto"]

FEW = 7
"""Up to this dimension a quadratic is determined by few points: `TrustRegion` gains more than `QuasiNewton`."""

MANY = 100
"""Above this dimension the queries may not suffice for one gradient."""

DENSE = 1000
"""Up to this dimension d × d numbers are kept."""


def auto(start: Vector, x0: Tree, bounds: Any, unit: Any) -> tuple[Vector, Estimator]:
    """What `method="auto"` is: a portfolio by dimension, and the unit that bounds suggest.

    A quasi-Newton method comes first, up to 7 dimensions a trust region with a quadratic model in its place. Above 100
    dimensions a sweep of descent in blocks of coordinates precedes it, and above 1,000 such descent replaces it. Then
    comes a CMA-ES, with a quadratic model up to 20 dimensions and a diagonal covariance above 100. Then all restart,
    the CMA-ES with ever larger populations and with smaller radii. Where there are finitely many points, it is the
    CMA-ES alone. The unit of an element with two bounds is half their distance, if none is given.
    """
    if unit is None and start.bounded:
        width = (start.upper - start.lower) / 2.0
        start = Vector(x0, bounds, np.where(np.isfinite(width) & (width > 0), width, 1.0))
    population = EvolutionStrategy(0.3, model=start.size <= 20)
    if start.grid:
        return start, population
    d = start.size
    local: tuple[Estimator, ...] = (TrustRegion(0.2) if d <= FEW else QuasiNewton(0.2),)
    if d > MANY:
        local = (BlockDescent(0.2, sweeps=1), *local) if d <= DENSE else (BlockDescent(0.2),)
    return start, Portfolio((*local, population, population), growth=(*(1.0 for _ in local), 2.0, 0.0))
