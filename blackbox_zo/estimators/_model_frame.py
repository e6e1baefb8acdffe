"""The model of an `EvolutionStrategy` in the coordinates of its search distribution."""

from __future__ import annotations

import math

from blackbox_zo._typing import Floats
from blackbox_zo.estimators._evolution_state import EvolutionState
from blackbox_zo.estimators._flat_bounds import Bounds
from blackbox_zo.variables import Vector

__all__ = ["frame", "minimiser"]


def frame(s: EvolutionState) -> Floats:
    """X in units of sigma, along the axes of C, shape (d, d)."""
    out: Floats = s.axes / (s.lengths * s.radius)
    return out


def minimiser(s: EvolutionState, variable: Vector, bounds: Bounds | None) -> Floats | None:
    """Where the model is least, as a displacement from the mean in units of sigma, shape (d,); None without a model.

    The model is of f(x), not of f(T(g)): of a quadratic f it is then exact up to the bounds.
    """
    if not s.surrogate or not s.surrogate.model.centre.size:
        return None
    x, d = variable.value, variable.size
    basis = (s.axes * (s.radius * s.lengths)).T
    q = s.surrogate.model.least(x, basis, math.sqrt(d) + 2 * d / (d + 2))  # Hansen 2011, table 1: c_y
    if q is None:
        return None
    y: Floats = s.axes.dot(s.lengths * q)
    if bounds is not None:
        y = (bounds.back(variable.project(x + s.radius * y)) - bounds.back(x)) / s.radius
    return y
