"""What estimators ask and answer that go on in stages: one point, a whole move, no move."""

from __future__ import annotations

import numpy as np

from blackbox_zo._typing import Floats, Ints
from blackbox_zo.directions import Coordinates, Dense
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Vector

__all__ = ["move_by", "one_point", "still", "towards"]

FIRST: Ints = np.zeros(1, dtype=np.intp)
FIRST.flags.writeable = False


def one_point(variable: Vector, move: Floats, tag: tuple[int, ...] = ()) -> Queries:
    """One query, at x plus a displacement of shape (d,); a move by the same leads there to the last bit."""
    axis = Dense(variable.blocks, move[None, :])
    return Queries(axis, np.zeros(1, dtype=np.intp), np.ones(1), variable.value, tag)


def move_by(variable: Vector, move: Floats) -> Step:
    """Minus a displacement of shape (d,), which `SGD(1.0)` subtracts."""
    return Step(Dense(variable.blocks, move[None, :]), np.array([-1.0]))


def still(variable: Vector) -> Step:
    """No move: nothing of the size of x is made for it."""
    return Step(Coordinates(variable.blocks, FIRST), np.zeros(1))


def towards(points: Floats, variable: Vector) -> Floats:
    """From x to points, shape (…, d); past a bound by rounding, so that clipping leads onto the bound exactly."""
    low, high = variable.box
    out: Floats = (points - variable.value) * np.where((points == low) | (points == high), 1.0 + 1e-15, 1.0)
    return out
