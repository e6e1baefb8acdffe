"""Which player an environment needs."""

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
    """What plays in an environment.

    Args:
        env: What `make` takes, or `Rollouts`.
        policy: Who acts.
        rules: How.
        num_envs: Environments that step together.

    Raises:
        ValueError: Things do not fit each other.
    """
    if isinstance(env, Rollouts):
        return BatchPlayer(env, policy, rules)
    made = make(env, num_envs)
    if is_vector(made):
        return VectorPlayer(env, policy, rules, made=made)
    return SinglePlayer(env, policy, rules, made)
