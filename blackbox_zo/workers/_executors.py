"""What executors differ in: how many calls they run at a time, and how one is submitted."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

__all__ = ["size_of", "submit_to"]


def size_of(executor: Executor) -> int | None:
    """How many calls an executor runs at a time; None if it does not say."""
    dask = sys.modules.get("distributed.cfexecutor")
    if dask is not None and isinstance(executor, dask.ClientExecutor):
        client = getattr(executor, "_client", None)
        return None if client is None else sum(client.nthreads().values()) or None
    for name in ("most", "_max_workers", "num_workers"):  # ours, those of Python, that of mpi4py
        size = getattr(executor, name, None)
        if isinstance(size, int) and size > 0:
            return size
    return None


def submit_to(executor: Executor) -> Callable[..., Any]:
    """The function that submits a call; its futures have `add_done_callback`, `result` and `cancel`.

    Dask's executor wraps the client's futures, and the wrapped future never completes if a worker was killed or the
    client closed (distributed 2026.8): so calls go to the client itself.
    """
    dask = sys.modules.get("distributed.cfexecutor")
    if dask is not None and isinstance(executor, dask.ClientExecutor):
        client: Any = getattr(executor, "_client", None)
        options = getattr(executor, "_kwargs", {})

        def submit(call: Any, name: str, task: Any) -> Any:
            if getattr(executor, "_shutdown", False):
                raise RuntimeError("cannot schedule new futures after shutdown")
            return _Fetched(client, client.submit(call, name, task, key=f"blackbox_zo-{name}", **options))

        if client is not None:
            return submit
    return executor.submit


class _Fetched:
    """A call on Dask, which is done once its result is here.

    To fetch a result takes messages by way of the scheduler, on a busy machine as long as a short call. So results are
    fetched in the client's own thread, several at a time, while the search goes on.

    Args:
        client: The client.
        future: Its future.
    """

    def __init__(self, client: Any, future: Any) -> None:
        self._client, self._future, self.cancel = client, future, future.cancel
        self._found: Any = None

    def add_done_callback(self, done: Callable[[Any], object]) -> None:
        """Call `done` once the result is here, or cannot be had."""

        async def fetch() -> None:
            with contextlib.suppress(Exception):  # which `result` shows
                self._found = await self._client.gather(self._future, asynchronous=True)
            done(self)

        def ended(future: Any) -> None:
            fetching = None
            if future.status == "finished":
                with contextlib.suppress(Exception):  # the client is closed
                    fetching = self._client.loop.add_callback(fetch) or True
            if fetching is None:
                done(self)

        self._future.add_done_callback(ended)

    def result(self) -> Any:
        """The result; raises what went wrong."""
        return self._future.result() if self._found is None else self._found
