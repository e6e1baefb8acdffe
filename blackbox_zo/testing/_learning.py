"""`check_learning`: what an oracle learns belongs to the search, and no interruption of a run loses it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from blackbox_zo._typing import Tree
from blackbox_zo.estimators import Estimator, RankBased
from blackbox_zo.feedback import Ranking, Values
from blackbox_zo.learning import Learner
from blackbox_zo.oracle import Answers, Oracle
from blackbox_zo.proposal import Proposal
from blackbox_zo.rules import Rule
from blackbox_zo.stopping import Stoppable
from blackbox_zo.testing._broken_runs import (
    Drive,
    asked_and_told,
    bits_of,
    check_refused,
    difference,
    drives,
    in_one_go,
)
from blackbox_zo.testing._laws import require, saved_and_loaded
from blackbox_zo.timeout import Timeout
from blackbox_zo.variables import Variable, Vector
from blackbox_zo.wrappers import Cache, RankOnly, Repeat

__all__ = ["check_learning", "check_states"]

Start = Callable[[], tuple[Answers, Variable | Tree]]

MEND = (
    "Keep nothing that changes answers in the oracle itself: read the state with `proposal.state(self)`, record what "
    "an answer teaches with `proposal.learn`, and make the next state in `absorb`."
)


def check_learning(
    start: Start, estimator: Estimator | None = None, rule: Rule | None = None, *, steps: int = 3
) -> None:
    """Check that a run with an oracle ends at the same bits, and with the same state, wherever it is interrupted.

    - a state survives `save`, a file of arrays, and `load`;
    - `absorb` is a pure function, and gives the same for evidence that has been through JSON;
    - a run by `Search.run`, by `ask` and `tell`, or by `minimize`, whose journal is closed and reopened between steps
      and within them, or which goes through `state_dict`, ends like an uninterrupted one: with the same x, answers and
      state of each oracle. If the oracle learns, this also holds through every wrapper;
    - a search with a journal refuses an oracle with `not_replayable`, even inside a wrapper and by `ask` and `tell`;
      it can be resumed from `state_dict`.

    Args:
        start: Makes the oracle, and the x0 or `Variable` that a search starts with, as a new process would: if an
            oracle and a variable share a model, both use a fresh one. They are not closed.
        estimator: The estimator; None for `RankBased(0.1, 4)`, which any oracle can answer.
        rule: The rule; None for the estimator's own.
        steps: Number of steps of a run, at least 2.

    Raises:
        AssertionError: A law does not hold.

    Example:
        >>> import blackbox_zo as bz, numpy as np
        >>> from blackbox_zo.testing import check_learning
        >>> class Offset(bz.Oracle):
        ...     def start(self):
        ...         return 0.0
        ...     def answer(self, proposal):
        ...         values = (proposal.points**2).sum(axis=1)
        ...         for i, value in zip(proposal.ids, values.tolist()):
        ...             proposal.learn(self, i, value)
        ...         return bz.Values(values + proposal.state(self))
        ...     def absorb(self, state, evidence):
        ...         return state + sum(evidence.values())
        >>> check_learning(lambda: (Offset(), np.ones(3)))
    """
    drive = Drive(start, RankBased(0.1, 4) if estimator is None else estimator, rule, max(steps, 2))
    oracle, _ = start()
    name = f"`{type(oracle).__name__}`"
    reason = getattr(oracle, "not_replayable", "")
    learners, answered = check_states(drive)
    reason = reason or next((learner.not_replayable for learner in learners.values() if learner.not_replayable), "")
    wraps: dict[str, Callable[[Answers], Answers]] = {"": lambda inner: inner}
    if learners or reason:
        wraps |= _wrappers(answered, drive.estimator.accepts, drive.start()[1])
    for through, wrap in wraps.items():
        some = drive.wrapped(wrap)
        if reason:
            check_refused(some, name, f" within {through}" if through else "")
        unbroken = {"run": in_one_go(some), "tell": asked_and_told(some)}
        for how, like, end in drives(some, replayable=not reason, thorough=bool(learners) and not through):
            found = difference(end, unbroken[like])
            require(
                not found, f"A run with {name}{f' within {through}' if through else ''} that was {how} {found}. {MEND}"
            )


def check_states(drive: Drive) -> tuple[Mapping[str, Learner], type]:
    """Check the states of a run; return the oracles that learn in it, and the kind of their answers."""
    oracle, search = drive.search()
    states: dict[str, Any] = {}
    kind: type = Values
    learners: Mapping[str, Learner] = {}
    for _ in range(drive.steps):
        proposal = search.ask()
        feedback = oracle.answer(proposal)
        kind, learners = type(feedback), proposal.moment.learning.oracles
        found = proposal.moment.of(proposal.ids) or {}
        for name, learner in learners.items():
            if name not in states:
                states[name] = learner.start()
                _check_saved(learner, states[name], f"`{name}")
            if name in found:
                states[name] = _check_absorb(learner, states[name], found[name], f"`{name}")
        search.tell(proposal, feedback)
    _check_inside(oracle, learners, f"`{type(oracle).__name__}`")
    return dict(learners), kind


def _check_inside(oracle: Any, learners: Mapping[str, Learner], name: str) -> None:
    """An oracle inside another one, if it learns, was asked about the search's proposals."""
    for inner in vars(oracle).values() if hasattr(oracle, "__dict__") else ():
        if not isinstance(inner, Oracle):
            continue
        silent = isinstance(inner, Stoppable) and inner.stopper is None  # only a stopping rule makes it learn
        learns = type(inner).absorb is not Oracle.absorb and not silent
        require(
            not learns or type(inner).__name__ in learners,
            f"{name} never asks `{type(inner).__name__}` about a proposal of the search, so what that learns is lost. "
            "Make proposals for it from the one that was given, by `proposal.take` or `proposal.about`; "
            "`Proposal.numbered` makes one outside the search.",
        )
        _check_inside(inner, learners, f"`{type(inner).__name__}`")


