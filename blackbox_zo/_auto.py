"""`auto`: the method of `minimize` where none is named."""

from __future__ import annotations

from typing import Any

import numpy as np

from blackbox_zo._typing import Floats, Tree
from blackbox_zo.estimators import (
    Asynchronous,
    BlockDescent,
    CoordinateSearch,
    Estimator,
    EvolutionStrategy,
    NoisyQuasiNewton,
    OrdinalCoordinateSearch,
    OrdinalSurrogate,
    Portfolio,
    QuasiNewton,
    TrustRegion,
)
from blackbox_zo.variables import Vector

__all__ = ["answered_singly", "auto", "check_stopping", "unit_of"]

FEW = 7
"""Up to this dimension a quadratic is determined by few points: `TrustRegion` gains more than `QuasiNewton`."""

MODELLED = 20
"""Up to this dimension a full quadratic is cheap enough to fit at every step."""

MANY = 100
"""Above this dimension the queries may not suffice for one gradient, and the elements of an array are of a kind."""

SEVERAL = 700
"""Above this dimension a budget is often smaller than the few d queries from which on whole gradients gain more."""

LOOSE, SMALL, ALONE, LARGE = 0.03, 0.1, 1e-4, 10.0
"""When x0 says that an element has another scale: see `unit_of`. A random start has a single small element by chance,
and by that many queries would be lost, as a short unit is a narrow view; several are no chance."""

SWEEPS = 3
"""Sweeps of blocks before whole gradients: the first 3 d queries gain more by blocks, on all functions looked at."""


def auto(
    start: Vector, x0: Tree, bounds: Any, unit: Any, *, asynchronous: bool = False, stopping: bool = False
) -> tuple[Vector, Estimator]:
    """What `method="auto"` is: a portfolio by dimension, and the unit that bounds suggest.

    A search along all coordinates comes first, which is over after d + 2 queries unless the function is separable; then
    a quasi-Newton method, up to 7 dimensions a trust region with a quadratic model in its place. Above 100 dimensions
    the quasi-Newton method is first, and above 700 it comes after three sweeps of descent in blocks of coordinates,
    which go on after it. Under noise a quasi-Newton method for noise stands for all of these up to 700 dimensions. Then
    comes a CMA-ES, with a quadratic model up to 20 dimensions and a diagonal covariance above 100. Then all restart,
    the CMA-ES with ever larger populations and with smaller radii. Where there are finitely many points, it is the
    CMA-ES alone. Where answers are rankings, it is `OrdinalCoordinateSearch` and then `OrdinalSurrogate` up to 20
    dimensions, above them the CMA-ES. The unit, if none is given, is that of `unit_of`.

    With `asynchronous` it is the CMA-ES and its restarts: the others ask one point after another, and would leave
    workers idle. With `stopping`, too, and the CMA-ES has no model: the value of a query that was stopped says how it
    ranks, and no more.
    """
    if unit is None:
        start = Vector(x0, bounds, unit_of(start))
    population = EvolutionStrategy(0.3, model=start.size <= MODELLED and not stopping)
    if asynchronous:
        return start, Portfolio((Asynchronous(population), Asynchronous(population)), growth=(2.0, 0.0))
    if start.grid:
        return start, population
    if stopping:
        return start, Portfolio((population, population), growth=(2.0, 0.0))
    local = _local(start.size)
    if start.size <= MODELLED:
        local += (OrdinalCoordinateSearch(), OrdinalSurrogate(0.3))
    return start, Portfolio((*local, population, population), growth=(*(1.0 for _ in local), 2.0, 0.0))


def _local(d: int) -> tuple[Estimator, ...]:
    """The members before the CMA-ES."""
    if d <= MANY:
        return CoordinateSearch(), TrustRegion(0.2) if d <= FEW else QuasiNewton(0.2), NoisyQuasiNewton(0.2)
    if d <= SEVERAL:
        return QuasiNewton(0.2), NoisyQuasiNewton(0.2)
    return BlockDescent(0.2, sweeps=SWEEPS), QuasiNewton(0.2), BlockDescent(0.2)


def check_stopping(estimator: Estimator) -> None:
    """Raise ValueError where values of queries that were stopped would mislead an estimator."""
    members = estimator.members if isinstance(estimator, Portfolio) else (estimator,)
    for member in members:
        if member.exact or member.noisy:
            raise ValueError(
                f"`stopping` does not go with `{type(member).__name__}`, which takes differences of values: that of a "
                'query that was stopped early is another kind of number. Use "auto" or an `EvolutionStrategy`.'
            )


def answered_singly(start: Vector, estimator: Estimator) -> Estimator:
    """The estimator of an asynchronous run: an evolution strategy is wrapped.

    Raises:
        ValueError: The estimator needs the answers of whole steps, or there are finitely many points.
    """
    if start.grid and not start.fixed.all():
        raise ValueError(
            "`asynchronous=True` cannot ask each of finitely many points once, as it does not know those under way. "
            "Leave it out."
        )
    if isinstance(estimator, EvolutionStrategy):
        return Asynchronous(estimator)
    if not estimator.any_age:
        raise ValueError(
            f"`asynchronous=True` needs a method that takes answers one by one; `{type(estimator).__name__}` needs "
            'those of a whole step. Use "auto" or an `EvolutionStrategy`, or leave `asynchronous` out.'
        )
    return estimator


def unit_of(start: Vector) -> Floats:
    """The unit of each element, shape (d,): half the distance of its bounds if it has two, else 1, unless x0 says more.

    Let s be |x0|, or the distance to the nearer bound where that is less; 0 says nothing. s is small if it is at most
    0.03 of half the distance of the bounds, or 0.1 without two bounds, where an |x0| above 10 is large. If two elements
    and a third of all are small or large, that is no accident: bounds are loose, or x is on another scale. Then the
    unit of the small ones is s. Else only of those with s at most 1e-4 of what it would be, and between two bounds |x0|
    then does not count. The unit of large ones is |x0|. Of an array of more than 100 elements it is the medians of the
    distances and of |x0| that count: some of so many are small by chance.
    """
    half = (start.upper - start.lower) / 2.0
    bounded, usual = np.isfinite(half), np.where(np.isfinite(half) & (half > 0), half, 1.0)
    size, near = np.abs(start.flat), np.minimum(start.flat - start.lower, start.upper - start.flat)
    ends = np.cumsum([block.size for block in start.treedef.blocks])
    for part in (*np.split(size, ends[:-1]), *np.split(near, ends[:-1])):  # views
        if part.size > MANY:
            part[:] = np.median(part)
    near = np.where(near > 0.0, near, np.inf)
    s = np.minimum(np.where(size > 0.0, size, np.inf), near)
    large = ~bounded & (size > LARGE)
    small = (half > 0) & (s <= np.where(bounded, LOOSE, SMALL) * usual)
    if (small | large).sum() < max(2, small.size / 3):
        small = (half > 0) & (np.where(bounded, near, s) <= ALONE * usual)
    out: Floats = np.where(small, s, np.where(large, size, usual))
    return out
