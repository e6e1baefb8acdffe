"""How the members of a `Portfolio` take turns under noise, where x is judged by its mean value."""

from __future__ import annotations

import math

import numpy as np

from blackbox_zo._typing import Bools, Floats, Ints
from blackbox_zo.directions import Dense
from blackbox_zo.estimators._portfolio_state import PortfolioState, spent
from blackbox_zo.steps import Queries

__all__ = ["at_x", "next_turn", "recommended", "standing", "turn_is_over"]

TURN = 25
"""Queries for each dimension in the first turn of a member."""


def turn_is_over(s: PortfolioState, d: int) -> bool:
    """Whether another member is to go on: a turn is as long as all before it together, and x has a mean value."""
    return len(s.centre) > 1 and s.asked >= max(TURN * d, float(s.ledger[:, 1].sum()))


def standing(s: PortfolioState, x: Floats) -> PortfolioState:
    """The state when the present member stands at x, shape (d,), where at least two values were asked."""
    stands, heights, errors = s.stands.copy(), s.heights.copy(), s.errors.copy()
    stands[s.member] = x
    heights[s.member], errors[s.member] = _height(s.centre)
    return s._replace(stands=stands, heights=heights, errors=errors)


def next_turn(s: PortfolioState, usable: Bools) -> int:
    """Who goes on: a member that has spent less than half of what the first has, else the one that stands lowest."""
    total = np.where(usable, spent(s), math.inf)
    if total.min() < 0.5 * float(total[usable].max()):
        return int(np.argmin(total))
    return int(np.nanargmin(np.where(usable, np.nan_to_num(s.heights, nan=math.inf), math.inf)))


def recommended(s: PortfolioState, x: Floats) -> tuple[Floats, float, float]:
    """Where a member stands that has the lowest mean value, shape (d,), that mean, and its standard error.

    Before any has one it is x.
    """
    if np.isnan(s.heights).all():
        return x, *_height(s.centre)
    best = int(np.nanargmin(s.heights))
    return s.stands[best], float(s.heights[best]), float(s.errors[best])


def _height(values: Floats) -> tuple[float, float]:
    """Mean and standard error; NaN where there are none, or too few."""
    n = len(values)
    error = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return float(values.mean()) if n else math.nan, error


def at_x(queries: Queries) -> Ints:
    """Which queries ask x itself."""
    still = queries.scale == 0.0
    if isinstance(queries.directions, Dense):
        still |= ~queries.directions.rows[queries.index].any(axis=1)
    return np.flatnonzero(still)
