"""What `QuasiNewton` asks at each stage, and the slopes that the answers give."""

from __future__ import annotations

import math

import numpy as np

from blackbox_zo._typing import Floats, Ints
from blackbox_zo.directions import Coordinates
from blackbox_zo.estimators._opening import span
from blackbox_zo.estimators._quasi_newton_state import CENTRAL, FORWARD, LINE, OPENING, QuasiNewtonState
from blackbox_zo.estimators._stages import one_point
from blackbox_zo.steps import Queries
from blackbox_zo.variables import Vector

__all__ = ["ROUNDING", "expected", "free", "interval", "part", "queries_of", "slopes"]

ROUNDING = 5e-16
"""Relative error of a value where nothing is known of it."""

AT_ONCE = 1 << 21
"""A step asks so many numbers along one side of x, or of more coordinates than `LEAST`: 16 MiB where written out."""

LEAST = 64
"""Coordinates a step, at least."""


def free(variable: Vector) -> Ints:
    """Coordinates that can move."""
    low, high = variable.box
    return np.flatnonzero(low < high)


def part(s: QuasiNewtonState) -> Ints:
    """The coordinates whose differences are asked next: all that are wanted, unless the points would be too large."""
    return s.wanted[: max(LEAST, AT_ONCE // s.gradient.size)]


def queries_of(s: QuasiNewtonState, variable: Vector) -> Queries:
    """The next queries."""
    x = variable.value
    if s.phase == LINE:
        return one_point(variable, variable.project(x + s.line.alpha * s.line.direction) - x, (s.turn,))
    some = part(s)
    if not some.size:  # nothing can move
        return one_point(variable, np.zeros(x.size), (s.turn,))
    if s.phase == OPENING:
        up, down = span(variable, some, s.radius)
        index, scale = np.concatenate((np.arange(some.size),) * 2), np.concatenate((up, down))
        if math.isnan(s.value):
            index, scale = np.concatenate(([0], index)), np.concatenate(([0.0], scale))
    else:
        h = interval(s, variable, some)
        index, scale = np.arange(some.size), h
        if s.phase == CENTRAL:
            index, scale = np.concatenate((index, index)), np.concatenate((h, -h))
    return Queries(Coordinates(variable.blocks, some), index, scale, x, (s.turn,))


def expected(s: QuasiNewtonState) -> int:
    """Number of queries of a whole step."""
    if s.phase == LINE or not s.wanted.size:
        return 1
    each = 1 if s.phase == FORWARD else 2
    return each * part(s).size + (s.phase == OPENING and math.isnan(s.value))


def interval(s: QuasiNewtonState, variable: Vector, which: Ints) -> Floats:
    """By how much some coordinates are changed for a difference, shape (k,); signed, inside the bounds."""
    x, low, high = (of[which] for of in (variable.value, *variable.box))
    error = ROUNDING * max(abs(s.value), 1e-9 * s.scale)
    curvature = s.curvature if s.curvature > 0 else max(s.scale, 1e-300) / s.radius**2
    least = (30.0 if s.phase == CENTRAL else 2.0) * math.sqrt(error / curvature) * s.widened
    h: Floats = np.minimum(np.maximum(np.maximum(least, 1e-9 * np.abs(x)), 1e-9 * s.reach), s.radius)
    if variable.bounded:
        h = np.minimum(h, np.maximum(high - low, 0.0) / 4)
    out: Floats = s.side * np.where(x + h <= high, h, -h)
    return out


def slopes(s: QuasiNewtonState, h: Floats, values: Floats) -> Floats:
    """The slopes that answers give, shape (k,); NaN where one failed.

    Args:
        s: The state; its phase is `FORWARD` or `CENTRAL`.
        h: By how much each coordinate was changed, shape (k,).
        values: The answers, shape (k,), or with central differences (2 k,).
    """
    if s.phase != CENTRAL:
        return (values - s.value) / h
    ahead, behind = values.reshape(2, -1)
    out: Floats = np.where(np.isnan(behind), (ahead - s.value) / h, (ahead - behind) / (2 * h))
    return np.where(np.isnan(ahead), (s.value - behind) / h, out)
