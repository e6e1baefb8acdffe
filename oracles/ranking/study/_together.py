"""Group commit: what several threads want to store at the same moment goes to the disk in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import sqlalchemy as sa

__all__ = ["Together"]

T = TypeVar("T")


class _Job:
    """One act, and what became of it."""

    def __init__(self, act: Callable[[sa.Connection], Any]) -> None:
        self.act, self.done = act, False
        self.value: Any = None
        self.error: BaseException | None = None


class Together:
    """Runs acts of several threads in common transactions.

    A flush of the disk takes milliseconds. Acts that come meanwhile queue up, and whoever is next runs them all.

    Args:
        transaction: Opens a transaction, which is on disk when it closes.
    """

    def __init__(self, transaction: Callable[[], AbstractContextManager[sa.Connection]]) -> None:
        self._transaction = transaction
        self._jobs: list[_Job] = []
        self._queue, self._turn = threading.Lock(), threading.Lock()

    def run(self, act: Callable[[sa.Connection], T]) -> T:
        """What `act` gives, once what it wrote is on disk. If it raises, nothing of it is stored.

        Args:
            act: Gets the connection of the transaction.
        """
        job = _Job(act)
        with self._queue:
            self._jobs.append(job)
        with self._turn:
            if not job.done:
                with self._queue:
                    jobs, self._jobs = self._jobs, []
                self._perform(jobs)
        if job.error is not None:
            raise job.error
        found: T = job.value
        return found

    def _perform(self, jobs: list[_Job]) -> None:
        try:
            with self._transaction() as c:
                for job in jobs:
                    try:
                        with c.begin_nested():
                            job.value = job.act(c)
                    except sa.exc.DBAPIError:  # the transaction is lost
                        raise
                    except Exception as error:
                        job.error = error
        except BaseException as error:
            for job in jobs:
                job.error = job.error or error
            if not isinstance(error, Exception):
                raise
        finally:
            for job in jobs:
                job.done = True
