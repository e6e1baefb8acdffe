"""A function on somebody's `concurrent.futures.Executor`: threads, processes, Dask, MPI, Ray."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
import queue
import sys
import uuid
from collections.abc import Callable, Generator
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from typing import Any

from blackbox_zo._number import number
from blackbox_zo.errors import WorkerError
from blackbox_zo.workers._by_value import by_value
from blackbox_zo.workers._cancel import CancelScope, current
from blackbox_zo.workers._outcomes import Lost, Raised
from blackbox_zo.workers._worker import pack, unpack

__all__ = ["Remote"]


class Remote:
    """A function, asked on an executor.

    Args:
        fun: From a task, and `args`, to a number.
        args: More arguments.
        executor: Where. It is not shut down.
    """

    def __init__(self, fun: Callable[..., Any], args: tuple[Any, ...], executor: Executor) -> None:
        self._call, self._executor = Call(fun, args), executor
        self._begin = _submit_to(executor)
        self._run, self._count = uuid.uuid4().hex, 0
        self.begun = 0

    def run(self, n: int, task: Callable[[int], Any]) -> Generator[list[tuple[int, Any]], None, None]:
        """Have n tasks done; see `Pool.run`. Closing the iterator cancels those that have not begun.

        Raises:
            WorkerError: The executor cannot do it.
            Cancelled: A `CancelScope` around this said so.
        """
        done: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        running: dict[int, Any] = {}
        stop = current() or CancelScope()
        try:
            for i in range(n):
                running[i] = self._submit(task(i))
                self.begun += 1
                running[i].add_done_callback(lambda _, i=i: done.put(i))
            with stop.heard(lambda: done.put(None)):
                while running:
                    i = stop.next_of(done)
                    yield [(i, self._result(running.pop(i)))]
        finally:
            self.begun -= sum(_cancelled(future) for future in running.values())

    def _submit(self, task: Any) -> Any:
        """Every call is another: Dask would give two equal ones the same future, cancelled ones too."""
        self._count += 1
        try:
            return self._begin(self._call, f"{self._run}-{self._count}", task)
        except Exception as error:
            raise WorkerError(f"The executor {self._executor!r:.80} takes no calls: {_said(error)}.") from error

    def _result(self, future: Any) -> Any:
        name = f"The executor {self._executor!r:.80}"
        try:
            good, content = future.result()
        except (CancelledError, asyncio.CancelledError) as error:
            raise WorkerError(f"{name} has cancelled a query; was it shut down, or its client closed?") from error
        except BrokenExecutor as error:
            raise WorkerError(
                f"{name} is broken: {_said(error)}. A process of it died, or could not be set up or unpickle "
                "`fun`; with `workers=` a process that dies costs its query only."
            ) from error
        except Exception as error:
            if _killed_its_workers(error):
                return Lost(_said(error))
            raise WorkerError(
                f"{name} could not run `fun`: {_said(error)}. Its workers must be able to import `blackbox_zo` and the "
                "modules that `fun` uses, and what `fun` holds must be able to travel."
            ) from error
        if good:
            return content
        return Raised(content if isinstance(content, BaseException) else unpack(*content))


def _submit_to(executor: Executor) -> Callable[..., Any]:
    """How to have something called there; what that gives has `add_done_callback`, `result` and `cancel`.

    Dask's executor wraps the client's futures, and its wrapping is never done where a worker was killed or the client
    closed (distributed 2026.8): the client itself is asked.
    """
    dask = sys.modules.get("distributed.cfexecutor")
    if dask is not None and isinstance(executor, dask.ClientExecutor):
        client: Any = getattr(executor, "_client", None)
        options = getattr(executor, "_kwargs", {})

        def submit(call: Call, name: str, task: Any) -> Any:
            if getattr(executor, "_shutdown", False):
                raise RuntimeError("cannot schedule new futures after shutdown")
            return client.submit(call, name, task, key=f"blackbox_zo-{name}", **options)

        if client is not None:
            return submit
    return executor.submit


def _cancelled(future: Any) -> bool:
    try:
        return future.cancel() is not False
    except Exception:  # the client is closed, and nothing of it runs any more
        return True


def _killed_its_workers(error: Exception) -> bool:
    """Whether it is Dask's word for a query on which worker after worker died."""
    scheduler = sys.modules.get("distributed.scheduler")
    return scheduler is not None and isinstance(error, scheduler.KilledWorker)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500].rstrip(".")


class Call:
    """A call of a function, anywhere. Within this process it is the function itself; elsewhere it goes by value.

    Args:
        fun: From a task, and `args`, to a number.
        args: More arguments.
        away: Whether this is in another process.
    """

    def __init__(self, fun: Callable[..., Any], args: tuple[Any, ...], away: bool = False) -> None:
        self.fun, self.args, self.away = fun, args, away
        self._sent: bytes | None = None

    def __call__(self, name: str, task: Any) -> tuple[bool, Any]:
        """The number, or what was raised; `name` tells this call from all others."""
        try:
            return True, number(self.fun(task, *self.args))
        except Exception as error:
            return False, pack(error) if self.away else error

    def __reduce__(self) -> Any:
        if self._sent is None:
            self._sent = by_value((self.fun, self.args))
        return _arrived, (hashlib.blake2b(self._sent, digest_size=16).digest(), self._sent)


_known: dict[bytes, Call] = {}


def _arrived(digest: bytes, sent: bytes) -> Call:
    """The same call in another process, which unpickles the function once."""
    if digest not in _known:
        while len(_known) >= 8:
            _known.pop(next(iter(_known)))
        fun, args = pickle.loads(sent)
        _known[digest] = Call(fun, args, away=True)
    return _known[digest]
