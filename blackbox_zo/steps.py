"""The two records of the matrix form: the points `x + C U`, and the move `x <- (1 - shrink) x + w U`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats, Ints
from blackbox_zo.directions import Directions

__all__ = ["Queries", "Step"]


@dataclass(frozen=True, slots=True)
class Queries:
    """The `n` points `origin + C U` of one step.

    Every method asks along one direction at a time, so each row of C has one entry: row i is `scale[i]` in column
    `index[i]`. A scale of 0 asks about the origin itself.

    Attributes:
        directions: The rows u_1 … u_k of U.
        index: Which direction each point follows, shape (n,).
        scale: How far along it, shape (n,).
        origin: The variable's `origin` when the points were chosen: an array (d,), or the number of moves made.
        tag: By what the estimator knows late answers, if it gives its queries one.
        group: Values of so many directions in a row are compared with each other. An oracle that shares its examples
            or episodes among directions gives all of a group the same.
    """

    directions: Directions
    index: Ints
    scale: Floats
    origin: Any
    tag: tuple[int, ...] = ()
    group: int = 1

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.index)

    @property
    def matrix(self) -> Floats:
        """C as a dense array, shape (n, k)."""
        out = np.zeros((self.n, self.directions.k))
        out[np.arange(self.n), self.index] = self.scale
        return out

    def take(self, which: Ints | slice) -> Queries:
        """Some of the points, with the same directions."""
        return Queries(self.directions, self.index[which], self.scale[which], self.origin, self.tag, self.group)

    def farther(self, factor: float) -> Queries:
        """Points in the same directions, so many times as far away."""
        return Queries(self.directions, self.index, self.scale * factor, self.origin, self.tag, self.group)

    def tagged(self, tag: tuple[int, ...]) -> Queries:
        """The same points under another tag."""
        return Queries(self.directions, self.index, self.scale, self.origin, tag, self.group)

    def points(self) -> Floats:
        """The points in the variable's own coordinates, shape (n, d)."""
        return self.directions.points(self.origin, self.index, self.scale)


@dataclass(frozen=True, slots=True)
class Step:
    """A vector `w U`, and a pull towards zero. Gradient estimates and moves are steps.

    Attributes:
        directions: The rows of U.
        w: Shape (k,).
        shrink: The fraction of x that is subtracted (weight decay), 0 for none.
    """

    directions: Directions
    w: Floats
    shrink: float = 0.0

    def scaled(self, factor: float) -> Step:
        """`factor` times the step, the pull included."""
        return Step(self.directions, self.w * factor, self.shrink * factor)

    def replaced(self, directions: Directions, w: Floats) -> Step:
        """Another vector with the same pull."""
        return replace(self, directions=directions, w=w)

    def dense(self) -> Floats:
        """The vector `w U`, shape (d,)."""
        return self.directions.combine(self.w)
