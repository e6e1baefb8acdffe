"""What counts in a study: one reading of its rows, for the search, the page and the export alike.

A study's rows are only ever added: an answer, the closing of a round (which names the answers that the search was
given), an undo, a redo. `Record` reads them in order and says, at any time, which answers count, which rounds hold,
and which are open. Pure bookkeeping: no database, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["CHECK", "FINAL", "KINDS", "ORDERS", "PRACTICE", "REPEAT", "SEARCH", "Answer", "Record", "Round"]

ORDERS = ("rank", "undecided", "none")
"""Kinds of answers that the search is given: an order; "cannot tell"; "none is acceptable"."""

KINDS = (*ORDERS, "skip")
"""All kinds of answers; a skipped round waits for another rater, or for the same one later."""

SEARCH, PRACTICE, CHECK, REPEAT, FINAL = "search", "practice", "check", "repeat", "final"
"""Purposes of rounds. The search is given the answers to its own; those to checks and repeated rounds say how far their
raters can be relied on."""


@dataclass(frozen=True)
class Round:
    """Candidates that were shown to people together.

    Attributes:
        id: Of the row.
        step: Of the search; of other rounds, their number among those of their purpose.
        n: Number of candidates. Where the answer is known (practice, checks), they are best first.
        n_ranked: How many places are asked for; None for all.
        digest: Of the candidates' points.
        purpose: See `SEARCH`.
        of: The round that a repeated one repeats.
        question: What is asked instead of the study's question; None for that.
    """

    id: int
    step: int
    n: int
    n_ranked: int | None
    digest: str
    purpose: str = SEARCH
    of: int | None = None
    question: str | None = None

    @property
    def drawn(self) -> int:
        """The round whose pictures it shows: itself, or the one that it repeats."""
        return self.of or self.id


@dataclass(frozen=True)
class Answer:
    """One row: an answer (one of `KINDS`), the "close" of a round, an "undo" or a "redo".

    Attributes:
        id: Of the row; rows are in the order of their ids.
        round_id: Of the round.
        rater: Id of the person; None for a "close".
        kind: See above.
        payload: "groups" of an answer; "answers" of a "close", and "extra", those to checks and repeated rounds since
            the last; "answer", "close" and "void" (rounds) of an "undo"; "undo" and "void" of a "redo".
        shown_order: The candidates' positions in the order of the screen.
        client_id: Made by the client, the same however often it sends the row.
        created_at: Seconds since 1970.
        ms_spent: Milliseconds that the person took, where known.
    """

    id: int
    round_id: int
    rater: int | None
    kind: str
    payload: Any
    shown_order: list[int]
    client_id: str
    created_at: float
    ms_spent: int | None


class Record:
    """The rows read so far, and what they amount to.

    Attributes:
        rounds: All rounds by id, void ones included.
        rows: All rows by id, in order.
        undone: Answers that were withdrawn, and not restored, each with the "undo" that withdrew it.
        void: Rounds that rested on a withdrawn answer, each with the "undo" that voided it.
    """

    def __init__(self) -> None:
        self.rounds: dict[int, Round] = {}
        self.rows: dict[int, Answer] = {}
        self.undone: dict[int, Answer] = {}
        self.void: dict[int, Answer] = {}
        self._by_round: dict[int, list[Answer]] = {}
        self._by_client: dict[str, Answer] = {}
        self._controls: list[Answer] = []
        self._by_rater: dict[int | None, list[Answer]] = {}
        self._extra: list[Answer] = []
        self._given: dict[int, list[Answer]] = {}
        self._repeats: dict[int, Round] = {}
        self._undos: list[Answer] = []
        self._reopened: set[int] = set()
        self._open: list[Round] | None = None

    @property
    def mark(self) -> tuple[int, int]:
        """The newest round and row read; it changes with every change."""
        return next(reversed(self.rounds), 0), next(reversed(self.rows), 0)

    def read(self, rounds: Iterable[Round], rows: Iterable[Answer]) -> None:
        """Read further rounds and rows, in the order of their ids."""
        for round_ in rounds:
            self.rounds[round_.id] = round_
            if round_.of is not None:
                self._repeats[round_.of] = round_
        for row in rows:
            self.rows[row.id] = self._by_client[row.client_id] = row
            self._by_round.setdefault(row.round_id, []).append(row)
            if row.kind in KINDS:
                self._by_rater.setdefault(row.rater, []).append(row)
                if self.purpose(row) in (CHECK, REPEAT):
                    self._extra.append(row)
            if row.kind == "close":
                for answer in row.payload.get("extra", ()):
                    self._given.setdefault(answer, []).append(row)
            if row.kind in ("undo", "redo"):
                self._controls.append(row)
                self._sum_up()
        self._open = None

    def _sum_up(self) -> None:
        redone = {row.payload["undo"] for row in self._controls if row.kind == "redo"}
        holding = [row for row in self._controls if row.kind == "redo" or row.id not in redone]
        self.undone = {row.payload["answer"]: row for row in holding if row.kind == "undo"}
        self.void = {round_id: row for row in holding for round_id in row.payload["void"]}
        self._undos = [row for row in holding if row.kind == "undo"]
        self._reopened = {row.payload["close"] for row in self._undos}

    # ------------------------------------------------------------------------------------------------- answers

    def known(self, client_id: str) -> Answer | None:
        """The row that a client made under an id."""
        return self._by_client.get(client_id)

    def status(self, answer: Answer) -> str:
        """Of an answer: "counts"; "skipped"; "withdrawn" by its rater; or "void", as an earlier one was withdrawn."""
        if answer.id in self.undone:
            return "withdrawn"
        if answer.round_id in self.void:
            return "void"
        return "skipped" if answer.kind == "skip" else "counts"

    def answers(self) -> Iterator[Answer]:
        """All answers, whatever became of them, in order."""
        return (row for row in self.rows.values() if row.kind in KINDS)

    def standing(self, round_id: int) -> dict[int, Answer]:
        """The answer of each rater to a round that counts."""
        found = (row for row in self._by_round.get(round_id, ()) if row.kind in ORDERS)
        return {row.rater: row for row in found if row.rater is not None and self.status(row) == "counts"}

    def close(self, round_id: int) -> Answer | None:
        """The "close" of a round that holds; None while the round is open."""
        rows = reversed(self._by_round.get(round_id, ()))
        return next((row for row in rows if row.kind == "close" and row.id not in self._reopened), None)

    def touched(self, round_id: int) -> bool:
        """Whether a round has any row."""
        return round_id in self._by_round

    def skipped(self, round_id: int) -> dict[int, Answer]:
        """The newest skip of each rater who skipped a round."""
        rows = (row for row in self._by_round.get(round_id, ()) if row.kind == "skip" and self.status(row) == "skipped")
        return {row.rater: row for row in rows if row.rater is not None}

    def purpose(self, answer: Answer) -> str:
        """What the round of an answer is for."""
        return self.rounds[answer.round_id].purpose

    def turns(self, rater: int) -> list[Answer]:
        """A rater's answers outside practice, with the checks and repeats they skipped: these do not return."""
        own = (a for a in self._by_rater.get(rater, ()) if self.purpose(a) in (SEARCH, CHECK, REPEAT))
        return [
            a
            for a in own
            if (status := self.status(a)) == "counts" or (status == "skipped" and self.purpose(a) != SEARCH)
        ]

    def extra(self) -> list[int]:
        """Answers to checks and repeated rounds that the search has not been given."""
        return [a.id for a in self._extra if self.status(a) == "counts" and not self.given(a)]

    def given(self, answer: Answer) -> bool:
        """Whether the search was given an answer to a check or a repeated round, with a round that holds."""
        closes = self._given.get(answer.id, ())
        return any(c.id not in self._reopened and c.round_id not in self.void for c in closes)

    def earlier(self, answer: Answer) -> Answer | None:
        """Of an answer to a repeated round: what the rater had answered to the round that it repeats."""
        of = self.rounds[answer.round_id].of
        rows = reversed(self._by_round.get(of or 0, ()))
        return next((a for a in rows if a.rater == answer.rater and a.kind in ORDERS and a.id < answer.id), None)

    # ------------------------------------------------------------------------------------------------- rounds

    def holding(self) -> list[Round]:
        """The search's rounds that are not void, one for each step, in order."""
        found = {r.step: r for r in self.rounds.values() if r.purpose == SEARCH and r.id not in self.void}
        return [found[step] for step in sorted(found)]

    def live(self, step: int, purpose: str = SEARCH) -> Round | None:
        """The round of a step that is not void."""
        found = (r for r in reversed(self.rounds.values()) if r.step == step and r.purpose == purpose)
        return next((r for r in found if r.id not in self.void), None)

    def repeat(self, of: int) -> Round | None:
        """The round that repeats another."""
        return self._repeats.get(of)

    def open(self) -> list[Round]:
        """Rounds that wait for answers, in order."""
        if self._open is None:
            self._open = [round_ for round_ in self.holding() if self.close(round_.id) is None]
        return self._open

    # ------------------------------------------------------------------------------------------------- withdrawing

    @property
    def undos(self) -> Sequence[Answer]:
        """Withdrawals that hold, in order."""
        return self._undos

    def newest_undo(self) -> int:
        """The row of the newest "undo"; 0 without one."""
        return next((row.id for row in reversed(self.rows.values()) if row.kind == "undo"), 0)

    def rewound(self, seen: int) -> int | None:
        """The earliest step of which an answer that the search had used was withdrawn after the row `seen`."""
        undos = (undo for undo in self.undos if undo.id > seen and undo.payload["close"] is not None)
        return min((self.rounds[undo.round_id].step for undo in undos), default=None)

    def own(self, rater: int) -> list[Answer]:
        """A rater's answers that count and can be withdrawn, oldest first."""
        own = self._by_rater.get(rater, ())
        return [a for a in own if self.status(a) == "counts" and not self.given(a)]

    def rests_on(self, answer: Answer) -> tuple[list[Round], list[Answer]]:
        """What would be void without an answer: the rounds that follow from it, and their answers that count."""
        if self.close(answer.round_id) is None:
            return [], []
        step = self.rounds[answer.round_id].step
        rounds = [round_ for round_ in self.holding() if round_.step > step]
        return rounds, [a for round_ in rounds for a in self.standing(round_.id).values()]

    def redoable(self, rater: int) -> Answer | None:
        """A rater's newest "undo" that can be taken back: nobody has answered anew what it withdrew or voided."""
        undo = next((row for row in reversed(self._undos) if row.rater == rater), None)
        if undo is None or undo.round_id in self.void or any(self._replaces(row, undo) for row in self.rows.values()):
            return None
        return undo

    def _replaces(self, row: Answer, undo: Answer) -> bool:
        """Whether a row takes the place of what an undo withdrew or voided."""
        if row.id < undo.id or row.kind not in (*ORDERS, "close") or self.status(row) != "counts":
            return False
        if row.round_id == undo.round_id:
            return row.kind == "close" or row.rater == undo.rater
        new, old = self.rounds[row.round_id], self.rounds[undo.round_id]
        return new.purpose == old.purpose == SEARCH and new.step > old.step

    def replaced(self, undo: Answer) -> list[int]:
        """Rounds made since an undo in place of those that it voided; a "redo" voids them."""
        step, newest = self.rounds[undo.round_id].step, max(undo.payload["void"], default=0)
        return [r.id for r in self.holding() if r.step > step and undo.payload["void"] and r.id > newest]

    def lost(self, rater: int) -> list[Answer]:
        """Withdrawals by others that made answers of a rater void, oldest first."""
        mine = {a.round_id for a in self._by_rater.get(rater, ()) if a.id not in self.undone}
        return [u for u in self.undos if u.rater != rater and mine.intersection(u.payload["void"])]
