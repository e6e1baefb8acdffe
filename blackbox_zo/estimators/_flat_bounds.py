"""Bounds for estimators that sample with a good model of f: beyond a face f is what it is on the face."""

from __future__ import annotations

from typing import TypeAlias, final

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.estimators._smooth_bounds import SmoothBounds
from blackbox_zo.variables import Vector

__all__ = ["Bounds", "FlatBounds"]


@final
class FlatBounds:
    """The map of all of space into the box of a `Vector` that takes each point to the nearest one.

    It has the methods of `SmoothBounds`, and bends nothing inside: a narrow valley stays straight up to the face, so
    that one normal distribution fits it. f is flat beyond a face, which blurs the order of answers there; a model tells
    points apart that the answers do not.

    Args:
        variable: Its bounds, in its own units, are used.
    """

    def __init__(self, variable: Vector) -> None:
        self.lower, self.upper = variable.box
        self.width = self.upper - self.lower

    def into(self, g: Floats) -> Floats:
        """The nearest points of the box, shape (…, d)."""
        out: Floats = np.minimum(np.maximum(g, self.lower), self.upper)
        return out

    def clipped(self, g: Floats) -> Floats:
        """The same."""
        return self.into(g)

    def short(self, x: Floats, y: Floats, radius: float) -> Floats:
        """Displacements y of x, shape (…, d), in units of a radius, cut short where they lead beyond a face."""
        out: Floats = (self.into(x + radius * y) - x) / radius
        return out

    def steps(self, x: Floats, y: Floats, radius: float) -> Floats:
        """The same as `short`."""
        return self.short(x, y, radius)

    def back(self, x: Floats) -> Floats:
        """Points of the box are their own."""
        return x


Bounds: TypeAlias = SmoothBounds | FlatBounds
"""How an estimator that samples keeps to a box."""
