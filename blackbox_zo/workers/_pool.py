"""A pool of worker processes; one that dies, hangs or leaks does not affect the others."""

from __future__ import annotations

import math
import os
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from blackbox_zo.errors import WorkerError
from blackbox_zo.workers._cancel import Cancelled, current, woken
from blackbox_zo.workers._outcomes import Lost, Raised
from blackbox_zo.workers._process import end
from blackbox_zo.workers._sharing import Sharing
from blackbox_zo.workers._supervised import Setup, Worker
from blackbox_zo.workers._worker import unpack

__all__ = ["GRACE", "TRIES", "Pool"]

LOOK = 1.0
"""Seconds between checks that processes are alive: a dead one may have left its connection open in a child."""

START = 60.0
"""Minimum time limit for setting up a process, in seconds."""

GRACE = 3.0
"""Seconds that idle processes have to close their resources."""

TRIES = 2
"""How often a task is tried before it is lost."""

STARTS = 3
"""Number of consecutive failures to set up a worker after which the pool gives up."""

STUCK = 0.05
"""Seconds after which idle workers take over the tasks that wait behind a running one."""


class Pool:
    """Worker processes that are each set up once and then given tasks.

    Each is a fresh interpreter, never a fork, so it is safe with any threads in this process. `setup` is sent by
    cloudpickle. A worker that dies or takes too long is replaced, and its waiting tasks are given out again; the task
    it was running is lost, or tried once more on the new worker. Start, stop and use a pool from one thread at a time.

    Args:
        setup: Called once in each worker; returns the function of a task. Its `close`, if any, is called at the end.
        n: Number of processes.
        timeout: Time limit of a task in seconds; None for no limit.
        growth: Memory growth of a process, in MiB, above which it is replaced; None for no limit.
        again: The failures after which a task is tried once more: its worker "died", it is "late", or it "raised", in
            which case the worker is replaced.
        ahead: Number of tasks that a worker holds, including the running one; None chooses it from their durations, and
            sends short tasks together.
        late: Start of the message for a task that takes too long.
        aim: What workers that cannot be set up failed to do, for the message.
        threads: Number of threads of numerical libraries, unless the environment sets it.
        heard: Called with the number of a running task, and the step and the value of a report of it; returns whether
            it is to stop. None if nobody listens.

    Attributes:
        replaced: Number of processes replaced so far.

    Raises:
        ValueError: `setup` cannot be sent to another process.
    """

    def __init__(
        self,
        setup: Callable[[], Callable[[Any], Any]],
        n: int,
        *,
        timeout: float | None = None,
        growth: float | None = None,
        again: tuple[str, ...] = ("died",),
        ahead: int | None = None,
        late: str = "no answer",
        aim: str = "be set up",
        threads: int = 1,
        heard: Callable[[int, float, float], bool] | None = None,
    ) -> None:
        self._setup, self._heard = Setup(setup, growth, threads, heard=heard is not None), heard
        self.n, self.timeout, self.replaced = n, timeout, 0
        self._again, self._late, self._aim = again, late, aim
        self._sharing = Sharing(ahead)
        self._workers: list[Worker] = []
        self._owner = os.getpid()
        self._stillborn = 0
        self._turn = object()
        weakref.finalize(self, _end_all, self._workers)  # when the pool is collected, or this process exits

    @property
    def workers(self) -> list[Worker]:
        """The current processes."""
        return self._workers

    def under_way(self) -> list[int]:
        """The numbers of the running tasks."""
        return [i for worker in self._workers if (i := worker.at()) is not None]

    # ------------------------------------------------------------------------------------------------- running

    def run(
        self, n: int, task: Callable[[int], Any], broken_off: list[int] | None = None
    ) -> Generator[list[tuple[int, Any]], None, None]:
        """Run n tasks; yields results as they arrive, those that arrive together in one list.

        Closing the iterator ends the busy workers at once.

        Args:
            n: Number of tasks.
            task: From a number below n to the content that is sent; called again when a task is retried.
            broken_off: Receives the numbers of the tasks that were running when the iterator was closed.

        Yields:
            Numbers of tasks, each with its result, `Raised` or `Lost`.

        Raises:
            WorkerError: Workers cannot be set up.
            Cancelled: The enclosing `CancelScope` was cancelled, or its deadline has passed.
            RuntimeError: `run` or `close` was called in the meantime.
        """
        return self._work(deque(range(n)), None, task, broken_off)

    def stream(
        self, more: Callable[[], int | None], task: Callable[[int], Any], broken_off: list[int] | None = None
    ) -> Generator[list[tuple[int, Any]], None, None]:
        """Run tasks as workers become free; see `run`.

        Args:
            more: The number of the next task, called when a worker could take it on; None once there are no more.
            task: See `run`.
            broken_off: See `run`.
        """
        return self._work(deque(), more, task, broken_off)

    def _work(
        self, waiting: deque[int], more: Callable[[], int | None] | None, task: Callable[[int], Any],
        broken_off: list[int] | None,
    ) -> Generator[list[tuple[int, Any]], None, None]:  # fmt: skip
        """Run the tasks that wait, then as many more as there are."""
        if self._owner != os.getpid():  # a fork: the workers are its parent's
            self._workers[:], self._owner = [], os.getpid()
        self._end_busy()  # from an earlier call that nobody reads from any more
        turn = self._turn = object()
        self._stillborn, tries, most = 0, Counter[int](), len(waiting) if more is None else self.n
        try:
            with woken() as wake:
                while len(self._workers) < min(self.n, most):
                    self._workers.append(self._setup.start())
                while True:
                    if more is not None and not self._refill(waiting, more):
                        more = None
                    if more is None and not waiting and not any(worker.tasks for worker in self._workers):
                        break
                    self._give(waiting, task)
                    for worker, kind, content in self._messages(turn, wake):
                        if worker not in self._workers:  # replaced in the meantime
                            continue
                        if kind == "report":
                            self._judge(worker, *content)
                            continue
                        if kind == "ready":
                            worker.ready, worker.since, self._stillborn = True, time.monotonic(), 0
                            continue
                        found = (
                            self._done(worker, content, waiting, tries)
                            if kind == "done"
                            else self._gone(worker, kind, content, waiting, tries)
                        )
                        if found:
                            yield found
                            self._check(turn)
        finally:
            if turn is self._turn:  # an error, or the caller has closed the iterator
                if broken_off is not None:
                    broken_off += self.under_way()
                self._end_busy()

    def _check(self, turn: object) -> None:
        if turn is not self._turn:
            raise RuntimeError("These tasks were abandoned, because `run` or `close` was called in the meantime.")

    def _refill(self, waiting: deque[int], more: Callable[[], int | None]) -> bool:
        """Let as many tasks wait as workers can take on; return whether there may be more."""
        if not waiting:
            self._take_over(waiting)
        ready = [worker for worker in self._workers if worker.ready]
        room = self._sharing.ahead() * len(ready) - sum(len(worker.tasks) for worker in ready)
        while len(waiting) < room:
            i = more()
            if i is None:
                return False
            waiting.append(i)
        return True

    def _give(self, waiting: deque[int], task: Callable[[int], Any]) -> None:
        """Hand out tasks, first to workers that have none."""
        if not waiting:
            self._take_over(waiting)
        held = 0
        while waiting and held < self._sharing.ahead():
            for worker in self._workers:
                if waiting and worker.ready and len(worker.ends) <= held:
                    if held and not self._sharing.fixed and time.monotonic() - worker.began() > STUCK:
                        continue
                    some = [waiting.popleft() for _ in range(self._sharing.together(len(waiting), self.n))]
                    self._sharing.sent(worker.give([(i, task(i)) for i in some]), len(some))
            held += 1

    def _take_over(self, waiting: deque[int]) -> None:
        """If some workers are idle and others stuck, take back the tasks that wait behind the stuck ones."""
        if any(worker.ready and not worker.tasks for worker in self._workers):
            now = time.monotonic()
            for worker in self._workers:
                if len(worker.tasks) > 1 and now - worker.began() > STUCK:
                    waiting.extend(worker.give_back())

    def _messages(self, turn: object, wake: Connection | None) -> Iterator[tuple[Worker, str, Any]]:
        """Wait, then yield the messages of workers, and which have died or are late."""
        stop, now = current(), time.monotonic()
        busy = [w for w in self._workers if w.tasks or not w.ready]
        left = max(0.0, min(w.began() + self._allowed(w) for w in busy) - now)
        if len(busy) < len(self._workers) and any(len(w.tasks) > 1 for w in busy):
            left = min(left, STUCK)
        if stop is not None:
            left = max(0.0, min(left, stop.deadline - now))
        ended = [w for w in self._workers if w.process.code is not None]
        listened = [w.connection for w in self._workers] + ([] if wake is None else [wake])
        ready = wait(listened, 0.0 if ended else min(left, LOOK))
        self._check(turn)
        if stop is not None and stop.over:
            raise Cancelled
        for worker in self._workers[:]:
            if worker.connection in ready:
                try:
                    kind, *content = worker.heard()
                    yield worker, kind, content
                except (EOFError, OSError):
                    yield worker, "died", worker.end()
            elif worker in ended:
                yield worker, "died", worker.end()
            elif worker.process.code is not None:
                continue  # it ended during the wait; first read the messages it sent before
            elif worker in busy and time.monotonic() - worker.began() > self._allowed(worker):
                what = self._late if worker.ready else "not ready"
                yield worker, "late", f"{what} within {self._allowed(worker):g} s"

    def _allowed(self, worker: Worker) -> float:
        """Time limit for what a worker is doing, in seconds."""
        timeout = math.inf if self.timeout is None else self.timeout
        return timeout if worker.ready else max(timeout, START)

    def _done(self, worker: Worker, content: Any, waiting: deque[int], tries: Counter[int]) -> list[tuple[int, Any]]:
        """The results in a message."""
        replies, seconds, grown = content
        found = list[tuple[int, Any]]()
        for serial, good, result in replies:
            i = worker.answered(serial)
            if i is None:  # another worker has taken it over
                continue
            if good:
                found.append((i, result))
            elif "raised" not in self._again:
                found.append((i, Raised(unpack(*result))))
            else:
                found += self._once_more(i, f"{result[0]}: {result[1]}"[:500], waiting, tries)
                grown = True
        if replies:
            self._sharing.took(seconds, len(replies))
        if grown:
            self._replace(worker, waiting)
        return found

    def _judge(self, worker: Worker, serial: int, count: int, step: float, value: float) -> None:
        """Pass the report of a task on, and tell the task whether it is to stop."""
        i = worker.tasks.get(serial)
        worker.judge(serial, count, stop=i is not None and self._heard is not None and self._heard(i, step, value))

    def _gone(
        self, worker: Worker, kind: str, content: Any, waiting: deque[int], tries: Counter[int]
    ) -> list[tuple[int, Any]]:
        """Replace a worker that died, was late or could not be set up; return its running task if it is lost."""
        if kind == "broken":
            content = f"{content[0][0]}: {content[0][1]}"[:500]
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= STARTS:
                self.kill()
                raise WorkerError(f"{STARTS} workers in a row could not {self._aim}, the last because: {content}")
        lost = worker.take()
        self._replace(worker, waiting)
        if lost is None:
            return []
        if kind not in self._again:
            return [(lost, Lost(content))]
        return self._once_more(lost, content, waiting, tries)

    def _once_more(self, i: int, reason: str, waiting: deque[int], tries: Counter[int]) -> list[tuple[int, Any]]:
        tries[i] += 1
        if tries[i] >= TRIES:
            return [(i, Lost(reason))]
        waiting.appendleft(i)
        return []

    def _replace(self, worker: Worker, waiting: deque[int]) -> None:
        """Replace a worker, and put the tasks it still held back into `waiting`."""
        waiting.extendleft(reversed(worker.tasks.values()))
        worker.tasks.clear()
        worker.kill()
        self.replaced += 1
        self._workers[self._workers.index(worker)] = self._setup.start()

    # -------------------------------------------------------------------------------------------------- the end

    def _end_busy(self) -> None:
        """End the busy workers, whatever they are doing; the others stay for the next call."""
        for worker in [worker for worker in self._workers if worker.tasks]:
            self._workers.remove(worker)
            worker.kill()

    def kill(self) -> None:
        """End all processes now, whatever they are doing."""
        self._turn = object()
        _end_all(self._workers)

    def close(self) -> None:
        """End all processes, without waiting for busy ones. The next call of `run` starts new ones."""
        deadline = time.monotonic() + GRACE
        idle = [worker for worker in self._workers if worker.ready and not worker.tasks]
        for worker in idle:
            worker.connection.close()  # it sees the end, closes its resources and exits
        for worker in idle:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()


def _end_all(workers: list[Worker]) -> None:
    """End all workers, and empty the list."""
    for worker in workers:
        worker.connection.close()
    end([worker.process for worker in workers], grace=0.0)
    workers.clear()
