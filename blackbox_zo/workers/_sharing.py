"""How many tasks workers get at a time: enough to keep them busy, few enough to share them fairly."""

from __future__ import annotations

import math

from blackbox_zo.workers._supervised import ROOM

__all__ = ["Sharing"]

CHUNK = 0.005
"""Seconds of work that are sent together, if tasks are that short."""

BRISK = 0.02
"""Duration of a task, in seconds, below which a worker gets the next one before it is done."""


class Sharing:
    """Learns how long tasks take and how large they are.

    Args:
        ahead: Number of tasks that a worker holds, one per message; None chooses it from what is learnt.
    """

    def __init__(self, ahead: int | None) -> None:
        self._given = ahead
        self._pace = math.nan
        self._bytes = 0.0

    @property
    def fixed(self) -> bool:
        """Whether the number of tasks is given."""
        return self._given is not None

    def sent(self, size: int, n: int) -> None:
        """Record that n tasks took `size` bytes."""
        self._bytes = size / n

    def took(self, seconds: float, n: int) -> None:
        """Record that n tasks took `seconds` seconds."""
        pace = seconds / n
        self._pace = pace if math.isnan(self._pace) else 0.7 * self._pace + 0.3 * pace

    def ahead(self) -> int:
        """Number of messages that a worker may hold, including the one it is working on."""
        if self._bytes > ROOM:  # sending would block until the worker reads
            return 1
        if self._given is not None:
            return self._given
        return 2 if self._pace < BRISK else 1

    def together(self, n: int, workers: int) -> int:
        """Number of tasks, out of n waiting ones, that go into one message."""
        if self._given is not None or math.isnan(self._pace):
            return 1
        fair = n / workers if n * self._pace < workers * CHUNK else n / (2 * workers)
        fits = ROOM / max(self._bytes, 1.0)
        return max(1, min(math.ceil(fair), int(CHUNK / max(self._pace, 1e-9)), int(fits), n))
