"""The worker processes of a function, of the kind that this system supports."""

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
    heard: Callable[[int, float, float], bool] | None = None,
) -> Pool | Remote:
    """Processes that call a function: supervised ones if the system supports them, else a `ProcessPoolExecutor`'s.

    Args:
        fun: Called as `fun(task, *args)`; returns a number, or with `vectorized` several.
        args: Further arguments of `fun`.
        n: Number of processes.
        vectorized: See `fun`.
        timeout: Time limit of a call in seconds; None for no limit.
        growth: Memory growth of a process, in MiB, above which it is replaced; None for no limit.
        heard: See `Pool`.

    Raises:
        ValueError: The function cannot be sent to another process, or the system does not support an argument.
    """
    if supervised():
        threads = max(1, (os.cpu_count() or 1) // n)
        try:
            return Pool(_setup(fun, args), n, timeout=timeout, growth=growth, threads=threads, heard=heard)
        except ValueError as error:
            raise _cannot_be_sent(error.__cause__) from error.__cause__
    if heard is not None:
        raise ValueError("`stopping` on worker processes needs Linux or macOS; with `workers=1` it works everywhere.")
    for name, value in (("timeout", timeout), ("memory_growth", growth)):
        if value is not None:
            raise ValueError(
                f"`{name}={value:g}` needs Linux or macOS: this system cannot end a process with all its "
                "descendants. Leave it out, and make `fun` itself stop in time."
            )
    call = Call(fun, args, vectorized)
    try:
        call.sent()
    except Exception as error:
        raise _cannot_be_sent(error) from error
    return Remote(call, SpawnPool(n))


def _cannot_be_sent(error: BaseException | None) -> ValueError:
    return ValueError(
        f"`fun` and `args` cannot be sent to worker processes: {error}. Let `fun` create what cannot be sent, or call "
        "it here (`workers=1`) or in threads (`executor=ThreadPoolExecutor(...)`)."
    )


def _setup(fun: Callable[..., Any], args: tuple[Any, ...]) -> Callable[[], Callable[[Any], Any]]:
    """Makes the function in a worker, without the need to import this package there."""
    if not args:
        return lambda: fun
    return lambda: lambda x: fun(x, *args)
