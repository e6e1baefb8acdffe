"""The laws of whole runs with an estimator: feedback, parts, save and load, budget, progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats, Ints, Tree
from blackbox_zo.errors import FeedbackError
from blackbox_zo.estimators import Estimator
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.proposal import Proposal
from blackbox_zo.rules import Rule
from blackbox_zo.search import Search
from blackbox_zo.testing._laws import bits, close, require, same, saved_and_loaded, waves
from blackbox_zo.variables import Vector

__all__ = [
    "Case",
    "check_budget",
    "check_feedback",
    "check_parts",
    "check_progress",
    "check_resume",
    "check_shift",
    "vector",
]


@dataclass(frozen=True)
class Case:
    """What all runs of one check have in common."""

    estimator: Estimator
    rule: Rule
    x0: Tree
    bounds: Any
    seed: int

    @property
    def name(self) -> str:
        """How to name it in a sentence."""
        return f"`{self.estimator!r:.120}` with `{self.rule!r:.120}`"

    def search(self, budget: int | None = None) -> Search:
        """A fresh run."""
        return Search(Vector(self.x0, self.bounds), self.estimator, self.rule, seed=self.seed, budget=budget)

    def feedback(self, proposal: Proposal, which: Ints | slice = slice(None), shift: float = 0.0) -> Feedback:
        """Answers of the kind that the estimator takes, to some of the points."""
        values = Values(waves(proposal.points[which]) + shift)
        return values if Values in self.estimator.accepts else values.ranking()


def vector(search: Search) -> Vector:
    """The variable of a run over arrays."""
    assert isinstance(search.variable, Vector)
    return search.variable


def check_feedback(case: Case) -> None:
    """Feedback that is not accepted is refused with `FeedbackError`, and the proposal stays open."""
    for kind in {Values, Ranking} - set(case.estimator.accepts):
        search = case.search()
        proposal = search.ask()
        other: Feedback = Values(waves(proposal.points))
        if kind is Ranking:
            other = other.ranking()
        try:
            search.tell(proposal, other)
        except FeedbackError:
            search.tell(proposal, case.feedback(proposal))
            continue
        raise AssertionError(f"{case.name} takes a `{kind.__name__}`, although it is not in `accepts`.")


def check_parts(case: Case) -> None:
    """Answers told in parts and in any order give the same bits."""
    whole, parts = case.search(), case.search()
    order = np.random.default_rng(case.seed)
    for _ in range(case.estimator.warmup + 3):
        # Two steps open at once, answered newest first
        asked = [(whole.ask(repeats=True), parts.ask(repeats=True)) for _ in range(2)]
        for at_once, in_parts in asked[::-1]:
            whole.tell(at_once, case.feedback(at_once))
            for which in np.array_split(order.permutation(in_parts.n), 3):
                if which.size:
                    parts.tell(in_parts, case.feedback(in_parts, which), in_parts.ids[which])
    require(
        same(vector(whole).value, vector(parts).value) and bits(whole.state) == bits(parts.state),
        f"{case.name} ends elsewhere when answers are told in parts: {parts.x} instead of {whole.x}. "
        "Let `estimate` depend on the feedback's values in the order of the queries alone.",
    )
    require(bool(np.isfinite(vector(whole).value).all()), f"{case.name} reached a non-finite x: {whole.x}.")


def check_shift(case: Case) -> None:
    """Adding a constant to f changes nothing."""
    ends = []
    for shift in (0.0, 1024.0):
        search = case.search()
        for _ in range(case.estimator.warmup + 4):
            proposal = search.ask()
            search.tell(proposal, case.feedback(proposal, shift=shift))
        ends.append(vector(search).value)
    moved = float(np.abs(ends[0] - vector(case.search()).value).max())
    require(
        close(ends[0], ends[1], moved, 1e-4),
        f"{case.name} goes to {ends[1]} instead of {ends[0]} when 1024 is added to f. Use differences of values; "
        "where single values are used by design, pass `shift_invariant=False`.",
    )


def check_resume(case: Case) -> None:
    """A run saved within a step to a file of arrays and loaded into a fresh search ends at the same bits."""
    first = case.search()
    for _ in range(case.estimator.warmup + 2):
        proposal = first.ask()
        first.tell(proposal, case.feedback(proposal))
    proposal = first.ask()
    half = proposal.n // 2
    if half:
        first.tell(proposal, case.feedback(proposal, slice(half)), proposal.ids[:half])
    saved = saved_and_loaded(first.state_dict())
    second = case.search()
    second.load_state_dict(saved)
    again = second.ask()
    require(
        same(again.points, proposal.points[half:]) and same(again.ids, proposal.ids[half:]),
        f"{case.name} asks about other points after `load_state_dict` than before `state_dict`. Keep everything that "
        "`sample` depends on in the state.",
    )
    if half < proposal.n:
        first.tell(proposal, case.feedback(proposal, slice(half, None)), proposal.ids[half:])
        second.tell(again, case.feedback(again))
    for _ in range(3):
        for search in (first, second):
            proposal = search.ask()
            search.tell(proposal, case.feedback(proposal))
    require(
        same(vector(first).value, vector(second).value) and bits(first.state) == bits(second.state),
        f"{case.name} ends at {second.x} after save and load within the run, but at {first.x} without. Keep "
        "everything that `estimate` and `update` depend on in their states.",
    )


def check_budget(case: Case) -> None:
    """Every budget is spent to the last query, and no further."""
    n = case.search().ask().n
    for budget in {1, n - 1, n, n + 1, 2 * n + n // 2} - {0}:
        search = case.search(budget)
        while not search.exhausted:
            proposal = search.ask()
            search.tell(proposal, case.feedback(proposal))
        require(search.nfev == budget, f"{case.name} made {search.nfev} queries of a budget of {budget}.")
        require(bool(np.isfinite(vector(search).value).all()), f"{case.name} ends at {search.x} with budget={budget}.")


def check_progress(case: Case, budget: int, progress: float) -> None:
    """The sum of squares falls below `progress` times its start."""

    def squares(points: Floats) -> Floats:
        return np.asarray(np.add.reduce(points * points, axis=-1))

    search = case.search(budget)
    start = float(squares(vector(search).flat))
    with np.errstate(over="ignore", invalid="ignore"):  # a run that diverges is reported below
        while not search.exhausted:
            proposal = search.ask()
            values = Values(squares(proposal.points))
            search.tell(proposal, values if Values in case.estimator.accepts else values.ranking())
        end = float(squares(vector(search).flat))
    require(
        end < progress * start,
        f"{case.name} brings the sum of squares from {start:.3g} to {end:.3g} in {budget} queries, not below "
        f"{progress} of the start. Does `estimate` give the gradient, rather than minus it? Is the rule's rate right? "
        "Or pass another `rule`, `budget` or `progress`.",
    )
