"""The servers of a study: several may share its store, if they run the same code."""

from __future__ import annotations

import os
import socket
import time

import sqlalchemy as sa

from blackbox_zo import __version__
from oracles.ranking.study._database import SERVERS, StoreError
from oracles.ranking.study._transactions import Transactions
from oracles.ranking.study._trouble import StoreUnavailable

__all__ = ["Servers"]

BEAT, GONE = 10.0, 60.0
"""Seconds between two signs of life of a server; seconds without one after which it is gone."""


class Servers:
    """This server's entry among those of a store.

    Args:
        store: The store.

    Raises:
        StoreError: A server with another version of blackbox_zo runs on the store.
    """

    def __init__(self, store: Transactions) -> None:
        self._store, self._beaten = store, time.monotonic()
        host, now = socket.gethostname(), time.time()
        with store.write() as c:
            for row in c.execute(sa.select(SERVERS).where(SERVERS.c.seen_at > now - GONE)):
                if row.library != __version__ and not (row.host == host and _ended(row.pid)):
                    raise StoreError(
                        f"A server with blackbox_zo {row.library} runs on the store {store.name!r} (process {row.pid} "
                        f"on {row.host!r}), and this is {__version__}. Stop it first, or use the same version."
                    )
            c.execute(sa.delete(SERVERS).where(SERVERS.c.seen_at <= now - GONE))
            values = {"library": __version__, "host": host, "pid": os.getpid(), "seen_at": now}
            key = c.execute(sa.insert(SERVERS).values(**values)).inserted_primary_key
        assert key is not None
        self._id = int(key[0])

    def beat(self) -> None:
        """Give a sign of life, now and then."""
        if time.monotonic() - self._beaten >= BEAT:
            self._beaten = time.monotonic()
            with self._store.write() as c:
                c.execute(sa.update(SERVERS).where(SERVERS.c.id == self._id).values(seen_at=time.time()))

    def leave(self) -> None:
        """This server ends; a store that cannot be written forgets it by itself."""
        try:
            with self._store.write() as c:
                c.execute(sa.delete(SERVERS).where(SERVERS.c.id == self._id))
        except StoreUnavailable:
            pass


def _ended(pid: int) -> bool:
    """Whether a process of this machine is no more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
