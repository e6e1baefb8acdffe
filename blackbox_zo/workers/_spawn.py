"""Worker processes for systems without supervised ones, such as Windows: those of `ProcessPoolExecutor`."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from typing import Any

from blackbox_zo.errors import WorkerError

__all__ = ["SpawnPool"]

START = 60.0
"""Time limit for starting the first process, in seconds."""

LIMIT = 61
"""Maximum number of processes that `ProcessPoolExecutor` can wait for on Windows."""


class SpawnPool(Executor):
    """A `ProcessPoolExecutor` that restarts after one of its processes has died.

    Args:
        n: Number of processes.

    Attributes:
        most: Maximum number of running calls. When a process dies, all of them are lost.
    """

    def __init__(self, n: int) -> None:
        self._n = min(n, LIMIT)
        self.most = 2 * self._n
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **more: Any) -> Future[Any]:
        """Call a function in a process.

        Raises:
            WorkerError: No process can be started.
        """
        if self._pool is not None:
            try:
                return self._pool.submit(fn, *args, **more)
            except BrokenExecutor:
                self.close()
        self._pool = self._started()
        return self._pool.submit(fn, *args, **more)

    def _started(self) -> ProcessPoolExecutor:
        """A pool that is known to work; otherwise queries would be blamed for its failure."""
        pool = ProcessPoolExecutor(self._n, mp_context=multiprocessing.get_context("spawn"))
        try:
            pool.submit(int).result(START)
        except Exception as error:
            pool.shutdown(wait=False, cancel_futures=True)
            raise WorkerError(
                f"Worker processes cannot be started: {type(error).__name__}: {error} Each process first imports the "
                'program that starts it: put the code to run below `if __name__ == "__main__":`.'
            ) from error
        return pool

    def close(self) -> None:
        """End the processes, without waiting for running calls, which continue to their end."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
