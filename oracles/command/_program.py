"""Running a program: a time limit that holds, bounded memory, and no descendants left behind when it is ended."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO

__all__ = ["LIMIT", "Program", "end"]

LIMIT = 1 << 20
"""Bytes kept of each output stream, its last ones."""

_GRACE = 2.0
"""Seconds between asking a program to end and forcing it."""

_LINGER = 0.5
"""Seconds to wait for the end of an output that a descendant keeps open after the program has ended."""

_running: set[Program] = set()


class Program:
    """One run of a program, in a session of its own, so that it can be ended with all its descendants.

    Its standard input is empty. Descendants that start a session of their own are out of reach; those that are still
    there when the program ends by itself are left alone.

    Args:
        argv: The program and its arguments.
        cwd: The folder to run in; none is the present one.
        env: All of its environment; none is the present one.
        timeout: Seconds after which it is ended; none is no limit.

    Attributes:
        code: Its exit code, negative for a signal; None if it did not start.
        trouble: Why it did not start, or was ended; empty if it ended by itself.
        stdout: The last `LIMIT` bytes of its output, as text.
        stderr: The same of its errors.
        seconds: How long it took.
    """

    def __init__(
        self, argv: Sequence[str], cwd: str | None, env: Mapping[str, str] | None, timeout: float | None
    ) -> None:
        self.argv, self.cwd, self.env, self.timeout = argv, cwd, env, timeout
        self.code: int | None = None
        self.trouble, self.stdout, self.stderr, self.seconds = "", "", "", 0.0
        self._process: subprocess.Popen[bytes] | None = None
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
                process = self._process = self._popen()
                _running.add(self)
            assert process.stdout is not None and process.stderr is not None
            tails = _Tail(process.stdout), _Tail(process.stderr)
            timer = threading.Timer(self.timeout, self._time_up) if self.timeout is not None else None
            if timer is not None:
                timer.daemon = True
                timer.start()
            code = process.wait()
            with self._lock:
                self.code = code
            if timer is not None:
                timer.cancel()
                timer.join()  # if it is ending the rest of the group, the answer waits for that
            patience = time.monotonic() + _LINGER
            self.stdout, self.stderr = (tail.text(patience) for tail in tails)
        except (OSError, ValueError) as error:  # no such file, not executable, argument list too long, NUL in a value
            self.trouble = f"the program could not be started: {error}"
        finally:
            self.seconds = time.monotonic() - begun
            _running.discard(self)
            done()

    def _popen(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.cwd,
            env=self.env,
            start_new_session=True,
        )

    def _time_up(self) -> None:
        with self._lock:
            if self.code is not None:
                return
            self.trouble = f"timed out after {self.timeout:g} s"
        end([self])

    def signal(self, number: int) -> None:
        """Send a signal to the program and its descendants. If it has not started, it never will."""
        with self._lock:
            if self.code is not None and not self._ended:  # it ended by itself; what it left behind is its own affair
                return
            self._ended = True
            process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                _signal_group(process, number)

    def alive(self) -> bool:
        """Whether, after a signal, it or a descendant in its session is still there."""
        if self._process is None or not self._ended:
            return False
        try:
            _signal_group(self._process, 0)
        except (ProcessLookupError, PermissionError):  # macOS says "not permitted" of a group of zombies
            return False
        return True


def end(programs: Iterable[Program], grace: float = _GRACE) -> None:
    """End programs and all their descendants: ask them to, then force them."""
    programs = list(programs)
    try:
        for program in programs:
            program.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while any(program.alive() for program in programs) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:  # also when a second Ctrl-C cuts the grace short
        for program in programs:
            program.signal(getattr(signal, "SIGKILL", signal.SIGTERM))


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if hasattr(os, "killpg"):
        os.killpg(process.pid, number)
    elif process.poll() is not None:
        raise ProcessLookupError
    elif number:
        process.terminate()


class _Tail:
    """Reads a pipe to its end, so that the program never waits for a reader, and keeps the last bytes."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._chunks: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True, name="output")
        self._thread.start()

    def _read(self, pipe: IO[bytes]) -> None:
        size = 0
        with pipe:
            while chunk := os.read(pipe.fileno(), 1 << 16):
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


atexit.register(lambda: end(_running, grace=0.5))
if hasattr(os, "register_at_fork"):  # a forked child must not end its parent's programs
    os.register_at_fork(after_in_child=_running.clear)
