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


class Proposal:
    """Points to be asked about, all of one step.

    A wrapper that asks about other points makes its proposal from the one it was given, by `take` or `about`, so that
    the oracle inside still finds its state; only `numbered` makes one from nothing.

    Attributes:
        step: Number of the step, from 0.
        ids: The number of each query within the run, shape (n,), from 0; stable over resumes.
        queries: The points as directions and scales.
        variable: What they are points of.
        moment: What oracles know in this step, and what they learn from it; see `state` and `learn`.
        ahead: Proposals that were asked after this one and will be answered after it; see `Search.run(ahead=...)`.
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
        """All of `queries`, with ids from `first_id` on, outside any search: oracles answer as at their start."""
        return cls(step, np.arange(first_id, first_id + queries.n), queries, variable, Moment())

    def state(self, oracle: Learner) -> Any:
        """The state of an oracle that learns, as it was when this step was asked; see `Oracle`.

        Raises:
            JournalError: The search has a journal, which could not replay what this oracle does.
            ValueError: The state was saved by an oracle of another kind.
        """
        return self.moment.state(oracle)

    def learn(self, oracle: Learner, query: int, evidence: Any) -> None:
        """Note what the answer to a query taught an oracle; a second note about the same query replaces the first.

        Args:
            oracle: Who learns.
            query: The id of the query.
            evidence: JSON-able: it goes into the journal with the answer. It is absorbed when the step ends.

        Raises:
            OracleError: This is a copy of a proposal, in another process than the search; or another oracle of the
                same class learnt something else from the query.
        """
        self.moment.learn(oracle, query, evidence)

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
        return self._like(self.ids[which], self.queries.take(which), self.variable)

    def about(self, queries: Queries, variable: Variable) -> Proposal:
        """Other points under the same step and ids, one for each of this proposal's."""
        return self._like(self.ids, queries, variable)

    def _like(self, ids: Ints, queries: Queries, variable: Variable) -> Proposal:
        out = Proposal(self.step, ids, queries, variable, self.moment)
        out.ahead = self.ahead
        return out

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
