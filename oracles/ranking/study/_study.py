"""Answers that are given and withdrawn, when a round is closed, and which ranking the search gets from the answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from blackbox_zo.feedback import Ranking
from oracles.ranking.study._answers import Closed, extra_of, levels, places
from oracles.ranking.study._design import StudyDesign
from oracles.ranking.study._record import FINAL, PRACTICE, SEARCH, Answer, Round
from oracles.ranking.study._store import Store
from oracles.ranking.study._turns import Turns

__all__ = ["Asks", "Conflict", "Receipt", "Study"]


class Conflict(RuntimeError):
    """The answer comes too late, or the rater has answered the round before; the message is for the person."""


class Asks(Exception):
    """An answer cannot be withdrawn unasked: other answers rest on it. The message is a question for the person."""


@dataclass(frozen=True)
class Receipt:
    """Confirms that an answer is on disk.

    Attributes:
        id: Id of its row.
        duplicate: Whether it was already stored.
    """

    id: int
    duplicate: bool


class Study:
    """Rounds and answers of a store.

    Args:
        store: The store.
        raters: How many people answer each round.
        design: What else they are asked, how much, and when they rest.

    Attributes:
        turns: What each rater is asked next.
    """

    def __init__(self, store: Store, raters: int, design: StudyDesign | None = None) -> None:
        self.store, self.raters, self.design = store, raters, design or StudyDesign()
        self.turns = Turns(store, raters, self.design)
        self._first_seen: dict[int, float] = {}

    # ------------------------------------------------------------------------------------------------- answering

    def submit(
        self,
        rater: int,
        round_id: int,
        kind: str,
        groups: Sequence[Sequence[str]],
        client_id: str,
        ms_spent: int | None = None,
    ) -> Receipt:
        """Store an answer. It is on disk when this returns.

        Args:
            rater: Name of the rater.
            round_id: Id of the round.
            kind: One of `KINDS`.
            groups: For "rank" the candidates' ids, best first, ties together; those left out are worse.
            client_id: Made by the client, and the same each time it sends this answer.
            ms_spent: Time that the person took, in milliseconds.

        Raises:
            Invalid: The answer is not one about this round.
            Conflict: The round is over, or the rater has answered it.
        """

        def act(c: sa.Connection) -> Receipt:
            with self.store.record(c) as record:
                before = record.known(client_id)
                round_ = self.turns.asked(record, rater, round_id)
                given = {} if round_ is None else record.standing(round_id)
                extra, turns = record.extra(), len(record.turns(rater))
            if before is not None:
                if before.rater != rater or before.round_id != round_id:
                    raise Conflict("The id of this answer has been used already.")
                return Receipt(before.id, True)
            if round_ is None:
                raise Conflict("This round is over.")
            if rater in given:
                raise Conflict("You have answered this round in another window.")
            found = places(round_, self.store.gallery.candidates(round_), kind, groups)
            order = self.store.order(round_id, rater, round_.n).tolist()
            more = {"shown_order": order, "client_id": client_id, "ms_spent": ms_spent}
            number = self.store.add(c, round_id, rater, kind, {"groups": found}, **more)
            used = [*(a.id for a in given.values()), number]
            if round_.purpose == SEARCH and kind != "skip" and len(used) >= self.raters:
                self.store.add(c, round_id, None, "close", {"answers": used, "extra": extra})
            if round_.purpose not in (PRACTICE, FINAL) and kind != "skip":
                self.turns.tire(rater, turns + 1)
            return Receipt(number, False)

        receipt = self.store.together(act)
        self.store.notify()
        return receipt

    def undo(self, rater: int, client_id: str, answer: int | None = None, sure: bool = False) -> int | None:
        """Withdraw an answer of a rater's own, and with it the rounds that followed from it.

        Args:
            rater: Who withdraws.
            client_id: As in `submit`.
            answer: Which; None for the newest.
            sure: Whether the person knows that other answers rest on it.

        Returns:
            Its round; None if there is no such answer.

        Raises:
            Asks: Answers rest on it, and the person is not `sure`.
        """

        def act(c: sa.Connection) -> int | None:
            with self.store.record(c) as record:
                before = record.known(client_id)
                own = [a for a in record.own(rater) if answer in (None, a.id)]
                if self.turns.final is not None:  # the search is over
                    own = [a for a in own if a.round_id == self.turns.final.id]
                rounds, resting = record.rests_on(own[-1]) if own else ([], [])
                close = record.close(own[-1].round_id) if own else None
            if before is not None:
                return before.round_id
            if not own:
                return None
            if resting and not sure:
                raise Asks(_question(resting, rater))
            payload = {"answer": own[-1].id, "close": close and close.id, "void": [r.id for r in rounds]}
            self.store.add(c, own[-1].round_id, rater, "undo", payload, client_id=client_id)
            return own[-1].round_id

        found = self.store.together(act)
        self.store.notify()
        return found

    def redo(self, rater: int, client_id: str) -> int | None:
        """Restore the answer that a rater withdrew last, unless it has been replaced since; its round, or None."""

        def act(c: sa.Connection) -> int | None:
            with self.store.record(c) as record:
                before, undo = record.known(client_id), record.redoable(rater)
                void = [] if undo is None else record.replaced(undo)
            if before is not None:
                return before.round_id
            if undo is None:
                return None
            self.store.add(c, undo.round_id, rater, "redo", {"undo": undo.id, "void": void}, client_id=client_id)
            return undo.round_id

        found = self.store.together(act)
        self.store.notify()
        return found

    # ------------------------------------------------------------------------------------------------- asking

    def awaited(self, rater: int) -> tuple[int, int]:
        """Answers that are missing in the first open round that a rater has answered, and those asked for."""
        with self.store.record() as record:
            given = [record.standing(r.id) for r in record.open()]
        mine = next((len(g) for g in given if rater in g), self.raters)
        return self.raters - mine, self.raters

    def give_up(self, round_: Round, patience: float) -> None:
        """Close a round with the answers it has, once this process has known the first for `patience` seconds."""
        with self.store.record() as record:
            first = min((a.id for a in record.standing(round_.id).values()), default=None)
        if first is None or time.monotonic() < self._first_seen.setdefault(first, time.monotonic()) + patience:
            return
        with self.store.write() as c:
            with self.store.record(c) as record:
                given, close, extra = record.standing(round_.id), record.close(round_.id), record.extra()
            if given and close is None:
                used = [a.id for a in given.values()]
                self.store.add(c, round_.id, None, "close", {"answers": used, "extra": extra})

    def close_without(self, round_: Round) -> None:
        """Close a round without answers, because no candidate could be drawn."""
        with self.store.write() as c:
            with self.store.record(c) as record:
                close = record.close(round_.id)
            if close is None:
                self.store.add(c, round_.id, None, "close", {"answers": [], "extra": []})

    def over(self) -> list[tuple[Round, Closed]]:
        """The search's rounds that are closed, with what was said."""
        with self.store.record() as record:
            rounds = record.holding()
        return [(r, closed) for r in rounds if (closed := self.closed(r)) is not None]

    def closed(self, round_: Round, best: int | None = None) -> Closed | None:
        """What was said in a closed round; None while it is open.

        Args:
            round_: The round.
            best: The position of the best candidate so far, if it is among the candidates: where none is acceptable,
                it beats all others.
        """
        with self.store.record() as record:
            close = record.close(round_.id)
            given = [] if close is None else [record.rows[i] for i in close.payload["answers"]]
            more = [] if close is None else [record.rows[i] for i in close.payload.get("extra", ())]
            extra = [e for a in more if (e := extra_of(record, a)) is not None]
        if close is None:
            return None
        failed = [k.position for k in self.store.gallery.candidates(round_) if k.kind == "error"]
        said = {
            a.rater: Ranking.from_levels(np.array(levels(a, round_.n, failed, best), dtype=np.intp))
            for a in given
            if a.rater is not None
        }
        seconds = {a.rater: a.ms_spent / 1000 for a in given if a.ms_spent and a.rater is not None}
        shown = {a.rater: a.shown_order for a in given if a.rater is not None}
        return Closed(round_.n, said, seconds, shown, extra)


def _question(resting: Sequence[Answer], rater: int) -> str:
    """What a person is asked before an answer is withdrawn on which others rest."""
    others = {a.rater for a in resting if a.rater != rater}
    whose = "" if not others else " of one other person" if len(others) == 1 else f" of {len(others)} other people"
    if others and any(a.rater == rater for a in resting):
        whose = f" of yours and{whose.removeprefix(' of')}"
    what = "1 later answer" if len(resting) == 1 else f"{len(resting)} later answers"
    rest = "rests" if len(resting) == 1 else "rest"
    return f"{what}{whose} {rest} on this one and would no longer count. Withdraw it?"
