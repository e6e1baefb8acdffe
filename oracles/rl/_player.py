"""Playing whole episodes, one at a time."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from blackbox_zo._typing import Floats
from oracles.rl._environment import EnvError, close, is_vector, make, name_of, spaces_of
from oracles.rl._spaces import SpaceError, actions_of, observations_of
from oracles.rl._statistics import Statistics

__all__ = [
    "ENDLESS",
    "Episode",
    "Failure",
    "Player",
    "Rules",
    "SinglePlayer",
    "Trajectory",
    "check_sizes",
    "groups",
    "player",
]

ENDLESS = 100_000
"""Steps after which an episode is cut where nobody set a limit."""


class Trajectory(NamedTuple):
    """One episode, for a `score` of one's own.

    Attributes:
        observations: Flat, those that were acted on, shape (t, o).
        actions: As the environment got them, t of them.
        rewards: Shape (t,).
        terminated: Whether it ended of itself, not by a limit of time.
        info: What the environment said in the last step.
    """

    observations: Floats
    actions: list[Any]
    rewards: Floats
    terminated: bool
    info: dict[str, Any]


class Episode(NamedTuple):
    """What an episode gave.

    Attributes:
        score: What is maximised.
        total: Sum of rewards.
        steps: Number of steps.
        terminated: Whether it ended of itself.
        seen: Statistics of its observations, if the policy normalises.
    """

    score: float
    total: float
    steps: int
    terminated: bool
    seen: Statistics | None


class Failure(NamedTuple):
    """Why an episode has no result."""

    reason: str


@dataclass(frozen=True)
class Rules:
    """How episodes are played and scored; see `EpisodeOracle`."""

    score: Callable[[Trajectory], float] | None = None
    survival_bonus: float = 0.0
    max_steps: int | None = None
    clip: bool = True

    def episode(
        self, observations: Floats | None, actions: list[Any], rewards: Floats, terminated: bool, info: Any, seen: bool
    ) -> Episode:
        """What an episode gave.

        Args:
            observations: Shape (t, o), if `score` or `seen` needs them.
            actions: t of them, if `score` needs them.
            rewards: Shape (t,).
            terminated: See `Trajectory`.
            info: See `Trajectory`.
            seen: Whether the statistics of the observations are wanted.

        Raises:
            EnvError: Rewards or the score are not finite.
        """
        total = float(rewards.sum())
        if not math.isfinite(total):
            bad = np.flatnonzero(~np.isfinite(rewards))
            raise EnvError(f"The reward of step {bad[0] + 1} is not finite." if bad.size else "The rewards overflow.")
        score = total - self.survival_bonus * len(rewards)
        if self.score is not None:
            assert observations is not None
            score = float(self.score(Trajectory(observations.copy(), actions, rewards, terminated, info)))
            if not math.isfinite(score):
                raise EnvError(f"`score` gave {score}; it must give a finite number.")
        statistics = Statistics.of(observations) if seen and observations is not None and len(rewards) else None
        return Episode(score, total, len(rewards), terminated, statistics)


class Player(ABC):
    """What plays whole episodes.

    Attributes:
        num_envs: How many at once; none for any number.
    """

    num_envs: int | None

    @abstractmethod
    def play_all(self, xs: Floats, seen: Statistics | None, seeds: Sequence[int]) -> list[Episode | Failure]:
        """Play some episodes, no more than `num_envs`.

        Args:
            xs: Parameters of the policy in each, shape (k, size).
            seen: Statistics to normalise by.
            seeds: Of the environment in each, k of them.

        Raises:
            Exception: Whatever the environment raises; then none of them has a result.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the environment."""


def groups(n: int, num_envs: int | None) -> Iterator[slice]:
    """Groups of n episodes that are played at once."""
    width = num_envs or n
    for first in range(0, n, width):
        yield slice(first, min(first + width, n))


def check_sizes(env: Any, policy: Any, n_inputs: int, n_outputs: int) -> None:
    """Whether a policy fits.

    Raises:
        SpaceError: It does not.
    """
    for what, has, needs in (
        ("n_inputs", policy.n_inputs, n_inputs),
        ("n_outputs", policy.n_outputs, n_outputs),
    ):
        if has != needs:
            raise SpaceError(
                f"The policy's {what} is {has}, but {name_of(env)!r} needs {needs}. "
                f"Make it with `{type(policy).__name__}.for_env`."
            )


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
    from oracles.rl._vector import VectorPlayer
    from oracles.rl.rollouts import Rollouts, RolloutsPlayer

    if isinstance(env, Rollouts):
        return RolloutsPlayer(env, policy, rules)
    made = make(env, num_envs)
    if is_vector(made):
        return VectorPlayer(env, policy, rules, made=made)
    return SinglePlayer(env, policy, rules, made)


class SinglePlayer(Player):
    """An environment, and a policy that plays in it.

    Args:
        env: What `make` takes.
        policy: Who acts.
        rules: How.
        made: The environment, if it is made already.

    Raises:
        ValueError: The policy does not fit.
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
                    raise EnvError(self._unseeded())
        except BaseException:
            self.close()
            raise
        limits = [n for n in (limit, self.rules.max_steps) if n is not None]
        self._limit = min(limits) if limits else ENDLESS
        self._acting = self.policy.in_turn()
        self._buffer: Floats = np.empty((1, n_inputs))
        self._zero: Floats = np.zeros(n_inputs)

    def play_all(self, xs: Floats, seen: Statistics | None, seeds: Sequence[int]) -> list[Episode | Failure]:
        """See `Player.play_all`."""
        return [self.play(x, seen, seed) for x, seed in zip(xs, seeds, strict=True)]

    def play(self, x: Floats, seen: Statistics | None, seed: int) -> Episode:
        """One episode.

        Args:
            x: Parameters of the policy, shape (size,).
            seen: Statistics to normalise by.
            seed: Of the environment.

        Raises:
            EnvError: Observations, rewards or the score are not finite, or the environment takes no seed.
        """
        policy, rules = self.policy, self.rules
        record = policy.normalize or rules.score is not None
        act, flat, to_action, step = self._acting(x, seen), self._flat, self._action, self._env.step
        limit, zero = self._limit, self._zero
        observation, info = self._reset(seed)
        buffer: Floats = self._buffer
        rewards: list[float] = []
        actions: list[Any] = []
        t, terminated = 0, False
        while t < limit:
            if record and t == len(buffer):
                buffer = np.concatenate((buffer, np.empty_like(buffer)))
            row = buffer[t if record else 0]
            row[:] = flat(observation)
            if row.dot(zero) != 0.0:  # the quickest way to see a NaN or an infinity
                raise EnvError(f"The observation before step {t + 1} is not finite.")
            action = to_action(act(row))
            observation, reward, terminated, truncated, info = step(action)
            rewards.append(reward)
            if rules.score is not None:
                actions.append(action)
            t += 1
            if terminated or truncated:
                break
        self._buffer = buffer
        told = np.array(rewards, dtype=np.float64).reshape(t)
        return rules.episode(buffer[:t] if record else None, actions, told, bool(terminated), info, policy.normalize)

    def _reset(self, seed: int) -> Any:
        try:
            return self._env.reset(seed=seed)
        except TypeError as error:
            if "seed" not in str(error):
                raise
            raise EnvError(self._unseeded()) from None

    def _unseeded(self) -> str:
        return f"{name_of(self.env)!r} has no `reset(seed=...)`, so its episodes cannot be repeated. Give it one."

    def close(self) -> None:
        """See `Player.close`."""
        close(self.made)


def _takes_seed(reset: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(reset).parameters
    except (TypeError, ValueError):  # a compiled one does not tell
        return True
    return "seed" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _stripped(env: Any) -> tuple[Any, int | None]:
    """The environment without gymnasium's own wrappers that count and check only, and its limit of steps."""
    from gymnasium import wrappers

    limit: int | None = None
    while type(env) in (wrappers.TimeLimit, wrappers.OrderEnforcing, wrappers.PassiveEnvChecker):
        if type(env) is wrappers.TimeLimit:
            steps = int(env._max_episode_steps)
            limit = steps if limit is None else min(limit, steps)
        env = env.env
    return env, limit
