"""Who is asked what, when a round is closed, and which ranking the search gets from the answers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blackbox_zo.feedback import Ranking
from oracles.ranking.study._gallery import Candidate
from oracles.ranking.study._store import Answer, Round, Store

__all__ = ["KINDS", "Closed", "Conflict", "Invalid", "Receipt", "Study", "wanted", "winner"]

KINDS = ("rank", "undecided", "none", "skip")
"""An order; "cannot tell"; "none is acceptable"; the rater skips the round."""


class Invalid(ValueError):
    """An answer does not fit its round; the message is for the person."""


class Conflict(RuntimeError):
    """The round was closed without this answer, or the rater has already answered it."""


@dataclass(frozen=True)
class Receipt:
    """Confirms that an answer is on disk.

    Attributes:
        id: Id of its row.
        duplicate: Whether it was already stored.
    """

    id: int
    duplicate: bool


@dataclass(frozen=True)
class Closed:
    """The answers of a closed round.

    Attributes:
        n: Number of candidates.
        said: Each rater's ranking, in the order in which they answered.
        seconds: Time that each rater took, where known.
    """

    n: int
    said: dict[str, Ranking]
    seconds: dict[str, float]

    @property
    def ranking(self) -> Ranking:
        """All answers in one ranking, with one part per rater."""
        everyone = np.arange(self.n)
        if not self.said:
            return Ranking.from_levels(np.zeros(self.n, dtype=np.intp))
        return Ranking.join([(everyone, ranking) for ranking in self.said.values()], self.n)


class Study:
    """Rounds and answers of a store.

    Args:
        store: The store.
        raters: How many people answer each round.
    """

    def __init__(self, store: Store, raters: int) -> None:
        self.store, self.raters = store, raters

    # ------------------------------------------------------------------------------------------------- answering

    def submit(
        self,
        rater: str,
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
            Invalid: The answer does not fit this round.
            Conflict: The round is closed, or the rater has already answered it.
        """
        with self.store.write() as c:
            before = self.store.known(c, client_id)
            if before is not None:
                if before.rater != rater or before.round_id != round_id:
                    raise Conflict("The id of this answer has been used already.")
                return Receipt(before.id, True)
            open_ones = {r.id: r for r in self.store.open_rounds(c)}
            if round_id not in open_ones:
                raise Conflict("This round is over.")
            round_, rows = open_ones[round_id], self.store.rows(round_id, c)
            if rater in _standing(rows):
                raise Conflict("You have answered this round in another window.")
            candidates = self.store.gallery.candidates(round_id)
            places = _places(round_, candidates, kind, groups)
            number = self.store.add(
                c,
                round_id,
                rater,
                kind,
                {"groups": places},
                shown_order=self.store.order(round_id, rater, round_.n).tolist(),
                client_id=client_id,
                ms_spent=ms_spent,
            )
            given = [*(a.id for a in _standing(rows).values()), number]
            if len(given) >= self.raters:
                self.store.add(c, round_id, "", "close", {"answers": given})
        self.store.notify()
        return Receipt(number, False)

    def undo(self, rater: str, client_id: str) -> int | None:
        """Withdraw the rater's latest valid answer; return the id of its round, or None if there is no such answer."""
        with self.store.write() as c:
            before = self.store.known(c, client_id)
            if before is not None:
                return before.round_id
            rounds = {r.id: r for r in self.store.rounds()}
            rows = [a for a in self.store.rows(c=c) if a.round_id in rounds]
            mine = [a for a in _counting(rows) if a.rater == rater]
            if not mine:
                return None
            answer = mine[-1]
            step, close = rounds[answer.round_id].step, _close([a for a in rows if a.round_id == answer.round_id])
            void = [r.id for r in rounds.values() if r.step > step] if close is not None else []
            payload = {"answer": answer.id, "close": close and close.id, "void": void, "step": step}
            self.store.add(c, answer.round_id, rater, "undo", payload, client_id=client_id)
        self.store.notify()
        return answer.round_id

    # ------------------------------------------------------------------------------------------------- asking

    def next_for(self, rater: str) -> list[Round]:
        """The rounds that wait for a rater, the current one first."""
        with self.store.engine.connect() as c:
            return [r for r in self.store.open_rounds(c) if rater not in _standing(self.store.rows(r.id, c))]

    def give_up(self, round_: Round, patience: float) -> None:
        """Close a round with the answers it has, if the first of them is older than `patience` seconds."""
        with self.store.write() as c:
            rows = self.store.rows(round_.id, c)
            given = _standing(rows)
            if given and _close(rows) is None and min(a.created_at for a in given.values()) < time.time() - patience:
                self.store.add(c, round_.id, "", "close", {"answers": [a.id for a in given.values()]})

    def close_without(self, round_: Round) -> None:
        """Close a round without answers, because no candidate could be drawn."""
        with self.store.write() as c:
            if _close(self.store.rows(round_.id, c)) is None:
                self.store.add(c, round_.id, "", "close", {"answers": []})

    def closed(self, round_: Round) -> Closed | None:
        """The answers of a closed round; None while it is open."""
        if not self.store.has(
            round_.id, "close"
        ):  # cheap test first: with several raters, most answers do not close the round
            return None
        rows = self.store.rows(round_.id)
        close = _close(rows)
        if close is None:
            return None
        used = set(close.payload["answers"])
        given = [a for a in rows if a.id in used]
        failed = [k.position for k in self.store.gallery.candidates(round_.id) if k.kind == "error"]
        said = {a.rater: Ranking.from_levels(np.array(_levels(a, round_.n, failed), dtype=np.intp)) for a in given}
        return Closed(round_.n, said, {a.rater: a.ms_spent / 1000 for a in given if a.ms_spent})


