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
        x: In the structure of x0; None for a variable whose points are never written out.
        value: Its value; NaN if it is the winner of the newest ranking, or before the first answer.
        id: The number of its query; -1 before the first answer.
    """

    x: Tree
    value: float
    id: int


class BestSoFar:
    """Keeps the best of what a search is told.

    Args:
        variable: Of the search. Only the points of a `Vector` are kept.
    """

    def __init__(self, variable: Variable) -> None:
        self.variable = variable
        self._x: Floats | None = variable.flat if isinstance(variable, Vector) else None
        self._value, self._id = np.nan, -1
        self._unseen: set[Open] = set()

    @property
    def found(self) -> tuple[Floats | None, float, int]:
        """The point, shape (d,), none where points are not written out; its value; and the number of its query."""
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
        """Note that an open step has new values; they are compared when somebody asks, or with the rest."""
        self._unseen.add(pending)

    def whole(self, pending: Open, feedback: Values) -> None:
        """Compare all values of a step with what is kept; parts of it that nobody asked about are among them."""
        self._unseen.discard(pending)
        self._see(pending, feedback.values)

    def ranked(self, pending: Open, positions: Ints, feedback: Ranking) -> None:
        """Take the winner of a ranking: the newest one counts."""
        losses = feedback.net_losses()
        if losses.any():
            self.found = self.found  # what came before is compared before
            self._keep(pending, int(positions[np.argmin(losses)]), np.nan)

    def _see(self, pending: Open, values: Floats) -> None:
        value = float(np.fmin.reduce(values))  # passes over NaN, of queries that failed or have no answer yet
        if value != value or value > self._value:  # none is known, or all are worse
            return
        position = int(np.argmax(values == value))
        if value != self._value or position + pending.first_id < self._id:
            self._keep(pending, position, value)

    def _keep(self, pending: Open, position: int, value: float) -> None:
        if isinstance(self.variable, Vector):
            self._x = self.variable.outside(pending.queries.take(np.array([position])).points())[0]
        self._value, self._id = value, position + pending.first_id
