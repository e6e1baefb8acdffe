"""Open proposals, and the checks that an answer belongs to one of them."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

from blackbox_zo._typing import Bools, Floats, Ints
from blackbox_zo.errors import TellError
from blackbox_zo.estimators import Estimator
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.learning import Moment
from blackbox_zo.proposal import Proposal
from blackbox_zo.steps import Queries

__all__ = ["Open", "asked_again", "belongs", "cannot_use", "positions_of"]


class Open:
    """A proposal that waits for answers, with what is needed to sample it again.

    Attributes:
        version: Number of moves made when it was sampled.
        ended: Number of steps that were complete then; not every step moves x.
        state: The estimator's state then.
        begun: Number of the method that asked; see `Engine.begun`.
        queries: The points of all its queries.
        first_id: Id of the first query.
        moment: The oracles' states in this step, and what they learn from it.
        handed: The proposals that `ask` handed out for it.
        every: The positions 0 … n - 1.
        waiting: Which answers are still missing, shape (n,).
        left: Number of missing answers.
        values: The values so far, shape (n,).
        stderr: Their standard errors, shape (n,).
        rankings: The rankings so far, each with the positions that it ranks.
        learnt: The evidence of the queries that were told, by oracle name and query id.
        told_as: The kind of feedback so far.
    """

    __slots__ = (
        "begun", "ended", "every", "first_id", "handed", "learnt", "left", "moment", "queries", "rankings", "state",
        "stderr", "told_as", "values", "version", "waiting",
    )  # fmt: skip

    def __init__(
        self, version: int, ended: int, state: Any, begun: int, queries: Queries, first_id: int, moment: Moment
    ) -> None:
        self.version, self.ended, self.state, self.begun = version, ended, state, begun
        self.queries, self.first_id = queries, first_id
        self.moment = moment
        self.handed: list[Proposal] = []
        self.left = queries.n
        self.every: Ints = np.arange(queries.n)
        self.waiting: Bools = np.empty(queries.n, dtype=np.bool_)
        self.waiting.fill(True)  # `np.ones` and `np.full` take three times as long for a few queries
        self.values: Floats = np.empty(queries.n)
        self.values.fill(np.nan)
        self.stderr: Floats | None = None
        self.rankings: list[tuple[Ints, Ranking]] = []
        self.learnt = moment.told
        self.told_as: type[Feedback] | None = None

    def copy(self) -> Open:
        """A copy, marked as not handed out."""
        moment = Moment(self.moment.learning)  # what is told to one is not told to the other
        moment.states = self.moment.states
        out = Open(self.version, self.ended, self.state, self.begun, self.queries, self.first_id, moment)
        out.left, out.waiting, out.values = self.left, self.waiting.copy(), self.values.copy()
        out.stderr = None if self.stderr is None else self.stderr.copy()
        out.rankings, out.told_as = list(self.rankings), self.told_as
        out.learnt |= {name: dict(found) for name, found in self.learnt.items()}
        return out

    def take(self, positions: Ints, feedback: Feedback) -> Feedback | None:
        """Record the answers to some queries; return the answer to the whole step once none is missing."""
        if positions is self.every:
            return feedback
        self.waiting[positions] = False
        self.left -= len(positions)
        self.told_as = type(feedback)
        if isinstance(feedback, Ranking):
            self.rankings.append((positions, feedback))
            return None if self.left else Ranking.join(self.rankings, self.queries.n)
        self.values[positions] = feedback.values
        if feedback.stderr is not None:
            self.stderr = np.full(self.queries.n, np.nan) if self.stderr is None else self.stderr
            self.stderr[positions] = feedback.stderr
        if self.left:
            return None
        n_failed = int(np.count_nonzero(np.isnan(self.values)))
        return Values.checked(self.values, n_failed, self.stderr)


def belongs(proposal: Proposal, pending: Open) -> bool:
    """Whether a proposal was handed out from an open one, or before a restart with the same points."""
    return proposal in pending.handed or _same(proposal, pending)


def _same(proposal: Proposal, pending: Open) -> bool:
    """Whether a different object, such as one from before a restart, asks about exactly the open points."""
    which = proposal.ids - pending.first_id
    if which[0] < 0 or which[-1] >= pending.queries.n:
        return False
    mine, theirs = pending.queries.take(which), proposal.queries
    if not proposal.variable.dense:
        same = np.array_equal(mine.index, theirs.index) and np.array_equal(mine.scale, theirs.scale)
        return same and mine.origin == theirs.origin
    return np.array_equal(mine.origin, theirs.origin) and np.array_equal(mine.points(), theirs.points())


def positions_of(proposal: Proposal, pending: Open, ids: Any) -> Ints:
    """Positions of the told queries within the step.

    Raises:
        TellError: An id is not the proposal's, is given twice, or has been told.
    """
    n = len(pending.every)
    if isinstance(ids, np.ndarray) and ids.shape == (1,) and ids.dtype == np.intp and proposal.n == n:
        position = int(ids[0]) - pending.first_id
        if 0 <= position < n and pending.waiting[position]:  # the usual case: one answer of a step that was handed out
            return pending.every[position : position + 1] if n > 1 else pending.every
    if ids is None or ids is proposal.ids:
        positions = pending.every if proposal.n == len(pending.every) else proposal.ids - pending.first_id
    else:
        told = np.atleast_1d(np.asarray(ids))
        if told.ndim != 1 or told.size == 0 or told.dtype.kind not in "iu":
            raise TellError(f"`tell(ids=...)` must be one or more of the proposal's ids, got {ids!r:.60}.")
        place = np.searchsorted(proposal.ids, told)
        known = proposal.ids[np.minimum(place, proposal.n - 1)] == told
        if not known.all():
            raise TellError(
                f"`tell(ids=...)` names {told[~known][0]}, which is not an id of step {proposal.step}: "
                f"those are {proposal.ids[0]} to {proposal.ids[-1]}."
            )
        if len(set(told.tolist())) < told.size:
            raise TellError("`tell(ids=...)` names an id twice; every query is answered once.")
        positions = told.astype(np.intp) - pending.first_id
    if pending.left == len(pending.every):
        return positions
    waiting = pending.waiting[positions]
    if not waiting.all():
        raise TellError(
            f"Query {positions[~waiting][0] + pending.first_id} has been told already; every query is answered once."
        )
    return positions


def asked_again(open_steps: dict[int, Open], estimator: Estimator) -> str:
    """What to say where the newest open step asks about the points of the one before; "" where it does not.

    It costs next to nothing: directions that are drawn from other keys are not drawn, and of others one point is
    compared first. Points that are never written out are all drawn from keys, or are too many to ask twice.
    """
    step, before = islice(reversed(open_steps), 2)
    queries, earlier = open_steps[step].queries, open_steps[before].queries
    key, other = (getattr(q.directions, "key", None) for q in (queries, earlier))
    if key != other or queries.n != earlier.n or not isinstance(queries.origin, np.ndarray):
        return ""
    for some in (slice(1), slice(queries.n)):
        if not np.array_equal(queries.take(some).points(), earlier.take(some).points()):
            return ""
    return (
        f"Step {step} asks about the very points of step {before}, which is not answered yet: the next points of "
        f"`{type(estimator).__name__}` depend on the answers outstanding. Tell these first, and evaluate the points of "
        "one proposal in parallel; or use `minimize(..., asynchronous=True)` or "
        "`bz.Asynchronous(bz.EvolutionStrategy(...))`, which have another point for everyone who asks."
    )


def cannot_use(estimator: Estimator, feedback: Any) -> str:
    """Why an estimator refuses a kind of feedback."""
    name, kind = type(estimator).__name__, type(feedback).__name__
    if isinstance(feedback, Ranking):
        return (
            f"Cannot use `{name}` with this oracle: it needs the value of each query, but the oracle answered "
            f"`{kind}`. Use `RankBased`."
        )
    accepted = " or ".join(f"`{t.__name__}`" for t in estimator.accepts)
    return f"Cannot use `{name}` with this oracle: it needs {accepted}, not `{kind}`. Put `RankOnly` around the oracle."
