"""Uninterrupted runs, and the same runs interrupted wherever a run can be interrupted."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from blackbox_zo._typing import Tree
from blackbox_zo.errors import JournalError
from blackbox_zo.estimators import Estimator
from blackbox_zo.feedback import Feedback
from blackbox_zo.journal import Answers as Line
from blackbox_zo.journal.lines import answers_of
from blackbox_zo.minimize import minimize
from blackbox_zo.oracle import Answers, Oracle
from blackbox_zo.rules import Rule
from blackbox_zo.run import Observer, Run
from blackbox_zo.search import Search
from blackbox_zo.testing._laws import require, saved_and_loaded
from blackbox_zo.variables import Variable, Vector

__all__ = ["Drive", "End", "asked_and_told", "bits_of", "check_refused", "difference", "drives", "in_one_go"]

SEED = 5


@dataclass(frozen=True)
class Drive:
    """What all runs of one check have in common."""

    start: Callable[[], tuple[Answers, Variable | Tree]]
    estimator: Estimator
    rule: Rule | None
    steps: int
    wrap: Callable[[Answers], Answers] = field(default=lambda inner: inner)

    def wrapped(self, wrap: Callable[[Answers], Answers]) -> Drive:
        """The same with a wrapper around the oracle."""
        return replace(self, wrap=wrap)

    def search(self, journal: Path | None = None) -> tuple[Answers, Search]:
        """A fresh oracle and a fresh search, as in a new process."""
        oracle, x0 = self.start()
        return self.wrap(oracle), Search(x0, self.estimator, self.rule, seed=SEED, journal=journal)


class End(Observer):
    """The end of a run: its answers, by query id, then x, and the state of each oracle."""

    def __init__(self) -> None:
        self.told: dict[int, Any] = {}
        self.x: Any = None
        self.states: dict[str, Any] = {}

    def answered(self, run: Run, answers: Line) -> None:
        """See `Observer.answered`."""
        self.keep(answers)

    def keep(self, answers: Line) -> None:
        """Record some answers."""
        if answers.values is None:
            self.told[min(answers.ids)] = str(list(answers.ids)), answers.levels, answers.weights
            return
        self.told.update((i, repr(value)) for i, value in zip(answers.ids, answers.values, strict=True))

    def told_to(self, search: Search, proposal: Any, some: Any, feedback: Feedback) -> None:
        """Tell the search, and record the answers."""
        search.tell(proposal, feedback, None if some is proposal else some.ids)
        self.keep(answers_of(proposal.step, 0, some.ids, feedback))

    def of(self, search: Search, oracle: Answers) -> End:
        """Record the search's x and state, and the answer to one more proposal."""
        self.x = bits_of(search.variable.state())
        proposal = search.ask()
        self.keep(answers_of(proposal.step, 0, proposal.ids, oracle.answer(proposal)))
        learners = proposal.moment.learning.oracles
        self.states = {name: bits_of(learner.save(search.state_of(learner))) for name, learner in learners.items()}
        return self


def bits_of(saved: dict[str, Any]) -> dict[str, Any]:
    """Arrays and numbers by name, in a form that is equal if and only if their bits are."""
    arrays = {name: np.asarray(value) for name, value in saved.items()}
    return {name: (a.dtype.kind, a.shape, a.tobytes()) for name, a in arrays.items()}


def difference(one: End, other: End) -> str:
    """How two ends differ, as the end of a sentence about the first; empty if they agree."""
    if one.told != other.told:
        query = next((i for i in sorted({*one.told, *other.told}) if one.told.get(i) != other.told.get(i)), -1)
        return (
            f"is answered {one.told.get(query)} about query {query}, but {other.told.get(query)} without interruption"
        )
    for name in sorted({*one.states, *other.states}):
        if one.states.get(name) != other.states.get(name):
            return f"leaves `{name}` in another state than without interruption"
    return "" if one.x == other.x else "ends at another x than without interruption"


# ---------------------------------------------------------------------------------------------------------- in one go


def in_one_go(drive: Drive) -> End:
    """By `Search.run` and its `Run`, without interruption."""
    end = End()
    oracle, search = drive.search()
    Run(search, oracle, steps=drive.steps, observers=[end]).to_the_end()
    return end.of(search, oracle)


def asked_and_told(drive: Drive) -> End:
    """By `ask` and `tell`, each step in two parts."""
    end = End()
    oracle, search = drive.search()
    for _ in range(drive.steps):
        proposal = search.ask()
        for which in _halves(proposal.n):
            some = proposal.take(which)
            end.told_to(search, proposal, some, oracle.answer(some))
    return end.of(search, oracle)


