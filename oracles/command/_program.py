"""Running a program: a time limit that holds, bounded memory, and no descendants left behind when it is ended."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO

from blackbox_zo.workers import _process
from blackbox_zo.workers._process import GRACE, Process

__all__ = ["LIMIT", "Program", "end"]

LIMIT = 1 << 20
"""Bytes kept of each output stream, its last ones."""

_LINGER = 0.5
"""Seconds to wait for output that a descendant keeps open after the program has ended."""


class Program:
    """One run of a program, in a session of its own, so that it can be ended with all its descendants.

    Its standard input is empty. Descendants that start a session of their own cannot be killed; descendants that
    outlive a program that ends by itself are left alone.

    Args:
        argv: The program and its arguments.
        cwd: The folder to run in; None is the current one.
        env: Its whole environment; None is the current one.
        timeout: Seconds after which it is killed; None is no limit.
        heard: Called, in some thread, with each line of its output; once it returns true the program is killed. None if
            nobody listens.

    Attributes:
        code: Its exit code, negative for a signal; None if it did not start.
        trouble: Why it did not start, or was killed; empty if it ended by itself.
        stdout: The last `LIMIT` bytes of its output, as text.
        stderr: The last `LIMIT` bytes of its error output, as text.
        seconds: Running time.
        stopped: Whether it was killed because of a line.
    """

    def __init__(
        self,
        argv: Sequence[str],
        cwd: str | None,
        env: Mapping[str, str] | None,
        timeout: float | None,
        heard: Callable[[str], bool] | None = None,
    ) -> None:
        self.argv, self.cwd, self.env, self.timeout, self._heard = argv, cwd, env, timeout, heard
        self.stopped = False
        self._ender: threading.Thread | None = None
        self.code: int | None = None
        self.trouble, self.stdout, self.stderr, self.seconds = "", "", "", 0.0
        self._process: Process | None = None
        self._ended = False
        self._lock = threading.Lock()

    def start(self, done: Callable[[], object]) -> None:
        """Run it on a thread, which calls `done` at the end, whatever happens."""
        threading.Thread(target=self._run, args=(done,), daemon=True, name="program").start()

    def _run(self, done: Callable[[], object]) -> None:
        begun = time.monotonic()
        try:
            with self._lock:
                if self._ended:
                    return
                process = self._process = Process(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=self.cwd,
                    env=self.env,
                )
            listeners = (None if self._heard is None else self._listen, None)
            tails = [_Tail(pipe, listener) for pipe, listener in zip(process.pipes, listeners, strict=True)]
            timer = threading.Timer(self.timeout, self._time_up) if self.timeout is not None else None
            if timer is not None:
                timer.daemon = True
                timer.start()
            code = process.wait()
            with self._lock:
                self.code = code
                if not self._ended:  # descendants that outlive it are left alone
                    process.leave()
            if timer is not None:
                timer.cancel()
                timer.join()  # if it is ending the rest of the group, the answer waits for that
            if self._ender is not None:
                self._ender.join()
            patience = time.monotonic() + _LINGER
            self.stdout, self.stderr = (tail.text(patience) for tail in tails)
        except (OSError, ValueError) as error:  # no such file, not executable, argument list too long, NUL in a value
            self.trouble = f"the program could not be started: {error}"
        finally:
            self.seconds = time.monotonic() - begun
            done()

    def _time_up(self) -> None:
        with self._lock:
            if self.code is not None:
                return
            self.trouble = f"timed out after {self.timeout:g} s"
        end([self])

    def _listen(self, line: str) -> None:
        """Judge a line of output; the thread that reads goes on reading meanwhile."""
        assert self._heard is not None
        if self.stopped or not self._heard(line):
            return
        with self._lock:
            if self.code is not None or self._ended:
                return
            self.stopped = True
            self._ender = threading.Thread(target=end, args=([self],), daemon=True, name="ender")
            self._ender.start()

    def give_up(self) -> Process | None:
        """Its process, to be ended, unless it has ended by itself. If it has not started, it never will."""
        with self._lock:
            if self.code is not None:
                return None
            self._ended = True
            return self._process


def end(programs: Iterable[Program], grace: float = GRACE) -> None:
    """End programs and all their descendants: ask them to, then force them."""
    processes = [program.give_up() for program in list(programs)]
    _process.end([process for process in processes if process is not None], grace)


class _Tail:
    """Reads a pipe to its end, so that the program never waits for a reader, and keeps the last bytes."""

    def __init__(self, pipe: IO[bytes], heard: Callable[[str], None] | None) -> None:
        self._heard, self._part = heard, b""
        self._chunks: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True, name="output")
        self._thread.start()

    def _read(self, pipe: IO[bytes]) -> None:
        size = 0
        with pipe:
            while chunk := os.read(pipe.fileno(), 1 << 16):  # what has come so far, without waiting for more
                if self._heard is not None:
                    *lines, self._part = (self._part[-LIMIT:] + chunk.replace(b"\r", b"\n")).split(b"\n")
                    for line in lines:
                        self._heard(line.decode(errors="replace"))
                with self._lock:
                    self._chunks.append(chunk)
                    size += len(chunk)
                    while size - len(self._chunks[0]) >= LIMIT:
                        size -= len(self._chunks.popleft())

    def text(self, patience: float) -> str:
        """What has been read, once the end is reached or the monotonic clock shows `patience`."""
        self._thread.join(max(patience - time.monotonic(), 0.0))
        with self._lock:
            return b"".join(self._chunks)[-LIMIT:].decode(errors="replace")
