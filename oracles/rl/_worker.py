"""What a worker process of episodes is set up with."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import cloudpickle

from oracles.rl._environment import register
from oracles.rl._episodes import Episode, Failure, Player
from oracles.rl._players import player

if TYPE_CHECKING:
    from oracles.rl._pool import Task

__all__ = ["Playing", "playing"]


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
