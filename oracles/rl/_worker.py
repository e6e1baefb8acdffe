"""The function that a worker process runs: it plays tasks of episodes."""

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
    """k episodes to be played together.

    Attributes:
        number: Index of the first of them among all episodes of a call of `play`.
        x: The policy parameters of each, shape (k, size).
        seen: Statistics to normalise by.
        seeds: The environment seed of each, length k.
        horizon: Steps after which an episode is cut; None plays to the end.
    """

    number: int
    x: Floats
    seen: Statistics | None
    seeds: list[int]
    horizon: int | None = None


class Playing:
    """Plays tasks.

    Args:
        player: The player.
    """

    def __init__(self, player: Player) -> None:
        self.player = player

    def __call__(self, task: Task) -> list[Episode | Failure]:
        """Play the episodes of a task together."""
        return self.player.play_all(task.x, task.seen, task.seeds, task.horizon)

    def close(self) -> None:
        """Close the environment."""
        self.player.close()


def playing(specs: bytes, setup: bytes) -> Playing:
    """Set up a worker.

    Args:
        specs: The pickled result of `registered` in the parent, registered here before `setup` is unpickled.
        setup: The arguments of `player`, pickled.

    Raises:
        Exception: Making the environment failed.
    """
    with contextlib.suppress(Exception):  # e.g. from a library that this process cannot import
        register(cloudpickle.loads(specs))
    arguments: tuple[Any, ...] = cloudpickle.loads(setup)
    return Playing(player(*arguments))
