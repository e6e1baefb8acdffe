"""Worker processes that play whole episodes, and may die, hang or leak without harm to the rest."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
import weakref
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, NamedTuple, cast

import cloudpickle

from blackbox_zo._typing import Floats
from oracles.rl._environment import EnvError, registered
from oracles.rl._episodes import Episode, Failure
from oracles.rl._statistics import Statistics

__all__ = ["TRIES", "Pool", "Task"]

AHEAD = 2
"""Episodes that a worker holds, the one it plays among them, so that the next one begins without a wait."""

ROOM = 1 << (16 if sys.platform == "linux" else 12)
"""Bytes of a task that a worker can be sent while it plays; a larger one would have to wait for it to read."""

LOOK = 1.0
"""Seconds between looks at whether processes are alive: one that is dead may have left its connection to a child."""

START = 60.0
"""Seconds that a process has at least until it is ready."""

GRACE = 3.0
"""Seconds that idle processes have to close their environments."""

TRIES = 2
"""How often an episode is begun before it counts as failed."""

STARTS = 3
"""How many workers in a row may die before they are ready."""


class Task(NamedTuple):
    """Episodes to be played at once.

    Attributes:
        number: Of the first of them among all of a call of `play`.
        x: Parameters in each, shape (k, size).
        seen: Statistics to normalise by.
        seeds: Of the environment in each, k of them.
        horizon: Steps after which they are left; none plays to their ends.
    """

    number: int
    x: Floats
    seen: Statistics | None
    seeds: list[int]
    horizon: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.x.nbytes + (0 if self.seen is None else self.seen.mean.nbytes + self.seen.squares.nbytes)


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
        setup: The arguments of `player`: environment, policy, rules and number of environments.
        n: Number of processes.
        timeout: Seconds that an episode, or those played at once, may take; none waits for ever.
        growth: MiB by which the memory of a process may grow before it is replaced.

    Attributes:
        replaced: How many processes have been replaced.
    """

    def __init__(self, setup: tuple[Any, ...], n: int, timeout: float | None, growth: float) -> None:
        try:
            self._setup = _registrations(), cloudpickle.dumps((setup, growth))
        except Exception as error:
            raise ValueError(
                f"`env`, `policy` and `score` cannot be sent to worker processes: {error}. Have a function make what "
                "cannot be sent, or play here with `workers=0`."
            ) from error
        self.n, self.timeout, self.replaced = n, timeout, 0
        self._workers: list[_Worker] = []
        self._stillborn = 0
        self._turn = object()
        weakref.finalize(self, _end_all, self._workers, os.getpid())  # forgotten, or at the end of this process

    def play(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, list[Episode | Failure]]]:
        """Play all tasks; results come as they are there, one per episode.

        Raises:
            EnvError: Workers cannot make the environment, or die before they have.
            RuntimeError: Another call of `play`, or `close`, came in between.
        """
        waiting, tries = deque(tasks), Counter[int]()
        if any(worker.tasks for worker in self._workers):  # of an earlier call that nobody listens to any more
            self.kill()
        turn = self._turn = object()
        self._stillborn, done = 0, False
        try:
            while len(self._workers) < min(self.n, len(waiting)):
                self._workers.append(self._start())
            while waiting or any(worker.tasks for worker in self._workers):
                self._give(waiting)
                for worker, kind, content in self._messages(turn):
                    if worker not in self._workers:  # replaced meanwhile
                        continue
                    if kind == "ready":
                        worker.ready, worker.since, self._stillborn = True, time.monotonic(), 0
                    elif kind == "played":
                        episodes, grown = content
                        task = worker.tasks.popleft()
                        worker.since = time.monotonic()
                        if grown:
                            self._replace(worker, waiting)
                        yield task, episodes
                        self._check(turn)
                    else:
                        self._stillborn += not worker.ready
                        if self._stillborn >= STARTS:
                            raise EnvError(
                                f"{STARTS} workers in a row could not make the environment, the last because: {content}"
                            )
                        lost = worker.tasks.popleft() if worker.tasks else None
                        self._replace(worker, waiting)
                        if lost is not None:
                            tries[lost.number] += 1
                            if tries[lost.number] < TRIES:
                                waiting.appendleft(lost)
                            else:
                                yield lost, [Failure(content)] * len(lost.seeds)
                                self._check(turn)
            done = True
        finally:
            if not done and turn is self._turn:  # an error, or whoever asked has stopped listening
                self.kill()

    def _check(self, turn: object) -> None:
        if turn is not self._turn:
            raise RuntimeError("These episodes have been given up, because others were asked for, or by `close`.")

    def _give(self, waiting: deque[Task]) -> None:
        """Hand out tasks, first to those that have none."""
        for held in range(AHEAD):
            for worker in self._workers:
                if not (waiting and worker.ready and len(worker.tasks) <= held):
                    continue
                if worker.tasks and waiting[0].nbytes > ROOM:
                    continue
                if not worker.tasks:
                    worker.since = time.monotonic()
                worker.tasks.append(waiting.popleft())
                with contextlib.suppress(OSError):  # it has died, which its connection will tell
                    worker.connection.send(worker.tasks[-1])

    def _messages(self, turn: object) -> Iterator[tuple[_Worker, str, Any]]:
        """What workers say, or what has become of them, once there is something."""
        now = time.monotonic()
        busy = [w for w in self._workers if w.tasks or not w.ready]
        left = max(0.0, min(w.since + self._allowed(w) for w in busy) - now)
        ended = [w for w in self._workers if w.process.poll() is not None]
        ready = wait([w.connection for w in self._workers], 0.0 if ended else min(left, LOOK))
        self._check(turn)
        for worker in self._workers[:]:
            if worker.connection in ready:
                try:
                    yield worker, *worker.connection.recv()
                except (EOFError, OSError):
                    yield worker, "died", _end_of(worker)
            elif worker in ended:
                yield worker, "died", _end_of(worker)
            elif worker.process.poll() is not None:
                continue  # it ended while this waited; first what it said before is read
            elif worker in busy and time.monotonic() - worker.since > self._allowed(worker):
                what = "no end" if worker.ready else "not ready"
                yield worker, "died", f"{what} within {self._allowed(worker):g} s"

    def _allowed(self, worker: _Worker) -> float:
        """Seconds that it may take for what it does."""
        timeout = math.inf if self.timeout is None else self.timeout
        return timeout if worker.ready else max(timeout, START)

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        code = "import sys; from oracles.rl._worker import main; main(int(sys.argv[1]), int(sys.argv[2]))"
        given = dict(os.environ)
        given["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            given.setdefault(name, "1")
        fd = theirs.fileno()
        words = [sys.executable, "-P", "-c", code, str(fd), str(os.getpid())]
        try:  # a session of its own, so that it is ended with all it has started
            process = subprocess.Popen(
                words, env=given, pass_fds=(fd,), stdin=subprocess.DEVNULL, start_new_session=True
            )
        finally:
            theirs.close()
        with contextlib.suppress(OSError):
            for part in self._setup:
                ours.send_bytes(part)
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
        self._turn = object()
        _end_all(self._workers, os.getpid())

    def close(self) -> None:
        """End all processes; those that play are not waited for."""
        deadline = time.monotonic() + GRACE
        idle = [worker for worker in self._workers if worker.ready and not worker.tasks]
        for worker in idle:
            worker.connection.close()  # it sees the end, closes its environment and goes
        for worker in idle:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()


def _registrations() -> bytes:
    """Environments registered in this process; those that cannot be sent are left out."""
    known = registered()
    try:
        return cast(bytes, cloudpickle.dumps(known))
    except Exception:  # some library's; whoever uses it is told that it is not known
        return cast(bytes, cloudpickle.dumps({name: spec for name, spec in known.items() if _can_be_sent(spec)}))


def _can_be_sent(content: Any) -> bool:
    try:
        cloudpickle.dumps(content)
    except Exception:
        return False
    return True


def _end_of(worker: _Worker) -> str:
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.process.wait(5)
    code = worker.process.returncode
    if code is None:
        return "the worker process closed its connection"
    return f"the worker process ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}"


def _end_all(workers: list[_Worker], owner: int) -> None:
    """End all of them; the list is empty afterwards. A fork of their owner must leave them alone."""
    while workers:
        worker = workers.pop()
        if os.getpid() == owner:
            _end(worker)


def _end(worker: _Worker) -> None:
    worker.connection.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.process.pid, signal.SIGKILL)
    worker.process.kill()
    worker.process.wait()
