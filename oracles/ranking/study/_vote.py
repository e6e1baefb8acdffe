"""The final vote: each rater says once, blind, whether the winner or the start is better."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from blackbox_zo._typing import override
from oracles.ranking.study._answers import levels
from oracles.ranking.study._drawing import Drawing
from oracles.ranking.study._record import FINAL, Answer, Record
from oracles.ranking.study._store import plain
from oracles.ranking.study._study import Study

__all__ = ["FinalVote", "Votes", "votes_of"]


class Votes(NamedTuple):
    """How many raters prefer what.

    Attributes:
        winner: The best that the search found.
        start: The x0 that it began with.
        neither: Those who tied them, could not tell, or found none acceptable.
    """

    winner: int
    start: int
    neither: int

    @property
    def p_value(self) -> float:
        """Of so many votes for the winner, or more, if nobody saw a difference: the one-sided sign test."""
        from scipy.stats import binomtest

        decided = self.winner + self.start
        return float(binomtest(self.winner, decided, alternative="greater").pvalue) if decided else 1.0

    @override
    def __str__(self) -> str:
        told = f"{self.winner} for the winner, {self.start} for the start"
        neither = f", {self.neither} for neither" if self.neither else ""
        return f"{told}{neither} (sign test: p = {self.p_value:.2g})"


class FinalVote:
    """Asks all who took part.

    Args:
        study: Whose raters vote.
        drawing: Draws the two.
        x: The winner, in the structure of x0.
        x0: The start.
    """

    def __init__(self, study: Study, drawing: Drawing, x: Any, x0: Any) -> None:
        self.study, self._first = study, 0.0
        store, pair = study.store, [x, x0]
        self.round = store.rounds.fixed(FINAL, 0, json.dumps(plain(pair)), 2)
        drawing.draw_fixed(self.round, pair, drawing.render)
        links = store.people.links()
        with store.record() as record:
            study.turns.voters = [r for r, link in links.items() if link != "revoked" and record.turns(r)]
        study.turns.final = self.round
        store.notify()

    def _voters(self) -> set[int]:
        """Who may vote still, or has voted: nobody waits for a rater whose link was revoked meanwhile."""
        links = self.study.store.people.links()
        return {rater for rater in self.study.turns.voters if links.get(rater) != "revoked"}

    def over(self, patience: float | None) -> bool:
        """Whether all have voted, or all who did so within `patience` seconds of the first."""
        with self.study.store.record() as record:
            voted = record.standing(self.round.id)
        if not voted:
            return not self._voters()
        self._first = self._first or time.monotonic()
        late = patience is not None and time.monotonic() > self._first + patience
        return late or self._voters() <= set(voted)

    def votes(self) -> Votes:
        """The votes so far."""
        with self.study.store.record() as record:
            return _count(record.standing(self.round.id).values())


def votes_of(record: Record) -> Votes | None:
    """The votes of a study; None if nobody has voted."""
    rounds = [r.id for r in record.rounds.values() if r.purpose == FINAL]
    found = _count(record.standing(rounds[-1]).values()) if rounds else Votes(0, 0, 0)
    return found if any(found) else None


def _count(answers: Iterable[Answer]) -> Votes:
    places = [levels(answer, 2) for answer in answers]
    return Votes(sum(a < b for a, b in places), sum(a > b for a, b in places), sum(a == b for a, b in places))
