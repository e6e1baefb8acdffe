"""Central differences over a wide span, and the separable quadratic through them."""

from __future__ import annotations

import numpy as np

from blackbox_zo._typing import Floats, Ints
from blackbox_zo.variables import Vector

__all__ = ["separable", "span"]


def separable(h: Floats, rise: Floats, limit: float) -> tuple[Floats, Floats, Floats]:
    """Slopes, curvatures and the least point of one parabola for each coordinate, each of shape (k,).

    Args:
        h: Where each coordinate was asked about, from x, shape (2, k).
        rise: What f gained there, shape (2, k); NaN where the query failed.
        limit: The longest step.
    """
    slopes = rise / h
    curvature = 2 * (slopes[0] - slopes[1]) / (h[0] - h[1])
    slope = slopes[0] - 0.5 * curvature * h[0]
    one = np.isfinite(slopes)  # where a side failed, the other is all that is known
    slope = np.where(one.all(axis=0), slope, np.where(one[0], slopes[0], np.where(one[1], slopes[1], 0.0)))
    curvature = np.where(np.isfinite(curvature), curvature, 0.0)
    bowl = curvature > 0
    p = np.where(bowl, -slope / np.where(bowl, curvature, 1.0), np.where(slope > 0, -np.inf, np.inf))
    p = np.clip(np.where(slope == 0.0, 0.0, p), -limit, limit)
    return slope, curvature, p


def span(variable: Vector, free: Ints, radius: float) -> tuple[Floats, Floats]:
    """How far up and down the opening asks, each of shape (k,); both on one side where a bound is near."""
    x, (low, high) = variable.value[free], variable.box
    room_up, room_down = high[free] - x, x - low[free]
    up, down = np.minimum(radius, room_up), -np.minimum(radius, room_down)
    inwards = np.minimum(radius, np.maximum(room_up, room_down))
    return np.where(up < 0.25 * inwards, -0.5 * inwards, up), np.where(-down < 0.25 * inwards, 0.5 * inwards, down)
