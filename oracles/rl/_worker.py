"""What a worker process of episodes is set up with."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import cloudpickle

from blackbox_zo._typing import Floats
from oracles.rl._environment import register
from oracles.rl._episodes import Episode, Failure, Player
from oracles.rl._players import player
from oracles.rl._statistics import Statistics

__all__ = ["Playing", "Task", "playing"]


class Task(NamedTuple):
    """Episodes to be played at once.

    Attributes:
        number: Of the first of them among all of a call of `play`.
        x: Parameters in each, shape (k, size).
        seen: Statistics to normalise by.
        seeds: Of the environment in each, k of them.
        horizon: Steps after which they are left; none plays to their ends.
    """

    number: int
    x: Floats
    seen: Statistics | None
    seeds: list[int]
    horizon: int | None = None


class Playing:
    """A player that plays the tasks it is given.

    Args:
        player: It.
    """

    def __init__(self, player: Player) -> None:
        self.player = player

    def __call__(self, task: Task) -> list[Episode | Failure]:
        """Play its episodes at once."""
        return self.player.play_all(task.x, task.seen, task.seeds, task.horizon)

    def close(self) -> None:
        """Close the environment."""
        self.player.close()


def playing(specs: bytes, setup: bytes) -> Playing:
    """A player.

    Args:
        specs: What `registered` gave in the parent, pickled: registered here before the rest is unpickled.
        setup: The arguments of `player`, pickled.

    Raises:
        Exception: Whatever making the environment raises.
    """
    with contextlib.suppress(Exception):  # a library's that this process cannot import
        register(cloudpickle.loads(specs))
    arguments: tuple[Any, ...] = cloudpickle.loads(setup)
    return Playing(player(*arguments))
