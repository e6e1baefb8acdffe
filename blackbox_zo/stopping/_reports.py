"""`report`: what a function says of its value on the way, and the signal that ends it."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from blackbox_zo.workers import _worker
from blackbox_zo.workers._worker import Call

__all__ = ["Stopped", "during", "report"]


class Stopped(BaseException):
    """Raised by `report` in a query that is to end. Like KeyboardInterrupt, `except Exception` does not catch it."""


def report(value: Any, step: float | None = None) -> None:
    """Say, from inside a function that is being minimised, what its value is so far.

    The search's stopping rule then decides whether the query goes on. If not, this call raises `Stopped`, a
    BaseException: `finally` and `with` clean up, `except Exception` lets it pass. A function that catches it is asked
    to stop again at its next report; if it goes on to its end, what it returns counts. The value of a query that was
    stopped is the last that it reported.

    Where no search listens (the function is called by hand, or there is no stopping rule) this does nothing. Nor does
    it after the query has ended, as in a thread that outlives it; a warning says so once. Threads may report for the
    query in which they were started, but `Stopped` is raised only where the function itself reports.

    Args:
        value: A finite number; lower is better.
        step: How far the query has come, such as an epoch: a number that grows from report to report. By default one
            more than the last.

    Raises:
        TypeError: `value` or `step` is no number.
        ValueError: `value` or `step` is NaN or infinite, or `step` has not grown.
        Stopped: The query is to end here.

    Example:
        >>> import blackbox_zo as bz
        >>> def train(x):
        ...     for epoch in range(1, 10):
        ...         loss = float((x - 0.3) @ (x - 0.3)) + 1 / epoch
        ...         bz.report(loss)
        ...     return loss
        >>> r = bz.minimize(train, [1.0, 1.0], budget=60, stopping=bz.SuccessiveHalving())
        >>> r.nfev, bool(r.fun < 0.2)
        (60, True)
    """
    value, step = _finite("value", value), None if step is None else _finite("step", step)
    here = sys.modules.get(_worker.NAME, _worker)  # in a worker process, the script that it runs
    thread = threading.current_thread()
    mine = [c for c in here.calls if c.thread is thread] or [c for c in here.calls if c.started(thread)]
    if not mine:
        if thread in here.orphans:
            _warn_once()
        return
    call: Call = mine[-1]
    if call.add(value, step) and call.thread is thread:
        raise Stopped(f"The query was stopped after {call.count} reports; its value is the last of them.")


@contextlib.contextmanager
def during(take: Callable[[float, float], bool]) -> Iterator[None]:
    """Inside this block, reports of this thread, and of those that it starts, go to `take(step, value)`."""
    with Call(take):
        yield


def _finite(name: str, value: Any) -> float:
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"`report({name}=...)` must be a number, got {value!r:.60}.") from None
    if not math.isfinite(number):
        raise ValueError(f"`report({name}=...)` must be a finite number, got {number!r}; raise an exception to fail.")
    return number


_warned = [False]


def _warn_once() -> None:
    if not _warned[0]:
        _warned[0] = True
        warnings.warn(
            "`report` was called by a thread after its query had ended, or by one that is older than the query; such "
            "reports are ignored.",
            stacklevel=3,
        )