def _halves(n: int) -> list[Any]:
    return [half for half in (np.arange(n // 2), np.arange(n // 2, n)) if half.size]


# ------------------------------------------------------------------------------------------------------------- broken


def drives(drive: Drive, *, replayable: bool, thorough: bool) -> Iterator[tuple[str, str, End]]:
    """Interrupted runs: how, as the middle of a sentence; the uninterrupted run to match ("run" or "tell"); the end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        if replayable:
            yield (
                "told in parts, with its journal closed and opened again after each part", "tell",
                _told_with_a_journal(drive, path / "tell.jsonl"),
            )  # fmt: skip
            yield (
                "stopped and resumed from its journal after every other part of an answer", "run",
                _left(drive, path / "run.jsonl"),
            )  # fmt: skip
        if thorough or not replayable:
            yield (
                "told in parts, and saved and loaded by `state_dict` after each", "tell",
                _saved(drive, within_steps=replayable),
            )  # fmt: skip
        if thorough and replayable and isinstance(_vector(drive), Vector):
            yield (
                "made by `minimize`, step by step with its journal", "run",
                _minimized(drive, path / "minimize.jsonl"),
            )  # fmt: skip


def _vector(drive: Drive) -> Variable:
    return drive.search()[1].variable


def _told_with_a_journal(drive: Drive, path: Path) -> End:
    end = End()
    while True:
        oracle, search = drive.search(path)
        with search:
            if search.moves >= drive.steps:
                return end.of(search, oracle)
            is_begun = bool(search.waiting)
            proposal = search.ask()
            some = proposal if is_begun else proposal.take(_halves(proposal.n)[0])
            end.told_to(search, proposal, some, oracle.answer(some))


class _Leave(Exception):
    """Stops a run between two parts."""


class _Leaving(Observer):
    def __init__(self, after: int) -> None:
        self.left = after

    def answered(self, run: Run, answers: Line) -> None:
        self.left -= 1
        if not self.left:
            raise _Leave


def _left(drive: Drive, path: Path) -> End:
    end = End()
    while True:
        oracle, search = drive.search(path)
        with search:
            left = drive.steps - search.moves
            if not left:
                return end.of(search, oracle)
            try:
                Run(search, oracle, steps=left, observers=[end, _Leaving(2)]).to_the_end()
            except _Leave:
                pass


def _saved(drive: Drive, within_steps: bool) -> End:
    end = End()
    oracle, search = drive.search()
    for _ in range(drive.steps):
        proposal = search.ask()
        for which in _halves(proposal.n):
            some = proposal.take(which)
            end.told_to(search, proposal, some, oracle.answer(some))
            if within_steps or not search.waiting:
                saved = saved_and_loaded(search.state_dict())
                oracle, search = drive.search()
                search.load_state_dict(saved)
                if search.waiting:
                    proposal = search.ask()
                    end.told_to(search, proposal, proposal, oracle.answer(proposal))
                    break
    return end.of(search, oracle)


def _minimized(drive: Drive, path: Path) -> End:
    end = End()
    n = drive.search()[1].ask().n
    for step in range(1, drive.steps + 1):
        oracle, x0 = drive.start()
        vector = x0 if isinstance(x0, Vector) else Vector(x0)
        bounds = list(zip(vector.lower.tolist(), vector.upper.tolist(), strict=True)) if vector.bounded else None
        search = drive.search()[1]
        minimize(
            cast(Oracle, drive.wrap(oracle)), vector.x, (search.estimator, search.rule), n * step, bounds, SEED,
            journal=path, unit=vector.unit, progress=[end],
        )  # fmt: skip
    oracle, search = drive.search(path)
    with search:
        return end.of(search, oracle)


def check_refused(drive: Drive, name: str, within: str) -> None:
    """A search with a journal refuses an oracle that cannot be replayed, however the search is run."""
    with tempfile.TemporaryDirectory() as folder:
        for how in ("`Search.run`", "`ask` and `tell`"):
            oracle, search = drive.search(Path(folder) / f"{how[1:4]}.jsonl")
            with search:
                try:
                    if how == "`Search.run`":
                        next(search.run(oracle, steps=1))
                    else:
                        proposal = search.ask()
                        search.tell(proposal, oracle.answer(proposal))
                except JournalError:
                    continue
            require(
                False,
                f"{name}{within} is `not_replayable`, but by {how} it answers a search with a journal. Begin `answer` "
                "with `proposal.state(self)`, which refuses that, even inside a wrapper.",
            )
