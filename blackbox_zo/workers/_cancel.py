"""Cancellation of the running calls of an oracle, through any wrappers, from any thread.

A caller may ask an oracle inside `with CancelScope():`. Oracles that can end running calls (worker processes, programs,
executors) watch the innermost scope of their thread: when it is cancelled, or its deadline passes, they end their
running calls and raise `Cancelled` at once. A Python function that runs in this process cannot be ended this way.
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

__all__ = ["LOOK", "CancelScope", "Cancelled", "current", "next_of", "woken"]

LOOK = 0.5
"""Longest wait of `next_of` in seconds. Python looks for signals, then waits: a signal that comes in between is heard
only after the wait."""

T = TypeVar("T")


class Cancelled(Exception):
    """Running calls were ended, because their `CancelScope` was cancelled or its deadline passed."""


class CancelScope:
    """Ends running calls inside it, once it is cancelled or its deadline passes.

    Args:
        deadline: Deadline on the clock of `time.monotonic`, in seconds.

    Attributes:
        deadline: The earlier of its own deadline and that of the enclosing `CancelScope`.
    """

    def __init__(self, deadline: float = math.inf) -> None:
        self.deadline = deadline
        self._asked = self._heeded = False
        self._lock = threading.RLock()
        self._listeners: list[Callable[[], object]] = []
        self._tokens: list[Token[CancelScope | None]] = []
        self._outer = contextlib.ExitStack()

    def cancel(self) -> bool:
        """End running calls. Returns whether any could listen; a function in this process cannot."""
        with self._lock:  # a removed listener must not be called: its pipe is closed
            self._asked = True
            for listener in self._listeners:
                listener()
            return self._heeded

    @property
    def over(self) -> bool:
        """Whether to stop."""
        return self._asked or time.monotonic() >= self.deadline

    def next_of(self, came: queue.SimpleQueue[T | None]) -> T:
        """The next item of a queue; a listener puts None there on cancellation.

        Raises:
            Cancelled: The scope was cancelled, or its deadline has passed.
        """
        try:
            found = next_of(came, self.deadline)
        except queue.Empty:
            found = None
        if found is None:
            raise Cancelled
        return found

    @contextlib.contextmanager
    def heard(self, listener: Callable[[], object]) -> Iterator[None]:
        """Call `listener`, in some thread, when this scope is cancelled; at once if it has been."""
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
    """The innermost enclosing `CancelScope`, or None."""
    return _current.get()


def next_of(came: queue.SimpleQueue[T], deadline: float) -> T:
    """The next item of a queue; signals are heard while it waits.

    Raises:
        queue.Empty: There was none until the deadline.
    """
    while True:
        left = max(0.0, deadline - time.monotonic())
        try:
            return came.get(timeout=min(left, LOOK))
        except queue.Empty:
            if left <= LOOK:
                raise


@contextlib.contextmanager
def woken() -> Iterator[Connection | None]:
    """A connection that becomes readable once the enclosing `CancelScope` is cancelled; None without a scope."""
    stop = current()
    if stop is None:
        yield None
        return
    wake, waker = Pipe(duplex=False)
    with wake, waker, stop.heard(lambda: waker.send_bytes(b".")):
        yield wake
