"""Child processes that are never left behind: each is ended with all its descendants, and when its owner ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["GRACE", "Process", "end", "how"]

GRACE = 2.0
"""Seconds between asking a process to end and forcing it."""


class Process:
    """A child process in its own session, so that it can be ended with all its descendants.

    It is ended when the process that started it ends, for whatever reason. A fork of its owner does not end it.
    Descendants that start their own session are out of reach.

    Args:
        argv: The program and its arguments.
        **more: Further arguments of `subprocess.Popen`.

    Attributes:
        pid: Id of the process, which is also that of its session.

    Raises:
        OSError: The process cannot be started.
        ValueError: An argument contains a NUL.
    """

    def __init__(self, argv: Sequence[str], **more: Any) -> None:
        self._owner = os.getpid()
        self._popen = subprocess.Popen(argv, start_new_session=True, **more)
        self.pid = self._popen.pid
        _running.add(self)
        _warden.tell(b"+%d\n" % self.pid)

    @property
    def pipes(self) -> tuple[Any, Any]:
        """Its standard output and standard error, where they are pipes."""
        return self._popen.stdout, self._popen.stderr

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for its end; return its exit code, or None if it has not ended within `seconds`."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def leave(self) -> None:
        """Stop supervising it: it has ended, and processes that it left behind are kept."""
        if self in _running:
            _running.discard(self)
            _warden.tell(b"-%d\n" % self.pid)

    def signal(self, number: int) -> None:
        """Send a signal to it and its descendants."""
        if self in _running and self._owner == os.getpid():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                self._signal(number)

    def alive(self) -> bool:
        """Whether it or a descendant in its session is still running."""
        if self not in _running or self._owner != os.getpid():
            return False
        self._popen.poll()  # a zombie counts as a member of its group
        try:
            self._signal(0)
        except (ProcessLookupError, PermissionError):  # macOS reports "not permitted" for a group of zombies
            return False
        return True

    def _signal(self, number: int) -> None:
        if hasattr(os, "killpg"):
            os.killpg(self.pid, number)
        elif self._popen.poll() is not None:
            raise ProcessLookupError
        elif number:
            self._popen.terminate()


def end(processes: Iterable[Process], grace: float = GRACE) -> None:
    """End processes and all their descendants: ask them to, then force them; without `grace`, force them at once."""
    processes = list(processes)
    try:
        if grace:
            for process in processes:
                process.signal(signal.SIGTERM)
            deadline = time.monotonic() + grace
            while any([process.alive() for process in processes]) and time.monotonic() < deadline:
                time.sleep(0.01)
    finally:  # even if a second Ctrl-C cuts the grace short
        for process in processes:
            process.signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        for process in processes:
            if process._owner == os.getpid():
                process.wait(5)  # not forever: the disk it writes to may be gone
                process.leave()


def how(code: int) -> str:
    """How a process ended, by its exit code: "exit code 3" or "signal 9 (SIGKILL)"."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


class _Warden:
    """Our end of the warden, the process that outlives us; see `_warden.py`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._popen: subprocess.Popen[bytes] | None = None

    def tell(self, line: bytes) -> None:
        """Send it a line about a process, starting it first if needed."""
        if not hasattr(os, "killpg"):  # without sessions there is no group to end
            return
        with self._lock:
            if self._popen is not None:
                with contextlib.suppress(OSError):
                    return self._write(line)
                self._forget()  # it was killed
            if line[:1] == b"-":
                return None
            words = [sys.executable, "-I", "-S", str(Path(__file__).with_name("_warden.py"))]
            quiet = subprocess.DEVNULL  # a reader of our output must not have to wait for it
            self._popen = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True, bufsize=0
            )
            with contextlib.suppress(OSError):
                self._write(b"".join(b"+%d\n" % process.pid for process in list(_running)))

    def _write(self, line: bytes) -> None:
        assert self._popen is not None and self._popen.stdin is not None
        os.write(self._popen.stdin.fileno(), line)

    def _forget(self) -> None:
        if self._popen is not None:
            assert self._popen.stdin is not None
            self._popen.stdin.close()
            if self._popen.returncode is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._popen.wait(2)
            self._popen = None

    def forget_in_fork(self) -> None:
        """Forget the warden in a fork, which has no children yet and must not keep its parent's warden waiting."""
        self._lock = threading.Lock()
        if self._popen is not None:
            self._popen.returncode = 0  # it is not ours to wait for
            self._forget()

    def close(self) -> None:
        """Make it end all remaining processes, and exit."""
        with self._lock:
            self._forget()


_running: set[Process] = set()
_warden = _Warden()


def _at_exit() -> None:
    end(_running, grace=0.5)
    _warden.close()


def _after_fork() -> None:
    for process in _running:
        process._popen.returncode = 0  # a fork cannot wait for it
    _running.clear()
    _warden.forget_in_fork()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
