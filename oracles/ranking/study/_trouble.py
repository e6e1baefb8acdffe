"""A store that cannot be used for a while: a full disk, a disk that fails, a database that is down, a deleted file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

__all__ = ["StoreUnavailable", "Trouble", "available"]

QUIET = 60.0

AGAIN = 1.0
"""Seconds after which a store that could not be used is tried again."""

T = TypeVar("T")

_log = logging.getLogger("blackbox_zo")


class StoreUnavailable(OSError):
    """Nothing of a transaction was stored; the same one may be tried again."""


class Trouble:
    """Says in the log that a store cannot be used, at most once in `QUIET` seconds.

    Args:
        name: Of the store.
        path: Of its file; None for a database server.
    """

    def __init__(self, name: str, path: Path | None) -> None:
        self.name, self.path, self._quiet_until = name, path, 0.0
        self._file: tuple[int, int] | None = None

    def begin(self) -> None:
        """Note which file the store is: rows written to one that was deleted since would be lost."""
        self._file = self._found()

    def _found(self) -> tuple[int, int] | None:
        try:
            found = None if self.path is None else self.path.stat()
        except OSError:
            return None
        return None if found is None else (found.st_dev, found.st_ino)

    @contextmanager
    def told(self, how: str) -> Iterator[None]:
        """Around a whole transaction.

        Args:
            how: "written" or "read".

        Raises:
            StoreUnavailable: The database does not take it, or its file is not where it was.
        """
        try:
            self._check()
            yield
            self._check()  # before anybody is told that a row is stored
        except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
            raise self._unavailable(how, str(error.orig).partition("\n")[0]) from error
        except FileNotFoundError as error:
            raise self._unavailable(how, str(error)) from None

    def _check(self) -> None:
        if self._file is not None and self._found() != self._file:
            raise FileNotFoundError("its file was moved or deleted")

    def _unavailable(self, how: str, reason: str) -> StoreUnavailable:
        text = f"The store {self.name!r} cannot be {how}: {reason}."
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + QUIET
            _log.warning("%s Answers wait in the browsers until it can be.", text)
        return StoreUnavailable(text)


def available(act: Callable[[], T]) -> T:
    """What `act` gives, tried again until the store can be used; the log says why that may take a while."""
    while True:
        try:
            return act()
        except StoreUnavailable:
            time.sleep(AGAIN)
