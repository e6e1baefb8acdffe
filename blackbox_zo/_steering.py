"""What can happen to a search between its answers: known values, a change of method, a lower budget."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from blackbox_zo._describe import describe, spell
from blackbox_zo._horizon import without_rates
from blackbox_zo._known import check_feedback, check_method, known_values
from blackbox_zo._standing import Standing
from blackbox_zo._typing import Tree
from blackbox_zo.estimators import Estimator
from blackbox_zo.journal._events import change_line, known_line
from blackbox_zo.rules import Rule

__all__ = ["Steered"]


class Steered(Standing):
    """How a search is moved by other things than answers."""

    _turn: int
    _recorded: int

    def tell_known(self, points: Iterable[Tree], values: Any) -> None:
        """Tell values that somebody else measured. They cost no budget, and may come at any time.

        The estimator learns from them what it can, and they count for `best`. A point that has been told before with
        the same value is passed over, so the same values may be told again after a resume.

        Args:
            points: Points in the structure of x0, inside the bounds.
            values: Their values, shape (n,), as many; lower is better. NaN is a point that is known to fail.

        Raises:
            TellError: The numbers of points and values differ, or a value is infinite or no real number.
            ValueError: A point has another structure than x0, or lies outside the bounds.
            TypeError: The variable's points are never written out.
            FeedbackError: The estimator uses rankings alone, or the answers so far are rankings.
            JournalLocked: A later search has taken the journal over.
            OSError: The journal cannot be written.

        Example:
            >>> import blackbox_zo as bz
            >>> s = bz.Search([0.0, 0.0], bz.EvolutionStrategy(0.3, model=True))
            >>> s.tell_known([[1.0, 2.0], [1.0, 3.0]], [0.5, 0.7])
            >>> s.best.x, s.best.value, s.best.known
            (array([1., 2.]), 0.5, True)
        """
        points = list(points)
        if not points and not np.size(values):
            return
        fresh = self._engine.past.news(*known_values(self._engine, points, values))
        if not len(fresh[1]):
            return
        self._happened(known_line(*fresh, self._engine.steps, self._asked_besides(-1)))
        self._engine.inform(*fresh)

    def change(self, estimator: Estimator, rule: Rule | None = None) -> None:
        """Go on with another method, from the best point.

        The new one is informed of the points and values so far, the newest 64 MiB of them at most, and of what was
        known. Steps that are open are answered as they were asked, and the new method is told their values. A variable
        whose points are never written out goes on from where it stands.

        Args:
            estimator: The new estimator.
            rule: Its rule; None for the estimator's own.

        Raises:
            TypeError: The estimator cannot use the variable, or an argument is of another kind.
            FeedbackError: The answers so far are rankings, which the estimator cannot use.
            JournalLocked: A later search has taken the journal over.
            OSError: The journal cannot be written.

        Example:
            >>> import blackbox_zo as bz, numpy as np
            >>> s = bz.Search(np.ones(3), bz.EvolutionStrategy(0.3), budget=200)
            >>> f = bz.FunctionOracle(lambda x: x @ x)
            >>> for report in s.run(f, steps=10):
            ...     pass
            >>> s.change(bz.QuasiNewton(0.1))
            >>> for report in s.run(f):
            ...     pass
            >>> bool(s.best.value < 1e-10)
            True
        """
        check_method(estimator, rule)
        engine, rule = self._engine, rule or estimator.rule()
        check_feedback(engine, estimator)
        method = engine.ready(estimator, rule)  # before anything is written
        described = describe(estimator), describe(rule)
        self._happened(change_line(*described, engine.steps, self._asked_besides(-1)))
        engine.go_on(method)

    def reschedule(self, rule: Rule) -> None:
        """Go on at other learning rates, for instance those of a schedule over more steps.

        Unlike after `change`, the search stays where it is, and the states of estimator and rule go on, such as moments
        and the number of moves, at which a schedule is read. The journal has the new rule, so a replay gives the same
        bits.

        Args:
            rule: The rule, equal to the present one in everything but `learning_rate`.

        Raises:
            ValueError: It differs in something else.
            JournalLocked: A later search has taken the journal over.
            OSError: The journal cannot be written.

        Example:
            >>> import blackbox_zo as bz, numpy as np
            >>> s = bz.Search(np.ones(3), bz.RandomVector(0.1), bz.SGD(bz.Cosine(0.1, 0.0, 100)))
            >>> s.reschedule(bz.SGD(bz.Cosine(0.1, 0.0, 200)))
            >>> s.rule.learning_rate.steps
            200
        """
        engine, described = self._engine, describe(rule)
        if without_rates(described) != without_rates(describe(engine.rule)):
            raise ValueError(
                f"`reschedule` changes learning rates only: the rule is {spell(describe(engine.rule))}, here it is "
                f"{spell(described)}. Use `change` for another method."
            )
        self._happened(
            change_line(describe(engine.estimator), described, engine.steps, self._asked_besides(-1), keeps=True)
        )
        engine.reschedule(rule)

    def _happened(self, line: str) -> None:
        """Write a line of its own kind."""
        if self._journal is not None:
            self._journal.check(self._turn)
            self._journal.write(line)
            self._journal.sync()
            self._recorded = self._engine.steps

    def limit_to(self, left: int) -> bool:
        """Lower the budget to `left` queries after the complete steps, where there is no more to ask.

        Returns:
            Whether the budget is that now; it is not where it was lower before.
        """
        engine = self._engine
        most = engine.asked - sum(pending.queries.n for pending in engine.open.values()) + left
        if engine.budget is not None and engine.budget < most:
            return False
        engine.budget = max(most, engine.asked)
        return True

    def _asked_besides(self, step: int) -> list[tuple[int, int, int]]:
        """Other open steps without a line in the journal yet; a resumed run must sample them as before."""
        held = self._engine.open
        others = (s for s in range(self._recorded, self._engine.steps) if s != step and s in held)
        return [(s, held[s].version, held[s].ended) for s in others]