def _wrappers(
    answered: type, accepts: tuple[type, ...], start: Variable | Tree
) -> dict[str, Callable[[Answers], Answers]]:
    out: dict[str, Callable[[Answers], Answers]] = {"an object with `answer` alone": _Bare}
    if Ranking in accepts:
        out["`RankOnly`"] = RankOnly
    if answered is Values:
        out |= {"`Repeat`": lambda inner: Repeat(inner, 2), "`Timeout`": lambda inner: Timeout(inner, 600.0)}
        if not isinstance(start, Variable) or isinstance(start, Vector):  # others never write their points out
            out["`Cache`"] = Cache
    return out


class _Bare:
    """The minimal wrapper."""

    def __init__(self, inner: Answers) -> None:
        self.inner = inner

    def answer(self, proposal: Proposal) -> Any:
        return self.inner.answer(proposal)


# ----------------------------------------------------------------------------------------------------- the state alone


def _check_absorb(oracle: Learner, state: Any, evidence: dict[int, Any], name: str) -> Any:
    """The next state."""
    before, given = bits_of(oracle.save(state)), copy.deepcopy(evidence)
    after = _absorbed(oracle, state, given, name)
    require(
        bits_of(oracle.save(state)) == before,
        f"{name}.absorb` changes the state it is given; make a new one, since open steps still read this one.",
    )
    require(
        repr(evidence) == repr(given),
        f"{name}.absorb` changes the evidence it is given, from {evidence!r:.60} to {given!r:.60}; work on a copy.",
    )
    again = _absorbed(oracle, state, copy.deepcopy(evidence), name)
    require(
        bits_of(oracle.save(again)) == bits_of(oracle.save(after)),
        f"{name}.absorb` makes another state from the same state and evidence the second time; it must be a "
        "function of its arguments alone, not of the oracle.",
    )
    if not oracle.not_replayable:
        _check_json(oracle, state, evidence, after, name)
    _check_saved(oracle, after, name)
    return after


def _absorbed(oracle: Learner, state: Any, evidence: dict[int, Any], name: str) -> Any:
    try:
        return oracle.absorb(state, evidence)
    except Exception as error:
        raise AssertionError(
            f"{name}.absorb` raised {type(error).__name__} for the evidence {evidence!r:.80}: {error}. Evidence is "
            "what `proposal.learn` was given, by the id of the query."
        ) from error


def _check_json(oracle: Learner, state: Any, evidence: dict[int, Any], after: Any, name: str) -> None:
    query, first = next(iter(evidence.items()))
    try:
        text = json.dumps(evidence)
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"{name}` gives `proposal.learn` what cannot be written to a journal, {first!r:.60} about query {query} "
            f"({error}). Give it numbers, text, and lists and dicts of them, or say why not in `not_replayable`."
        ) from None
    read = {int(i): found for i, found in json.loads(text).items()}
    try:
        same = bits_of(oracle.save(oracle.absorb(state, read))) == bits_of(oracle.save(after))
        found = "another state"
    except Exception as error:
        same, found = False, f"{type(error).__name__}: {error}, instead of a state,"
    require(
        same,
        f"{name}.absorb` makes {found} from evidence that has been through JSON, as in a journal: {first!r:.60} "
        f"becomes {read[query]!r:.60}. Give `proposal.learn` what JSON keeps to the last bit: floats, ints, text, "
        "lists, and dicts whose keys are text.",
    )


def _check_saved(oracle: Learner, state: Any, name: str) -> None:
    saved = oracle.save(state)
    for key, value in saved.items():
        require(
            isinstance(value, str | bool | int | float | np.ndarray | np.generic)
            and np.asarray(value).dtype.kind in "fiubUc",
            f"{name}.save` gives {type(value).__name__} at {key!r}, which `numpy.savez` cannot save without pickle. A "
            "state consists of numbers, text, arrays, and (named) tuples of them; else write `save` and `load`.",
        )
    try:
        again = oracle.save(oracle.load(saved_and_loaded(saved)))
        found = "" if bits_of(again) == bits_of(saved) else "another state"
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    require(
        not found,
        f"{name}.load` does not restore what `save` gave, after it has been through a file: {found}. A state has the "
        "structure and the types of `start()`; else write `save` and `load`.",
    )
