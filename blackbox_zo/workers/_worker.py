"""The script that a worker process runs. It imports very little, so that it starts quickly.

It sets itself up once, then makes the calls it is sent until the connection ends. It also packs exceptions for another
process, because to import the rest of the package here would be slow.
"""

from __future__ import annotations

import mmap
import os
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

__all__ = [
    "BEGUN", "CURRENT", "FLUSH", "FROM", "JUDGED", "NAME", "PAGE", "STOP", "UNTIL", "Call", "calls", "dumps",
    "orphans", "pack", "plain", "unpack",
]  # fmt: skip

CURRENT, BEGUN, FROM, UNTIL, JUDGED, STOP = range(6)
"""Entries of the page shared by parent and worker: the running call, when it began, the range of calls to skip, how
many reports have been judged, and which call is to stop."""

PAGE = 6 * 8
"""Bytes of the shared page."""

NAME = "blackbox_zo worker"
"""The name in `sys.modules` under which `report` finds this script in a worker process."""

PATIENCE, LOOK = 0.1, 0.0005
"""Seconds that a report waits for the verdict, and between looks. Later verdicts meet the next report."""

FLUSH = 0.005
"""Seconds for which answers may be held back, to be sent together."""

_STATM = Path("/proc/self/statm")


class Call:
    """A call that is under way in this process, and where its reports go.

    Args:
        take: Called with the step and the value of each report; returns whether the call is to end.

    Attributes:
        thread: The thread of the call.
        count: Number of reports so far.
    """

    def __init__(self, take: Callable[[float, float], bool]) -> None:
        self._take, self.thread, self.count = take, threading.current_thread(), 0
        self._before = weakref.WeakSet(threading.enumerate())
        self._last = 0.0
        self._lock = threading.Lock()

    def started(self, thread: threading.Thread) -> bool:
        """Whether a thread began after the call did."""
        return thread not in self._before

    def add(self, value: float, step: float | None) -> bool:
        """Pass a report on; whether the call is to end."""
        with self._lock:
            if step is None:
                step = self._last + 1
            elif self.count and step <= self._last:
                raise ValueError(f"`report(step=...)` must grow within a query, got {step:g} after {self._last:g}.")
            self._last, self.count = step, self.count + 1
            return self._take(step, value)

    def __enter__(self) -> None:
        calls.append(self)

    def __exit__(self, *args: object) -> None:
        calls.remove(self)
        orphans.update(thread for thread in threading.enumerate() if self.started(thread))


_sending = threading.Lock()
"""Held while a message is sent, as threads may report."""

calls: list[Call] = []
"""Those under way whose reports somebody listens to."""

orphans: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
"""Threads that outlived the call in which they began."""


def main() -> None:
    """Serve a connection; the file descriptors are the arguments of the script."""
    from multiprocessing.connection import Connection

    connection_fd, setup_fd, page_fd = map(int, sys.argv[1:4])
    for fd in (connection_fd, setup_fd, page_fd):
        os.set_inheritable(fd, False)  # programs that the work starts must not inherit them
    page = memoryview(mmap.mmap(page_fd, PAGE)).cast("d")
    with mmap.mmap(setup_fd, 0, access=mmap.ACCESS_READ) as setup:
        size = int.from_bytes(setup[:8], "little")
        sys.path[:], sys.argv[:], growth, heard = pickle.loads(setup[8 : 8 + size])
        sys.modules[NAME] = sys.modules["__main__"]
        with Connection(connection_fd) as connection:
            try:
                with memoryview(setup) as whole, whole[8 + size :] as content:
                    work = pickle.loads(content)()
            except BaseException as error:
                connection.send_bytes(pickle.dumps(("broken", pack(error))))
                return
            setup.close()
            try:
                connection.send_bytes(pickle.dumps(("ready",)))
                _serve(connection, _reporting(work, connection, page) if heard else work, page, growth)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                pass  # the parent is done or has ended
            finally:
                close = getattr(work, "close", None)
                if close is not None:
                    close()


def _reporting(work: Any, connection: Any, page: Any) -> Any:
    """The work, with its reports sent to the parent."""
    sent = 0

    def take(serial: int, step: float, value: float) -> bool:
        nonlocal sent
        with _sending:
            sent += 1
            count = sent
            connection.send_bytes(pickle.dumps(("report", serial, count, step, value)))
        until = time.monotonic() + PATIENCE
        while page[JUDGED] < count and time.monotonic() < until:
            time.sleep(LOOK)
        return bool(page[STOP] == serial)

    def reporting(task: Any) -> Any:
        with Call(partial(take, int(page[CURRENT]))):
            return work(task)

    reporting.close = getattr(work, "close", lambda: None)  # type: ignore[attr-defined]
    return reporting


