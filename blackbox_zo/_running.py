"""Runs: an oracle answers proposal after proposal, and the search is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from blackbox_zo import _replay
from blackbox_zo._typing import Ints
from blackbox_zo.errors import BudgetExhausted, Rewind, TellError
from blackbox_zo.feedback import Values
from blackbox_zo.oracle import Answers, Oracle, parts_of
from blackbox_zo.proposal import Proposal

if TYPE_CHECKING:
    from blackbox_zo.search import Search

__all__ = ["answer", "answers"]


def answers(search: Search, oracle: Answers, steps: int | None, ahead: int) -> Iterator[tuple[int, float]]:
    """Each step's number and mean value, as it is told; see `Search.run`."""
    if search._recorded and isinstance(oracle, Oracle):
        oracle.recall(search._recorded)
    search._recorded = []
    begun = search.state_dict() if getattr(oracle, "rewinds", False) else None
    first = min(search._open, default=search.steps)
    asked: deque[Proposal] = deque()
    done = told_before = 0
    while True:
        try:
            left = None if steps is None else steps - done
            _ask_ahead(search, oracle, asked, ahead + 1 if left is None else min(ahead + 1, left), bool(ahead))
            if not asked:
                return
            proposal = asked.popleft()
            value = answer(search, oracle, proposal)
        except Rewind as rewind:  # from `prepare` too
            if begun is None or rewind.step < first:
                raise
            search.load_state_dict(begun)
            asked.clear()
            done, told_before = 0, rewind.step
            continue
        done += 1
        if proposal.step >= told_before:
            yield proposal.step, value


def _ask_ahead(search: Search, oracle: Answers, asked: deque[Proposal], wanted: int, prepare: bool) -> None:
    """Have so many proposals asked, or as many as the budget gives."""
    while len(asked) < wanted and not search.exhausted:
        try:
            asked.append(search.ask())
        except BudgetExhausted:  # the rest is in other hands
            return
        if prepare and isinstance(oracle, Oracle):
            oracle.prepare(asked[-1])


def answer(search: Search, oracle: Answers, proposal: Proposal) -> float:
    """Have one proposal answered and told; the mean of its values.

    Parts go to the journal one by one, and into the search together: nothing moves before the last one.
    """
    total, count = 0.0, 0
    left = set(proposal.ids.tolist())
    held: list[tuple[Ints, Values]] = []
    try:
        for ids, part in parts_of(oracle, proposal):
            if isinstance(part, Values):
                usable = part.values if not part.n_failed else part.values[np.isfinite(part.values)]
                total, count = total + float(np.add.reduce(usable)), count + usable.size
            ids = np.asarray(ids)
            told = ids.tolist()
            before = len(left)
            left.difference_update(told)
            each_once = before - len(left) == len(told) == part.n
            regular = isinstance(part, Values) and each_once and len(told) < proposal.n
            if regular and Values in search.estimator.accepts:
                assert isinstance(part, Values)
                if search.journal is not None:
                    version = search._open[proposal.step].version
                    search.journal.write(_replay.lines(proposal.step, version, ids, part))
                held.append((ids, part))
            else:  # `tell` checks the rest, and must know what came before
                if held:
                    _take_held(search, proposal, held)
                    held = []
                search.tell(proposal, part, ids)
    finally:
        if held:
            _take_held(search, proposal, held)
    if left:
        raise TellError(f"The oracle left {len(left)} of {proposal.n} queries of step {proposal.step} unanswered.")
    return total / count if count else np.nan


def _take_held(search: Search, proposal: Proposal, held: list[tuple[Ints, Values]]) -> None:
    """Take parts that are in the journal already."""
    pending = search._open[proposal.step]
    positions = np.concatenate([ids for ids, _ in held]) - pending.first_id
    stderr = None
    if any(part.stderr is not None for _, part in held):
        stderr = np.concatenate([np.full(p.n, np.nan) if p.stderr is None else p.stderr for _, p in held])
    feedback = Values(np.concatenate([part.values for _, part in held]), stderr)
    order = np.argsort(positions)
    whole = len(order) == len(pending.every)
    if whole:
        feedback.values, positions = feedback.values[order], pending.every
        feedback.stderr = None if stderr is None else stderr[order]
    search._take(proposal.step, pending, positions, feedback)
    if search.journal is not None and proposal.step not in search._open:
        search.journal.sync()
