"""Choose the player for an environment."""

from __future__ import annotations

from typing import Any

from oracles.rl._batch import BatchPlayer
from oracles.rl._environment import is_vector, make
from oracles.rl._episodes import Player, Rules
from oracles.rl._single import SinglePlayer
from oracles.rl._vector import VectorPlayer
from oracles.rl.rollouts import Rollouts

__all__ = ["player"]


def player(env: Any, policy: Any, rules: Rules, num_envs: int = 1) -> Player:
    """The player for an environment.

    Args:
        env: The environment, as in `make`, or `Rollouts`.
        policy: The policy.
        rules: How episodes are played.
        num_envs: Environments stepped together.

    Raises:
        ValueError: The arguments do not fit each other.
    """
    if isinstance(env, Rollouts):
        return BatchPlayer(env, policy, rules)
    made = make(env, num_envs)
    if is_vector(made):
        return VectorPlayer(env, policy, rules, made=made)
    return SinglePlayer(env, policy, rules, made)
