"""A device whose queues run when they please, as far as marks let them."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from blackbox_zo._typing import override
from blackbox_zo.streaming._streams import Streams


class Mark:
    """A place in a queue."""

    done = False


class Queues(Streams):
    """Work is done in the order of its queue and not before marks that the queue waits for, but else at any time.

    A copy that does not wait for what it depends on comes too early or too late in some run, which a real device does
    once in a thousand.

    Args:
        seed: Of the order in which queues go on.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(torch.device("cpu"))
        self.random, self.lock, self.here = random.Random(seed), threading.RLock(), threading.local()
        self.queues: list[deque[Callable[[], Any] | Mark | tuple[Mark]]] = [deque()]

    @override
    def new(self) -> int:
        self.queues.append(deque())
        return len(self.queues) - 1

    @override
    @contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        before, self.here.queue = getattr(self.here, "queue", 0), stream
        yield
        self.here.queue = before

    @override
    def run(self, work: Callable[[], Any]) -> None:
        self._ask(work)

    @override
    def record(self) -> Mark:
        mark = Mark()
        self._ask(mark)
        return mark

    @override
    def wait(self, mark: Any) -> None:
        self._ask((mark,))

    @override
    def finish(self, mark: Any) -> None:
        while True:
            with self.lock:
                if mark.done:
                    return
                self._go_on()

    @override
    def same_order(self) -> Callable[[], None]:
        queue = getattr(self.here, "queue", 0)
        return lambda: setattr(self.here, "queue", queue)

    def _ask(self, item: Any) -> None:
        with self.lock:
            self.queues[getattr(self.here, "queue", 0)].append(item)
            for _ in range(self.random.choice((0, 0, 1, 4))):
                self._go_on()

    def _go_on(self) -> None:
        """Do what is next in some queue that need not wait."""
        able = [q for q in self.queues if q and not (isinstance(q[0], tuple) and not q[0][0].done)]
        if able:
            item = self.random.choice(able).popleft()
            if isinstance(item, Mark):
                item.done = True
            elif not isinstance(item, tuple):
                item()


class EagerModel(Queues):
    """The same, but what the first queue is asked is done at once, as a model's operations on a CPU are."""

    @override
    def _ask(self, item: Any) -> None:
        if getattr(self.here, "queue", 0):
            super()._ask(item)
        elif isinstance(item, tuple):
            self.finish(item[0])
        elif isinstance(item, Mark):
            item.done = True
        else:
            item()
