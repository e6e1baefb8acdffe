"""`Proposal`: what `Search.ask` hands out."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats, Ints, Tree
from blackbox_zo.learning import Learner, Moment
from blackbox_zo.steps import Queries
from blackbox_zo.variables import Variable, Vector

__all__ = ["Proposal"]

AT_ONCE = 1 << 15
"""Up to this many numbers, reading one point computes them all, at the cost of two."""


class Proposal:
    """The points of one step.

    A wrapper that asks about other points derives its proposal from the one it was given, by `take` or `about`, so that
    the wrapped oracle finds its state.

    Attributes:
        step: Number of the step, from 0.
        ids: The number of each query within the run, shape (n,), from 0; the same after a resume.
        queries: The points in matrix form.
        variable: The variable that is searched.
        moment: The oracles' states in this step, and what they learn from it; see `state` and `learn`.
        ahead: Proposals of later steps that have already been asked; see `Search.run(ahead=...)`.
    """

    __slots__ = ("__dict__", "ahead", "ids", "moment", "queries", "step", "variable")

    def __init__(self, step: int, ids: Ints, queries: Queries, variable: Variable, moment: Moment) -> None:
        ids.flags.writeable = False
        self.step = step
        self.ids = ids
        self.queries = queries
        self.variable = variable
        self.moment = moment
        self.ahead: tuple[Proposal, ...] = ()

    @classmethod
    def numbered(cls, step: int, first_id: int, queries: Queries, variable: Variable) -> Proposal:
        """A proposal outside any search, with ids from `first_id` on: oracles answer from their start state."""
        return cls(step, np.arange(first_id, first_id + queries.n), queries, variable, Moment())

    def state(self, oracle: Learner) -> Any:
        """The state of an oracle that learns, as of when this step was asked; see `Oracle`.

        Raises:
            JournalError: The search has a journal, and the oracle cannot be replayed.
            ValueError: The state was saved by an oracle of another kind.
        """
        return self.moment.state(oracle)

    def learn(self, oracle: Learner, query: int, evidence: Any) -> None:
        """Record what an oracle learnt from a query. A second record for the same query replaces the first.

        Args:
            oracle: The oracle that learns.
            query: Id of the query.
            evidence: What was learnt, JSON-able. It is written to the journal with the answer, and passed to `absorb`
                when the step ends.

        Raises:
            OracleError: This is a copy of the proposal in another process; or another oracle of the same class has
                learnt something else from the query.
        """
        self.moment.learn(oracle, query, evidence)

    def may_withdraw(self) -> None:
        """Note that answers to this step may be withdrawn later, by raising `Rewind`.

        The run then keeps a snapshot after the step, and goes back to it without asking earlier steps again. Without
        this, a run that is rewound goes back to its start: the same result, more slowly.
        """
        self.moment.withdrawable = True

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.ids)

    @cached_property
    def points(self) -> Floats:
        """The points, shape (n, d), read-only, in the units of x and inside its bounds. Computed on first read."""
        return self._vector.points(self.queries)

    @property
    def _vector(self) -> Vector:
        if not isinstance(self.variable, Vector):
            raise TypeError(
                f"The points of a `{type(self.variable).__name__}` are never written out. Use an oracle that displaces "
                "the parameters itself, such as `oracles.llm.LossOracle`."
            )
        return self.variable

    def take(self, which: Ints) -> Proposal:
        """The points at some positions, with their ids."""
        return self._like(self.ids[which], self.queries.take(which), self.variable)

    def about(self, queries: Queries, variable: Variable) -> Proposal:
        """Other points under the same step and ids, one for each point of this proposal."""
        return self._like(self.ids, queries, variable)

    def _like(self, ids: Ints, queries: Queries, variable: Variable) -> Proposal:
        out = Proposal(self.step, ids, queries, variable, self.moment)
        out.ahead = self.ahead
        return out

    def row(self, i: int) -> Floats:
        """Point i, shape (d,), as a copy. Large points are computed one by one, so this takes O(d) memory."""
        if "points" in self.__dict__ or self.n * self.variable.size <= AT_ONCE:
            return np.array(self.points[i])
        return np.array(self._vector.outside(self.queries.take(np.array([i])).points())[0])

    def tree(self, i: int) -> Tree:
        """Point i in the structure of x0."""
        return self._vector.treedef.unflatten(self.row(i))

    def trees(self) -> Tree:
        """All points in the structure of x0, each leaf with n as its first axis; read-only."""
        return self._vector.treedef.unflatten(self.points)

    def __repr__(self) -> str:
        return f"Proposal(step={self.step}, n={self.n}, ids={self.ids[0]}..{self.ids[-1]})"
