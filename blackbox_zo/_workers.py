"""Worker processes that hold one function."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import Any

from blackbox_zo._number import number
from blackbox_zo._typing import Tree

__all__ = ["Workers"]

_fun: Callable[[Tree], Any] | None = None


class Workers:
    """A pool of processes that know `fun`, started when first needed and again after `kill`.

    Args:
        fun: Inherited where processes are forked, so it need not be importable; elsewhere it is pickled.
        n: Number of processes.
    """

    def __init__(self, fun: Callable[[Tree], Any], n: int) -> None:
        self.fun, self.n = fun, n
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, x: Tree) -> Future[float]:
        """Ask about x on some worker."""
        if self._pool is None:
            can_fork = "fork" in multiprocessing.get_all_start_methods()
            context = multiprocessing.get_context("fork" if can_fork else None)
            self._pool = ProcessPoolExecutor(self.n, mp_context=context, initializer=_begin, initargs=(self.fun,))
        return self._pool.submit(_ask, x)

    def kill(self) -> None:
        """End all processes now, whatever they are doing."""
        if self._pool is not None:
            processes = list((self._pool._processes or {}).values())
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()
            for process in processes:
                process.join()
            self._pool = None

    def close(self) -> None:
        """End all processes once they are idle."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _begin(fun: Callable[[Tree], Any]) -> None:
    global _fun
    _fun = fun
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A parent that is killed cannot end its workers; they notice and go."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        with contextlib.suppress(OSError):
            wait([parent.sentinel])
        os._exit(1)


def _ask(x: Tree) -> float:
    assert _fun is not None
    return number(_fun(x))
