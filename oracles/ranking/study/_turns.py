"""Whose turn it is: which round each rater is asked next, and when they rest."""

from __future__ import annotations

import time

from oracles.ranking.study._design import StudyDesign
from oracles.ranking.study._record import CHECK, FINAL, SEARCH, Answer, Record, Round
from oracles.ranking.study._store import Store

__all__ = ["Turns"]


class Turns:
    """What each rater is asked next.

    Args:
        store: The study's store.
        raters: How many people answer each round.
        design: What raters are asked beside the search's rounds, how much, and when they rest.

    Attributes:
        practice: Ids of the practice rounds, in order.
        checks: Ids of the checks, in order.
        final: The round of the final vote; None before it.
        voters: Who votes.
    """

    def __init__(self, store: Store, raters: int, design: StudyDesign) -> None:
        self.store, self.raters, self.design = store, raters, design
        self.practice: list[int] = []
        self.checks: list[int] = []
        self.final: Round | None = None
        self.voters: list[int] = []
        self._rests: dict[int, tuple[int, float]] = {}

    def next_for(self, rater: int) -> list[Round]:
        """The rounds that wait for a rater, the present one first; those that they skipped come last."""
        with self.store.record() as record:
            if self.final is not None:
                voted = rater in record.standing(self.final.id) or rater not in self.voters
                return [] if voted else [self.final]
            turns = record.turns(rater)
            planned = self.design.turn(self.store.secret, rater, len(turns))
            checked = sum(record.purpose(a) == CHECK for a in turns)
            if len(self.practice) < self.design.practice or (planned.kind == "check" and checked >= len(self.checks)):
                return []  # they are being made
            waiting = [r for r in record.open() if rater not in record.standing(r.id)]
            skipped = {r.id: s[rater].id for r in waiting if rater in (s := record.skipped(r.id))}
            if self._enough(record, rater):
                waiting = []
            beside = self._practice(record, rater)
            if beside is None and waiting:  # what is asked beside the last round would help nobody
                if planned.kind == "check":
                    beside = record.rounds[self.checks[checked]]
                elif planned.step is not None and planned.step < len(turns):
                    beside = _repeated(record, rater, turns[planned.step])
        if beside is not None:
            return [beside if beside.purpose != SEARCH else self.store.rounds.again(beside)]
        return sorted(waiting, key=lambda r: skipped.get(r.id, 0))

    def _practice(self, record: Record, rater: int) -> Round | None:
        """The practice round that a rater is to answer now."""
        done = (rater in record.standing(i) or rater in record.skipped(i) for i in self.practice)
        return next((record.rounds[i] for i, over in zip(self.practice, done, strict=True) if not over), None)

    def _enough(self, record: Record, rater: int) -> bool:
        """Whether a rater has answered as many rounds of the search as they may."""
        most = self.design.rounds_each
        return most is not None and _searched(record, rater) >= most

    def answered(self, rater: int) -> int:
        """Rounds of the search that a rater has answered."""
        with self.store.record() as record:
            return _searched(record, rater)

    def enough(self, rater: int) -> bool:
        """Whether a rater has answered all that they are asked: as many rounds as they may, or the final vote."""
        with self.store.record() as record:
            if self.final is not None and rater in self.voters:
                return rater in record.standing(self.final.id)
            return self._enough(record, rater) and self._practice(record, rater) is None

    def rest(self, rater: int) -> float:
        """Seconds for which a rater is to rest; 0 if they need not, or withdrew what they had answered before it."""
        turns, until = self._rests.get(rater, (0, 0.0))
        left = until - time.monotonic()
        if left <= 0 or self.final is not None or self.enough(rater):
            return 0.0
        with self.store.record() as record:
            return left if len(record.turns(rater)) == turns else 0.0

    def short(self) -> str:
        """Why the round that is open cannot be answered, as a sentence; empty if it can."""
        if self.design.rounds_each is None:
            return ""
        links = self.store.people.links()
        with self.store.record() as record:
            able = [r for r, link in links.items() if link != "revoked" and not self._enough(record, r)]
            left = [r for r in able if not record.open() or r not in record.standing(record.open()[0].id)]
            missing = self.raters - (len(record.standing(record.open()[0].id)) if record.open() else 0)
        if len(left) >= missing:
            return ""
        need, have = _people(missing), "nobody" if not left else _people(len(left))
        return f"The round needs the answers of {need} more, and {have} may still answer: make links for new raters."

    def asked(self, record: Record, rater: int, round_id: int) -> Round | None:
        """A round that a rater may answer."""
        round_ = record.rounds.get(round_id)
        if round_ is None or (self.final is not None) != (round_.purpose == FINAL):
            return None
        if round_.purpose == SEARCH:
            return round_ if round_ in record.open() and not self._enough(record, rater) else None
        mine = [*self.practice, *self.checks, *([] if self.final is None else [self.final.id])]
        of = record.standing(round_.of) if round_.of is not None else {}
        return round_ if round_id in mine or rater in of else None

    def tire(self, rater: int, turns: int) -> None:
        """Note how many rounds a rater has answered; after some they rest."""
        if not self.design.break_every or turns % self.design.break_every:
            return
        before, until = self._rests.get(rater, (0, 0.0))
        if before != turns or until <= time.monotonic():  # else an answer was withdrawn in the break, and given anew
            self._rests[rater] = turns, time.monotonic() + self.design.break_seconds


def _repeated(record: Record, rater: int, answer: Answer) -> Round | None:
    """The round that repeats the one of an answer, or that one, if it was never repeated; None if the rater had it."""
    of = record.rounds[answer.round_id]
    again = record.repeat(of.id)
    if of.purpose != SEARCH or (again is not None and rater in record.standing(again.id)):
        return None
    return again or of


def _searched(record: Record, rater: int) -> int:
    return sum(record.purpose(a) == SEARCH for a in record.turns(rater))


def _people(n: int) -> str:
    return "one person" if n == 1 else f"{n} people"
