"""Access to the page: one-time links and the sessions that they start. Only hashes of either are stored."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import sqlalchemy as sa

from oracles.ranking.study._database import VISITORS

__all__ = ["Visitors"]


class Visitors:
    """The visitors of a store.

    Args:
        engine: Connections to the store.
        write: Opens a write transaction of the store.
    """

    def __init__(self, engine: sa.Engine, write: Callable[[], AbstractContextManager[sa.Connection]]) -> None:
        self._engine, self._write = engine, write

    def invite(self, rater: str | None) -> str:
        """A new one-time token."""
        token = secrets.token_urlsafe(24)
        with self._write() as c:
            c.execute(sa.insert(VISITORS).values(token=hashed(token), rater=rater, created_at=time.time()))
        return token

    def admit(self, token: str) -> tuple[str, str | None] | None:
        """Use up a token; return a new session and the rater's name, or None if the token is unknown or used."""
        session = secrets.token_urlsafe(24)
        with self._write() as c:
            row = c.execute(sa.select(VISITORS).where(VISITORS.c.token == hashed(token))).first()
            if row is None or row.session is not None:
                return None
            c.execute(sa.update(VISITORS).where(VISITORS.c.token == row.token).values(session=hashed(session)))
        return session, row.rater

    def find(self, session: str) -> tuple[bool, str | None]:
        """Whether a session is known, and its rater."""
        with self._engine.connect() as c:
            row = c.execute(sa.select(VISITORS.c.rater).where(VISITORS.c.session == hashed(session))).first()
        return (False, None) if row is None else (True, row.rater)

    def name(self, session: str, rater: str) -> None:
        """Set the rater of a session."""
        with self._write() as c:
            c.execute(sa.update(VISITORS).where(VISITORS.c.session == hashed(session)).values(rater=rater))


def hashed(secret: str) -> str:
    """The stored hash of a token or session."""
    return hashlib.sha256(secret.encode()).hexdigest()
