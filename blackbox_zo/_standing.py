"""What can be read of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blackbox_zo._best import Best
from blackbox_zo._engine import Engine
from blackbox_zo._typing import Tree
from blackbox_zo.estimators import Estimator
from blackbox_zo.journal import Journal, Measured
from blackbox_zo.learning import Learner
from blackbox_zo.rules import Rule
from blackbox_zo.variables import Variable

__all__ = ["Standing"]


class Standing:
    """Where a search stands; `Search` adds how it is moved."""

    _engine: Engine
    _measured: list[Measured]
    _journal: Journal | None
    _tries: int

    @property
    def variable(self) -> Variable:
        """Where x lives."""
        return self._engine.variable

    @property
    def estimator(self) -> Estimator:
        """Chooses the points and estimates the gradient."""
        return self._engine.estimator

    @property
    def rule(self) -> Rule:
        """Turns an estimate into a move."""
        return self._engine.rule

    @property
    def seed(self) -> int:
        """Determines all randomness."""
        return self._engine.seed

    @property
    def budget(self) -> int | None:
        """Most queries to ask; None for no limit."""
        return self._engine.budget

    @property
    def max_staleness(self) -> int:
        """Age in moves beyond which an estimate is not used."""
        return self._engine.max_staleness

    @property
    def x(self) -> Tree:
        """The present point, in the structure of x0."""
        return self.variable.x

    @property
    def state(self) -> Any:
        """The estimator's state; do not change it."""
        return self._engine.state

    @property
    def nfev(self) -> int:
        """Queries answered so far, failures included."""
        return self._engine.nfev

    @property
    def retried(self) -> int:
        """Tries beyond the first of a query, those of a resumed run included, as far as the answers' info tells."""
        return self._tries

    @property
    def failed(self) -> int:
        """Queries that failed so far."""
        return self._engine.failed

    @property
    def steps(self) -> int:
        """Steps asked so far, those of a resumed run included."""
        return self._engine.steps

    @property
    def moves(self) -> int:
        """Moves made so far: steps that were answered in full and whose estimate was used."""
        return self.variable.version

    @property
    def barren(self) -> int:
        """Number of newest steps in a row without a usable answer."""
        return self._engine.barren

    @property
    def barren_steps(self) -> int:
        """Number of steps without a usable answer."""
        return self._engine.barren_steps

    @property
    def best(self) -> Best:
        """The best point asked about so far; x0 with the value NaN before the first answer."""
        return self._engine.best.point()

    @property
    def doubt(self) -> tuple[Tree, float, float] | None:
        """A known point whose value the answers contradict, the value known, and the one answered; None if none is."""
        found, variable = self._engine.doubt.found, self._engine.past.variable
        if found is None or variable is None:
            return None
        return variable.treedef.unflatten(variable.outside(found[0])), found[1], found[2]

    @property
    def exhausted(self) -> bool:
        """Whether the whole budget has been asked and answered."""
        return self.budget is not None and self._engine.asked >= self.budget and not self._engine.open

    @property
    def waiting(self) -> list[int]:
        """The numbers of the steps that wait for answers."""
        return sorted(self._engine.open)

    @property
    def journal(self) -> Journal | None:
        """The journal, if there is one."""
        return self._journal

    @property
    def measured(self) -> Sequence[Measured]:
        """The measures taken so far, those of a resumed run included; see `Measure`."""
        return self._measured

    def state_of(self, oracle: Learner) -> Any:
        """The state of an oracle that learns, after all complete steps; see `Oracle`.

        Raises:
            JournalError: There is a journal, and the oracle cannot be replayed.
            ValueError: The state was saved by an oracle of another kind.
        """
        return self._engine.learning.of(oracle)
