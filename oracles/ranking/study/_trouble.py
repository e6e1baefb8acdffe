"""A store that temporarily cannot be written: a full or failing disk, a database that is down."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

__all__ = ["StoreUnwritable", "Trouble"]

QUIET = 60.0

_log = logging.getLogger("blackbox_zo")


class StoreUnwritable(OSError):
    """Nothing of a transaction was stored; it may be tried again."""


class Trouble:
    """Logs that a store cannot be written, at most once in `QUIET` seconds.

    Args:
        name: Name of the store.
    """

    def __init__(self, name: str) -> None:
        self.name, self._quiet_until = name, 0.0

    @contextmanager
    def told(self) -> Iterator[None]:
        """Around a whole transaction.

        Raises:
            StoreUnwritable: The database cannot be written.
        """
        try:
            yield
        except sa.exc.OperationalError as error:
            reason = str(error.orig).partition("\n")[0]
            text = f"The store {self.name!r} cannot be written: {reason}."
            if time.monotonic() >= self._quiet_until:
                self._quiet_until = time.monotonic() + QUIET
                _log.warning("%s Answers wait in the browsers until it can be.", text)
            raise StoreUnwritable(text) from error
