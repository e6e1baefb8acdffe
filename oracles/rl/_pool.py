"""Worker processes that play whole episodes, and may die, hang or leak without harm to the rest."""

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
"""Tasks that a worker holds, the one it plays among them, so that the next one begins without a wait."""


class Pool:
    """Some processes with an environment and a policy each.

    An episode whose process dies, that takes too long, or whose environment raises is begun once more on a new process.

    Args:
        setup: The arguments of `player`: environment, policy, rules and number of environments.
        n: Number of processes.
        timeout: Seconds that an episode, or those played at once, may take; none waits for ever.
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
                f"`env`, `policy` and `score` cannot be sent to worker processes: {error}. Have a function make what "
                "cannot be sent, or play here with `workers=0`."
            ) from error

    @property
    def replaced(self) -> int:
        """How many processes have been replaced."""
        return self._pool.replaced

    @property
    def pids(self) -> list[int]:
        """The numbers of the processes there are now."""
        return [worker.process.pid for worker in self._pool.workers]

    def play(self, tasks: Iterable[Task]) -> Generator[tuple[Task, list[Episode | Failure]], None, None]:
        """Play all tasks; results come as they are there, one per episode. Closing the iterator ends those under way.

        Raises:
            EnvError: Workers cannot make the environment, or die before they have.
            RuntimeError: Another call of `play`, or `close`, came in between.
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
        """End all processes; those that play are not waited for."""
        self._pool.close()


def registrations() -> bytes:
    """Environments registered in this process; those that cannot be sent are left out."""
    known = registered()
    try:
        return cast(bytes, cloudpickle.dumps(known))
    except Exception:  # some library's; whoever uses it is told that it is not known
        return cast(bytes, cloudpickle.dumps({name: spec for name, spec in known.items() if _can_be_sent(spec)}))


def _can_be_sent(content: Any) -> bool:
    try:
        cloudpickle.dumps(content)
    except Exception:
        return False
    return True
