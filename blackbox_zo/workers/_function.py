"""The worker processes of a function: which kind there is on this system."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from blackbox_zo.workers._pool import Pool
from blackbox_zo.workers._remote import Call, Remote
from blackbox_zo.workers._spawn import SpawnPool
from blackbox_zo.workers._supervised import supervised

__all__ = ["function_workers"]


def function_workers(
    fun: Callable[..., Any],
    args: tuple[Any, ...],
    n: int,
    *,
    vectorized: bool,
    timeout: float | None,
    growth: float | None,
) -> Pool | Remote:
    """Processes that call a function: supervised ones where there are, else those of a `ProcessPoolExecutor`.

    Args:
        fun: From a task, and `args`, to a number; with `vectorized`, to many.
        args: More arguments.
        n: Number of processes.
        vectorized: See `fun`.
        timeout: Seconds that a call may take.
        growth: MiB by which the memory of a process may grow before it is replaced.

    Raises:
        ValueError: The function cannot be sent to another process, or the system cannot do what is asked.
    """
    if supervised():
        threads = max(1, (os.cpu_count() or 1) // n)
        try:
            return Pool(_setup(fun, args), n, timeout=timeout, growth=growth, threads=threads)
        except ValueError as error:
            raise _cannot_be_sent(error.__cause__) from error.__cause__
    for name, value in (("timeout", timeout), ("memory_growth", growth)):
        if value is not None:
            raise ValueError(
                f"`{name}={value:g}` needs Linux or macOS: this system has no way to end a process with all that it "
                "has started. Leave it out, and have `fun` itself stop in time."
            )
    call = Call(fun, args, vectorized)
    try:
        call.sent()
    except Exception as error:
        raise _cannot_be_sent(error) from error
    return Remote(call, SpawnPool(n))


def _cannot_be_sent(error: BaseException | None) -> ValueError:
    return ValueError(
        f"`fun` and `args` cannot be sent to worker processes: {error}. Have `fun` make what cannot be sent, or ask it "
        "here (`workers=1`) or on threads (`executor=ThreadPoolExecutor(...)`)."
    )


def _setup(fun: Callable[..., Any], args: tuple[Any, ...]) -> Callable[[], Callable[[Any], Any]]:
    """What makes the function in a worker, which must not need to import this package for it."""
    if not args:
        return lambda: fun
    return lambda: lambda x: fun(x, *args)