def _places(
    round_: Round, candidates: Sequence[Candidate], kind: str, groups: Sequence[Sequence[str]]
) -> list[list[int]]:
    """The positions in each tie group."""
    if kind not in KINDS:
        raise Invalid(f"An answer must be one of {', '.join(KINDS)}.")
    if kind != "rank":
        if groups:
            raise Invalid(f"An answer of kind {kind!r} has no order.")
        return []
    position = {c.id: c.position for c in candidates}
    if len(candidates) < round_.n:
        raise Invalid("Some candidates have not been drawn yet.")
    failed = {c.id for c in candidates if c.kind == "error"}
    seen: set[str] = set()
    for name in (name for group in groups for name in group):
        if name not in position:
            raise Invalid("The order names a candidate that is not in this round.")
        if name in seen:
            raise Invalid("The order names a candidate twice.")
        if name in failed:
            raise Invalid("A candidate that could not be drawn cannot be ranked.")
        seen.add(name)
    least = wanted(round_, candidates)
    if not all(groups) or len(seen) < least:
        raise Invalid(f"Rank at least {least}.")
    return [[position[name] for name in group] for group in groups]


def wanted(round_: Round, candidates: Iterable[Candidate]) -> int:
    """Number of candidates that an order must name: if all are to be ranked, the last one is implied."""
    shown = round_.n - sum(c.kind == "error" for c in candidates)
    return min(round_.n_ranked or shown, max(1, shown - 1))


def _levels(answer: Answer, n: int, failed: Sequence[int]) -> list[int]:
    groups = answer.payload["groups"] if answer.kind == "rank" else []
    level = [len(groups)] * n
    for place, group in enumerate(groups):
        for i in group:
            level[i] = place
    for i in failed:
        level[i] = len(groups) + 1
    return level


def _counting(rows: Sequence[Answer]) -> list[Answer]:
    """Answers that were not withdrawn."""
    undone = {a.payload["answer"] for a in rows if a.kind == "undo"}
    return [a for a in rows if a.kind in KINDS and a.id not in undone]


def _standing(rows: Sequence[Answer]) -> dict[str, Answer]:
    """The valid answer of each rater, from the rows of one round."""
    return {a.rater: a for a in _counting(rows)}


def _close(rows: Sequence[Answer]) -> Answer | None:
    """The valid closing row, from the rows of one round."""
    undone = {a.payload["close"] for a in rows if a.kind == "undo"}
    return next((a for a in reversed(rows) if a.kind == "close" and a.id not in undone), None)


def winner(ranking: Ranking) -> int | None:
    """The position of the best candidate of a round; None if nothing was compared."""
    net: Any = ranking.net_losses()
    return int(np.argmin(net)) if net.min() < 0 else None
