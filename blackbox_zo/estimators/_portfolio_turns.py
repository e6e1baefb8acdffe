"""How the members of a `Portfolio` take turns under noise, where x is judged by its mean value."""

from __future__ import annotations

import math

import numpy as np

from blackbox_zo._typing import Bools, Floats, Ints
from blackbox_zo.directions import Dense
from blackbox_zo.estimators._portfolio_state import NEWEST, PortfolioState, spent
from blackbox_zo.steps import Queries

__all__ = ["at_x", "heard", "next_turn", "recommended", "standing", "turn_is_over"]

TURN = 25
"""Queries for each dimension in the first turn of a member."""

CLEAR = 1.0
"""Standard errors between two mean values from which one point is better than another."""

ELSEWHERE = 3.0
"""Standard errors between the mean of new values at x and that of the older ones from which x has moved elsewhere."""

FEW = 5
"""Of fewer values the standard deviation is taken to be at least that at x0."""


def turn_is_over(s: PortfolioState, d: int) -> bool:
    """Whether another member is to go on: a turn is as long as all before it together, and a value at x is known."""
    return len(s.centre) > 0 and s.asked >= max(TURN * d, float(s.ledger[:, 1].sum()))


def heard(s: PortfolioState, values: Floats) -> PortfolioState:
    """The state after more values at x, shape (n,): those before are kept unless x has moved to where f is another."""
    values = values[np.isfinite(values)]
    n, m = len(values), len(s.centre)
    if n and m and abs(float(values.mean() - s.centre.mean())) > ELSEWHERE * s.noise * math.sqrt(1 / n + 1 / m):
        s = s._replace(centre=values[:0])
    centre = np.concatenate((s.centre, values))[-NEWEST:]
    if len(centre) > 2:
        s = s._replace(noise=math.sqrt(0.9 * s.noise**2 + 0.1 * float(centre.var(ddof=1))) or s.noise)
    return s._replace(centre=centre)


def standing(s: PortfolioState, x: Floats) -> PortfolioState:
    """The state when the present member stands at x, shape (d,), where at least one value was asked."""
    stands, heights, errors = s.stands.copy(), s.heights.copy(), s.errors.copy()
    stands[s.member] = x
    heights[s.member], errors[s.member] = _height(s)
    return s._replace(stands=stands, heights=heights, errors=errors)


def next_turn(s: PortfolioState, usable: Bools) -> int:
    """Who goes on: a member that has spent less than half of what the first has, else the one that stands lowest."""
    total = np.where(usable, spent(s), math.inf)
    if total.min() < 0.5 * float(total[usable].max()):
        return int(np.argmin(total))
    return _lowest(s, usable)


def recommended(s: PortfolioState, x: Floats) -> tuple[Floats, float, float]:
    """Where a member stands that has the lowest mean value, shape (d,), that mean, and its standard error.

    Before any has one it is x.
    """
    if np.isnan(s.heights).all():
        return x, *_height(s)
    known = np.isfinite(s.heights)
    best = _lowest(s, known & ~s.dropped if (known & ~s.dropped).any() else known)
    return s.stands[best], float(s.heights[best]), float(s.errors[best])


def _lowest(s: PortfolioState, among: Bools) -> int:
    """Who stands lowest; of two that noise does not tell apart, the first."""
    best, *others = np.flatnonzero(among).tolist()
    for i in others:
        if not s.heights[best] <= s.heights[i] + CLEAR * math.hypot(s.errors[best], s.errors[i]):
            best = i
    return int(best)


def _height(s: PortfolioState) -> tuple[float, float]:
    """Mean of the newest values at x, and its standard error; NaN where there are none."""
    n = len(s.centre)
    if not n:
        return math.nan, math.nan
    deviation = float(s.centre.std(ddof=1)) if n > 1 else 0.0
    if n < FEW:  # they may be close by chance
        deviation = max(deviation, s.noise)
    return float(s.centre.mean()), deviation / math.sqrt(n)


def at_x(queries: Queries) -> Ints:
    """Which queries ask x itself."""
    still = queries.scale == 0.0
    if isinstance(queries.directions, Dense):
        still |= ~queries.directions.rows[queries.index].any(axis=1)
    return np.flatnonzero(still)
