"""Play whole episodes, one at a time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats, override
from oracles.rl._environment import EnvError, close, make, reset, spaces_of, unseeded
from oracles.rl._episodes import ENDLESS, Episode, Failure, Player, Rules, check_sizes
from oracles.rl._spaces import actions_of, observations_of
from oracles.rl._statistics import Statistics

__all__ = ["SinglePlayer"]


class SinglePlayer(Player):
    """Plays in a single environment.

    Args:
        env: The environment, as in `make`.
        policy: The policy.
        rules: How episodes are played.
        made: The environment, if it exists already.

    Raises:
        ValueError: The policy does not fit the environment.
    """

    num_envs = 1

    def __init__(self, env: Any, policy: Any, rules: Rules | None = None, made: Any = None) -> None:
        self.env, self.policy, self.rules = env, policy, rules or Rules()
        self.made = make(env) if made is None else made
        try:
            observations, actions = spaces_of(self.made)
            n_inputs, self._flat = observations_of(observations)
            n_outputs, self._action = actions_of(actions, self.rules.clip)
            check_sizes(env, policy, n_inputs, n_outputs)
            self._env, limit = _stripped(self.made)
            for inner in (self._env, getattr(self._env, "unwrapped", self._env)):
                if not _takes_seed(inner.reset):
                    raise unseeded(env)
        except BaseException:
            self.close()
            raise
        limits = [n for n in (limit, self.rules.max_steps) if n is not None]
        self._limit = min(limits) if limits else ENDLESS
        self._acting = self.policy.in_turn()
        self._buffer: Floats = np.zeros((min(64, 1 + 65_536 // max(1, n_inputs)), n_inputs))

    @override
    def play_all(
        self, xs: Floats, seen: Statistics | None, seeds: Sequence[int], horizon: int | None = None
    ) -> list[Episode | Failure]:
        return [self.play(x, seen, seed, horizon) for x, seed in zip(xs, seeds, strict=True)]

    def play(self, x: Floats, seen: Statistics | None, seed: int, horizon: int | None = None) -> Episode:
        """Play one episode.

        Args:
            x: Parameters of the policy, shape (size,).
            seen: Statistics to normalise by.
            seed: The environment's seed.
            horizon: See `Player.play_all`.

        Raises:
            EnvError: Observations, rewards or the score are not finite, or the environment takes no seed.
        """
        policy, rules = self.policy, self.rules
        record = policy.normalize or rules.score is not None
        act, flat, to_action, step = self._acting(x, seen), self._flat, self._action, self._env.step
        limit = self._limit if horizon is None else min(self._limit, horizon)
        observation, info = reset(self.env, self._env, seed)
        buffer, gone, i = self._buffer, 0, 0  # the buffer holds i observations, after `gone` discarded ones
        rewards: list[float] = []
        actions: list[Any] = []
        t, terminated, truncated = 0, False, False
        try:
            while t < limit:
                if i == len(buffer):
                    if record:
                        self._buffer = buffer = np.concatenate((buffer, np.zeros_like(buffer)))
                    else:
                        self._check(gone, i)
                        gone, i = t, 0
                row = buffer[i]
                row[:] = flat(observation)
                i += 1
                action = to_action(act(row))
                observation, reward, terminated, truncated, info = step(action)
                rewards.append(reward)
                if rules.score is not None:
                    actions.append(action)
                t += 1
                if terminated or truncated:
                    break
        except Exception:
            self._check(gone, i)  # a NaN may be the cause
            raise
        self._check(gone, i)
        told = np.array(rewards, dtype=np.float64).reshape(t)
        cut = t == limit < self._limit and not (terminated or truncated)
        own = buffer[:t] if record else None
        return rules.episode(own, actions, told, bool(terminated), info, policy.normalize, cut)

    def _check(self, gone: int, i: int) -> None:
        """Raise if one of the i buffered observations is not finite; checked together, which is faster."""
        finite = np.isfinite(self._buffer[:i]).all(axis=1)
        if not finite.all():
            raise EnvError(f"The observation before step {gone + int(finite.argmin()) + 1} is not finite.")

    @override
    def close(self) -> None:
        close(self.made)


def _takes_seed(reset: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(reset).parameters
    except (TypeError, ValueError):  # a compiled function has no signature
        return True
    return "seed" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _stripped(env: Any) -> tuple[Any, int | None]:
    """The environment without gymnasium's wrappers that only count or check, and its step limit."""
    from gymnasium import wrappers

    limit: int | None = None
    while type(env) in (wrappers.TimeLimit, wrappers.OrderEnforcing, wrappers.PassiveEnvChecker):
        if type(env) is wrappers.TimeLimit:
            steps = int(env._max_episode_steps)
            limit = steps if limit is None else min(limit, steps)
        env = env.env
    return env, limit
