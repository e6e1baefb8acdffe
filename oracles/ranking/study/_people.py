"""Who takes part: raters, their one-time links, and the sessions that links become. Only hashes of secrets are stored.

A rater is a number; a name is shown, and need not be unique. A link is for one rater and opens one browser. Revoking
ends a rater's links and sessions.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import NamedTuple

import sqlalchemy as sa

from oracles.ranking.study._database import LINKS, RATERS
from oracles.ranking.study._transactions import Transactions

__all__ = ["Full", "People", "Rater"]


class Full(ValueError):
    """As many raters take part as may; the message is for the researcher."""


class Rater(NamedTuple):
    """A person.

    Attributes:
        id: Identifies them.
        name: Is shown; None until they give one.
    """

    id: int
    name: str | None


class People:
    """The raters of a store.

    Args:
        store: Holds them.
    """

    def __init__(self, store: Transactions) -> None:
        self._store = store
        self.most: int | None = None

    def limit(self, most: int | None) -> None:
        """Let at most so many raters have a link; None for no limit.

        Raises:
            Full: More have one.
        """
        have = self._linked()
        if most is not None and have > most:
            raise Full(f"At most {most} raters may take part, but {have} have a link: revoke some, or raise the limit.")
        self.most = most

    def _linked(self) -> int:
        """How many raters have a link."""
        return sum(state != "revoked" for state in self.links().values())

    def add(self, name: str | None) -> int:
        """A new rater; their number.

        Args:
            name: Is shown; None lets them give it.

        Raises:
            Full: As many have a link as may take part.
        """
        if self.most is not None and self._linked() >= self.most:
            raise Full(f"At most {self.most} raters may take part, and as many have a link.")
        with self._store.write() as c:
            key = c.execute(sa.insert(RATERS).values(name=name, created_at=time.time())).inserted_primary_key
        assert key is not None
        return int(key[0])

    def link(self, rater: int) -> str:
        """The one-time token of a further link for a rater.

        Raises:
            KeyError: There is no such rater.
        """
        return self._linked_anew(rater, False)

    def renew(self, rater: int) -> str:
        """As `link`; all earlier links and sessions of the rater end in the same moment."""
        return self._linked_anew(rater, True)

    def _linked_anew(self, rater: int, ends: bool) -> str:
        token = secrets.token_urlsafe(24)
        with self._store.write() as c:
            if c.execute(sa.select(RATERS.c.id).where(RATERS.c.id == rater)).first() is None:
                raise KeyError(rater)
            if ends:
                self._revoke(c, rater)
            c.execute(sa.insert(LINKS).values(token=hashed(token), rater=rater, created_at=time.time()))
        return token

    def lead(self) -> str:
        """The one-time token of a link for the researcher."""
        token = secrets.token_urlsafe(24)
        with self._store.write() as c:
            c.execute(sa.insert(LINKS).values(token=hashed(token), rater=None, created_at=time.time()))
        return token

    def leads(self, session: str) -> bool:
        """Whether a session is the researcher's."""
        own = (LINKS.c.session == hashed(session), LINKS.c.rater.is_(None), LINKS.c.revoked_at.is_(None))
        with self._store.read() as c:
            return c.execute(sa.select(LINKS.c.token).where(*own)).first() is not None

    def links(self) -> dict[int, str]:
        """Of each rater that has a link: "open", "used", or "revoked" if none is left."""
        out = dict[int, str]()
        query = sa.select(LINKS.c.rater, LINKS.c.session, LINKS.c.revoked_at).where(LINKS.c.rater.is_not(None))
        with self._store.read() as c:
            for rater, session, revoked_at in c.execute(query):
                state = "revoked" if revoked_at is not None else "used" if session is not None else "open"
                ranks = ("revoked", "open", "used")
                out[rater] = max(out.get(rater, "revoked"), state, key=ranks.index)
        return out

    def revoke(self, rater: int) -> None:
        """End all links and sessions of a rater; their answers stay."""
        with self._store.write() as c:
            self._revoke(c, rater)

    def _revoke(self, c: sa.Connection, rater: int) -> None:
        ends = (LINKS.c.rater == rater, LINKS.c.revoked_at.is_(None))
        c.execute(sa.update(LINKS).where(*ends).values(revoked_at=time.time()))

    def admit(self, token: str) -> str | None:
        """Use up a token: a new session; None if the token is unknown, used or revoked."""
        session = secrets.token_urlsafe(24)
        fresh = (LINKS.c.token == hashed(token), LINKS.c.session.is_(None), LINKS.c.revoked_at.is_(None))
        with self._store.write() as c:
            used = c.execute(sa.update(LINKS).where(*fresh).values(session=hashed(session)))
            return session if used.rowcount else None

    def waits(self, token: str) -> bool:
        """Whether a token can still be used."""
        fresh = (LINKS.c.token == hashed(token), LINKS.c.session.is_(None), LINKS.c.revoked_at.is_(None))
        with self._store.read() as c:
            return c.execute(sa.select(LINKS.c.token).where(*fresh)).first() is not None

    def find(self, session: str) -> Rater | None:
        """The rater of a session; None if there is no such session, or it was ended."""
        query = sa.select(RATERS.c.id, RATERS.c.name).join(LINKS, LINKS.c.rater == RATERS.c.id)
        with self._store.read() as c:
            row = c.execute(query.where(LINKS.c.session == hashed(session), LINKS.c.revoked_at.is_(None))).first()
        return None if row is None else Rater(*row)

    def name(self, rater: int, name: str) -> None:
        """Give a rater a name."""
        with self._store.write() as c:
            c.execute(sa.update(RATERS).where(RATERS.c.id == rater).values(name=name))

    def names(self) -> dict[int, str]:
        """What each rater is called, by id; where two share a name, their numbers tell them apart."""
        with self._store.read() as c:
            known = {i: name or f"rater {i}" for i, name in c.execute(sa.select(RATERS.c.id, RATERS.c.name))}
        twice = {name for name in known.values() if list(known.values()).count(name) > 1}
        return {i: f"{name} ({i})" if name in twice else name for i, name in known.items()}


def hashed(secret: str) -> str:
    """What is stored of a token or session."""
    return hashlib.sha256(secret.encode()).hexdigest()
