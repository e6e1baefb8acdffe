"""Bounds for estimators that sample: a smooth map from all of space into the box, and back."""

from __future__ import annotations

from typing import final
from weakref import WeakKeyDictionary

import numpy as np

from blackbox_zo._checks import all_true, any_true
from blackbox_zo._typing import Floats
from blackbox_zo.variables import Vector

__all__ = ["SmoothBounds", "smooth_bounds"]

VERTEX = 1e-6
"""As a share of the margin: so near to the vertex, where T is flat, a point lies on the bound."""


@final
class SmoothBounds:
    """The map x = T(g) into the box of a `Vector`, element by element (the BoundTransform of pycma, Hansen 2009).

    T(g) = g, except near a bound: from `margin` inside it on, T is a parabola with its vertex on the bound, `margin`
    outside it; beyond the vertex T is mirrored. For a lower bound l and margin a,

    `T(g) = l + (g - (l - a))² / (4 a)` for g from l - a to l + a.

    So f(T(g)) is smooth, has no flat part, and has a minimum at the vertex where f has one on the bound. No penalty is
    needed, whose size would have to fit f and d.

    Args:
        variable: Its bounds, in its own units, are used.
        margin: a where only one side is bounded; between two bounds it is a twentieth of their distance.
    """

    def __init__(self, variable: Vector, margin: float) -> None:
        self.given = margin
        far = np.full(variable.size, np.inf)
        self.lower, self.upper = variable.project(-far), variable.project(far)
        self.width = self.upper - self.lower
        self.margin = np.where(np.isfinite(self.width), self.width / 20, margin)
        self.first, self.last = self.lower - self.margin, self.upper + self.margin
        self._back: tuple[Floats, Floats] = np.empty(0), np.empty(0)
        self._steps: tuple[Floats, Floats, float, Floats] = *self._back, 0.0, np.empty((0, 0))
        self.low, self.high = self.lower + self.margin, self.upper - self.margin  # between them T(g) = g

    def into(self, g: Floats) -> Floats:
        """T(g), shape (…, d)."""
        if self._far_inside(g):  # the usual case
            return np.array(g)
        g = self.folded(g)
        near = (g < self.low) | (g > self.high)
        if any_true(near):
            where = np.nonzero(near)
            j, v = where[-1], g[where]
            low = v < self.low[j]
            bound, a = np.where(low, self.lower[j], self.upper[j]), self.margin[j]
            sign = np.where(low, 1.0, -1.0)
            u = (v - bound) * sign + a
            u = np.where(np.abs(u) < VERTEX * a, 0.0, u)
            bent = bound + sign * u * u / np.where(a > 0, 4 * a, 1.0)
            g[where] = np.where(a > 0, bent, bound)
        return g

    def folded(self, g: Floats) -> Floats:
        """Points mirrored into the range of `clipped`, where T does not repeat itself; a copy, shape (…, d)."""
        out = np.array(g)
        outside = (out < self.first) | (out > self.last)
        if any_true(outside):
            where = np.nonzero(outside)
            j, v = where[-1], out[where]
            first, last = self.first[j], self.last[j]
            both = np.isfinite(first) & np.isfinite(last)
            period = np.where(both, np.maximum(2 * (last - first), 1e-300), 1.0)
            t = np.mod(np.where(both, v - first, 0.0), period)
            inside = first + np.minimum(t, period - t)
            out[where] = np.where(both, inside, np.where(v < first, 2 * first - v, 2 * last - v))
        return out

    def clipped(self, g: Floats) -> Floats:
        """The nearest g whose T(g) is not a mirror image, shape (…, d): on a bound where g is beyond its vertex."""
        out: Floats = np.minimum(np.maximum(g, self.first), self.last)  # np.clip takes twice as long
        return out

    def short(self, x: Floats, y: Floats, radius: float) -> Floats:
        """Displacements y of x, shape (…, d), in units of a radius, cut short where they lead beyond a vertex."""
        mean = self.back(x)
        out: Floats = (self.clipped(mean + radius * y) - mean) / radius
        return out

    def steps(self, x: Floats, y: Floats, radius: float) -> Floats:
        """The displacements of x, in units of a radius, that those of its g by y lead to, shape (k, d); read-only."""
        last = self._steps
        if x is last[0] and y is last[1] and radius == last[2]:  # a generation may be asked about in parts
            return last[3]
        rows = self.into(self.back(x) + radius * y)
        rows -= x
        rows /= radius
        rows.flags.writeable = False
        if not (x.flags.writeable or y.flags.writeable):
            self._steps = x, y, radius, rows
        return rows

    def back(self, x: Floats) -> Floats:
        """The g of `clipped` with T(g) = x, shape (…, d), read-only."""
        if x is self._back[0]:  # x is asked for several times a step
            return self._back[1]
        g = self._mapped_back(x)
        g.flags.writeable = False
        if not x.flags.writeable:
            self._back = x, g
        return g

    def _far_inside(self, g: Floats) -> bool:
        """Whether T(g) = g."""
        return all_true((g >= self.low) & (g <= self.high))

    def _mapped_back(self, x: Floats) -> Floats:
        g = np.array(x)
        if self._far_inside(x):
            return g
        low, high = x < self.low, x > self.high
        if low.any():
            j = np.nonzero(low)[-1]
            a = self.margin[j]
            g[low] = self.first[j] + 2 * np.sqrt(a * np.maximum(x[low] - self.lower[j], 0.0))
        if high.any():
            j = np.nonzero(high)[-1]
            a = self.margin[j]
            g[high] = self.last[j] - 2 * np.sqrt(a * np.maximum(self.upper[j] - x[high], 0.0))
        return g


_known: WeakKeyDictionary[Vector, SmoothBounds] = WeakKeyDictionary()


def smooth_bounds(variable: Vector, margin: float) -> SmoothBounds:
    """The map for a variable, whose bounds never change; the last one made for it is kept."""
    found = _known.get(variable)
    if found is None or found.given != margin:
        found = _known[variable] = SmoothBounds(variable, margin)
    return found
