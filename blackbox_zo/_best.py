"""The best point asked about so far."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blackbox_zo._open import Open
from blackbox_zo._typing import Floats, Ints, Tree
from blackbox_zo.feedback import Feedback, Ranking, Values
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
        self._later: list[tuple[Open, Ints, Feedback]] = []

    @property
    def found(self) -> tuple[Floats | None, float, int]:
        """The point, shape (d,), none where points are not written out; its value; and the number of its query."""
        for part in self._later:
            self._see(*part)
        self._later = []
        return self._x, self._value, self._id

    @found.setter
    def found(self, found: tuple[Floats | None, float, int]) -> None:
        self._later = []
        self._x, self._value, self._id = found

    def point(self) -> Best:
        """The best point, in the user's structure."""
        flat, value, query = self.found
        x = None
        if isinstance(self.variable, Vector) and flat is not None:
            x = self.variable.treedef.unflatten(flat.copy())
        return Best(x, value, query)

    def part(self, pending: Open, positions: Ints, feedback: Feedback) -> None:
        """Note answers to some queries of an open step; they are looked at when somebody asks, or with the rest."""
        self._later.append((pending, positions, feedback))

    def whole(self, pending: Open, feedback: Feedback) -> None:
        """Compare a step's answers with what is kept; what was noted of it is among them."""
        if not isinstance(feedback, Values):
            return  # of rankings each part was looked at when it came
        if self._later:
            self._later = [part for part in self._later if part[0] is not pending]
        self._see(pending, pending.every, feedback)

    def ranked(self, pending: Open, positions: Ints, feedback: Ranking) -> None:
        """Take the winner of a ranking: the newest one counts."""
        losses = feedback.net_losses()
        if losses.any():
            self.found = self.found  # what came before is compared before
            self._keep(pending, int(positions[np.argmin(losses)]), np.nan)

    def _see(self, pending: Open, positions: Ints, feedback: Feedback) -> None:
        if not isinstance(feedback, Values) or feedback.n_failed == feedback.n:
            return
        values = feedback.values
        value = float(values[0]) if len(values) == 1 else float(np.fmin.reduce(values))  # fmin passes over NaN
        if not (value > self._value):  # better, or as good, or the first
            position = int(positions[values == value].min())
            if value != self._value or position + pending.first_id < self._id:
                self._keep(pending, position, value)

    def _keep(self, pending: Open, position: int, value: float) -> None:
        if isinstance(self.variable, Vector):
            self._x = self.variable.outside(pending.queries.take(np.array([position])).points())[0]
        self._value, self._id = value, position + pending.first_id
