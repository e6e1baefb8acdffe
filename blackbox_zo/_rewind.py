"""Where a run can go back to when an answer is withdrawn."""

from __future__ import annotations

from collections import deque

from blackbox_zo._engine import Snapshot
from blackbox_zo._records import Searched
from blackbox_zo.errors import OracleError

__all__ = ["Snapshots", "next_step"]

MOST, MEMORY = 256, 256 << 20
"""Snapshots that are kept at most, and bytes that they may take by x alone."""


def next_step(then: Snapshot) -> int:
    """The step that is answered next."""
    return min(then.open, default=then.counts[0])


class Snapshots:
    """Snapshots of a search between its steps: the first, and as many of the newest as fit in memory.

    Args:
        search: The search.
        origin: An earlier snapshot of it; None goes back to the present one at most.
    """

    def __init__(self, search: Searched, origin: Snapshot | None) -> None:
        self.search = search
        self.possible = search.variable.dense and search.journal is None
        most = max(1, min(MOST, MEMORY // (8 * search.variable.size)))
        self._first = [origin] if origin is not None else []
        self._kept: deque[Snapshot] = deque(maxlen=most)
        if self.possible:
            self._first.append(search.snapshot())

    def keep(self) -> None:
        """Take a snapshot."""
        if self.possible:
            self._kept.append(self.search.snapshot())

    def back(self, step: int) -> int | None:
        """Go back to before a step was answered.

        Returns:
            The step that is answered next; None if the step is earlier than any snapshot.

        Raises:
            OracleError: The search cannot go back.
        """
        if not self.possible:
            raise OracleError(
                f"The answer to step {step} was withdrawn, but the search cannot go back: "
                + ("it has a journal." if self.search.journal is not None else "it moves the variable in place.")
            )
        while self._kept and next_step(self._kept[-1]) > step:
            self._kept.pop()
        found = self._kept[-1] if self._kept else next((s for s in reversed(self._first) if next_step(s) <= step), None)
        if found is None:
            return None
        self.search.restore(found)
        return next_step(found)
