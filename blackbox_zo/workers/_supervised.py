"""One worker process from its parent's side: how it starts, what it holds, what it says."""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import subprocess
import sys
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from blackbox_zo.errors import WorkerError
from blackbox_zo.workers._by_value import by_value
from blackbox_zo.workers._process import Process, end, how
from blackbox_zo.workers._worker import BEGUN, CURRENT, FROM, PAGE, UNTIL, dumps

__all__ = ["ROOM", "SYSTEM", "Setup", "Worker", "supervised"]

SYSTEM = os.name
"""What decides which worker processes there are: "posix", or "nt" for Windows."""

ROOM = 1 << (16 if sys.platform == "linux" else 12)
"""Bytes that a worker can be sent while it is at something; more would have to wait for it to read."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def supervised() -> bool:
    """Whether this system has what a `Worker` needs: sessions, and file descriptors that a child inherits."""
    return SYSTEM == "posix"


class Worker:
    """A worker process.

    Attributes:
        process: The process.
        connection: To it.
        ready: Whether it is set up.
        since: When it was last heard of.
        tasks: What it has been given and has not answered: from serial numbers, in order, to numbers of tasks.
        ends: The last serial number of each message of these.
    """

    def __init__(self, process: Process, connection: Connection, page: Any) -> None:
        self.process, self.connection, self._page = process, connection, page
        self.ready, self.since = False, time.monotonic()
        self.tasks: dict[int, int] = {}
        self.ends: deque[int] = deque()
        self._serial = 0

    def give(self, tasks: list[tuple[int, Any]]) -> int:
        """Send it tasks, each with its number; how many bytes that took."""
        chunk = []
        for number, content in tasks:
            self._serial += 1
            self.tasks[self._serial] = number
            chunk.append((self._serial, content))
        if not self.ends:
            self.since = time.monotonic()
        self.ends.append(self._serial)
        data = dumps(chunk)
        with contextlib.suppress(OSError):  # it has died, which its connection will tell
            self.connection.send_bytes(data)
        return len(data)

    def heard(self) -> Any:
        """What it says next.

        Raises:
            EOFError: It is gone.
            OSError: It is gone.
        """
        said = pickle.loads(self.connection.recv_bytes())
        self.since = time.monotonic()
        return said

    def answered(self, serial: int) -> int | None:
        """The number of a task that is done; none if that has been taken from it."""
        number = self.tasks.pop(serial, None)
        while self.ends and self.ends[0] <= serial:
            self.ends.popleft()
        return number

    def at(self) -> int | None:
        """The number of the task it is at; none if it has none, or is between two."""
        current = self._current()
        return None if current is None else self.tasks[current]

    def began(self) -> float:
        """When it began what it does."""
        return self.since if self._current() is None else max(self.since, float(self._page[BEGUN]))

    def take(self) -> int | None:
        """Take from it the task it is at, or is about to begin; its number."""
        current = self._current()
        if current is None:
            current = next(iter(self.tasks), None)
        return None if current is None else self.tasks.pop(current)

    def give_back(self) -> list[int]:
        """Take from it all tasks but the one it is at; their numbers."""
        current = self._current()
        if current is None:
            return []
        self._page[FROM], self._page[UNTIL] = current + 1, self._serial + 1
        taken = [number for serial, number in self.tasks.items() if serial != current]
        self.tasks = {current: self.tasks[current]}
        self.ends = deque([current])
        return taken

    def _current(self) -> int | None:
        """The serial number of what it is at, as far as it is not answered."""
        current = int(self._page[CURRENT])
        return current if current in self.tasks else None

    def end(self) -> str:
        """How it ended, in words, once its connection has."""
        code = self.process.wait(5)
        return "the worker process " + ("closed its connection" if code is None else f"ended with {how(code)}")

    def kill(self) -> None:
        """End it now, with all it has started."""
        self.connection.close()
        end([self.process], grace=0.0)


class Setup:
    """What every worker of a pool starts with, kept in a file that has no name, so that it is written once.

    Args:
        setup: See `Pool`.
        growth: See `Pool`.
        threads: See `Pool`.

    Raises:
        ValueError: It cannot be sent to another process.
        WorkerError: There are no worker processes on this system.
    """

    def __init__(self, setup: Callable[[], Any], growth: float | None, threads: int) -> None:
        if not supervised():
            raise WorkerError("Supervised worker processes need Linux or macOS.")
        try:
            content = by_value(setup)
        except Exception as error:
            raise ValueError(f"It cannot be sent to worker processes: {type(error).__name__}: {error}") from error
        given = pickle.dumps(([path or str(Path.cwd()) for path in sys.path], sys.argv, growth))
        self._file = tempfile.TemporaryFile()  # it lives as long as this does
        weakref.finalize(self, self._file.close)
        for part in (len(given).to_bytes(8, "little"), given, content):
            self._file.write(part)
        self._file.flush()
        self._threads = threads

    def start(self) -> Worker:
        """Start a worker: a fresh interpreter that runs `_worker.py`, in a session of its own."""
        env = dict(os.environ)
        for name in _THREADS:
            env.setdefault(name, str(self._threads))
        ours, theirs = Pipe()
        with theirs, tempfile.TemporaryFile() as file:
            file.truncate(PAGE)
            fds = (theirs.fileno(), self._file.fileno(), file.fileno())
            script = str(Path(__file__).with_name("_worker.py"))
            words = [sys.executable, "-P", script, *map(str, fds)]
            process = Process(words, env=env, pass_fds=fds, stdin=subprocess.DEVNULL)
            return Worker(process, ours, memoryview(mmap.mmap(file.fileno(), PAGE)).cast("d"))
