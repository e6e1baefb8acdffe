"""One worker process from its parent's side: its start, its tasks and its messages."""

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
from blackbox_zo.workers._worker import BEGUN, CURRENT, FROM, JUDGED, PAGE, STOP, UNTIL, dumps

__all__ = ["ROOM", "SYSTEM", "Setup", "Worker", "supervised"]

SYSTEM = os.name
"""Decides the kind of worker processes: "posix", or "nt" for Windows."""

ROOM = 1 << (16 if sys.platform == "linux" else 12)
"""Bytes that can be sent to a busy worker; sending more would block until it reads."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def supervised() -> bool:
    """Whether this system supports what a `Worker` needs: sessions, and file descriptors that a child inherits."""
    return SYSTEM == "posix"


class Worker:
    """A worker process.

    Attributes:
        process: The process.
        connection: Connection to the process.
        ready: Whether it is set up.
        since: Time of its last message, by `time.monotonic`; or when it was last given tasks while it had none.
        tasks: Its unanswered tasks: from serial numbers, in order, to numbers of tasks.
        ends: The last serial number of each message with unanswered tasks.
    """

    def __init__(self, process: Process, connection: Connection, page: Any) -> None:
        self.process, self.connection, self._page = process, connection, page
        self.ready, self.since = False, time.monotonic()
        self.tasks: dict[int, int] = {}
        self.ends: deque[int] = deque()
        self._serial = 0

    def give(self, tasks: list[tuple[int, Any]]) -> int:
        """Send it tasks, each with its number; return the number of bytes sent."""
        chunk = []
        for number, content in tasks:
            self._serial += 1
            self.tasks[self._serial] = number
            chunk.append((self._serial, content))
        if not self.ends:
            self.since = time.monotonic()
        self.ends.append(self._serial)
        data = dumps(chunk)
        with contextlib.suppress(OSError):  # it has died, which its connection will show
            self.connection.send_bytes(data)
        return len(data)

    def heard(self) -> Any:
        """Its next message.

        Raises:
            EOFError: The process has ended.
            OSError: The process has ended.
        """
        said = pickle.loads(self.connection.recv_bytes())
        if said[0] != "report":  # which does not end a call
            self.since = time.monotonic()
        return said

    def judge(self, serial: int, count: int, *, stop: bool) -> None:
        """Tell the running task, by its serial number, that so many reports were judged, and whether it is to stop."""
        if stop:
            self._page[STOP] = serial
        self._page[JUDGED] = count

    def answered(self, serial: int) -> int | None:
        """Mark a task as done; return its number, or None if the task has been taken back."""
        number = self.tasks.pop(serial, None)
        while self.ends and self.ends[0] <= serial:
            self.ends.popleft()
        return number

    def at(self) -> int | None:
        """The number of its running task; None if it has none, or is between two."""
        current = self._current()
        return None if current is None else self.tasks[current]

    def began(self) -> float:
        """When it started what it is doing, by `time.monotonic`."""
        return self.since if self._current() is None else max(self.since, float(self._page[BEGUN]))

    def take(self) -> int | None:
        """Take back the task it is running, or is about to start; return its number, or None if it has none."""
        current = self._current()
        if current is None:
            current = next(iter(self.tasks), None)
        return None if current is None else self.tasks.pop(current)

    def give_back(self) -> list[int]:
        """Take back all its tasks but the running one; return their numbers."""
        current = self._current()
        if current is None:
            return []
        self._page[FROM], self._page[UNTIL] = current + 1, self._serial + 1
        taken = [number for serial, number in self.tasks.items() if serial != current]
        self.tasks = {current: self.tasks[current]}
        self.ends = deque([current])
        return taken

    def _current(self) -> int | None:
        """The serial number of its running task, unless that has been answered."""
        current = int(self._page[CURRENT])
        return current if current in self.tasks else None

    def end(self) -> str:
        """How it ended, in words, once its connection has."""
        code = self.process.wait(5)
        return "the worker process " + ("closed its connection" if code is None else f"ended with {how(code)}")

    def kill(self) -> None:
        """End it now, with all its descendants."""
        self.connection.close()
        end([self.process], grace=0.0)


class Setup:
    """The setup that every worker of a pool loads, written once to an unnamed file.

    Args:
        setup: See `Pool`.
        growth: See `Pool`.
        threads: See `Pool`.
        heard: Whether somebody listens to reports.

    Raises:
        ValueError: The setup cannot be sent to another process.
        WorkerError: This system does not support supervised worker processes.
    """

    def __init__(self, setup: Callable[[], Any], growth: float | None, threads: int, *, heard: bool = False) -> None:
        if not supervised():
            raise WorkerError("Supervised worker processes need Linux or macOS.")
        try:
            content = by_value(setup)
        except Exception as error:
            raise ValueError(f"It cannot be sent to worker processes: {type(error).__name__}: {error}") from error
        given = pickle.dumps(([path or str(Path.cwd()) for path in sys.path], sys.argv, growth, heard))
        self._file = tempfile.TemporaryFile()  # it lives as long as this object
        weakref.finalize(self, self._file.close)
        for part in (len(given).to_bytes(8, "little"), given, content):
            self._file.write(part)
        self._file.flush()
        self._threads = threads

    def start(self) -> Worker:
        """Start a worker: a fresh interpreter that runs `_worker.py`, in its own session."""
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
