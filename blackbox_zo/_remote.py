"""A function on somebody's `concurrent.futures.Executor`: threads, processes, Dask, MPI, Ray."""

from __future__ import annotations

import hashlib
import pickle
import queue
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import Any

from blackbox_zo._number import number
from blackbox_zo._pool import Lost, Raised
from blackbox_zo._stop import Stop, current
from blackbox_zo._worker import pack, unpack
from blackbox_zo.errors import WorkerError

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
        self._run, self._count = uuid.uuid4().hex, 0
        self.begun = 0

    def run(self, n: int, task: Callable[[int], Any]) -> Iterator[list[tuple[int, Any]]]:
        """Have n tasks done; see `Pool.run`. Closing the iterator cancels those that have not begun.

        Raises:
            WorkerError: The executor cannot do it.
            Stopped: A `Stop` around this said so.
        """
        done: queue.SimpleQueue[Future[Any] | None] = queue.SimpleQueue()
        running: dict[Future[Any], int] = {}
        stop = current() or Stop()
        try:
            for i in range(n):
                future = self._submit(task(i))
                running[future] = i
                self.begun += 1
                future.add_done_callback(done.put)
            with stop.heard(lambda: done.put(None)):
                while running:
                    yield [self._result(running, stop.next_of(done))]
        finally:
            self.begun -= sum(future.cancel() for future in running)

    def _submit(self, task: Any) -> Future[Any]:
        """Every call is another: Dask would give two equal ones the same future, cancelled ones too."""
        self._count += 1
        try:
            return self._executor.submit(self._call, f"{self._run}-{self._count}", task)
        except Exception as error:
            raise WorkerError(f"The executor {self._executor!r:.80} takes no calls: {_said(error)}.") from error

    def _result(self, running: dict[Future[Any], int], future: Future[Any]) -> tuple[int, Any]:
        i = running.pop(future)
        name = f"The executor {self._executor!r:.80}"
        try:
            good, content = future.result()
        except CancelledError as error:
            raise WorkerError(f"{name} has cancelled a query; was it shut down, or its client closed?") from error
        except BrokenExecutor as error:
            raise WorkerError(
                f"{name} is broken: {_said(error)}. A process of it died, or could not be set up; with `workers=` a "
                "process that dies costs its query only."
            ) from error
        except Exception as error:
            if _killed_its_workers(error):
                return i, Lost(_said(error))
            raise WorkerError(
                f"{name} could not run `fun`: {_said(error)}. Its workers must be able to import `blackbox_zo` and the "
                "modules that `fun` uses, and what `fun` holds must be able to travel."
            ) from error
        if good:
            return i, content
        return i, Raised(content if isinstance(content, BaseException) else unpack(*content))


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
            import cloudpickle

            self._sent = cloudpickle.dumps((self.fun, self.args))
        return _arrived, (hashlib.blake2b(self._sent, digest_size=16).digest(), self._sent)


_known: dict[bytes, Call] = {}


def _arrived(digest: bytes, sent: bytes) -> Call:
    """The same call in another process, which unpickles the function once."""
    if digest not in _known:
        while len(_known) >= 8:
            _known.pop(next(iter(_known)))
        _known[digest] = Call(*pickle.loads(sent), away=True)
    return _known[digest]
