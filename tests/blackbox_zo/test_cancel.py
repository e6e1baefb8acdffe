"""Waits end when they must: an item, a deadline, a signal at the worst moment."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from blackbox_zo._stop import Stop
from blackbox_zo.workers._cancel import LOOK, Cancelled, CancelScope, next_of


@pytest.fixture
def signal_between_look_and_wait() -> Iterator[None]:
    """Another thread takes the signal, so that it does not wake this one: as if it came just before the wait."""
    if not hasattr(signal, "pthread_sigmask"):
        pytest.skip("this system cannot mask signals in a thread")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def take() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

    taker = threading.Thread(target=take)
    taker.start()
    yield
    taker.join()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.parametrize("inside", [False, True])
def test_a_signal_just_before_a_wait_is_heard(signal_between_look_and_wait: None, inside: bool) -> None:
    came: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    late = threading.Timer(20 * LOOK, came.put, [1])
    late.start()
    with Stop() as stop, pytest.raises(KeyboardInterrupt):
        CancelScope().next_of(came) if inside else next_of(came, time.monotonic() + 60)
    assert stop.number == signal.SIGINT and late.is_alive()
    late.cancel()


def test_an_item_or_the_deadline_ends_a_wait() -> None:
    came: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    came.put(3)
    assert next_of(came, 0.0) == 3
    begun = time.monotonic()
    with pytest.raises(queue.Empty):
        next_of(came, begun + 1.5 * LOOK)
    assert time.monotonic() - begun >= 1.5 * LOOK
    threading.Timer(1.5 * LOOK, came.put, [4]).start()
    assert next_of(came, time.monotonic() + 60) == 4
    with pytest.raises(Cancelled):
        CancelScope(time.monotonic() - 1).next_of(came)
