"""`Search`: the one interface, ask and tell, around a variable, an estimator and a rule."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from blackbox_zo import _checkpoint, _replay
from blackbox_zo._best import Best, BestSoFar
from blackbox_zo._checks import check_at_least
from blackbox_zo._open import Open, cannot_use, find, positions_of
from blackbox_zo._running import answers
from blackbox_zo._typing import Ints, Tree
from blackbox_zo.errors import BudgetExhausted, FeedbackError, JournalError, TellError
from blackbox_zo.estimators import Estimator
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.journal import Journal
from blackbox_zo.oracle import Answers
from blackbox_zo.proposal import Proposal
from blackbox_zo.randomness import Key
from blackbox_zo.rules import Rule
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["Best", "Report", "Search"]


class Report(NamedTuple):
    """What one step of `Search.run` did.

    Attributes:
        step: Number of the step.
        nfev: Queries answered so far, failures included.
        value: Mean of the step's values; NaN for rankings, or where all failed.
        best: Best value so far.
        failed: Failed queries so far.
    """

    step: int
    nfev: int
    value: float
    best: float
    failed: int


class Search:
    """Minimise by asking.

    `ask` hands out points, `tell` takes answers, in any order and in parts; several proposals may be open at once. A
    step moves x when its last answer arrives. An estimate that arrives more than `max_staleness` moves after its
    points were chosen moves nothing; its answers still count for `best` and `nfev`.

    Args:
        x0: The start (a number, an array, nested dicts and lists of them), or a `Variable`, which is then moved.
        estimator: How to ask, and what to make of the answers.
        rule: How an estimate becomes a move; none takes the estimator's own.
        seed: All randomness is a function of it.
        budget: Most queries ever asked; none means no limit. The last step is cut short where it would exceed it.
        journal: A path or a `Journal`. If it holds a run, that run is replayed and goes on.
        max_staleness: See above; 0 uses only estimates at the present x.

    Raises:
        ValueError: An argument is out of its range.
        JournalError: The journal is damaged, or of another problem or version.
        JournalLocked: Another search is writing to it.

    Example:
        >>> import blackbox_zo as bz, numpy as np
        >>> s = bz.Search(np.ones(3), bz.RandomVector(1e-3, 3), bz.SGD(0.1), seed=1)
        >>> for _ in range(100):
        ...     p = s.ask()
        ...     s.tell(p, bz.Values((p.points**2).sum(axis=1)))
        >>> bool(s.best.value < 1e-3)
        True
    """

    def __init__(
        self,
        x0: Tree | Variable,
        estimator: Estimator,
        rule: Rule | None = None,
        seed: int = 0,
        budget: int | None = None,
        journal: str | Path | Journal | None = None,
        *,
        max_staleness: int = 8,
    ) -> None:
        if not isinstance(estimator, Estimator):
            raise TypeError(f"`estimator` must be an estimator such as `RandomVector(0.1)`, got {estimator!r:.60}.")
        if rule is not None and not isinstance(rule, Rule):
            raise TypeError(f"`rule` must be a rule such as `SGD(0.1)`, got {rule!r:.60}.")
        if budget is not None:
            check_at_least("Search", 1, budget=budget)
        check_at_least("Search", 0, max_staleness=max_staleness)
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise TypeError(f"`seed` must be a whole number, got {seed!r:.60}.")
        if not -(2**63) <= seed < 2**63:
            raise ValueError(f"`seed` must fit 64 bits, got {seed}.")
        self.variable: Variable = x0 if isinstance(x0, Variable) else Vector(x0)
        self.estimator = estimator
        self.rule = rule or estimator.rule()
        self.seed, self.budget, self.max_staleness = int(seed), budget, max_staleness
        self.nfev = 0
        self.failed = 0
        self._asked = 0
        self._step = 0
        self._state = estimator.start(self.variable)
        self._rule_state = self.rule.start(self.variable)
        self._open: dict[int, Open] = {}
        self._best = BestSoFar(self.variable)
        self._journal: Journal | None = None
        self._recorded: list[dict[str, Any]] = []  # what a journal held, for the oracle that answered it
        if journal is not None:
            self._journal = journal if isinstance(journal, Journal) else Journal(journal)
            self._recorded = self._journal.open(_replay.header(self))
            try:
                _replay.replay(self, self._recorded)
            except BaseException:
                self._journal.close()
                raise

    # ------------------------------------------------------------------------------------------------- reading

    @property
    def x(self) -> Tree:
        """Where the search stands, in the user's structure."""
        return self.variable.x

    @property
    def steps(self) -> int:
        """How many steps have been asked so far, resumed ones included."""
        return self._step

    @property
    def best(self) -> Best:
        """The best point asked about so far; x0 with the value NaN before the first answer."""
        return self._best.point()

    @property
    def exhausted(self) -> bool:
        """Whether the whole budget has been asked and answered."""
        return self.budget is not None and self._asked >= self.budget and not self._open

    @property
    def journal(self) -> Journal | None:
        """The journal, if there is one."""
        return self._journal

    # ------------------------------------------------------------------------------------------------- asking

    def ask(self) -> Proposal:
        """Hand out the next points.

        After a resume, what is still unanswered comes first: the same points under the same step and ids.

        Raises:
            BudgetExhausted: All queries of the budget have been handed out.
        """
        for step, pending in self._open.items():
            if not pending.handed:
                return self._hand(step, pending)
        if self.budget is not None and self._asked >= self.budget:
            raise BudgetExhausted(
                f"All {self.budget} queries of the budget have been handed out. Give a larger budget."
            )
        step = self._begin()
        return self._hand(step, self._open[step])

    def _begin(self) -> int:
        """Sample the next step and hold it open."""
        step = self._step
        queries = self.estimator.sample(self._state, self.variable, Key(self.seed, step))
        if self.budget is not None and self._asked + queries.n > self.budget:
            queries = queries.take(slice(self.budget - self._asked))
        self._hold(step, self.variable.version, self._state, queries, self._asked)
        self._step += 1
        self._asked += queries.n
        return step

    def _hold(self, step: int, version: int, state: Any, queries: Queries, first_id: int) -> Open:
        self._open[step] = Open(version, state, queries, first_id)
        return self._open[step]

    def _hand(self, step: int, pending: Open) -> Proposal:
        if pending.left == pending.queries.n:
            proposal = Proposal.numbered(step, pending.first_id, pending.queries, self.variable)
        else:
            rest = np.flatnonzero(pending.waiting)
            proposal = Proposal(step, rest + pending.first_id, pending.queries.take(rest), self.variable)
        pending.handed.append(proposal)
        return proposal

    # ------------------------------------------------------------------------------------------------- telling

    def tell(self, proposal: Proposal, feedback: Feedback, ids: Any = None) -> None:
        """Take answers.

        Args:
            proposal: One that `ask` handed out.
            feedback: `Values` or `Ranking`, one entry per query told. NaN, or being unranked, is a failed query.
            ids: Which of `proposal.ids` are answered; none means all of them.

        Raises:
            TellError: The proposal or ids are of another run, are told twice, or do not fit the feedback in number.
            FeedbackError: The estimator cannot use this kind of feedback.
        """
        pending = find(self, proposal)
        positions = positions_of(proposal, pending, ids)
        if not isinstance(feedback, self.estimator.accepts):
            raise FeedbackError(cannot_use(self.estimator, feedback))
        if feedback.n != len(positions):
            raise TellError(
                f"`tell` got {feedback.n} answers for {len(positions)} queries; give one per id, NaN where it failed."
            )
        if pending.told_as not in (None, type(feedback)):
            raise TellError(
                f"Step {proposal.step} was told {pending.told_as.__name__} before; tell all of it the same way."
            )
        complete = pending.left == len(positions)
        if self._journal is not None:
            whole = positions is pending.every
            ids = positions + pending.first_id
            self._journal.write(_replay.lines(proposal.step, pending.version, ids, feedback, whole))
        self._take(proposal.step, pending, positions, feedback)
        if complete and self._journal is not None:
            self._journal.sync()

    def _take(self, step: int, pending: Open, positions: Ints, feedback: Feedback) -> None:
        """Record answers that have been checked, and move if the step is complete."""
        self.nfev += len(positions)
        if isinstance(feedback, Values):
            self.failed += feedback.n_failed
        self._best.see(pending, positions, feedback)
        whole = pending.take(positions, feedback)
        if whole is not None:
            del self._open[step]
            self._move(pending, whole)

    def _move(self, pending: Open, feedback: Feedback) -> None:
        if self.variable.version - pending.version > self.max_staleness:
            return
        self._state, gradient = self.estimator.estimate(self._state, self.variable, pending.queries, feedback)
        if isinstance(feedback, Values) and feedback.n_failed == feedback.n:  # nothing is known: no decay, no momentum
            self.variable.add_(Step(gradient.directions, np.zeros_like(gradient.w)))
            return
        self._rule_state, step = self.rule.update(self._rule_state, gradient)
        self.variable.add_(Step(step.directions, -step.w, step.shrink))

    # ------------------------------------------------------------------------------------------------- running

    def run(self, oracle: Answers, steps: int | None = None, *, ahead: int = 0) -> Iterator[Report]:
        """Ask `oracle` step by step, yielding a report after each.

        With a journal, every part of an answer is written the moment the oracle gives it. If the oracle raises, or the
        run is interrupted, what was answered until then is told first.

        Args:
            oracle: Anything with `answer(proposal) -> Feedback`.
            steps: Most steps to make; none goes on until the budget is spent.
            ahead: How many further proposals are asked and shown to `Oracle.prepare` before the present one is
                answered. Their points are chosen that many moves earlier than they could be.

        Raises:
            ValueError: There is neither a budget nor a number of steps, or `ahead` is negative.
            JournalError: There is a journal, which cannot tell what this oracle does.
        """
        if steps is None and self.budget is None:
            raise ValueError("`run(steps=...)` is needed where the search has no budget; it would never end.")
        check_at_least("run", 0, ahead=ahead)
        if self._journal is not None and not getattr(oracle, "replayable", True):
            raise JournalError(f"A journal cannot replay what `{type(oracle).__name__}` moves; search without one.")
        if self._journal is not None and getattr(oracle, "rewinds", False):
            raise JournalError(
                f"`{type(oracle).__name__}` may take answers back, which a journal cannot, and keeps them itself. "
                "Search without a journal; run the same program again to go on."
            )
        for step, value in answers(self, oracle, steps, ahead):
            yield Report(step, self.nfev, value, self._best.value, self.failed)

    def close(self) -> None:
        """Close the journal, with everything on disk."""
        if self._journal is not None:
            self._journal.close()

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------- saving

    def state_dict(self) -> dict[str, Any]:
        """The whole state as a flat dictionary of arrays and numbers, open proposals included.

        Save it with `numpy.savez(path, **s.state_dict())` and load it with `dict(numpy.load(path))`.
        """
        return _checkpoint.save(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, in a search made with the same arguments.

        Args:
            state: From `state_dict`.

        Raises:
            ValueError: It is of another dimension, seed, estimator or rule.
        """
        _checkpoint.load(self, state)
