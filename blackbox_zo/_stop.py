"""Ctrl-C, SIGTERM and a closed terminal: where a run may stop."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

__all__ = ["Stop"]


class Stop:
    """In a `with` block these signals raise KeyboardInterrupt: at once, or, after the first `check`, only in `check`.

    Weights are updated in place, so an interrupt at an arbitrary point could leave them half updated. A second signal
    raises at once.

    Attributes:
        number: Number of the signal received; 0 if none.
        abrupt: Whether the interrupt was raised outside `check`, so that the weights may be half updated.
    """

    def __init__(self) -> None:
        self.number = 0
        self.abrupt = self._waits = False
        self._before: list[tuple[int, Any]] = []

    def check(self) -> None:
        """A point where the run may stop.

        Raises:
            KeyboardInterrupt: A signal was received.
        """
        self._waits = True
        if self.number:
            raise KeyboardInterrupt

    def __enter__(self) -> Stop:
        kinds = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        self._before = [(kind, signal.signal(kind, self._hear)) for kind in kinds]
        return self

    def __exit__(self, *args: object) -> None:
        for kind, handler in self._before:
            signal.signal(kind, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del frame
        again, self.number = self.number, number
        if again or not self._waits:
            self.abrupt = True
            raise KeyboardInterrupt
