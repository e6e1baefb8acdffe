"""The best point asked about so far."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blackbox_zo._open import Open
from blackbox_zo._typing import Floats, Ints, Tree
from blackbox_zo.feedback import Ranking, Values
from blackbox_zo.variables import Variable, Vector

__all__ = ["Best", "BestSoFar"]


class Best(NamedTuple):
    """The best point asked about so far.

    Attributes:
        x: The point, in the structure of x0; None for a variable whose points are never written out.
        value: Value of the point; NaN if it is the winner of the latest ranking, or before the first answer.
        id: Id of its query; -1 before the first answer, and for a point whose value was known.
    """

    x: Tree
    value: float
    id: int

    @property
    def known(self) -> bool:
        """Whether its value was known, and not asked."""
        return self.id < 0 and self.value == self.value

    @property
    def exists(self) -> bool:
        """Whether there is one: an answer, or a known value."""
        return self.id >= 0 or self.known


class BestSoFar:
    """Keeps the best point of a search.

    Args:
        variable: Variable of the search. Only the points of a `Vector` are kept.
    """

    def __init__(self, variable: Variable) -> None:
        self.variable = variable
        self._x: Floats | None = variable.flat if isinstance(variable, Vector) else None
        self._value, self._id = np.nan, -1
        self._unseen: set[Open] = set()

    @property
    def found(self) -> tuple[Floats | None, float, int]:
        """The point, shape (d,), or None if points are not written out; its value; and the id of its query."""
        for pending in self._unseen:
            self._see(pending, pending.values)
        self._unseen.clear()
        return self._x, self._value, self._id

    @found.setter
    def found(self, found: tuple[Floats | None, float, int]) -> None:
        self._unseen.clear()
        self._x, self._value, self._id = found

    def point(self) -> Best:
        """The best point, in the user's structure."""
        flat, value, query = self.found
        x = None
        if isinstance(self.variable, Vector) and flat is not None:
            x = self.variable.treedef.unflatten(flat.copy())
        return Best(x, value, query)

    def part(self, pending: Open) -> None:
        """Mark an open step as having new values; they are compared on the next read, or with the whole step."""
        self._unseen.add(pending)

    def whole(self, pending: Open, feedback: Values) -> None:
        """Compare all values of a step with the best so far, including parts that were only marked."""
        self._unseen.discard(pending)
        self._see(pending, feedback.values)

    def known(self, points: Floats, values: Floats) -> None:
        """Take known values, shape (n,), of points in the units of x, shape (n, d)."""
        self.found = self.found  # compares the values told before
        value = float(np.fmin.reduce(values)) if len(values) else np.nan
        if value == value and not value >= self._value:
            self._x, self._value, self._id = points[int(np.argmax(values == value))].copy(), value, -1

    def ranked(self, pending: Open, positions: Ints, feedback: Ranking) -> None:
        """Take the winner of a ranking; the latest ranking counts."""
        losses = feedback.net_losses()
        if losses.any():
            self.found = self.found  # compares the values told before
            self._keep(pending, int(positions[np.argmin(losses)]), np.nan)

    def _see(self, pending: Open, values: Floats) -> None:
        value = float(np.fmin.reduce(values))  # ignores NaN: queries that failed or have no answer yet
        if value != value or value > self._value:  # no value, or all are worse
            return
        position = int(np.argmax(values == value))
        if value != self._value or position + pending.first_id < self._id:
            self._keep(pending, position, value)

    def _keep(self, pending: Open, position: int, value: float) -> None:
        if isinstance(self.variable, Vector):
            self._x = self.variable.outside(pending.queries.take(slice(position, position + 1)).points())[0]
        self._value, self._id = value, position + pending.first_id
