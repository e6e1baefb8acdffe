"""A store whose rows are read, as they come, into a `Record`; and acts that share a transaction."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, TypeVar

import sqlalchemy as sa

from blackbox_zo.errors import Rewind
from oracles.ranking.study._database import ANSWERS, ROUNDS
from oracles.ranking.study._record import Answer, Record, Round
from oracles.ranking.study._together import Together
from oracles.ranking.study._transactions import Transactions

__all__ = ["Readings"]

T = TypeVar("T")


class Readings(Transactions):
    """Reads rows once.

    Args:
        where: The path of an SQLite file, or an SQLAlchemy URL.

    Raises:
        StoreError: There is no such folder or kind of database.
    """

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.changed, self._reading = threading.Condition(), threading.RLock()
        self._record = Record()
        self._together = Together(self._exclusive)

    def together(self, act: Callable[[sa.Connection], T]) -> T:
        """What `act` gives, run in a transaction that may be shared with other threads' acts; it is on disk then.

        Raises:
            StoreUnavailable: See `write`; nothing of the act was stored.
        """
        return self._together.run(act)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[sa.Connection]:
        """A transaction in which the record may be read after rows were added: nobody else reads it before the end."""
        with self.writing, self._reading:
            try:
                with self.write() as c:
                    yield c
            except BaseException:
                self._record = Record()  # it may have read what was not stored
                raise

    def notify(self) -> None:
        """Wake all threads that wait for a change."""
        with self.changed:
            self.changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until something may have changed; changes by other servers are seen after `seconds`."""
        with self.changed:
            self.changed.wait(seconds)

    @contextlib.contextmanager
    def record(self, c: sa.Connection | None = None) -> Iterator[Record]:
        """The record, up to date, to be used inside the block. Rows are only added, so only new ones are read.

        Args:
            c: The transaction to read in: before it adds rows, or inside `together`; None for another one.
        """
        if c is None:
            with self._reading, self.read() as own, self.record(own) as found:
                yield found
            return
        with self._reading:
            last_round, last_row = self._record.mark
            rows = c.execute(sa.select(ANSWERS).where(ANSWERS.c.id > last_row).order_by(ANSWERS.c.id)).all()
            columns = [ROUNDS.c[field.name] for field in fields(Round)]
            rounds = c.execute(sa.select(*columns).where(ROUNDS.c.id > last_round).order_by(ROUNDS.c.id)).all()
            if rows or rounds:
                self._record.read([Round(*row) for row in rounds], [_answer(row) for row in rows])
            yield self._record

    def check_rewound(self, record: Record, seen: int) -> None:
        """Raise `Rewind` if an answer that a search has used was withdrawn after the row `seen`."""
        step = record.rewound(seen)
        if step is not None:
            raise Rewind(step)


def _answer(row: Any) -> Answer:
    return Answer(
        row.id,
        row.round_id,
        row.rater,
        row.kind,
        json.loads(row.payload),
        json.loads(row.shown_order),
        row.client_id,
        row.created_at,
        row.ms_spent,
    )
