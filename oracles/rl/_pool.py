"""Worker processes that play whole episodes; one that dies, hangs or leaks does not harm the others."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterable
from typing import Any, cast

import cloudpickle

from blackbox_zo.errors import WorkerError
from blackbox_zo.workers import _pool
from blackbox_zo.workers._by_value import by_value
from blackbox_zo.workers._outcomes import Lost
from blackbox_zo.workers._pool import TRIES
from blackbox_zo.workers._supervised import supervised
from oracles.rl._environment import EnvError, registered
from oracles.rl._episodes import Episode, Failure
from oracles.rl._worker import Task, playing

__all__ = ["TRIES", "Pool", "Task"]

AHEAD = 2
"""Tasks that a worker holds, including the current one, so that the next starts without delay."""


class Pool:
    """A pool of processes, each with an environment and a policy.

    An episode that times out, whose process dies or whose environment raises is played once more in a new process.

    Args:
        setup: The arguments of `player`: environment, policy, rules and number of environments.
        n: Number of processes.
        timeout: Seconds allowed for a task, that is for the episodes played together; None is no limit.
        growth: MiB by which the memory of a process may grow before it is replaced.

    Raises:
        ValueError: The environment, policy or score cannot be sent to a process, or this system has none to watch.
    """

    def __init__(self, setup: tuple[Any, ...], n: int, timeout: float | None, growth: float) -> None:
        if not supervised():
            raise ValueError(f"`workers={n}` needs Linux or macOS; play here with `workers=0`.")
        try:
            self._pool = _pool.Pool(
                functools.partial(playing, registrations(), by_value(setup)),
                n,
                timeout=timeout,
                growth=growth,
                again=("died", "late", "raised"),
                ahead=AHEAD,
                late="no end",
                aim="make the environment",
            )
        except Exception as error:
            raise ValueError(
                f"`env`, `policy` and `score` cannot be sent to worker processes: {error}. Create the objects that "
                "cannot be sent inside a function, or use `workers=0`."
            ) from error

    @property
    def replaced(self) -> int:
        """How many processes have been replaced."""
        return self._pool.replaced

    @property
    def pids(self) -> list[int]:
        """The ids of the current processes."""
        return [worker.process.pid for worker in self._pool.workers]

    def play(self, tasks: Iterable[Task]) -> Generator[tuple[Task, list[Episode | Failure]], None, None]:
        """Play all tasks and yield their results, one per episode, as they finish. Closing the iterator stops the rest.

        Raises:
            EnvError: Workers cannot make the environment, or die while making it.
            RuntimeError: `play` or `close` was called in the meantime.
        """
        given = list(tasks)
        played = self._pool.run(len(given), given.__getitem__)
        try:
            for found in played:
                for i, result in found:
                    lost = isinstance(result, Lost)
                    yield given[i], [Failure(result.reason)] * len(given[i].seeds) if lost else result
        except WorkerError as error:
            raise EnvError(str(error)) from error
        finally:
            played.close()

    def close(self) -> None:
        """End all processes at once, without waiting for episodes to finish."""
        self._pool.close()


def registrations() -> bytes:
    """The environments registered in this process, pickled; those that cannot be pickled are left out."""
    known = registered()
    try:
        return cast(bytes, cloudpickle.dumps(known))
    except Exception:  # e.g. from a library; an environment that is used but missing raises in the worker
        return cast(bytes, cloudpickle.dumps({name: spec for name, spec in known.items() if _can_be_sent(spec)}))


def _can_be_sent(content: Any) -> bool:
    try:
        cloudpickle.dumps(content)
    except Exception:
        return False
    return True
