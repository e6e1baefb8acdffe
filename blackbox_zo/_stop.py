"""Ctrl-C, SIGTERM and a closed terminal: where a run may end."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

__all__ = ["Stop"]


class Stop:
    """Inside a `with` block these signals raise KeyboardInterrupt: at once, or from the first `check` on in a `check`.

    Weights are moved in place, so an end at any place could leave them half moved. A second signal ends at once.

    Attributes:
        number: Of the signal that came; 0 without one.
        abrupt: Whether it raised outside `check`, so that the weights may be half moved.
    """

    def __init__(self) -> None:
        self.number = 0
        self.abrupt = self._waits = False
        self._before: list[tuple[int, Any]] = []

    def check(self) -> None:
        """A place where the run may end.

        Raises:
            KeyboardInterrupt: A signal has come.
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
