"""Worker processes that play whole episodes, and may die, hang or leak without harm to the rest."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle

from blackbox_zo._typing import Floats
from oracles.rl._environment import EnvError, Episode
from oracles.rl._statistics import Statistics

__all__ = ["TRIES", "Failure", "Pool", "Task"]

AHEAD = 2
"""Episodes that a worker holds, the one it plays among them, so that the next one begins without a wait."""

TRIES = 2
"""How often an episode is begun before it counts as failed."""

STARTS = 3
"""How many workers in a row may die before they are ready."""


class Task(NamedTuple):
    """One episode to be played.

    Attributes:
        number: Its own among those of a call of `play`.
        x: Parameters, shape (size,).
        seen: Statistics to normalise by.
        seed: Of the environment.
    """

    number: int
    x: Floats
    seen: Statistics | None
    seed: int


class Failure(NamedTuple):
    """Why an episode has no result."""

    reason: str


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    tasks: deque[Task] = field(default_factory=deque)
    since: float = 0.0
    """When it began what it does: the first of its tasks, or to start."""
    ready: bool = False


class Pool:
    """Some processes with an environment and a policy each.

    A process that dies while it plays, takes too long, or whose environment raises is replaced, and its episode is
    begun once more on the new one; episodes that merely waited there are given out again. A process whose memory has
    grown is replaced too.

    Args:
        player: The arguments of `Player`: environment, policy and rules.
        n: Number of processes.
        timeout: Seconds that an episode may take, or a process to start; none waits for ever.
        growth: MiB by which the memory of a process may grow before it is replaced.

    Attributes:
        replaced: How many processes have been replaced.
    """

    def __init__(self, player: tuple[Any, ...], n: int, timeout: float | None, growth: float) -> None:
        self._setup = cloudpickle.dumps((player, growth))
        self.n, self.timeout, self.replaced = n, timeout, 0
        self._workers: list[_Worker] = []
        self._stillborn = 0

    def play(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Episode | Failure]]:
        """Play all tasks; results come as they are there.

        Raises:
            EnvError: Workers cannot make the environment, or die before they have.
        """
        waiting, tries = deque(tasks), Counter[int]()
        while len(self._workers) < min(self.n, len(waiting)):
            self._workers.append(self._start())
        done = False
        try:
            while waiting or any(worker.tasks for worker in self._workers):
                self._give(waiting)
                for worker, kind, content in self._messages():
                    if worker not in self._workers:  # replaced meanwhile
                        continue
                    if kind == "ready":
                        worker.ready, worker.since, self._stillborn = True, time.monotonic(), 0
                    elif kind == "broken":
                        raise EnvError(f"A worker cannot make the environment: {content}")
                    elif kind == "played":
                        episode, grown = content
                        task = worker.tasks.popleft()
                        worker.since = time.monotonic()
                        if grown:
                            self._replace(worker, waiting)
                        yield task, episode
                    else:
                        self._stillborn += not worker.ready
                        if self._stillborn >= STARTS:
                            raise EnvError(f"{STARTS} workers in a row could not make the environment: {content}.")
                        lost = worker.tasks.popleft() if worker.tasks else None
                        self._replace(worker, waiting)
                        if lost is not None:
                            tries[lost.number] += 1
                            if tries[lost.number] < TRIES:
                                waiting.appendleft(lost)
                            else:
                                yield lost, Failure(content)
            done = True
        finally:
            if not done:  # an error, or whoever asked has stopped listening
                self.kill()

    def _give(self, waiting: deque[Task]) -> None:
        """Hand out tasks, first to those that have none."""
        for held in range(AHEAD):
            for worker in self._workers:
                if waiting and worker.ready and len(worker.tasks) <= held:
                    if not worker.tasks:
                        worker.since = time.monotonic()
                    worker.tasks.append(waiting.popleft())
                    with contextlib.suppress(OSError):  # it has died, which its connection will tell
                        worker.connection.send(worker.tasks[-1])

    def _messages(self) -> Iterator[tuple[_Worker, str, Any]]:
        """What workers say, or what has become of them, once there is something."""
        now = time.monotonic()
        busy = [w for w in self._workers if w.tasks or not w.ready]
        left = None if self.timeout is None else max(0.0, min(w.since for w in busy) + self.timeout - now)
        ready = wait([w.connection for w in self._workers], left)
        for worker in self._workers[:]:
            if worker.connection in ready:
                try:
                    yield worker, *worker.connection.recv()
                except (EOFError, OSError):
                    yield worker, "died", self._end_of(worker)
            elif self.timeout is not None and worker in busy and time.monotonic() - worker.since > self.timeout:
                yield worker, "died", f"no end within {self.timeout:g} s"

    def _end_of(self, worker: _Worker) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(5)
        code = worker.process.returncode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return f"the worker process ended with {how}"

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        code = "import sys; from oracles.rl._worker import main; main(int(sys.argv[1]))"
        given = dict(os.environ)
        given["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            given.setdefault(name, "1")
        fd = theirs.fileno()
        words = [sys.executable, "-c", code, str(fd)]
        process = subprocess.Popen(words, env=given, pass_fds=(fd,), stdin=subprocess.DEVNULL)
        theirs.close()
        with contextlib.suppress(OSError):
            ours.send_bytes(self._setup)
        return _Worker(process, ours, since=time.monotonic())

    def _replace(self, worker: _Worker, waiting: deque[Task]) -> None:
        """A new worker in its place; what it still held is given out again."""
        waiting.extendleft(reversed(worker.tasks))
        worker.tasks.clear()
        _end(worker)
        self.replaced += 1
        self._workers[self._workers.index(worker)] = self._start()

    def kill(self) -> None:
        """End all processes now, whatever they are doing."""
        workers, self._workers = self._workers, []
        for worker in workers:
            _end(worker)

    def close(self) -> None:
        """End all processes."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.connection.close()  # an idle one sees the end and goes
        for worker in workers:
            try:
                worker.process.wait(1.0)
            except subprocess.TimeoutExpired:
                _end(worker)


def _end(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.kill()
    worker.process.wait()
