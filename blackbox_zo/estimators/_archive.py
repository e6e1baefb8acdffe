"""The newest answers to an `EvolutionStrategy`, and the query that a model of them proposes."""

from __future__ import annotations

import math

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.estimators._candidates import Candidates
from blackbox_zo.estimators._evolution_state import EvolutionState
from blackbox_zo.estimators._quadratic_model import coefficients, enough, least_point
from blackbox_zo.estimators._smooth_bounds import SmoothBounds
from blackbox_zo.variables import Vector

__all__ = ["archived", "model_step", "remembered"]

MODERATE = 15
"""Above this dimension every second step goes without a model: a fit takes as long as many steps."""


def model_step(s: EvolutionState, variable: Vector, bounds: SmoothBounds | None) -> Floats | None:
    """Where the model is least, as a displacement from the mean in units of sigma, shape (d,).

    The model is of f(x), not of f(T(g)): of a quadratic f it is then exact up to the bounds.

    Returns:
        None in every second step above `MODERATE` dimensions, while there are too few answers, and where the fit breaks
        down.
    """
    d = variable.size
    if (d > MODERATE and s.generation % 2) or len(s.values) <= coefficients(d):
        return None
    x = variable.value
    z, values, most = (s.points - x) @ (s.axes / (s.lengths * s.radius)), s.values, enough(d)
    if len(z) > most:
        nearest = np.argpartition(np.einsum("ij,ij->i", z, z), most)[:most]
        z, values = z[nearest], values[nearest]
    q = least_point(z, values, math.sqrt(d) + 2 * d / (d + 2))  # Hansen 2011, table 1: c_y
    if q is None:
        return None
    y: Floats = s.axes @ (s.lengths * q)
    if bounds is None:
        return y
    out: Floats = (bounds.back(variable.project(x + s.radius * y)) - bounds.back(x)) / s.radius
    return out


def remembered(s: EvolutionState, drawn: Candidates, values: Floats) -> EvolutionState:
    """The state with the answers of a step added to the archive, and the oldest dropped."""
    return archived(s, drawn.asked[: len(values)], values)


def archived(s: EvolutionState, points: Floats, values: Floats) -> EvolutionState:
    """The state with more points, shape (n, d), in the archive, those that are finite, and the oldest dropped."""
    usable, most = np.isfinite(values), 4 * coefficients(points.shape[1])
    points = np.concatenate((s.points, points[usable]))[-most:]
    return s._replace(points=points, values=np.concatenate((s.values, values[usable]))[-most:])
