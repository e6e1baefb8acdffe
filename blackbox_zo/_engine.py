"""`Engine`: the state of a search, and how answers update it; without user interface or files."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from blackbox_zo._best import BestSoFar
from blackbox_zo._open import Open
from blackbox_zo._past import Doubt, Past
from blackbox_zo._typing import Floats, Ints
from blackbox_zo.directions import Dense
from blackbox_zo.estimators import Estimator
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.learning import Learning, Moment
from blackbox_zo.randomness import Key
from blackbox_zo.rules import Rule
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["Engine", "Snapshot"]


class Engine:
    """A variable, an estimator and a rule, with their states and the steps that are open.

    Args:
        variable: The variable to move.
        estimator: Chooses the queries and estimates the gradient.
        rule: Turns an estimate into a move.
        seed: Seed of the run; all randomness is a function of it.
        budget: Maximum number of queries; None for no limit.
        max_staleness: Estimates more than this many moves old are not used.

    Attributes:
        state: State of the estimator.
        rule_state: State of the rule.
        learning: States of the oracles that learn.
        open: Steps that wait for answers, by number.
        best: The best point so far.
        steps: Number of steps asked.
        asked: Number of queries asked.
        nfev: Number of queries answered, failures included.
        failed: Number of queries that failed.
        barren: Number of complete steps without a usable answer since the last one with an answer.
        barren_steps: Total number of complete steps without a usable answer.
        several: Whether the first step asks several starts.
        cut: Whether the budget cut a step short.
        begun: How often a method has begun: at first, after several starts, and with each change.
        past: The answers so far, and the values that were known.
        doubt: Whether answers disagree with known values.
    """

    def __init__(
        self, variable: Variable, estimator: Estimator, rule: Rule, seed: int, budget: int | None, max_staleness: int
    ) -> None:
        self.variable, self.estimator, self.rule = variable, estimator, rule
        self.seed, self.budget, self.max_staleness = seed, budget, max_staleness
        self.state = estimator.start(variable)
        self.rule_state = rule.start(variable)
        self.learning = Learning()
        self.open: dict[int, Open] = {}
        self.best = BestSoFar(variable)
        self.steps = self.asked = self.nfev = self.failed = self.barren = self.barren_steps = self.begun = 0
        self.cut = False
        self.several = isinstance(variable, Vector) and len(variable.starts) > 0
        self.past, self.doubt = Past(variable if isinstance(variable, Vector) else None), Doubt()

    def begin(self) -> int:
        """Sample the next step and hold it open."""
        step = self.steps
        queries = self.sample(step)
        if self.budget is not None and self.asked + queries.n > self.budget:
            queries, self.cut = queries.take(slice(self.budget - self.asked)), True
        self.hold(step, queries, self.asked)
        self.steps += 1
        self.asked += queries.n
        return step

    def sample(self, step: int) -> Queries:
        """The queries of a step: several starts in the first, else those of the estimator."""
        variable = self.variable
        if step == 0 and self.several:
            assert isinstance(variable, Vector)
            m, d = variable.starts.shape  # from 0, so that each start is asked as it is
            return Queries(Dense(variable.blocks, variable.starts), np.arange(m), np.ones(m), np.zeros(d))
        return self.estimator.sample(self.state, variable, Key(self.seed, step))

    def hold(self, step: int, queries: Queries, first_id: int) -> Open:
        """Add a step that was sampled from the current state to the open ones."""
        ended = self.steps - len(self.open)
        now = self.variable.version, ended, self.state, self.begun
        pending = Open(*now, queries, first_id, Moment(self.learning))
        self.open[step] = pending
        return pending

    def take(self, step: int, pending: Open, positions: Ints, feedback: Feedback) -> bool:
        """Record checked answers; if the step is complete, move and return True."""
        self.nfev += len(positions)
        whole = pending.take(positions, feedback)
        if isinstance(feedback, Values):
            self.failed += feedback.n_failed
            if isinstance(whole, Values):
                self.best.whole(pending, whole)
            else:
                self.best.part(pending)
        else:
            self.best.ranked(pending, positions, feedback)
        if whole is None:
            return False
        del self.open[step]
        if pending.learnt:
            self.learning.absorb(pending.learnt)
        self._move(pending, whole)
        return True

    def _move(self, pending: Open, feedback: Feedback) -> None:
        if isinstance(feedback, Values):
            nothing = feedback.n_failed == feedback.n
        else:
            nothing = bool((feedback.levels < 0).all())
        self.barren = self.barren + 1 if nothing else 0
        self.barren_steps += nothing
        if isinstance(feedback, Values):
            self.past.keep(pending.queries, feedback.values)
            self._compare(pending.queries, feedback)
        if pending.begun != self.begun:  # asked by an earlier method
            if isinstance(feedback, Values) and self.past.variable is not None:
                points = self.past.variable.project(pending.queries.points())
                self.state = self.estimator.inform(self.state, self.variable, points, feedback.values)
            return
        if self.variable.version - pending.version > self.max_staleness and not self.estimator.any_age:
            return
        if self.several and pending.first_id == 0:
            self.go_on(self.ready(self.estimator, self.rule), moved=1)
            return
        self.state, gradient = self.estimator.estimate(self.state, self.variable, pending.queries, feedback)
        if nothing:  # no information: neither decay nor momentum
            self.variable.add_(Step(gradient.directions, np.zeros_like(gradient.w)))
            return
        self.rule_state, step = self.rule.update(self.rule_state, gradient)
        self.variable.add_(Step(step.directions, -step.w, step.shrink))

    def _compare(self, queries: Queries, feedback: Values) -> None:
        if self.past.variable is not None and len(self.past.known):
            points = self.past.variable.project(queries.points())
            self.doubt.compare(self.past, points, feedback.values, feedback.stderr)

    # ------------------------------------------------------------------------------------- what is known, and changes

    def inform(self, points: Floats, values: Floats) -> None:
        """Take known values, shape (n,), of points in the units of x, shape (n, d)."""
        variable = self.past.variable
        assert variable is not None
        self.past.add(points, values)
        self.best.known(points, values)
        self.state = self.estimator.inform(self.state, variable, self.past.inside(points), values)

    def ready(self, estimator: Estimator, rule: Rule) -> Method:
        """A method ready to begin at the best point, where points are kept, and informed of all that is known.

        Raises:
            TypeError: The estimator cannot use the variable.
        """
        there = self.variable
        if not isinstance(there, Vector):
            return Method(estimator, rule, estimator.start(there), rule.start(there), {})
        there = there.at(self._best_place(there))
        state, (points, values) = estimator.start(there), self.past.all()
        if len(values):
            state = estimator.inform(state, there, points, values)
        return Method(estimator, rule, state, rule.start(there), there.state())

    def go_on(self, method: Method, moved: int = 0) -> None:
        """Go on with a method that is ready; its place counts as so many moves."""
        if method.x:
            self.variable.load(method.x, self.variable.version + moved)
        self.estimator, self.rule, self.state, self.rule_state, _ = method
        self.begun += 1

    def reschedule(self, rule: Rule) -> None:
        """Go on with a rule that differs in its learning rates only; all states stay as they are."""
        before, self.begun = self.begun, self.begun + 1
        self.rule = rule
        for pending in self.open.values():  # asked by the same method
            if pending.begun == before:
                pending.begun = self.begun

    def _best_place(self, variable: Vector) -> Floats:
        """The best point in the coordinates of the variable, to the last bit if it was asked lately."""
        x, value, query = self.best.found
        if x is None or (query < 0 and value != value):  # nothing is known
            return variable.value
        points, values = self.past.all()
        same = np.flatnonzero(values == value)
        return points[same[0]] if same.size else variable.coordinates(variable.inside(x))

    # ------------------------------------------------------------------------------------------------- going back

    def snapshot(self) -> Snapshot:
        """The current state, for `restore`. Its parts are never modified, so it takes no more memory than x.

        Raises:
            TypeError: The variable is not kept as an array.
        """
        if not self.variable.dense:
            raise TypeError(f"The moves of a `{type(self.variable).__name__}` cannot be undone.")
        return Snapshot(
            self.variable.state(), self.variable.version, self.state, self.rule_state, self.learning.states,
            {step: pending.copy() for step, pending in self.open.items()},
            (self.steps, self.asked, self.nfev, self.failed, self.barren, self.barren_steps),
            self.best.found,
            (self.estimator, self.rule, self.begun), self.past.seen, len(self.past.known_values),
        )  # fmt: skip

    def restore(self, then: Snapshot) -> None:
        """Go back to a snapshot. Steps that were open then are open again, and not yet handed out."""
        self.variable.load(then.x, then.version)
        self.state, self.rule_state, self.learning.states = then.state, then.rule_state, then.learnt
        self.open = {step: pending.copy() for step, pending in then.open.items()}
        self.steps, self.asked, self.nfev, self.failed, self.barren, self.barren_steps = then.counts
        self.best.found = then.best
        self.estimator, self.rule, self.begun = then.method
        self.past.forget(then.seen)
        later = self.past.cut(then.known)
        if len(later[1]):  # what is known stays known
            self.inform(*later)


class Method(NamedTuple):
    """A method that is ready to begin, and where; see `Engine.ready`."""

    estimator: Estimator
    rule: Rule
    state: Any
    rule_state: Any
    x: dict[str, Any]


class Snapshot(NamedTuple):
    """The state of a search at one time; see `Engine.snapshot`."""

    x: dict[str, Any]
    version: int
    state: Any
    rule_state: Any
    learnt: Any
    open: dict[int, Open]
    counts: tuple[int, int, int, int, int, int]
    best: tuple[Floats | None, float, int]
    method: tuple[Estimator, Rule, int]
    seen: int
    known: int
