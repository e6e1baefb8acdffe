"""The best point asked about so far."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blackbox_zo._open import Open
from blackbox_zo._typing import Floats, Ints, Tree
from blackbox_zo.feedback import Feedback, Values
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

    Attributes:
        x: The point, shape (d,); none where points are not written out.
        value: Its value.
        id: The number of its query.
    """

    def __init__(self, variable: Variable) -> None:
        self.variable = variable
        self.x: Floats | None = variable.flat if isinstance(variable, Vector) else None
        self.value, self.id = np.nan, -1

    def point(self) -> Best:
        """As a user sees it."""
        x = None
        if isinstance(self.variable, Vector) and self.x is not None:
            x = self.variable.treedef.unflatten(self.x.copy())
        return Best(x, self.value, self.id)

    def see(self, pending: Open, positions: Ints, feedback: Feedback) -> None:
        """Compare answers to some queries of an open proposal with what is kept; of rankings the newest wins."""
        if not isinstance(feedback, Values):
            losses = feedback.net_losses()
            if losses.any():
                self._keep(pending, int(positions[np.argmin(losses)]), np.nan)
        elif feedback.n_failed < feedback.n:
            values = feedback.values
            value = float(values[0]) if len(values) == 1 else float(np.fmin.reduce(values))  # fmin passes over NaN
            if not (value > self.value):  # better, or as good, or the first
                position = int(positions[values == value].min())
                if value != self.value or position + pending.first_id < self.id:
                    self._keep(pending, position, value)

    def _keep(self, pending: Open, position: int, value: float) -> None:
        if isinstance(self.variable, Vector):
            self.x = self.variable.outside(pending.queries.take(np.array([position])).points())[0]
        self.value, self.id = value, position + pending.first_id
