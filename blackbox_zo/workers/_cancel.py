"""A way to end what an oracle is waiting for, through whatever wrappers are around it, from any thread.

Whoever asks an oracle may do so within `with CancelScope():`. Oracles that can end what is under way (worker processes,
programs, executors) look at the innermost scope of their thread: when it is cancelled, or its deadline passes, they
end what they have begun and raise `Cancelled` at once. A Python function that runs in this process cannot be ended so.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from multiprocessing.connection import Connection, Pipe
from typing import TypeVar

__all__ = ["CancelScope", "Cancelled", "current", "woken"]

T = TypeVar("T")


class Cancelled(Exception):
    """What was under way has been ended, because its `CancelScope` was cancelled."""


class CancelScope:
    """Ends what is under way within it, once it is cancelled or its time is over.

    Args:
        deadline: On the clock of `time.monotonic`.

    Attributes:
        deadline: The earliest of its own and that of the `CancelScope` it stands in.
    """

    def __init__(self, deadline: float = math.inf) -> None:
        self.deadline = deadline
        self._asked = self._heeded = False
        self._lock = threading.RLock()
        self._listeners: list[Callable[[], object]] = []
        self._tokens: list[Token[CancelScope | None]] = []
        self._outer = contextlib.ExitStack()

    def cancel(self) -> bool:
        """End what is under way. Whether anybody has ever listened: not so where a function runs in this process."""
        with self._lock:  # a listener that has been taken off must not be called any more: its pipe is closed
            self._asked = True
            for listener in self._listeners:
                listener()
            return self._heeded

    @property
    def over(self) -> bool:
        """Whether to stop."""
        return self._asked or time.monotonic() >= self.deadline

    def next_of(self, came: queue.SimpleQueue[T | None]) -> T:
        """What comes next on a queue; its listener puts None there.

        Raises:
            Cancelled: This was asked, or time is up.
        """
        left = None if math.isinf(self.deadline) else max(0.0, self.deadline - time.monotonic())
        try:
            found = came.get(timeout=left)
        except queue.Empty:
            found = None
        if found is None:
            raise Cancelled
        return found

    @contextlib.contextmanager
    def heard(self, listener: Callable[[], object]) -> Iterator[None]:
        """Have `listener` called, on some thread, when this is asked; at once if it has been."""
        with self._lock:
            self._listeners.append(listener)
            self._heeded = True
            asked = self._asked
        if asked:
            listener()
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)

    def __enter__(self) -> CancelScope:
        outer = current()
        if outer is not None:
            self.deadline = min(self.deadline, outer.deadline)
            self._outer.enter_context(outer.heard(self.cancel))
        self._tokens.append(_current.set(self))
        return self

    def __exit__(self, *args: object) -> None:
        _current.reset(self._tokens.pop())
        self._outer.close()


_current: ContextVar[CancelScope | None] = ContextVar("scope", default=None)


def current() -> CancelScope | None:
    """The innermost `CancelScope` that this is asked within."""
    return _current.get()


@contextlib.contextmanager
def woken() -> Iterator[Connection | None]:
    """What is ready to be read once the `CancelScope` around this is asked, for those who wait for connections."""
    stop = current()
    if stop is None:
        yield None
        return
    wake, waker = Pipe(duplex=False)
    with wake, waker, stop.heard(lambda: waker.send_bytes(b".")):
        yield wake
