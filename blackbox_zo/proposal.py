"""`Proposal`: what `Search.ask` hands out."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from blackbox_zo._typing import Floats, Ints, Tree
from blackbox_zo.steps import Queries
from blackbox_zo.variables import Variable, Vector

__all__ = ["Proposal"]


class Proposal:
    """Points to be asked about, all of one step.

    Attributes:
        step: Number of the step, from 0.
        ids: The number of each query within the run, shape (n,), from 0; stable over resumes.
        queries: The points as directions and scales.
        variable: What they are points of.
    """

    __slots__ = ("__dict__", "ids", "queries", "step", "variable")

    def __init__(self, step: int, ids: Ints, queries: Queries, variable: Variable) -> None:
        ids.flags.writeable = False
        self.step = step
        self.ids = ids
        self.queries = queries
        self.variable = variable

    @classmethod
    def numbered(cls, step: int, first_id: int, queries: Queries, variable: Variable) -> Proposal:
        """All of `queries`, with ids from `first_id` on."""
        return cls(step, np.arange(first_id, first_id + queries.n), queries, variable)

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.ids)

    @cached_property
    def points(self) -> Floats:
        """The points, shape (n, d), read-only, in the units of x and inside its bounds. Computed when first read."""
        return self._vector.points(self.queries)

    @property
    def _vector(self) -> Vector:
        if not isinstance(self.variable, Vector):
            raise TypeError(
                f"The points of a `{type(self.variable).__name__}` are never written out. Ask an oracle that displaces "
                "the parameters itself, such as `oracles.llm.LossOracle`."
            )
        return self.variable

    def take(self, which: Ints) -> Proposal:
        """Some of the points, by their positions, under the same step and ids."""
        return Proposal(self.step, self.ids[which], self.queries.take(which), self.variable)

    def row(self, i: int) -> Floats:
        """Point i alone, shape (d,), a copy of its own; along coordinate axes it takes O(d) memory."""
        if "points" in self.__dict__:
            return np.array(self.points[i])
        return np.array(self._vector.outside(self.queries.take(np.array([i])).points())[0])

    def tree(self, i: int) -> Tree:
        """Point i in the structure that the user gave as x0."""
        return self._vector.treedef.unflatten(self.row(i))

    def trees(self) -> Tree:
        """All points in the user's structure, each leaf with n as its first axis; read-only."""
        return self._vector.treedef.unflatten(self.points)

    def __repr__(self) -> str:
        return f"Proposal(step={self.step}, n={self.n}, ids={self.ids[0]}..{self.ids[-1]})"
