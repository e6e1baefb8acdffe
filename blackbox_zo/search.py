"""`Search`: ask and tell around a variable, an estimator and a rule."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from blackbox_zo._best import Best
from blackbox_zo._checks import check_at_least, check_seed
from blackbox_zo._engine import Engine
from blackbox_zo._known import check_comparable, check_method, doubtful, tries_of
from blackbox_zo._methods import Given, recorded
from blackbox_zo._open import Open, asked_again, belongs, cannot_use, positions_of
from blackbox_zo._replay import header_of, replay
from blackbox_zo._saved import Saved
from blackbox_zo._snapshot import Keeper
from blackbox_zo._typing import Ints, Tree
from blackbox_zo.errors import BudgetExhausted, FeedbackError, OracleError, TellError
from blackbox_zo.estimators import Estimator
from blackbox_zo.feedback import Feedback
from blackbox_zo.journal import Journal, Measured
from blackbox_zo.journal.lines import answer_lines, measured_line, with_asked
from blackbox_zo.oracle import Answers
from blackbox_zo.proposal import Proposal
from blackbox_zo.rules import Rule
from blackbox_zo.run import Ended, Report, Run
from blackbox_zo.variables import Variable, Vector

__all__ = ["Best", "Report", "Search"]


class Search(Saved):
    """Minimises by ask and tell.

    `ask` hands out points, `tell` takes answers, in any order and in parts; several proposals may be open at once. A
    step moves x when its last answer arrives. An estimate that is more than `max_staleness` moves old is not used; its
    answers still count for `best` and `nfev`.

    Args:
        x0: The start (a number, an array, nested dicts and lists of them), several as `Starts`, or a `Variable`, which
            is then moved.
        estimator: Chooses the points of a step and turns the answers into a gradient estimate.
        rule: Turns the estimate into a move; None for the estimator's own rule.
        seed: Determines all randomness.
        budget: Maximum number of queries; None for no limit. The last step is cut short if it would exceed the budget.
        journal: A path or a `Journal`. If it holds a run, that run is replayed and continued.
        max_staleness: See above; with 0, only estimates at the current x are used.
        change: Whether a run in the journal may go on with another method than before; see `change`.

    Raises:
        ValueError: An argument is out of range.
        JournalError: The journal is damaged, or of another problem or version.
        JournalLocked: Another search is writing to it: of another process, or of this one if it is at work, in a
            `with` block or in another thread. Otherwise a search of this process gives way, and writes no more.

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
        change: bool = False,
    ) -> None:
        check_method(estimator, rule)
        if budget is not None:
            check_at_least("Search", 1, budget=budget)
        check_at_least("Search", 0, max_staleness=max_staleness)
        seed, budget = check_seed(seed), None if budget is None else int(budget)
        variable = x0 if isinstance(x0, Variable) else Vector(x0)
        self._unhanded: deque[int] = deque()
        self._measured: list[Measured] = []
        self._journal: Journal | None = None
        self._keeper: Keeper | None = None
        self._recorded = self._tries = 0  # steps recorded in the journal, and tries beyond the first
        if journal is not None:
            self._journal = journal if isinstance(journal, Journal) else Journal(journal)
        then = None if self._journal is None else recorded(self._journal.path)
        given = Given(estimator, rule or estimator.rule(), then, change, self._journal and self._journal.path)
        self._engine = Engine(variable, *given.first, seed, budget, int(max_staleness))
        if self._journal is not None:
            lines = self._journal.open(header_of(self._engine))
            self._turn = self._journal.use.turn
            self._keeper = Keeper(self._engine, self._journal)
            try:
                if then is not None:
                    lines = self._journal.read(self._begin_from(self._journal.snapshots, given.rebuilt))
                begun = time.perf_counter()
                replay(self._engine, self._without_measures(lines), rebuilt=given.rebuilt)
                self._recorded, self._keeper.spent = self._engine.steps, time.perf_counter() - begun
                if given.changes:
                    self.change(*given.method)
            except BaseException:
                self._journal.close()
                raise
            self._engine.learning.journaled = True
            self._unhanded.extend(sorted(self._engine.open))
        self._doubted = self._engine.doubt.found is not None
        self._repeated = False

    # ------------------------------------------------------------------------------------------------- asking

    def ask(self, *, repeats: bool = False) -> Proposal:
        """Hand out the next points.

        After a resume, unanswered queries come first, with the same points, step and ids.

        The points of some estimators depend on the answers outstanding: while a step is open they ask about its points
        again. The first time there is a warning.

        Args:
            repeats: Whether that is as it should be, as for a caller that evaluates each point once; no warning then.

        Raises:
            BudgetExhausted: All queries of the budget have been handed out.
        """
        engine = self._engine
        while self._unhanded:
            step = self._unhanded.popleft()
            if step in engine.open:
                return self._hand(step, engine.open[step])
        if engine.budget is not None and engine.asked >= engine.budget:
            raise BudgetExhausted(
                f"All {engine.budget} queries of the budget have been handed out. Give a larger budget."
            )
        begun = time.perf_counter()
        step = engine.begin()
        if self._keeper is not None:
            self._keeper.spent += time.perf_counter() - begun
        if len(engine.open) > 1 and not (repeats or self._repeated or engine.estimator.any_age):
            if again := asked_again(engine.open, engine.estimator):
                self._repeated = True
                warnings.warn(again, stacklevel=2)
        return self._hand(step, engine.open[step])

    def give_back(self, proposals: Iterable[Proposal]) -> None:
        """Return proposals: the next `ask` hands out their unanswered queries again.

        `run` does so when it ends, so after an interruption, an exception in the oracle or a full disk the next `run`
        continues where it stopped.
        """
        left = {p.step for p in proposals if p.step in self._engine.open}
        if left:
            self._unhanded = deque(sorted(left.union(self._unhanded)))

    def _hand(self, step: int, pending: Open) -> Proposal:
        queries = pending.queries
        if pending.left == queries.n:
            ids: Ints = np.arange(pending.first_id, pending.first_id + queries.n)
        else:
            rest = np.flatnonzero(pending.waiting)
            ids, queries = rest + pending.first_id, queries.take(rest)
        proposal = Proposal(step, ids, queries, self._engine.variable, pending.moment)
        pending.handed.append(proposal)
        return proposal

    # ------------------------------------------------------------------------------------------------- telling

    def tell(self, proposal: Proposal, feedback: Feedback, ids: Any = None) -> None:
        """Record answers.

        With a journal they are written first; if that fails, nothing has changed, and they can be told again.

        Args:
            proposal: One that `ask` handed out.
            feedback: `Values` or `Ranking`, one entry per query told. NaN, or being unranked, is a failed query.
            ids: Which of `proposal.ids` are answered; None for all.

        Raises:
            TellError: The proposal or an id does not belong to this search or has been told already, or the number of
                answers is wrong.
            FeedbackError: The estimator cannot use this kind of feedback.
            JournalLocked: A later search has taken the journal over.
            OSError: The journal cannot be written.
        """
        engine = self._engine
        pending = self._find(proposal)
        positions = positions_of(proposal, pending, ids)
        if not isinstance(feedback, engine.estimator.accepts):
            raise FeedbackError(cannot_use(engine.estimator, feedback))
        if feedback.n != len(positions):
            raise TellError(
                f"`tell` got {feedback.n} answers for {len(positions)} queries; give one per id, NaN where it failed."
            )
        if pending.told_as not in (None, type(feedback)):
            raise TellError(
                f"Step {proposal.step} was told {pending.told_as.__name__} before; tell the whole step the same way."
            )
        check_comparable(engine, feedback)
        learnt = proposal.moment.of(positions, pending.first_id)
        if self._journal is not None:
            self._journal.check(self._turn)
            first, whole = pending.first_id, positions is pending.every
            told = range(first, first + feedback.n) if whole else [first + i for i in positions.tolist()]
            asked = proposal.step, pending.version, pending.ended
            lines = answer_lines(*asked, told, feedback, learnt, whole=whole)
            if engine.steps > self._recorded + (self._recorded == proposal.step):
                lines = with_asked(lines, self._asked_besides(proposal.step))
            self._journal.write(lines)
            self._recorded = engine.steps
        if learnt:
            for name, found in learnt.items():
                pending.learnt.setdefault(name, {}).update(found)
        self._tries += tries_of(feedback.info)
        if self._keeper is None or self._journal is None:
            engine.take(proposal.step, pending, positions, feedback)
        else:
            keeper, begun = self._keeper, time.perf_counter()
            keeper.whole = False
            done = engine.take(proposal.step, pending, positions, feedback)
            keeper.whole = True
            keeper.spent += time.perf_counter() - begun
            if done:
                self._journal.sync()
            if done and keeper.due():
                keeper.take(self._recorded, self._tries)
        if engine.doubt.found is not None and not self._doubted and self.doubt is not None:
            self._doubted = True
            warnings.warn(doubtful(*self.doubt), stacklevel=2)

    def _find(self, proposal: Proposal) -> Open:
        """The open step that a proposal was handed out from."""
        if not isinstance(proposal, Proposal):
            raise TellError(f"`tell` needs a proposal that `ask` handed out, got {proposal!r:.60}.")
        engine = self._engine
        pending = engine.open.get(proposal.step)
        if pending is None and 0 <= proposal.step < engine.steps and proposal.variable is engine.variable:
            raise TellError(f"Step {proposal.step} has been told already; every query is answered once.")
        if pending is None or not belongs(proposal, pending):
            raise TellError(
                f"Step {proposal.step} with ids {proposal.ids[0]} to {proposal.ids[-1]} was not asked by this search. "
                "Tell each proposal to the search that asked it."
            )
        return pending

    def record(self, measured: Measured) -> None:
        """Record a measure, in the journal too if there is one.

        Raises:
            OSError: The journal cannot be written.
        """
        if self._journal is not None:
            self._journal.check(self._turn)
            self._journal.write(measured_line(measured))
            self._journal.sync()
        self._measured.append(measured)

    # ------------------------------------------------------------------------------------------------- running

    def run(
        self, oracle: Answers, steps: int | None = None, *, ahead: int = 0, patience: int | None = 10
    ) -> Iterator[Report]:
        """Ask `oracle` step by step, yielding a report after each.

        Each part of an answer is told, and written to the journal, as soon as the oracle returns it. `Run` is the same
        loop with more limits, measures and observers.

        Args:
            oracle: Anything with `answer(proposal) -> Feedback`.
            steps: Maximum number of steps; None to continue until the budget is spent.
            ahead: Number of later proposals to ask for before the current one is answered; the oracle sees them as
                `proposal.ahead`. Their points are chosen that many moves early.
            patience: The run ends after this many consecutive steps without a usable answer; None for never.

        Raises:
            ValueError: There is neither a budget nor a number of steps, or an argument is out of range.
            JournalError: The search has a journal, and the oracle cannot be replayed.
            OracleError: `patience` consecutive steps had no usable answer.
        """
        run = Run(self, oracle, steps=steps, ahead=ahead, patience=patience)
        return self._reports(run)

    def _reports(self, run: Run) -> Iterator[Report]:
        yield from run
        if run.ended is Ended.BARREN:
            raise OracleError(run.message)

    def close(self) -> None:
        """Flush and close the journal; take a snapshot first, if one is worth its while: see `Journal`."""
        if self._journal is not None and self._journal.use.turn == self._turn:
            self._journal.use.kept = False
            keeper, self._keeper = self._keeper, None
            try:
                if keeper is not None and keeper.due(closing=True):
                    keeper.take(self._recorded, self._tries, closing=True)
            finally:
                self._journal.close()

    def __enter__(self) -> Search:
        if self._journal is not None:
            self._journal.use.kept = True
        return self

    def __exit__(self, *args: object) -> None:
        self.close()
