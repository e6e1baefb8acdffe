"""Transactions of a study's database."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from oracles.ranking.study._database import engine_of
from oracles.ranking.study._trouble import Trouble

__all__ = ["Transactions"]


class Transactions:
    """Reads and writes a database, and says so when it cannot be used.

    Args:
        where: The path of an SQLite file, or an SQLAlchemy URL.

    Attributes:
        name: The same, without a password.
        engine: Its connections.
        writing: Held by the one writer of this process.

    Raises:
        StoreError: There is no such folder or kind of database.
    """

    def __init__(self, where: str) -> None:
        self.engine = engine_of(where)
        self._writer = self.engine.execution_options(write=True)
        self.writing = threading.RLock()
        self.name = where if "://" not in where else sa.engine.make_url(where).render_as_string(hide_password=True)
        self._trouble = Trouble(self.name, None if "://" in where else Path(where))

    def begin(self) -> None:
        """From here on, a file that is moved or deleted is noticed."""
        self._trouble.begin()

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that excludes all other writers, in any process; committed at its end.

        Raises:
            StoreUnavailable: The database does not take it: a full disk, a server that is down, a deleted file.
        """
        with self._trouble.told("written"), self.alone() as c:
            yield c

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that reads.

        Raises:
            StoreUnavailable: The database does not answer.
        """
        with self._trouble.told("read"), self.engine.connect() as c:
            yield c

    @contextlib.contextmanager
    def alone(self) -> Iterator[sa.Connection]:
        """A transaction that excludes all other writers; errors are the database's own."""
        with self.writing, self._writer.begin() as c:
            if self.engine.dialect.name == "postgresql":
                c.execute(sa.text("SELECT pg_advisory_xact_lock(812349071)"))
            yield c