def _serve(connection: Any, work: Any, page: Any, growth: float | None) -> None:
    base = 0.0
    while True:
        chunk = pickle.loads(connection.recv_bytes())
        replies: list[tuple[int, bool, Any]] = []
        begun = time.monotonic()
        for serial, task in chunk:
            if page[FROM] <= serial < page[UNTIL]:  # another worker has taken it over
                continue
            page[BEGUN], page[CURRENT] = time.monotonic(), serial
            try:
                replies.append((serial, True, plain(work(task))))
            except BaseException as error:
                replies.append((serial, False, pack(error)))
            if len(replies) < len(chunk) and time.monotonic() - begun > FLUSH:
                _send(connection, replies, time.monotonic() - begun, False)
                replies, begun = [], time.monotonic()
        grown = False
        if growth is not None:
            memory = _memory()
            base = base or memory  # after the first call, which loads what is loaded once
            grown = memory - base > growth
        if replies or grown:
            _send(connection, replies, time.monotonic() - begun, grown)
        if grown:
            return  # between calls, so none is lost


def _send(connection: Any, replies: list[tuple[int, bool, Any]], seconds: float, grown: bool) -> None:
    try:
        data = dumps(("done", replies, seconds, grown))
    except Exception:  # one of them cannot be pickled
        data = dumps(("done", [_sendable(*reply) for reply in replies], seconds, grown))
    with _sending:
        connection.send_bytes(data)


def _sendable(serial: int, good: bool, content: Any) -> tuple[int, bool, Any]:
    try:
        dumps(content)
    except Exception as error:
        what = f"what was returned ({type(content).__name__}) cannot be sent from the worker process: {error}"
        return serial, False, pack(TypeError(what))
    return serial, good, content


def plain(result: Any) -> Any:
    """Convert tensors and scalars, whose own pickling is slow or tied to a device, to numbers and arrays."""
    if type(result) is float:
        return result
    if hasattr(result, "detach"):
        result = result.detach().cpu()
        if result.shape == ():
            return result.item()
        try:
            return result.numpy()
        except TypeError:  # a type that numpy does not have, such as bfloat16
            return result.double().numpy()
    if getattr(result, "shape", None) == () and hasattr(result, "item"):
        return result.item()
    return result


def dumps(content: Any) -> bytes:
    """Pickle an object, with cloudpickle if it holds functions or classes of `__main__`."""
    try:
        return pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    except Exception:
        import cloudpickle

        return bytes(cloudpickle.dumps(content))


def pack(error: BaseException) -> tuple[str, str, str, bytes]:
    """Pack an exception for another process: type name, text, traceback, and the pickled exception, if possible."""
    import traceback

    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be shown)"
    where = error.__traceback__.tb_next if error.__traceback__ is not None else None
    told = "".join(traceback.format_exception(type(error), error, where or error.__traceback__))
    state = {name: value for name, value in vars(error).items() if _travels(value)}
    for content in (error, (type(error), error.args, state)):
        try:
            data = dumps(content)
            if str(_rebuilt(data)) == text:
                return type(error).__name__, text, told, data
        except BaseException:  # the exception's own code runs here
            continue
    return type(error).__name__, text, told, b""


def unpack(name: str, text: str, told: str, data: bytes) -> BaseException:
    """The exception that `pack` packed, with its traceback as a note; a `WorkerError` if it could not be pickled."""
    from blackbox_zo.errors import WorkerError

    try:
        error = _rebuilt(data)
    except Exception:
        error = WorkerError(f"{name}: {text}")
    error.add_note(f"In a worker process:\n{told.rstrip()}")
    return error


def _rebuilt(data: bytes) -> BaseException:
    """Unpickle an exception; one whose `__init__` takes other arguments is made without calling it."""
    content = pickle.loads(data)
    if isinstance(content, tuple):
        kind, args, state = content
        content = kind.__new__(kind, *args)
        content.args = args
        vars(content).update(state)
    assert isinstance(content, BaseException)
    return content


def _travels(content: Any) -> bool:
    try:
        pickle.loads(dumps(content))
    except Exception:
        return False
    return True


def _memory() -> float:
    """Memory in use, in MiB; where that is unknown, the peak memory, which starts at the parent's."""
    import resource

    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize() / (1 << 20)
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))


if __name__ == "__main__":
    main()
