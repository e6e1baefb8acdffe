"""A function on the user's `concurrent.futures.Executor`: threads, processes, Dask, MPI, Ray."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
import queue
import sys
import uuid
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from typing import Any

from blackbox_zo._number import number
from blackbox_zo.errors import WorkerError
from blackbox_zo.workers._by_value import by_value
from blackbox_zo.workers._cancel import CancelScope, current
from blackbox_zo.workers._executors import size_of, submit_to
from blackbox_zo.workers._outcomes import Lost, Raised
from blackbox_zo.workers._spawn import SpawnPool
from blackbox_zo.workers._worker import pack, plain, unpack

__all__ = ["Call", "Remote"]


class Remote:
    """A function, called on an executor.

    A query that was lost because its worker or another one died is asked once more, while no other query is running:
    this shows which query was to blame.

    Args:
        call: The function.
        executor: The executor. It is not shut down, unless it is a `SpawnPool`.
        size: How many calls to have on it at a time; None for all, or where tasks are a stream, for what it says.
    """

    def __init__(self, call: Call, executor: Executor, size: int | None = None) -> None:
        self._call, self._executor, self._size = call, executor, size
        self._begin = submit_to(executor)
        self._most = executor.most if isinstance(executor, SpawnPool) else sys.maxsize
        self._run, self._count = uuid.uuid4().hex, 0

    def run(
        self, n: int, task: Callable[[int], Any], broken_off: list[int] | None = None
    ) -> Generator[list[tuple[int, Any]], None, None]:
        """Run n tasks; see `Pool.run`. Closing the iterator cancels those that have not started.

        Raises:
            WorkerError: The executor cannot run them.
            Cancelled: The enclosing `CancelScope` was cancelled, or its deadline has passed.
        """
        tasks = iter(range(n))
        most = self._most if self._size is None else min(self._size, self._most)
        return self._work(lambda: next(tasks, None), most, task, broken_off)

    def stream(
        self, more: Callable[[], int | None], task: Callable[[int], Any], broken_off: list[int] | None = None
    ) -> Generator[list[tuple[int, Any]], None, None]:
        """Run tasks as workers become free; see `Pool.stream`.

        Raises:
            ValueError: It is not known how many calls the executor runs at a time.
        """
        size = self._size if self._size is not None else size_of(self._executor)
        if size is None:
            raise ValueError(
                f"{self._name} does not say how many calls it runs at a time, so `asynchronous=True` cannot keep it "
                "busy. Give the number: `workers=8` beside `executor=`."
            )
        return self._work(more, min(size, self._most), task, broken_off)

    def _work(
        self, more: Callable[[], int | None], most: int, task: Callable[[int], Any], broken_off: list[int] | None
    ) -> Generator[list[tuple[int, Any]], None, None]:
        """Keep `most` tasks running while there are more."""
        done: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        running, suspects, ended = dict[int, Any](), deque[int](), False

        def begin(i: int) -> None:
            running[i] = self._submit(task(i))
            running[i].add_done_callback(lambda _: done.put(i))

        stop = current() or CancelScope()
        try:
            with stop.heard(lambda: done.put(None)):
                while True:
                    while not ended and len(running) < most:
                        j = more()
                        if j is None:
                            ended = True
                        else:
                            begin(j)
                    alone = not running
                    if alone and not suspects:
                        return
                    if alone:
                        begin(suspects.popleft())
                    i = stop.next_of(done)
                    result = self._result(running.pop(i))
                    if isinstance(result, Lost) and not alone:
                        suspects.append(i)
                    else:
                        yield [(i, result)]
        finally:
            left = [i for i, future in running.items() if not _cancelled(future)]
            if broken_off is not None:
                broken_off += left

    def close(self) -> None:
        """End the processes, unless they are the user's."""
        if isinstance(self._executor, SpawnPool):
            self._executor.close()

    def _submit(self, task: Any) -> Any:
        """Submit a call under a unique name: Dask gives equal calls the same future, even a cancelled one."""
        self._count += 1
        try:
            future = self._begin(self._call, f"{self._run}-{self._count}", task)
        except WorkerError:
            raise
        except BrokenExecutor as error:
            raise self._broken(error) from error
        except Exception as error:
            raise WorkerError(f"{self._name} accepts no calls: {_said(error)}.") from error
        if not callable(getattr(future, "add_done_callback", None)):
            raise TypeError(f"{self._name} must return a future for each call; its `submit` returned {future!r:.60}.")
        return future

    def _result(self, future: Any) -> Any:
        try:
            what, content = future.result()
        except (CancelledError, asyncio.CancelledError) as error:
            raise WorkerError(f"{self._name} has cancelled a query; was it shut down, or its client closed?") from error
        except Exception as error:
            if _died(error) or (isinstance(error, BrokenExecutor) and isinstance(self._executor, SpawnPool)):
                return Lost(_said(error))
            if isinstance(error, BrokenExecutor):
                raise self._broken(error) from error
            raise self._foreign(_said(error)) from error
        if what == "foreign":
            raise self._foreign(f"{content[0]}: {content[1]}")
        if what == "raised":
            return Raised(content if isinstance(content, BaseException) else unpack(*content))
        return content

    @property
    def _name(self) -> str:
        return f"The executor {self._executor!r:.80}"

    def _broken(self, error: BrokenExecutor) -> WorkerError:
        return WorkerError(
            f"{self._name} is broken: {_said(error)}. A running query killed one of its processes, or its processes "
            "could not be set up. It accepts no more calls: make a new one. With `workers=` instead of `executor=`, a "
            "process that dies costs only its query."
        )

    def _foreign(self, said: str) -> WorkerError:
        return WorkerError(
            f"{self._name} could not run `fun`: {said}. Its workers must be able to import `blackbox_zo` and the "
            "modules that `fun` uses, and what `fun` holds must be picklable."
        )


def _cancelled(future: Any) -> bool:
    try:
        return future.cancel() is not False
    except Exception:  # the client is closed, and none of its calls run any more
        return True


_DIED = {
    "distributed.scheduler": ("KilledWorker",),
    "ray.exceptions": ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError"),
}
"""The exceptions by which libraries report that the worker of a call died, on every try."""


def _died(error: Exception) -> bool:
    return any(
        isinstance(error, getattr(sys.modules[name], kind, ()))
        for name, kinds in _DIED.items()
        for kind in kinds
        if name in sys.modules
    )


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500].rstrip(".")


class Call:
    """A call of a function, in this or another process. The function is sent to other processes by value.

    Args:
        fun: Called as `fun(task, *args)`; returns a number, or with `vectorized` anything.
        args: Further arguments of `fun`.
        vectorized: Whether the function returns many numbers.
    """

    def __init__(self, fun: Callable[..., Any], args: tuple[Any, ...], vectorized: bool = False) -> None:
        self.fun, self.args, self.vectorized = fun, args, vectorized
        self._sent: Sent | None = None

    def __call__(self, name: str, task: Any) -> tuple[str, Any]:
        """The outcome's kind, and the number or the exception; `name` distinguishes this call from all others."""
        try:
            result = self.fun(task, *self.args)
            return "done", plain(result) if self.vectorized else number(result)
        except Exception as error:
            return "raised", error

    def sent(self) -> Sent:
        """The same call, for another process.

        Raises:
            Exception: The call cannot be pickled.
        """
        if self._sent is None:
            content = by_value((self.fun, self.args, self.vectorized))
            self._sent = Sent(hashlib.blake2b(content, digest_size=16).digest(), content)
        return self._sent

    def __reduce__(self) -> Any:
        sent = self.sent()
        return Sent, (sent.digest, sent.content)


class Sent:
    """A call sent from another process. The function is unpickled once, when it is first called.

    An executor must not meet an error while it unpickles: `ProcessPoolExecutor` treats that as the death of a process.

    Args:
        digest: Digest of `content`.
        content: A pickled `Call`.
    """

    def __init__(self, digest: bytes, content: bytes) -> None:
        self.digest, self.content = digest, content

    def __call__(self, name: str, task: Any) -> tuple[str, Any]:
        """See `Call`; the kind is "foreign" if the function cannot be unpickled here."""
        try:
            call = self._call()
        except Exception as error:
            return "foreign", pack(error)
        what, content = call(name, task)
        return what, pack(content) if what == "raised" else content

    def _call(self) -> Call:
        if self.digest not in _known:
            while len(_known) >= 8:
                _known.pop(next(iter(_known)))
            _known[self.digest] = Call(*pickle.loads(self.content))
        return _known[self.digest]


_known: dict[bytes, Call] = {}
